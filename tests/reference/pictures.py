"""Pictures, their classes, a Dataset over two lists, and data in memory as data that is read when asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dd.data import Images, LazySplit, Split, TensorSplit


class Items(Dataset[tuple[Any, Any]]):
    """A map-style Dataset over two lists."""

    def __init__(self, images: Any, labels: Any, classes: list[str] | None = None) -> None:
        self.images, self.labels = images, labels
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        if i >= len(self):
            raise IndexError(i)
        return self.images[i], self.labels[i]


def pixels(n: int = 40, c: int = 3, h: int = 6, w: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=generator)


def labels(n: int = 40, k: int = 4) -> Tensor:
    return torch.arange(n) % k


def lazy(split: Split, workers: int = 0) -> LazySplit:
    """A split in memory as one that is read when asked for, by so many processes."""
    assert isinstance(split, TensorSplit)
    keys = [str(i) for i in range(len(split))]
    return LazySplit(split.images, split.labels, split.shape, keys, workers=workers)


def lazily(real: Images, workers: int = 0) -> Images:
    """The same data with all splits read when asked for."""
    val, test = (None if part is None else lazy(part, workers) for part in (real.val, real.test))
    constants = {"mean": real.mean, "std": real.std}
    return Images(train=lazy(real.train, workers), val=val, test=test, classes=real.classes, **constants)
