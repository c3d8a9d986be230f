"""The six DSA options for one picture, pixel by pixel in plain Python, from their definitions.

A picture is a float64 tensor `[C, H, W]`. Nothing here is vectorised and nothing is shared with `dd.transforms.dsa`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def color(picture: Tensor, brightness: float, saturation: float, contrast: float) -> Tensor:
    """x + b; then (x − m_c)·s + m_c, m_c the mean of a pixel; then (x − m)·k + m, m that of the picture."""
    channels, height, width = picture.shape
    out = picture.clone()
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                out[c, i, j] = float(picture[c, i, j]) + brightness
    for i in range(height):
        for j in range(width):
            pixel = [float(out[c, i, j]) for c in range(channels)]
            grey = sum(pixel) / channels
            for c in range(channels):
                out[c, i, j] = (pixel[c] - grey) * saturation + grey
    values = [float(v) for v in out.flatten()]
    level = sum(values) / len(values)
    return torch.tensor([(v - level) * contrast + level for v in values], dtype=torch.float64).view_as(picture)


def crop(picture: Tensor, y: int, x: int) -> Tensor:
    """Shift by (y, x) pixels; vacated pixels are 0."""
    channels, height, width = picture.shape
    out = torch.zeros_like(picture)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                if 0 <= i + y < height and 0 <= j + x < width:
                    out[c, i, j] = picture[c, i + y, j + x]
    return out


def cutout(picture: Tensor, centre_y: int, centre_x: int, height: int, width: int) -> Tensor:
    """Zero the pixels centre − side//2 … centre − side//2 + side − 1 on both axes, clipped at the border."""
    out = picture.clone()
    for di in range(height):
        for dj in range(width):
            i, j = centre_y + di - height // 2, centre_x + dj - width // 2
            if 0 <= i < picture.shape[1] and 0 <= j < picture.shape[2]:
                out[:, i, j] = 0.0
    return out


def flip(picture: Tensor, mirrored: bool) -> Tensor:
    """Mirror left and right."""
    channels, height, width = picture.shape
    out = picture.clone()
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                out[c, i, j] = picture[c, i, width - 1 - j] if mirrored else picture[c, i, j]
    return out


def affine(picture: Tensor, matrix: list[list[float]]) -> Tensor:
    """out(u, v) = picture(matrix · (u, v)), corners at ±1, bilinear, 0 outside; 2×2, no translation."""
    channels, height, width = picture.shape
    out = torch.zeros_like(picture)
    for i in range(height):
        for j in range(width):
            u, v = -1 + 2 * j / (width - 1), -1 + 2 * i / (height - 1)
            column = (matrix[0][0] * u + matrix[0][1] * v + 1) / 2 * (width - 1)
            row = (matrix[1][0] * u + matrix[1][1] * v + 1) / 2 * (height - 1)
            for a in (math.floor(row), math.floor(row) + 1):
                for b in (math.floor(column), math.floor(column) + 1):
                    if 0 <= a < height and 0 <= b < width:
                        weight = (1 - abs(row - a)) * (1 - abs(column - b))
                        for c in range(channels):
                            out[c, i, j] += weight * picture[c, a, b]
    return out


def scale(picture: Tensor, x: float, y: float) -> Tensor:
    """The factors on the diagonal."""
    return affine(picture, [[x, 0.0], [0.0, y]])


def rotate(picture: Tensor, angle: float) -> Tensor:
    """A rotation of the pixels about the centre by `angle` radians; square: [[cos, −sin], [sin, cos]]."""
    _, height, width = picture.shape
    # Normalised → pixels → rotate → normalised.
    half_height, half_width = (height - 1) / 2, (width - 1) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    return affine(picture, [[cos, -sin * half_height / half_width], [sin * half_width / half_height, cos]])
