"""ResNet-18 with the CIFAR stem, and its average-pooling variant, as the cross-architecture tables use them.

The stem is one 3×3 convolution, of stride 2 from 64 px on. Where the published code averages a fixed 4×4 map
at the end, we average the whole map: the same at 28, 32 and 64 px, and defined at every other size.
`ResNet` is also the frame of the deeper nets (`bottleneck`) and of ResNet-20 (`slim`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from torch import Tensor, nn

from dd.models.images.convnet import Size, map_size, norm_layer
from dd.models.images.pool import MeanPool

NORMS: Final = ("instance", "batch")
STAGES: Final = ((64, 1, 2), (128, 2, 2), (256, 2, 2), (512, 2, 2))
"""Width, first stride and number of blocks of the four stages."""


def first_stride(size: Size) -> int:
    """Stride of the first convolution: 2 from 64 px on (the published 64 px variants), else 1."""
    return 2 if min(size) >= 64 else 1


class Residual(nn.Module):
    """Base of the blocks of a `ResNet`, `[N, inputs, H, W]` → `[N, outputs, H', W']`.

    Attributes:
        outputs: channels of the map after the block.
    """

    outputs: int

    def layers(self) -> tuple[nn.Module, ...]:
        """The main road's layers that bear on the map's size."""
        raise NotImplementedError


@final
class BasicBlock(Residual):
    """Two 3×3 convolutions and a shortcut, `[N, inputs, H, W]` → `[N, width, H', W']`.

    With `pooled`, a stride-2 convolution is a stride-1 convolution and a 2×2 average pool. As published, the
    pool comes after norm and ReLU on the main road and before the norm on the shortcut. A `shortcut` that is
    given takes the place of the projection.
    """

    def __init__(
        self, inputs: int, width: int, stride: int, norm: str, pooled: bool = False, shortcut: nn.Module | None = None
    ) -> None:
        super().__init__()
        step = 1 if pooled else stride
        self.outputs = width
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=3, stride=step, padding=1, bias=False)
        self.norm1 = norm_layer(norm, width, NORMS)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, width, NORMS)
        self.act = nn.ReLU()
        self.pool: nn.Module = MeanPool() if pooled and stride == 2 else nn.Identity()
        self.shortcut: nn.Module = nn.Identity() if shortcut is None else shortcut
        if shortcut is None and (stride != 1 or inputs != width):
            project = nn.Conv2d(inputs, width, kernel_size=1, stride=step, bias=False)
            pool = [MeanPool()] if pooled and stride == 2 else []
            self.shortcut = nn.Sequential(project, *pool, norm_layer(norm, width, NORMS))

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        inner = self.pool(self.act(self.norm1(self.conv1(x))))
        return self.act(self.norm2(self.conv2(inner)) + self.shortcut(x))

    def layers(self) -> tuple[nn.Module, ...]:
        """The main road's layers that bear on the map's size."""
        return self.conv1, self.norm1, self.pool, self.conv2, self.norm2


BlockMaker = Callable[[int, int, int], Residual]
"""`f(inputs, width, stride)`: a block of a `ResNet`."""


@final
class ResNet(nn.Module):
    """`conv`, `norm`, `stages` (a `Sequential` of `Sequential` of `Residual`) and `classifier`.

    Args:
        name: the network's, for messages.
        channels: C.
        classes: K.
        size: height and width in pixels.
        norm: of the stem, `instance` or `batch`; the blocks have their own.
        block: makes a block of (inputs, width, stride).
        stages: width, first stride and number of blocks of each; the stem is as wide as the first.
        flat: the classifier takes the whole last map instead of its average.

    Raises:
        InputError: an unknown norm, or pictures too small.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        classes: int,
        size: Size,
        norm: str,
        block: BlockMaker,
        stages: Sequence[tuple[int, int, int]],
        flat: bool = False,
    ) -> None:
        super().__init__()
        inputs = stages[0][0]
        self.conv = nn.Conv2d(channels, inputs, kernel_size=3, stride=first_stride(size), padding=1, bias=False)
        self.norm = norm_layer(norm, inputs, NORMS)
        self.act = nn.ReLU()
        built, layers = [], [self.conv, self.norm]
        for width, stride, number in stages:
            blocks: list[Residual] = []
            for index in range(number):
                blocks.append(block(inputs, width, stride if index == 0 else 1))
                inputs = blocks[-1].outputs
                layers += blocks[-1].layers()
            built.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*built)
        height_, width_ = map_size(layers, size, name)
        self.flat = flat
        self.classifier = nn.Linear(inputs * height_ * width_ if flat else inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, K]` of pictures `[N, C, H, W]`."""
        out = self.stages(self.act(self.norm(self.conv(x))))
        return self.classifier(out.flatten(1) if self.flat else out.mean(dim=(2, 3)))


def resnet18(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet:
    """ResNet-18 (BasicBlock, 2-2-2-2) with strided convolutions and an average over the last map.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, over 8 with `norm="instance"`.
        norm: `instance` (GroupNorm(C, C), the field's default) or `batch`.

    Raises:
        InputError: an unknown norm, or pictures so small that the instance norm sees single values.
    """

    def block(inputs: int, width: int, stride: int) -> Residual:
        return BasicBlock(inputs, width, stride, norm)

    return ResNet("resnet18", channels, classes, size, norm, block, STAGES)


def resnet18_ap(channels: int, classes: int, size: Size, *, norm: str = "instance") -> ResNet:
    """ResNet-18 that shrinks by average pools and ends in a linear layer on the whole map (512·4·4 at 32 px).

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels, at least 16 with `norm="instance"` and 8 with `batch`.
        norm: `instance` or `batch`.

    Raises:
        InputError: an unknown norm, or pictures too small.
    """

    def block(inputs: int, width: int, stride: int) -> Residual:
        return BasicBlock(inputs, width, stride, norm, pooled=True)

    return ResNet("resnet18_ap", channels, classes, size, norm, block, STAGES, flat=True)
