"""ResNet-18 with the CIFAR stem, and its average-pooling variant, as the cross-architecture tables use them.

The stem is one 3×3 convolution, of stride 2 from 64 px on. Where the published code averages a fixed 4×4 map
at the end, we average the whole map: the same at 28, 32 and 64 px, and defined at every other size.
"""

from __future__ import annotations

from typing import Final, final

from torch import Tensor, nn

from dd.models.convnet import Size, map_size, norm_layer

NORMS: Final = ("instance", "batch")
STAGES: Final = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Width and first stride of the four stages of two blocks."""


def first_stride(size: Size) -> int:
    """Stride of the first convolution: 2 from 64 px on (the published 64 px variants), else 1."""
    return 2 if min(size) >= 64 else 1


@final
class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, `[N, inputs, H, W]` → `[N, width, H', W']`.

    With `pooled`, a stride-2 convolution is a stride-1 convolution and a 2×2 average pool. As published, the
    pool comes after norm and ReLU on the main road and before the norm on the shortcut.
    """

    def __init__(self, inputs: int, width: int, stride: int, norm: str, pooled: bool) -> None:
        super().__init__()
        step = 1 if pooled else stride
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=3, stride=step, padding=1, bias=False)
        self.norm1 = norm_layer(norm, width, NORMS)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, width, NORMS)
        self.act = nn.ReLU()
        self.pool: nn.Module = nn.AvgPool2d(2) if pooled and stride == 2 else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            project = nn.Conv2d(inputs, width, kernel_size=1, stride=step, bias=False)
            pool = [nn.AvgPool2d(2)] if pooled and stride == 2 else []
            self.shortcut = nn.Sequential(project, *pool, norm_layer(norm, width, NORMS))

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        inner = self.pool(self.act(self.norm1(self.conv1(x))))
        return self.act(self.norm2(self.conv2(inner)) + self.shortcut(x))

    def layers(self) -> tuple[nn.Module, ...]:
        """The main road's layers that bear on the map's size."""
        return self.conv1, self.norm1, self.pool, self.conv2, self.norm2


@final
class ResNet18(nn.Module):
    """`conv`, `norm`, `stages` (four `Sequential` of two `BasicBlock`) and `classifier`."""

    def __init__(self, channels: int, classes: int, size: Size, norm: str, pooled: bool) -> None:
        super().__init__()
        stride = first_stride(size)
        self.conv = nn.Conv2d(channels, 64, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = norm_layer(norm, 64, NORMS)
        self.act = nn.ReLU()
        inputs, stages, layers = 64, [], [self.conv, self.norm]
        for width, stride in STAGES:
            blocks = [
                BasicBlock(inputs, width, stride, norm, pooled),
                BasicBlock(width, width, 1, norm, pooled),
            ]
            layers += [layer for block in blocks for layer in block.layers()]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        self.stages = nn.Sequential(*stages)
        height_, width_ = map_size(layers, size, "resnet18_ap" if pooled else "resnet18")
        self.pooled = pooled
        self.classifier = nn.Linear(512 * height_ * width_ if pooled else 512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, K]` of pictures `[N, C, H, W]`."""
        out = self.stages(self.act(self.norm(self.conv(x))))
        return self.classifier(out.flatten(1) if self.pooled else out.mean(dim=(2, 3)))


def resnet18(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet18:
    """ResNet-18 (BasicBlock, 2-2-2-2) with strided convolutions and an average over the last map.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, over 8 with `norm="instance"`.
        norm: `instance` (GroupNorm(C, C), the field's default) or `batch`.

    Raises:
        InputError: an unknown norm, or pictures so small that the instance norm sees single values.
    """
    return ResNet18(channels, classes, size, norm, pooled=False)


def resnet18_ap(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet18:
    """ResNet-18 that shrinks by average pools and ends in a linear layer on the whole map (512·4·4 at 32 px).

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, at least 16 with `norm="instance"` and 8 with `batch`.
        norm: `instance` or `batch`.

    Raises:
        InputError: an unknown norm, or pictures too small.
    """
    return ResNet18(channels, classes, size, norm, pooled=True)
