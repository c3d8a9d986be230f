"""MobileNetV2, ShuffleNetV2 and EfficientNet-B0 in their CIFAR variants: teachers of the decoupled methods.

Each has a 3×3 stem without a pool, of stride 1 below 64 px and 2 from there on, averages the whole last map and
is normalised by batch norms throughout. No layer is made that the forward pass does not run, and the batch norms
stand in `modules()` in the order in which they run. Pictures of any size pass: the convolutions are padded.
"""

from __future__ import annotations

from typing import Final, final

import torch
from torch import Tensor, nn

from dd.errors import refuse, unknown
from dd.models.images.classic import FeatureNet
from dd.models.images.convnet import Size
from dd.models.images.resnet import first_stride

MOBILENET: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, width, number of blocks and first stride of MobileNetV2's stages; the second's stride was 2."""

SHUFFLENET: Final = {0.5: (48, 96, 192, 1024), 1.0: (116, 232, 464, 1024)}
"""Widths of ShuffleNetV2's three stages and of its last convolution."""

EFFICIENTNET: Final = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, width, number of blocks, first stride and kernel of EfficientNet-B0's stages."""


def conv_norm(inputs: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A padded convolution without bias and its batch norm, `[N, inputs, H, W]` → `[N, width, ⌈H/s⌉, ⌈W/s⌉]`."""
    convolution = nn.Conv2d(inputs, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width)]


@final
class InvertedResidual(nn.Module):
    """1×1 to expansion·inputs, 3×3 a channel, 1×1 to width; `[N, inputs, H, W]` → `[N, width, H', W']`.

    No ReLU follows the last norm. At stride 1 the input is added, through a 1×1 convolution and a norm where the
    widths differ (the paper adds it only where they are equal).
    """

    def __init__(self, inputs: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.road = nn.Sequential(
            *conv_norm(inputs, inner, 1),
            nn.ReLU(),
            *conv_norm(inner, inner, 3, stride, groups=inner),
            nn.ReLU(),
            *conv_norm(inner, width, 1),
        )
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Identity() if inputs == width else nn.Sequential(*conv_norm(inputs, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        out = self.road(x)
        return out if self.shortcut is None else out + self.shortcut(x)


def mobilenet_v2(channels: int, classes: int, size: Size) -> FeatureNet:
    """MobileNetV2 for CIFAR: 17 blocks, the second stage of stride 1; 57 batch norms of 17 544 channels.

    As in the usual CIFAR variant the activation is ReLU, not ReLU6, the first block has an expansion convolution
    (of factor 1), and stride-1 blocks that change the width have a projection as shortcut.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels.
    """
    layers: list[nn.Module] = [*conv_norm(channels, 32, 3, first_stride(size)), nn.ReLU()]
    inputs = 32
    for expansion, width, number, stride in MOBILENET:
        for index in range(number):
            layers.append(InvertedResidual(inputs, width, expansion, stride if index == 0 else 1))
            inputs = width
    features = nn.Sequential(*layers, *conv_norm(inputs, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return FeatureNet(features, nn.Linear(1280, classes))


def shuffle(x: Tensor) -> Tensor:
    """The channels of both halves in turn, `[N, 2·C, H, W]`: 0, C, 1, C + 1, …"""
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _branch(inputs: int, width: int, stride: int) -> nn.Sequential:
    """1×1, 3×3 a channel without ReLU, 1×1: the main road of both ShuffleNet units."""
    return nn.Sequential(
        *conv_norm(inputs, width, 1),
        nn.ReLU(),
        *conv_norm(width, width, 3, stride, groups=width),
        *conv_norm(width, width, 1),
        nn.ReLU(),
    )


@final
class ShuffleUnit(nn.Module):
    """Half of the channels pass, half take the main road; `[N, width, H, W]` → the same, shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.road = _branch(width // 2, width // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """The map after the unit."""
        kept, taken = x.chunk(2, dim=1)
        return shuffle(torch.cat([kept, self.road(taken)], dim=1))


@final
class ShuffleDown(nn.Module):
    """Two roads of stride 2 from all channels to half of the width each; `[N, inputs, H, W]` → `[N, width, H', W']`."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.side = nn.Sequential(
            *conv_norm(inputs, inputs, 3, 2, groups=inputs),
            *conv_norm(inputs, width // 2, 1),
            nn.ReLU(),
        )
        self.road = _branch(inputs, width // 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The map after the unit, shuffled."""
        return shuffle(torch.cat([self.side(x), self.road(x)], dim=1))


def shufflenet_v2(channels: int, classes: int, size: Size, *, width: float = 0.5) -> FeatureNet:
    """ShuffleNetV2 for CIFAR: three stages of a `ShuffleDown` and 3, 7 and 3 `ShuffleUnit`; 56 batch norms.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels.
        width: 0.5 (3 976 channels of batch norms) or 1.0.

    Raises:
        InputError: another width.
    """
    if isinstance(width, bool) or width not in SHUFFLENET:
        raise unknown("width of shufflenet_v2", width, SHUFFLENET)
    *stages, last = SHUFFLENET[width]
    layers: list[nn.Module] = [*conv_norm(channels, 24, 3, first_stride(size)), nn.ReLU()]
    inputs = 24
    for outputs, number in zip(stages, (3, 7, 3), strict=True):
        layers += [ShuffleDown(inputs, outputs), *(ShuffleUnit(outputs) for _ in range(number))]
        inputs = outputs
    features = nn.Sequential(*layers, *conv_norm(inputs, last, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return FeatureNet(features, nn.Linear(last, classes))


@final
class SqueezeExcite(nn.Module):
    """Scales each channel by what all channels' averages say; `[N, width, H, W]` → the same."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, kernel_size=1),
            nn.SiLU(),
            nn.Conv2d(squeezed, width, kernel_size=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The scaled map."""
        return x * self.gate(x)


@final
class MBConv(nn.Module):
    """EfficientNet's block: expansion, convolution a channel, `SqueezeExcite`, 1×1 to width.

    `[N, inputs, H, W]` → `[N, width, H', W']`. With expansion 1 there is no expansion convolution. The input is
    added where the shape stays.
    """

    def __init__(self, inputs: int, width: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = expansion * inputs
        widen = [] if expansion == 1 else [*conv_norm(inputs, inner, 1), nn.SiLU()]
        self.road = nn.Sequential(
            *widen,
            *conv_norm(inner, inner, kernel, stride, groups=inner),
            nn.SiLU(),
            SqueezeExcite(inner, inputs // 4),
            *conv_norm(inner, width, 1),
        )
        self.skips = stride == 1 and inputs == width

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        return x + self.road(x) if self.skips else self.road(x)


def efficientnet_b0(channels: int, classes: int, size: Size, *, dropout: float = 0.0) -> FeatureNet:
    """EfficientNet-B0 with a stem of stride 1 and without stochastic depth; 49 batch norms.

    The first block, of expansion 1, has no expansion convolution and norm: the usual CIFAR variant makes them and
    never runs them. The 1×1 convolution to 1280 channels before the average is there, as in the paper.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels.
        dropout: rate before the linear layer, 0 ≤ rate < 1; the paper has 0.2.

    Raises:
        InputError: the rate is out of range.
    """
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise refuse("dropout", "a number of at least 0 and below 1", repr(dropout))
    layers: list[nn.Module] = [*conv_norm(channels, 32, 3, first_stride(size)), nn.SiLU()]
    inputs = 32
    for expansion, width, number, stride, kernel in EFFICIENTNET:
        for index in range(number):
            layers.append(MBConv(inputs, width, expansion, stride if index == 0 else 1, kernel))
            inputs = width
    features = nn.Sequential(*layers, *conv_norm(inputs, 1280, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1))
    return FeatureNet(features, nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, classes)))
