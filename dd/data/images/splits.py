"""A split: labelled images that give their pixels a few rows at a time, from memory or from disk."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import tee
from typing import Protocol, TypeAlias, TypeVar, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import stored
from dd.data.images.values import check_unit
from dd.data.items import numbers
from dd.errors import refuse

Index: TypeAlias = Tensor | slice | None

Rows = TypeVar("Rows", Tensor, slice)


class Split(Protocol):
    """N labelled images of one size, `[C, H, W]` each."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """Class indices, int64 `[N]`, on the CPU."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def fingerprint(self) -> str:
        """sha256 hex of the content: of pixels and labels, or of keys that stand for the pixels."""

    @property
    def items(self) -> Tensor | None:
        """A 64-bit hash of the content of each image, int64 `[N]`; `None` where the content is not known."""

    def pixels(self, index: Index = None) -> Tensor:
        """A fresh float32 `[n, C, H, W]` in [0, 1] on the CPU, in the order asked for; all rows for None."""

    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, their pixels) of one batch after another, for as long as there are batches.

        The pixels are those of `pixels(rows)`. A split that is not in memory reads ahead of what is asked for, in
        worker processes that are started once: so batches are taken before their turn, and their draws must not depend
        on what is yielded. Loop over it without giving it a name, or use `contextlib.closing`: it ends with the loop.
        """

    def subset(self, index: Tensor) -> Split:
        """The rows `index` (int64 `[n]`), in that order, without copying pixels."""


@final
class TensorSplit:
    """A split in memory.

    Attributes:
        labels, shape: as in `Split`.

    Args:
        images: uint8 `[N, C, H, W]`; or float32 in [0, 1] where the values are not k/255.
        labels: integers `[N]`.
        keys: for images read from files: the hash of each file, which stands for its pixels in the fingerprint,
            so that a set has the same fingerprint in memory and on disk.
        rule: how files become pixels, part of the fingerprint where `keys` is given.

    Raises:
        InputError: another dtype, shape, range, NaN, or unequal numbers of images and labels.
    """

    def __init__(self, images: Tensor, labels: Tensor, keys: Sequence[str] | None = None, rule: str = "") -> None:
        self._images = stored(images, "images", "N C H W")
        if images.dtype not in (torch.uint8, torch.float32):
            raise refuse("images", "uint8, or float32 in [0, 1]", str(images.dtype))
        if images.dtype == torch.float32 and images.numel():
            check_unit(self._images, "images")
        c, h, w = images.shape[1:]
        self.shape = (c, h, w)
        self.labels = stored(labels, "labels", "N", N=len(images)).to(torch.int64)
        self._rows: Tensor | None = None
        self._keys = keys
        self._rule = rule
        self._fingerprint: str | None = None
        self._hashed: list[Tensor] = []  # hashes of all stored images, made once for a split and its subsets

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"TensorSplit({len(self)} of {'x'.join(map(str, self.shape))}, {self._images.dtype})"

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels in memory."""
        return len(self) * math.prod(self.shape) * self._images.element_size()

    @property
    def images(self) -> Tensor:
        """The stored values `[N, C, H, W]`, uint8 (0…255) or float32 in [0, 1]; a copy for a subset."""
        return self._images if self._rows is None else self._images[self._rows]

    @property
    def fingerprint(self) -> str:
        """sha256 hex of shape, dtype, pixels and labels; keys in place of pixels where there are any."""
        if self._fingerprint is None:
            if self._keys is not None:
                self._fingerprint = hash_keys(self._keys, self._rows, self.labels, self.shape, self._rule)
            else:
                self._fingerprint = self._hash_pixels()
        return self._fingerprint

    @property
    def items(self) -> Tensor:
        """A 64-bit hash of the pixels of each image, int64 `[N]`."""
        if not self._hashed:
            self._hashed.append(image_items(self._images))
        return self._hashed[0] if self._rows is None else self._hashed[0][self._rows]

    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]."""
        if self._rows is None:
            return as_float(self._images if index is None else self._images[index])
        return as_float(self._images[self._rows if index is None else self._rows[index]])

    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, their pixels) of one batch after another."""
        return plain_stream(self, batches)

    def subset(self, index: Tensor) -> TensorSplit:
        """The rows `index`, sharing the pixels."""
        part = copy.copy(self)
        part.labels = self.labels[index]
        part._rows = index.clone() if self._rows is None else self._rows[index]
        part._fingerprint = None
        return part

    def _hash_pixels(self) -> str:
        total = hashlib.sha256(f"{self._images.dtype} {self.shape}".encode())
        for start in range(0, len(self), 1024):
            rows = slice(start, start + 1024)
            part = self._images[rows] if self._rows is None else self._images[self._rows[rows]]
            total.update(part.contiguous().numpy().tobytes())
        total.update(self.labels.numpy().tobytes())
        return total.hexdigest()


