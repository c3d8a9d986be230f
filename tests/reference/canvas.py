"""Crops of a torus the slow way: roll the whole canvas so that the crop starts at its corner, and cut."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def rolled(canvases: Tensor, places: Iterable[tuple[int, int, int]], size: tuple[int, int]) -> Tensor:
    """`[m, C, H, W]` from canvases `[n, C, ·, ·]` at places (canvas, first row, first column)."""
    cut = []
    for canvas, top, left in places:
        cut.append(torch.roll(canvases[canvas], (-top, -left), (1, 2))[:, : size[0], : size[1]])
    return torch.stack(cut)
