"""Mean and deviation of the pixels of a split."""

from __future__ import annotations

from typing import Final

import torch

from dd.base import seeding
from dd.data.images.lazy import LazySplit
from dd.data.images.splits import Split, chunks

SAMPLE: Final = 10_000
"""Statistics of a set that does not fit in memory are estimated from this many images."""


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
    # Memory is best in pieces of a cache.
    rows = 1024 if isinstance(split, LazySplit) else max(1, 2**18 // (c * h * w))
    for _, x in split.stream(chunks(len(split), rows)):
        x.sub_(origin.view(1, c, 1, 1))
        total += x.sum((0, 2, 3), dtype=torch.float64)
        squares += x.square_().sum((0, 2, 3), dtype=torch.float64)
    count = len(split) * h * w
    shift = total / count
    std = (squares / count - shift.square()).clamp_min(0).sqrt()
    return tuple((origin.double() + shift).tolist()), tuple(std.tolist())
