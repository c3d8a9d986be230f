"""Between pictures of 256 levels and model space, few at a time: a whole set in floats is four times its bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from dd.transforms.whiten import Normalise, Transform

_VALUES: Final = 2**16
"""Of the pictures that are taken together."""


def from_levels(pictures: Tensor, transform: Transform) -> Tensor:
    """Pictures uint8 `[N, C, H, W]` in model space, float32."""
    made = torch.empty(pictures.shape)
    for rows in _together(pictures, transform):
        made[rows] = transform.forward(pictures[rows].float() / 255)
    return made


def to_levels(images: Tensor, transform: Transform) -> Tensor:
    """Images `[N, C, H, W]` in model space as uint8, clipped and rounded, on the CPU."""
    made = torch.empty(images.shape, dtype=torch.uint8)
    for rows in _together(images, transform):
        made[rows] = levels(transform.inverse(images[rows].cpu()).clamp(0, 1))
    return made


def levels(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8, rounded."""
    return (pixels * 255).round().to(torch.uint8)


def _together(images: Tensor, transform: Transform) -> Iterator[slice]:
    """Few rows where each value is for itself; all for a matrix, whose products round otherwise for fewer rows."""
    each = max(1, _VALUES // max(1, math.prod(images.shape[1:]))) if isinstance(transform, Normalise) else len(images)
    for start in range(0, len(images), max(1, each)):
        yield slice(start, start + each)
