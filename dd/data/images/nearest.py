"""The real image nearest to each of some images, in pixels or in any embedding; memory is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from dd.base.shapes import check
from dd.data.images.splits import Split
from dd.errors import refuse

CHUNK: Final = 1000
"""Real images that are held at once."""

Embed = Callable[[Tensor], Tensor]
"""Pixels in [0, 1] `[n, C, H, W]` → points `[n, D]`."""


def flat(pixels: Tensor) -> Tensor:
    """Pixels as points `[n, C·H·W]`."""
    return pixels.flatten(1)


def nearest(
    pixels: Tensor, split: Split, embed: Embed = flat, within: Tensor | None = None, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Row of `split` nearest to each image, int64 `[n]`, and its Euclidean distance, float32 `[n]`.

    Distances come from differences, not from |a|² + |b|² − 2 a·b, whose rounding would make a copy look like none.

    Args:
        pixels: images in [0, 1], `[n, C, H, W]`.
        split: N ≥ 1 real images, read `chunk` at a time.
        embed: from pixels to the points that are compared.
        within: int64 `[n]`: look only among real images of this class, one an image; `None`: among all.
        chunk: real images at once.

    Raises:
        InputError: another shape; no real image of a class.
    """
    c, h, w = split.shape
    check(pixels, "pixels", "N C H W", C=c, H=h, W=w)
    points = torch.cat([embed(part) for part in pixels.split(chunk)]).float()
    best = torch.full((len(points),), torch.inf)
    place = torch.full((len(points),), -1)
    for rows, real in split.stream(torch.arange(len(split)).split(chunk)):
        far = torch.cdist(points, embed(real).float(), compute_mode="donot_use_mm_for_euclid_dist")
        if within is not None:
            far = far.masked_fill(within[:, None] != split.labels[rows][None], torch.inf)
        value, where = far.min(1)
        closer = value < best
        best, place = torch.where(closer, value, best), torch.where(closer, rows[where], place)
    if bool((place < 0).any()):
        raise refuse("split", "one with images of every class asked for", "none for some images")
    return place, best
