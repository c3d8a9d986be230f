"""A split without a picture: its labels and shape, and noise for pixels."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Generator, Iterable
from typing import final

import torch
from torch import Tensor

from dd.data.images.splits import Index, Rows, plain_stream


@final
class BlankSplit:
    """A split of noise, drawn when it is asked for: no two readings are alike, and none takes memory before.

    Attributes:
        labels, shape: as in `Split`; classes are alike in size, in turns.
        items: `None`, there is no content.

    Args:
        count: N.
        classes: K.
        shape: (C, H, W).
    """

    items: None = None

    def __init__(self, count: int, classes: int, shape: tuple[int, int, int]) -> None:
        self.labels = torch.arange(count) % classes
        self.shape = shape

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"BlankSplit({len(self)} of {'x'.join(map(str, self.shape))})"

    @property
    def fingerprint(self) -> str:
        """sha256 hex of counts and shape."""
        return hashlib.sha256(f"noise {self.shape} {self.labels.bincount().tolist()}".encode()).hexdigest()

    def pixels(self, index: Index = None) -> Tensor:
        """Uniform noise, float32 `[n, C, H, W]` in [0, 1]."""
        count = len(self.labels if index is None else self.labels[index])
        levels = torch.randint(0, 256, (count, *self.shape), generator=torch.Generator().manual_seed(0))
        return levels.float() / 255

    def stream(self, batches: Iterable[Rows]) -> Generator[tuple[Rows, Tensor], None, None]:
        """(rows, noise) of one batch after another."""
        return plain_stream(self, batches)

    def subset(self, index: Tensor) -> BlankSplit:
        """So many images with the labels of the rows `index`."""
        part = copy.copy(self)
        part.labels = self.labels[index]
        return part
