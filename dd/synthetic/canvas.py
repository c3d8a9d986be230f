"""Canvases: synthetic images larger than a picture, of which networks see random crops (MTT's texture mode).

A canvas `[C, c·H, c·W]` is a torus: a crop that leaves it on one side comes in again on the other, so that every pixel
is in as many crops as any other. A crop is linear, and `Crops.put` is the adjoint of `Crops.take`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

_AT_ONCE = 256  # crops that are rolled back to their canvas at a time


@dataclass(frozen=True)
class Crops:
    """m crops: `crop[k, c, i, j] = canvas[index[k], c, (top[k] + i) mod c·H, (left[k] + j) mod c·W]`.

    Attributes:
        index: the canvas of each crop, int64 `[m]`.
        top, left: its first row and column there, int64 `[m]`.
        size: H and W of every crop, at most those of a canvas.
    """

    index: Tensor
    top: Tensor
    left: Tensor
    size: tuple[int, int]

    def take(self, canvases: Tensor) -> Tensor:
        """The crops `[m, C, H, W]` of canvases `[n, C, c·H, c·W]`."""
        channels, height, width = canvases.shape[1:]
        rows = (self.top[:, None] + _range(self.size[0], canvases)) % height
        columns = (self.left[:, None] + _range(self.size[1], canvases)) % width
        of = self.index.view(-1, 1, 1, 1), _range(channels, canvases).view(1, -1, 1, 1)
        return canvases[(*of, rows[:, None, :, None], columns[:, None, None, :])]

    def put(self, gradient: Tensor, like: Tensor) -> Tensor:
        """The adjoint of `take`: `[m, C, H, W]` summed where the crops were taken, `[n, C, c·H, c·W]` as `like`.

        Each crop is rolled to its place and added as a whole, so that on a CPU the order of the sum, and so its last
        bit, does not depend on the number of threads.
        """
        total = torch.zeros_like(like)
        height, width = like.shape[2:]
        channels = _range(like.shape[1], like).view(1, -1, 1, 1)
        frame = (0, width - self.size[1], 0, height - self.size[0])
        parts = zip(*(t.split(_AT_ONCE) for t in (gradient, self.index, self.top, self.left)), strict=True)
        for part, index, top, left in parts:
            each = _range(len(part), like).view(-1, 1, 1, 1)
            rows = (_range(height, like) - top[:, None]) % height
            columns = (_range(width, like) - left[:, None]) % width
            framed = F.pad(part, frame)
            total.index_add_(0, index, framed[each, channels, rows[:, None, :, None], columns[:, None, None, :]])
        return total


def draw_crops(index: Tensor, canvas: tuple[int, int], size: tuple[int, int], generator: Generator) -> Crops:
    """One crop of each canvas in `index` `[m]` (repeated ones get several), uniform over all places of the torus.

    Args:
        index: canvases, int64.
        canvas: height and width of a canvas.
        size: H and W of a crop.
        generator: on the CPU.
    """
    top, left = (torch.randint(side, (len(index),), generator=generator).to(index.device) for side in canvas)
    return Crops(index, top, left, size)


def tile(images: Tensor, canvas: int) -> Tensor:
    """Canvases `[n, C, c·H, c·W]` of c × c images each, from images `[n·c², C, H, W]`, row by row."""
    channels, height, width = images.shape[1:]
    grid = images.reshape(-1, canvas, canvas, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, canvas * height, canvas * width)


def _range(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)
