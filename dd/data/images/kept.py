"""Decoded images that stay in memory, so that those of tests are decoded once, not once a network."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class Kept:
    """The images of some rows of a dataset as uint8, each from its first reading on.

    Memory is taken as images come. Float images, of which none is expected, are not kept.

    Args:
        rows: int64 `[n]`; those of which there will be images.
        shape: (C, H, W).
    """

    def __init__(self, rows: Tensor, shape: tuple[int, int, int]) -> None:
        self._rows, self._shape = rows.unique(), shape
        self._there = torch.zeros(len(self._rows), dtype=torch.bool)
        self._images: Tensor | None = None

    def has(self, rows: Tensor) -> bool:
        """Whether all `rows` have been kept."""
        return bool(self._there[self._places(rows)].all())

    def images(self, rows: Tensor) -> Tensor:
        """uint8 `[m, C, H, W]`, copied, of rows that are there."""
        assert self._images is not None
        return self._images[self._places(rows)]

    def keep(self, rows: Tensor, images: Tensor) -> None:
        """Remember images `[m, C, H, W]`, uint8 or not."""
        if images.dtype != torch.uint8:
            return
        if self._images is None:
            self._images = torch.empty((len(self._rows), *self._shape), dtype=torch.uint8)
        places = self._places(rows)
        self._images[places] = images
        self._there[places] = True

    def _places(self, rows: Tensor) -> Tensor:
        return torch.searchsorted(self._rows, rows)
