"""Real images where the loop expects a set, and test images whose transform is computed once for all networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

import torch
from torch import Tensor, nn

from dd.data import Images, Split
from dd.shapes import check_whole
from dd.whiten import Transform

TEST_BATCH: Final = 500
KEPT_BYTES: Final = 2 * 10**9
"""Transformed test images that are kept at most; larger splits are transformed for every network."""


class Trainable(Protocol):
    """What the loop reads of a set: every `ImageSet` has it, and so has `RealSet`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order."""
        ...

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        ...

    def __len__(self) -> int: ...

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images in model space, labels)."""
        ...


@final
@dataclass(frozen=True, eq=False)
class RealSet:
    """All training images of a data set as something to be trained on: the full-data row under the same loop.

    Attributes:
        split: N real images.
        classes: names in label order.
        transform: pixels in [0, 1] → model space.
    """

    split: Split
    classes: tuple[str, ...]
    transform: Transform

    def __len__(self) -> int:
        return len(self.split)

    @property
    def channels(self) -> int:
        """C."""
        return self.split.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.split.shape[1], self.split.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures as uint8 and of one int64 label each."""
        channels, height, width = self.split.shape
        return len(self) * (channels * height * width + 8)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in an order drawn from `generator`; the last batch may be short."""
        order = torch.randperm(len(self), generator=generator)
        for rows in order.split(check_whole(size, "size")):
            yield self.transform.forward(self.split.pixels(rows)), self.split.labels[rows]


@final
class TestImages:
    """A split in a set's model space; computed at the first network and kept for the others where it fits.

    Args:
        split: real images.
        transform: of the set whose networks are tested.
        device: where the networks are.
    """

    __test__ = False  # no test case of pytest

    def __init__(self, split: Split, transform: Transform, device: torch.device) -> None:
        self._split, self._transform, self._device = split, transform, device
        channels, height, width = split.shape
        self._fits = 4 * len(split) * channels * height * width <= KEPT_BYTES
        self._kept: list[Tensor] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images `[n, C, H, W]`, labels int64 `[n]`) in the order of the split."""
        for place, rows in enumerate(torch.arange(len(self._split)).split(TEST_BATCH)):
            if place < len(self._kept):
                x = self._kept[place]
            else:
                x = self._transform.forward(self._split.pixels(rows).to(self._device))
                if self._fits:
                    self._kept.append(x)
            yield x, self._split.labels[rows]

    @torch.no_grad()
    def accuracy(self, net: nn.Module) -> float:
        """Share of the split that `net` classifies correctly, a fraction."""
        net.eval()
        right = sum(int((net(x).argmax(1).cpu() == y).sum()) for x, y in self)
        return right / len(self._split)


@final
class TestBench:
    """`TestImages` of one split for every transform that is asked for: sets that share a transform share them.

    Args:
        split: real images.
        device: where the networks are.
    """

    __test__ = False  # no test case of pytest

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split, self._device = split, device
        self._last: tuple[Any, TestImages] | None = None

    def images(self, transform: Transform) -> TestImages:
        """Those of a transform; the last one's are kept."""
        key = transform.describe()
        if self._last is None or self._last[0] != key:
            self._last = (key, TestImages(self._split, transform, self._device))
        return self._last[1]


def real_set(real: Images, transform: Transform) -> RealSet:
    """All training images of a data set."""
    return RealSet(real.train, real.classes, transform)


def until_flat(scores: Sequence[tuple[int, float]], count: int) -> bool:
    """Whether twice the steps gained less than one standard error of an accuracy on `count` validation images.

    Args:
        scores: (steps, accuracy in [0, 1]) in rising order of steps.
        count: validation images.
    """
    if len(scores) < 2:
        return False
    before, now = scores[-2][1], scores[-1][1]
    return now - before < (before * (1 - before) / count) ** 0.5
