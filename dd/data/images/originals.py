"""Pictures before they were brought to the size of their set: for methods that cut parts out of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import Any, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.data.images.lazy import LazySplit
from dd.data.images.reading import read_ahead
from dd.data.images.splits import JoinedSplit, Split
from dd.errors import DDError

Cut = Callable[[int, Tensor], Tensor]
"""From a place among the rows, and the picture there as it is stored `[C, h, w]`, to something of one shape."""


@under_own_settings
def original_sizes(split: Split, rows: Tensor) -> list[tuple[int, int]] | None:
    """(h, w) of the pictures that `cut_originals` cuts; `None` where the split has no others than its own.

    That is each picture as its source has it, where it is at least as high and as wide as those of the split, else as
    it is in the split. A split in memory has its own alone.

    Args:
        split: of real images.
        rows: int64 `[n]`.

    Raises:
        DamagedError, InputError: a picture cannot be read.
    """
    if not _has_others(split):
        return None
    sources = _sources(split, rows)
    (sizes,) = read_ahead(_Sizes(sources, split), [torch.arange(len(rows))], (2,), _workers(split), 4)
    found = [(int(h), int(w)) for h, w in sizes.tolist()]
    return found if any(size != split.shape[1:] for size in found) else None


@under_own_settings
def cut_originals(
    split: Split, rows: Tensor, cut: Cut, shape: tuple[int, ...], batches: Iterable[Tensor]
) -> Generator[Tensor, None, None]:
    """What `cut` makes of the pictures of `original_sizes`, `[m, *shape]` for each batch of places among `rows`.

    Args:
        split, rows: as in `original_sizes`.
        cut: works in the processes that read, so it must be picklable where these are not forked.
        shape: of what it makes, float32.
        batches: int64 `[m]` each.

    Raises:
        DamagedError, InputError: a picture cannot be read.
        MissingError: a worker process was ended by somebody else.
    """
    with closing(read_ahead(_Cuts(_sources(split, rows), split, cut), batches, shape, _workers(split), 4)) as read:
        yield from read


def _has_others(split: Split) -> bool:
    if isinstance(split, JoinedSplit):
        return any(_has_others(part) for part in split.parts)
    return isinstance(split, LazySplit) and hasattr(split.dataset, "original")


def _workers(split: Split) -> int:
    if isinstance(split, JoinedSplit):
        return max(_workers(part) for part in split.parts)
    return split.workers if isinstance(split, LazySplit) else 0


def _sources(split: Split, rows: Tensor) -> list[tuple[Any, int]]:
    """(dataset, its row) of each row."""
    if isinstance(split, LazySplit):
        return [(split.dataset, row) for row in split.rows[rows].tolist()]
    if isinstance(split, JoinedSplit):
        found: list[tuple[Any, int]] = [(None, 0)] * len(rows)
        for where, part, own in split.divided(rows):
            for place, source in zip(where.nonzero().flatten().tolist(), _sources(part, own), strict=True):
                found[place] = source
        return found
    held = split.pixels(rows)
    return [(held, place) for place in range(len(rows))]


def _picture(dataset: Any, row: int, split_shape: tuple[int, int, int]) -> Tensor | DDError:
    picture = dataset.original(row) if hasattr(dataset, "original") else dataset[row]
    if isinstance(picture, DDError) or _covers((picture.shape[1], picture.shape[2]), split_shape):
        return picture
    return dataset[row]


def _covers(size: tuple[int, int], split_shape: tuple[int, int, int]) -> bool:
    return size[0] >= split_shape[1] and size[1] >= split_shape[2]


@final
class _Sizes:
    """Map-style: item i is (h, w) of picture i, float32."""

    def __init__(self, sources: list[tuple[Any, int]], split: Split) -> None:
        self._sources, self._shape = sources, split.shape

    def __getitem__(self, place: int) -> Tensor | DDError:
        dataset, row = self._sources[place]
        size = dataset.original_size(row) if hasattr(dataset, "original") else self._shape[1:]
        if isinstance(size, DDError):
            return size
        return torch.tensor(size if _covers(size, self._shape) else self._shape[1:], dtype=torch.float32)


@final
class _Cuts:
    """Map-style: item i is what is cut from picture i."""

    def __init__(self, sources: list[tuple[Any, int]], split: Split, cut: Cut) -> None:
        self._sources, self._shape, self._cut = sources, split.shape, cut

    def __getitem__(self, place: int) -> Tensor | DDError:
        picture = _picture(*self._sources[place], self._shape)
        return picture if isinstance(picture, DDError) else self._cut(place, picture)
