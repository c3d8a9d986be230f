"""DenseNet-121 with the CIFAR stem, a teacher of the decoupled methods."""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn

from dd.models.images.classic import FeatureNet
from dd.models.images.convnet import Size, map_size
from dd.models.images.pool import MeanPool
from dd.models.images.resnet import first_stride

GROWTH: Final = 32
BLOCKS: Final = (6, 12, 24, 16)
"""Layers of the four dense blocks; between two of them a transition halves channels, height and width."""


@final
class DenseLayer(nn.Module):
    """Norm, ReLU, 1×1 to 4·growth, norm, ReLU, 3×3; `[N, inputs, H, W]` → `[N, inputs + growth, H, W]`."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.road = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 4 * growth, kernel_size=1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The map with the new channels behind the old."""
        return torch.cat([x, self.road(x)], dim=1)


def densenet121(channels: int, classes: int, size: Size) -> FeatureNet:
    """DenseNet-121 (growth 32, 6-12-24-16, transitions that halve): 120 batch norms of 41 760 channels.

    The stem is one 3×3 convolution of 64 channels without norm and pool, of stride 2 from 64 px on; the whole
    last map is averaged.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, at least 8.

    Raises:
        InputError: pictures too small.
    """
    width = 2 * GROWTH
    stem = nn.Conv2d(channels, width, kernel_size=3, stride=first_stride(size), padding=1, bias=False)
    layers: list[nn.Module] = [stem]
    for index, number in enumerate(BLOCKS):
        if index > 0:
            half = nn.Conv2d(width, width // 2, kernel_size=1, bias=False)
            layers += [nn.BatchNorm2d(width), nn.ReLU(), half, MeanPool()]
            width //= 2
        layers.append(nn.Sequential(*(DenseLayer(width + i * GROWTH, GROWTH) for i in range(number))))
        width += number * GROWTH
    map_size(layers, size, "densenet121")  # the dense blocks keep the size
    features = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return FeatureNet(features, nn.Linear(width, classes))