@final
class JoinedSplit:
    """Two splits of equal shape, one after the other.

    Attributes:
        labels, shape: as in `Split`.
        parts: the two.
    """

    def __init__(self, first: Split, second: Split) -> None:
        self.parts = (first, second)
        self.labels = torch.cat([first.labels, second.labels])
        self.shape = first.shape
        self._rows = torch.arange(len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """sha256 hex of the two fingerprints and the rows in use."""
        total = hashlib.sha256("+".join(part.fingerprint for part in self.parts).encode())
        total.update(self._rows.numpy().tobytes())
        return total.hexdigest()

    @property
    def items(self) -> Tensor | None:
        """Those of the two, int64 `[N]`; `None` where one of them does not know its own."""
        first, second = (part.items for part in self.parts)
        return None if first is None or second is None else torch.cat([first, second])[self._rows]

    @under_own_settings
    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]."""
        out = torch.empty(len(self) if index is None else len(self.labels[index]), *self.shape)
        for where, part, rows in self.divided(index):
            out[where] = part.pixels(rows)
        return out

    def divided(self, index: Index = None) -> tuple[tuple[Tensor, Split, Tensor], ...]:
        """For each part: which of the rows asked for are its own, bool `[n]`; the part; their rows in it."""
        rows, (first, second) = self._rows if index is None else self._rows[index], self.parts
        early, late = rows < len(first), rows >= len(first)
        return (early, first, rows[early]), (late, second, rows[late] - len(first))

    @under_own_settings
    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, their pixels) of one batch after another; each of the two reads its own ahead."""
        asked, early, late = tee(((rows, self.divided(rows)) for rows in batches), 3)
        low = self.parts[0].stream(divided[0][2] for _, divided in early)
        high = self.parts[1].stream(divided[1][2] for _, divided in late)
        with closing(low), closing(high):
            for (_, before), (_, after), (rows, divided) in zip(low, high, asked, strict=False):
                out = torch.empty(len(before) + len(after), *self.shape)
                out[divided[0][0]], out[divided[1][0]] = before, after
                yield rows, out

    def subset(self, index: Tensor) -> JoinedSplit:
        """The rows `index`."""
        part = copy.copy(self)
        part.labels = self.labels[index]
        part._rows = self._rows[index]
        return part


def as_float(images: Tensor) -> Tensor:
    """A float32 copy of stored images in [0, 1]; a uint8 k becomes k/255, as in torchvision's `ToTensor`."""
    out = images.to(torch.float32, copy=True)
    return out.div_(255) if images.dtype == torch.uint8 else out


def plain_stream(split: Split, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
    """`stream` of a split that has nothing to read ahead."""
    for rows in batches:
        yield rows, split.pixels(rows)


def chunks(n: int, rows: int = 1024) -> Iterator[slice]:
    """Slices that cover 0 … n−1."""
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def constant_channels(split: Split) -> list[int]:
    """Channels in which every pixel of every image is the same; stops once all have been seen to vary."""
    origin = split.pixels(slice(0, 1))[0, :, 0, 0]
    varies = torch.zeros(split.shape[0], dtype=torch.bool)
    for rows in chunks(len(split), 64):
        varies |= (split.pixels(rows) != origin.view(1, -1, 1, 1)).transpose(0, 1).flatten(1).any(1)
        if bool(varies.all()):
            break
    return (~varies).nonzero().flatten().tolist()


def image_items(images: Tensor) -> Tensor:
    """A 64-bit hash of the pixels of each image, int64 `[N]`.

    Args:
        images: `[N, C, H, W]`, uint8 or float32 in [0, 1]; a float image of k/255 has the number of its uint8 form.
    """
    shape = str(tuple(images.shape[1:])).encode()
    return numbers(hashlib.blake2b(image, digest_size=8, key=shape).digest() for image in _contents(images))


def _contents(images: Tensor) -> Iterator[bytes | memoryview]:
    """The bytes of each image, in the uint8 form where it has one."""
    if images.dtype == torch.uint8:
        yield from (memoryview(image.reshape(-1)) for image in images.contiguous().numpy())
        return
    for image in images.contiguous():
        whole = (image * 255).round().to(torch.uint8)
        yield (whole if torch.equal(whole.to(torch.float32) / 255, image) else image).numpy().tobytes()


def hash_keys(keys: Sequence[str], rows: Tensor | None, labels: Tensor, shape: tuple[int, int, int], rule: str) -> str:
    """sha256 hex of `rule`, shape, the keys of `rows` (`None`: of all) and their labels."""
    total = hashlib.sha256(f"{rule} {shape}".encode())
    for row in range(len(keys)) if rows is None else rows.tolist():
        total.update(f"\n{keys[row]}".encode("utf-8", "surrogateescape"))
    total.update(labels.numpy().tobytes())
    return total.hexdigest()
