"""A split: labelled images that give their pixels a few rows at a time, from memory or from disk."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dd.base import seeding
from dd.base.process import under_own_settings
from dd.base.shapes import check, stored
from dd.data.images.values import check_unit
from dd.data.items import numbers
from dd.data.workers import reading_processes
from dd.errors import DDError, refuse

Index: TypeAlias = Tensor | slice | None

# Below this many images the start of worker processes costs more than they save.
FEW: Final = 256
# Statistics of a set that does not fit in memory are estimated from this many images.
SAMPLE: Final = 10_000


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
                self._fingerprint = _hash_keys(self._keys, self._rows, self.labels, self.shape, self._rule)
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
class LazySplit:
    """A split that is read when asked for: for image trees and Datasets that do not fit in memory.

    Attributes:
        labels, shape: as in `Split`.

    Args:
        dataset: map-style; item i is a uint8 `[C, H, W]` tensor, or float32 in [0, 1], or the error that says
            why the image cannot be read. Sent to worker processes, so it must be picklable where these are
            spawned.
        labels: int64 `[N]`.
        shape: (C, H, W) of every image.
        keys: a hash of each image, or of its file, for the fingerprint.
        rule: how items become pixels, for the fingerprint.
        workers: processes that read; 0 reads in this one, as is done where none can be started (`can_start`). The order
            of rows does not depend on it.
        items: a 64-bit hash of the content of each image, int64 `[N]`, where somebody has read it.
    """

    def __init__(
        self,
        dataset: Any,
        labels: Tensor,
        shape: tuple[int, int, int],
        keys: Sequence[str],
        rule: str = "",
        workers: int = 0,
        items: Tensor | None = None,
    ) -> None:
        check(labels, "labels", "N", N=len(keys))
        self._dataset = dataset
        self.labels = labels.to(torch.int64)
        self.shape = shape
        self._rows = torch.arange(len(labels))
        self._keys = keys
        self._rule = rule
        self._workers = workers
        self._items = items
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"LazySplit({len(self)} of {'x'.join(map(str, self.shape))}, {self._workers} workers)"

    @property
    def fingerprint(self) -> str:
        """sha256 hex of keys, labels, shape and rule."""
        if self._fingerprint is None:
            self._fingerprint = _hash_keys(self._keys, self._rows, self.labels, self.shape, self._rule)
        return self._fingerprint

    @property
    def items(self) -> Tensor | None:
        """A 64-bit hash of the content of each image, int64 `[N]`; `None` where nobody has read it."""
        return None if self._items is None else self._items[self._rows]

    @under_own_settings
    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]; ask for a few thousand rows at a time.

        Raises:
            DamagedError, InputError: an image cannot be read; the message names it.
        """
        rows = self._rows if index is None else self._rows[index]
        return as_float(read_rows(self._dataset, rows, self.shape, self._workers))

    def subset(self, index: Tensor) -> LazySplit:
        """The rows `index`."""
        part = copy.copy(self)
        part.labels = self.labels[index]
        part._rows = self._rows[index]
        part._fingerprint = None
        return part


@final
class JoinedSplit:
    """Two splits of equal shape, one after the other.

    Attributes:
        labels, shape: as in `Split`.
    """

    def __init__(self, first: Split, second: Split) -> None:
        self._parts = (first, second)
        self.labels = torch.cat([first.labels, second.labels])
        self.shape = first.shape
        self._rows = torch.arange(len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """sha256 hex of the two fingerprints and the rows in use."""
        total = hashlib.sha256("+".join(part.fingerprint for part in self._parts).encode())
        total.update(self._rows.numpy().tobytes())
        return total.hexdigest()

    @property
    def items(self) -> Tensor | None:
        """Those of the two, int64 `[N]`; `None` where one of them does not know its own."""
        first, second = (part.items for part in self._parts)
        return None if first is None or second is None else torch.cat([first, second])[self._rows]

    @under_own_settings
    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]."""
        rows = self._rows if index is None else self._rows[index]
        out = torch.empty(len(rows), *self.shape)
        late = rows >= len(self._parts[0])
        out[~late] = self._parts[0].pixels(rows[~late])
        out[late] = self._parts[1].pixels(rows[late] - len(self._parts[0]))
        return out

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


def read_rows(dataset: Any, rows: Tensor, shape: tuple[int, int, int], workers: int) -> Tensor:
    """Items `rows` of a map-style dataset as one tensor `[n, C, H, W]`, in this order, uint8 where all are.

    The loader has its own generator: a DataLoader without one draws from the global stream.

    Raises:
        DamagedError, InputError: an item is this error.
    """
    out = torch.empty((len(rows), *shape), dtype=torch.uint8)
    loader = DataLoader(
        dataset,
        batch_size=64,
        sampler=rows.tolist(),
        num_workers=reading_processes(workers, len(rows), FEW),
        collate_fn=_stack_or_complain,
        generator=torch.Generator(),
    )
    start = 0
    for batch in loader:
        if isinstance(batch, DDError):
            raise batch
        if batch.dtype != out.dtype:
            out, batch = as_float(out), as_float(batch)
        out[start : start + len(batch)] = batch
        start += len(batch)
    return out


def chunks(n: int, rows: int = 1024) -> Iterator[slice]:
    """Slices that cover 0 … n−1."""
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and population std of the pixels of a split, each `C` numbers.

    For a `LazySplit` of more than 10,000 images they are those of 10,000 of them, drawn once and for all,
    since reading all would take as long as an epoch.
    """
    if isinstance(split, LazySplit) and len(split) > SAMPLE:
        chosen = torch.randperm(len(split), generator=seeding.child(0, "statistics"))[:SAMPLE]
        split = split.subset(chosen.sort().values)
    c, h, w = split.shape
    # Sums are taken about the first pixel, so that a constant channel has a std of exactly 0.
    origin = split.pixels(slice(0, 1))[0, :, 0, 0]
    total, squares = torch.zeros(c, dtype=torch.float64), torch.zeros(c, dtype=torch.float64)
    # A lazy split starts its workers at each reading, so it is read in few; memory is best in pieces of a cache.
    for rows in chunks(len(split), 1024 if isinstance(split, LazySplit) else max(1, 2**18 // (c * h * w))):
        x = split.pixels(rows).sub_(origin.view(1, c, 1, 1))
        total += x.sum((0, 2, 3), dtype=torch.float64)
        squares += x.square_().sum((0, 2, 3), dtype=torch.float64)
    count = len(split) * h * w
    shift = total / count
    std = (squares / count - shift.square()).clamp_min(0).sqrt()
    return tuple((origin.double() + shift).tolist()), tuple(std.tolist())


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


def _hash_keys(keys: Sequence[str], rows: Tensor | None, labels: Tensor, shape: tuple[int, int, int], rule: str) -> str:
    total = hashlib.sha256(f"{rule} {shape}".encode())
    for row in range(len(keys)) if rows is None else rows.tolist():
        total.update(f"\n{keys[row]}".encode("utf-8", "surrogateescape"))
    total.update(labels.numpy().tobytes())
    return total.hexdigest()


def _stack_or_complain(items: list[Tensor | DDError]) -> Tensor | DDError:
    """A batch, or the first complaint: a raise in a worker would bury the file's name in two tracebacks."""
    complaint = next((item for item in items if isinstance(item, DDError)), None)
    if complaint is not None:
        return complaint
    images = [item for item in items if isinstance(item, Tensor)]
    if all(image.dtype == torch.uint8 for image in images):
        return torch.stack(images)
    return torch.stack([as_float(image) for image in images])
