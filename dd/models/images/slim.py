"""ResNet-20 and a slim ResNet-9: small teachers for machines without a GPU.

Both have a 3×3 stem, of stride 2 from 64 px on, average the whole last map, and have batch norms unless told
otherwise.
"""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from dd.base.shapes import check_whole
from dd.models.images.classic import FeatureNet
from dd.models.images.convnet import Size, map_size, norm_layer
from dd.models.images.resnet import NORMS, BasicBlock, Residual, ResNet, first_stride


@final
class PadShortcut(nn.Module):
    """Every `stride`-th value, and `extra` channels of zeros: `[N, C, H, W]` → `[N, C + extra, ⌈H/s⌉, ⌈W/s⌉]`.

    The shortcut without parameters of the CIFAR networks in He et al.
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        """The map in the shape that the main road has."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def resnet20(channels: int, classes: int, size: Size, *, norm: str = "batch") -> ResNet:
    """ResNet-20 of He et al. for CIFAR: widths 16, 32, 64, three blocks each, shortcuts without parameters.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, over 4 with `norm="instance"`.
        norm: `instance` (GroupNorm(C, C)) or `batch`: 19 batch norms of 688 channels.

    Raises:
        InputError: an unknown norm, or pictures so small that the instance norm sees single values.
    """

    def block(inputs: int, width: int, stride: int) -> Residual:
        shortcut = None if inputs == width else PadShortcut(width - inputs, stride)
        return BasicBlock(inputs, width, stride, norm, shortcut=shortcut)

    return ResNet("resnet20", channels, classes, size, norm, block, ((16, 1, 3), (32, 2, 3), (64, 2, 3)))


def _unit(inputs: int, width: int, norm: str, stride: int = 1) -> list[nn.Module]:
    """A 3×3 convolution without bias, its norm and a ReLU."""
    convolution = nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1, bias=False)
    return [convolution, norm_layer(norm, width, NORMS), nn.ReLU()]


@final
class ResidualPair(nn.Module):
    """`x + road(x)`, where `road` is twice convolution, norm and ReLU; `[N, width, H, W]` → the same."""

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.road = nn.Sequential(*_unit(width, width, norm), *_unit(width, width, norm))

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        return x + self.road(x)


def resnet9(channels: int, classes: int, size: Size, *, width: int = 32, norm: str = "batch") -> FeatureNet:
    """A slim ResNet-9: widths w, 2w, 4w, 8w, a 2×2 maximum pool after each but the first, two residual pairs.

    The pairs come after the pools at 2w and 8w. The usual ResNet-9 is `width=64`; its time goes with the square.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, at least 8, or 16 with `norm="instance"`.
        width: w, ≥ 1.
        norm: `instance` (GroupNorm(C, C)) or `batch`: 8 batch norms of 35·w channels.

    Raises:
        InputError: an unknown norm, a width below one, or pictures too small.
    """
    check_whole(width, "width")
    w = width
    pairs = ResidualPair(2 * w, norm), ResidualPair(8 * w, norm)
    stem, second = _unit(channels, w, norm, first_stride(size)), [*_unit(w, 2 * w, norm), nn.MaxPool2d(2)]
    third, fourth = [*_unit(2 * w, 4 * w, norm), nn.MaxPool2d(2)], [*_unit(4 * w, 8 * w, norm), nn.MaxPool2d(2)]
    map_size([*stem, *second, *pairs[0].road, *third, *fourth, *pairs[1].road], size, "resnet9")
    features = nn.Sequential(*stem, *second, pairs[0], *third, *fourth, pairs[1], nn.AdaptiveAvgPool2d(1))
    return FeatureNet(features, nn.Linear(8 * w, classes))
