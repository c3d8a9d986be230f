"""ResNet-50 and ResNet-101 with the CIFAR stem: teachers and students of the decoupled methods.

As in ResNet-18, the stem is one 3×3 convolution without a pool (stride 2 from 64 px on), the stages begin with
strides 1, 2, 2 and 2, and the whole last map is averaged.
"""

from __future__ import annotations

from typing import Final, final

from torch import Tensor, nn

from dd.models.images.convnet import Size, norm_layer
from dd.models.images.resnet import NORMS, Residual, ResNet

EXPANSION: Final = 4
"""How much wider a bottleneck ends than it is inside."""


@final
class Bottleneck(Residual):
    """1×1, 3×3 (with the stride) and 1×1 convolutions and a shortcut, `[N, inputs, H, W]` → `[N, 4·width, H', W']`.

    The shortcut is a 1×1 convolution and a norm where the stride or the number of channels changes.
    """

    def __init__(self, inputs: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        self.outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
        self.norm1 = norm_layer(norm, width, NORMS)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = norm_layer(norm, width, NORMS)
        self.conv3 = nn.Conv2d(width, self.outputs, kernel_size=1, bias=False)
        self.norm3 = norm_layer(norm, self.outputs, NORMS)
        self.act = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != self.outputs:
            project = nn.Conv2d(inputs, self.outputs, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(project, norm_layer(norm, self.outputs, NORMS))

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        inner = self.act(self.norm1(self.conv1(x)))
        inner = self.act(self.norm2(self.conv2(inner)))
        return self.act(self.norm3(self.conv3(inner)) + self.shortcut(x))

    def layers(self) -> tuple[nn.Module, ...]:
        """The main road's layers that bear on the map's size."""
        return self.conv1, self.norm1, self.conv2, self.norm2, self.conv3, self.norm3


def _deep(name: str, channels: int, classes: int, size: Size, norm: str, third: int) -> ResNet:
    """The bottleneck net of 3, 4, `third` and 3 blocks."""

    def block(inputs: int, width: int, stride: int) -> Residual:
        return Bottleneck(inputs, width, stride, norm)

    stages = ((64, 1, 3), (128, 2, 4), (256, 2, third), (512, 2, 3))
    return ResNet(name, channels, classes, size, norm, block, stages)


def resnet50(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet:
    """ResNet-50 (Bottleneck, 3-4-6-3); with `batch` 53 batch norms of 26 560 channels.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, over 8 with `norm="instance"`.
        norm: `instance` (GroupNorm(C, C)) or `batch`, which a teacher needs.

    Raises:
        InputError: an unknown norm, or pictures so small that the instance norm sees single values.
    """
    return _deep("resnet50", channels, classes, size, norm, 6)


def resnet101(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet:
    """ResNet-101 (Bottleneck, 3-4-23-3); with `batch` 104 batch norms of 52 672 channels.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, over 8 with `norm="instance"`.
        norm: `instance` (GroupNorm(C, C)) or `batch`, which a teacher needs.

    Raises:
        InputError: an unknown norm, or pictures so small that the instance norm sees single values.
    """
    return _deep("resnet101", channels, classes, size, norm, 23)
