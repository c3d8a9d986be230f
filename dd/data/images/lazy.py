"""A split whose images are read when they are asked for."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import tee
from typing import Any, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check
from dd.data.images.kept import Kept
from dd.data.images.reading import read_ahead
from dd.data.images.splits import Index, Rows, as_float, hash_keys


@final
class LazySplit:
    """A split that is read when asked for: for image trees and Datasets that do not fit in memory.

    Attributes:
        labels, shape: as in `Split`.
        dataset, workers: as they were given.
        rows: rows of `dataset`, int64 `[N]`.

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
        itemsize: bytes of a number in an item: 1, or 4 where some are floats.
        keep: bytes of pixels up to which `kept` keeps them.
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
        itemsize: int = 1,
        keep: int = 0,
    ) -> None:
        check(labels, "labels", "N", N=len(keys))
        self.dataset = dataset
        self.labels = labels.to(torch.int64)
        self.shape = shape
        self.rows = torch.arange(len(labels))
        self._keys = keys
        self._rule = rule
        self.workers = workers
        self._items = items
        self._itemsize, self._keep = itemsize, keep
        self._kept: Kept | None = None
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"LazySplit({len(self)} of {'x'.join(map(str, self.shape))}, {self.workers} workers)"

    @property
    def fingerprint(self) -> str:
        """sha256 hex of keys, labels, shape and rule."""
        if self._fingerprint is None:
            self._fingerprint = hash_keys(self._keys, self.rows, self.labels, self.shape, self._rule)
        return self._fingerprint

    @property
    def items(self) -> Tensor | None:
        """A 64-bit hash of the content of each image, int64 `[N]`; `None` where nobody has read it."""
        return None if self._items is None else self._items[self.rows]

    @under_own_settings
    def pixels(self, index: Index = None) -> Tensor:
        """Float32 `[n, C, H, W]` in [0, 1]; ask for a few thousand rows at a time.

        Raises:
            DamagedError, InputError: an image cannot be read; the message names it.
        """
        rows = self.rows if index is None else self.rows[index]
        (images,) = self._read([rows])
        return images

    @under_own_settings
    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, their pixels) of one batch after another, read ahead by worker processes.

        Raises:
            DamagedError, InputError: likewise.
            MissingError: a worker process was ended by somebody else.
        """
        asked, waiting = tee(batches)
        with closing(self._read(self.rows[rows] for rows in asked)) as read:
            for images in read:
                yield next(waiting), images

    def kept(self) -> LazySplit:
        """The same split, whose images stay in memory as uint8 once they have been read; itself where `keep` is less.

        For images that are read again and again, as those of tests are. Subsets share them.
        """
        if self._kept is not None or len(self) * math.prod(self.shape) > self._keep:
            return self
        part = copy.copy(self)
        part._kept = Kept(self.rows, self.shape)
        return part

    def _read(self, batches: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        """Fresh pixels of rows of the dataset, float32."""
        kept = self._kept
        if kept is not None and kept.has(self.rows):
            yield from (as_float(kept.images(rows)) for rows in batches)
            return
        asked, waiting = tee(batches)
        with closing(read_ahead(self.dataset, asked, self.shape, self.workers, self._itemsize)) as read:
            for images in read:
                rows = next(waiting)
                if kept is not None:
                    kept.keep(rows, images)
                yield as_float(images)

    def subset(self, index: Tensor) -> LazySplit:
        """The rows `index`."""
        part = copy.copy(self)
        part.labels = self.labels[index]
        part.rows = self.rows[index]
        part._fingerprint = None
        return part
