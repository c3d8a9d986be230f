"""Scoring many networks on one split: its images are brought to model space once, not once a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from dd.base.devices import moved
from dd.data import Split
from dd.errors import DivergedError
from dd.evaluation.loop import TEST_BATCH
from dd.evaluation.scores import Figures, comparable, figures
from dd.transforms.whiten import Transform

KEPT_BYTES: Final = 2 * 10**9
"""Transformed images that are kept at most; a larger split is transformed for every network."""


@final
class Scorer:
    """Scores networks on one split, whose images in model space are computed once for all networks of a transform.

    Args:
        split: real images.
        device: where the networks are.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self._device = split, device
        channels, height, width = split.shape
        self._fits = 4 * len(split) * channels * height * width <= KEPT_BYTES
        self._kept: list[Tensor] = []
        self._key: dict[str, Any] = {}

    def batches(self, transform: Transform) -> Iterator[tuple[Tensor, Tensor]]:
        """(images in model space `[n, C, H, W]`, labels int64 `[n]`) in the order of the split."""
        if (key := transform.describe()) != self._key:
            self._key, self._kept = key, []
        batches, kept = torch.arange(len(self.split)).split(TEST_BATCH), self._kept
        have = len(kept)
        for x, rows in zip(kept[:have], batches[:have], strict=True):
            yield x.clone(), self.split.labels[rows]  # a network may write into its pictures
        for place, (rows, pixels) in enumerate(self.split.stream(batches[have:]), start=have):
            x = transform.forward(moved(pixels, self._device))
            if self._fits and len(kept) == place:
                kept.append(x.clone())
            yield x, self.split.labels[rows]

    @torch.no_grad()
    def accuracy(self, net: nn.Module, transform: Transform) -> float:
        """Share of the split that `net` classifies correctly, a fraction; `net` is left in eval mode."""
        net.eval()
        right = sum(int((net(x).argmax(1).cpu() == y).sum()) for x, y in self.batches(transform))
        return right / len(self.split)

    @torch.no_grad()
    def figures(self, net: nn.Module, transform: Transform, metric: str = "accuracy") -> Figures:
        """Accuracy, balanced accuracy, recalls and AUROC by one pass over the split; `net` is left in eval mode.

        Raises:
            InputError: a metric without a value on this split.
            DivergedError: outputs that are not finite.
        """
        net.eval()
        scores = torch.cat([net(x).cpu() for x, _ in self.batches(transform)])
        if not bool(torch.isfinite(scores).all()):
            raise DivergedError("a trained network's outputs are not finite. Give a lower `lr`, or lr='tuned'.")
        return figures(comparable(scores), self.split.labels, metric)


def until_flat(scores: Sequence[tuple[int, float]], count: int, chance: float = 0.0) -> bool:
    """Whether twice the steps gained less than one standard error of an accuracy on `count` validation images.

    It is `False` too while the accuracy is not two of them above `chance`.

    Args:
        scores: (steps, accuracy in [0, 1]) in rising order of steps.
        count: validation images.
        chance: accuracy of a guess.
    """
    if len(scores) < 2:
        return False
    before, now = scores[-2][1], scores[-1][1]
    if now < chance + 2 * (chance * (1 - chance) / count) ** 0.5:
        return False
    return now - before < (before * (1 - before) / count) ** 0.5
