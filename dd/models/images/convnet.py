"""The field's ConvNet, and the layer arithmetic that the other networks share.

A ConvNet is `depth` equal blocks (3×3 convolution with bias → norm → ReLU → 2×2 pool) and one linear layer on
the flattened map. Its name in the literature hides the depth: "ConvNet" is depth 3 at 32 px, D4 at 64, D5 at
128, D6 at 256. Here the depth follows the picture unless it is given.

Parameters come in the order of the published networks (conv weight, conv bias, norm weight, norm bias, block
after block, then the linear layer), so that a buffer of lists of tensors can be read by position.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, final

from torch import Tensor, nn

from dd.errors import refuse, unknown
from dd.models.images.pool import MeanPool

Size = tuple[int, int]
"""Height and width of a picture or a map, in pixels."""

NORMS: Final = ("instance", "batch", "layer", "group", "none")
POOLS: Final = ("avg", "max", "none")


def norm_layer(norm: str, width: int, known: tuple[str, ...] = NORMS) -> nn.Module:
    """The normalisation `norm` for maps of `width` channels, affine in every case.

    * `instance`: `GroupNorm(width, width)`. Not `nn.InstanceNorm2d`, whose affine part is off by default. It
      keeps no running statistics, so train() and eval() give the same output.
    * `layer`: `GroupNorm(1, width)`, one scale and shift a channel. The published layer norm has one for
      every value of the map (`nn.LayerNorm` over C, H and W), which multiplies the parameters.
    * `group`: `GroupNorm(4, width)`.

    Raises:
        InputError: `norm` is not in `known`, or `group` with a width that four does not divide.
    """
    if norm not in known:
        raise unknown("norm", norm, known)
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "none":
        return nn.Identity()
    if norm == "group" and width % 4:
        raise refuse("width", 'a multiple of 4 with `norm="group"`', width)
    groups = {"instance": width, "layer": 1, "group": 4}[norm]
    return nn.GroupNorm(groups, width)


def pool_layer(pool: str) -> nn.Module:
    """A 2×2 pool of stride 2 that drops an odd last row or column, or nothing."""
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    return {"avg": MeanPool(), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pool]


def pair(value: int | Sequence[int]) -> Size:
    """Torch's "an int or a pair" as a pair."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def map_size(layers: Iterable[nn.Module], size: Size, model: str) -> Size:
    """Height and width of the map after `layers`, by arithmetic; layers that keep the size are passed over.

    Args:
        layers: convolutions, pools, norms and anything pointwise, in the order in which they are applied.
        size: height and width of what goes in.
        model: the network's name, for the message.

    Raises:
        InputError: nothing is left of the picture, or a norm would see a single value a group, which it
            turns into a constant: the network would no longer depend on its input.
    """
    height, width = size
    too_small, starved = f"large enough for {model}", False
    way_out = "Take larger pictures or a shallower model."
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = pair(layer.kernel_size), pair(layer.stride)
            assert not isinstance(layer.padding, str)  # only if we wrote one
            padding = pair(layer.padding)
            height = (height + 2 * padding[0] - kernel[0]) // stride[0] + 1
            width = (width + 2 * padding[1] - kernel[1]) // stride[1] + 1
            if height < 1 or width < 1:
                raise refuse("size", too_small, f"{size[0]}x{size[1]}, pooled to nothing", way_out)
        if isinstance(layer, nn.GroupNorm):
            starved |= layer.num_channels // layer.num_groups * height * width == 1
    if starved:
        got = f"{size[0]}x{size[1]}, where a norm sees one value a group and makes it constant"
        raise refuse("size", too_small, got, f'{way_out[:-1]}, or `norm="batch"`.')
    return height, width


def is_mnist(channels: int, size: Size) -> bool:
    """Whether the field pads such pictures to 32×32: one channel and 28×28."""
    return channels == 1 and tuple(size) == (28, 28)


def default_depth(size: Size) -> int:
    """Blocks that leave a map of about 4×4: 1 at 8 px, 3 at 28 and 32, 4 at 64, 5 at 128, 6 at 256."""
    return max(1, round(math.log2(min(size) / 4)))


@final
class Block(nn.Module):
    """`pool(act(norm(conv(x))))`, `[N, C, H, W]` → `[N, width, H // 2, W // 2]`; `Identity` for "none"."""

    def __init__(self, inputs: int, width: int, norm: str, pool: str, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, kernel_size=3, padding=padding)
        self.norm = norm_layer(norm, width)
        self.act = nn.ReLU(inplace=True)  # nobody reads the norm's output again: a twentieth of a step at width 32
        self.pool = pool_layer(pool)

    def forward(self, x: Tensor) -> Tensor:
        """The map after the block."""
        return self.pool(self.act(self.norm(self.conv(x))))


@final
class ConvNet(nn.Module):
    """`blocks` (a `Sequential` of `Block`) and `classifier` (one `Linear` on the flattened map)."""

    def __init__(self, channels: int, classes: int, size: Size, width: int, depth: int, norm: str, pool: str) -> None:
        super().__init__()
        blocks = []
        for index in range(depth):
            padding = 3 if index == 0 and is_mnist(channels, size) else 1
            blocks.append(Block(channels if index == 0 else width, width, norm, pool, padding))
        layers = [layer for block in blocks for layer in (block.conv, block.norm, block.pool)]
        height_, width_ = map_size(layers, size, f"a ConvNet of depth {depth}")
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * height_ * width_, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, K]` of pictures `[N, C, H, W]`."""
        return self.classifier(self.blocks(x).flatten(1))


def convnet(
    channels: int,
    classes: int,
    size: Size,
    *,
    width: int = 128,
    depth: int | None = None,
    norm: str = "instance",
    pool: str = "avg",
) -> ConvNet:
    """The ConvNet of DC, MTT and their successors, with PyTorch's initialisers.

    One-channel 28×28 pictures are padded to 32×32 by the first convolution (padding 3), as published. The
    published code pads every one-channel picture; we leave the other sizes alone.

    Args:
        channels: C.
        classes: K.
        size: height and width in pixels; need not be equal, even or powers of two.
        width: channels of every block, ≥ 1.
        depth: number of blocks, ≥ 1; None takes `default_depth(size)`.
        norm: `instance`, `batch`, `layer`, `group` or `none` (see `norm_layer`).
        pool: `avg`, `max` or `none`.

    Raises:
        InputError: an unknown norm or pool, a width or depth below one, or a depth that pools the picture
            to nothing.
    """
    depth = default_depth(size) if depth is None else depth
    for argument, value in (("width", width), ("depth", depth)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise refuse(argument, "a whole number of at least 1", repr(value))
    return ConvNet(channels, classes, size, width, depth, norm, pool)
