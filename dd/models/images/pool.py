"""The 2×2 mean pool of the ConvNet: `nn.AvgPool2d(2)` to the last bit, in a third to half of its time on a CPU.

Torch's own kernel takes one value at a time; at width 32 it and its gradient are a third of a training step. Here
four strided views are added up, block by block of planes that stay in the cache, in the order in which torch adds.
"""

from __future__ import annotations

from typing import Any, Final, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

_BLOCK: Final = 2**19
"""Values of the map in one block: 2 MB of float32."""
_KNOWN: Final = (torch.float32, torch.float64)


def pool2(x: Tensor) -> Tensor:
    """2×2 means of stride 2 of `[n, C, H, W]`, contiguous; an odd last row or column is dropped."""
    n, c, h, w = x.shape
    height, width = h // 2, w // 2
    made = x.new_empty((n, c, height, width))
    planes, outs = x.view(-1, h, w)[:, : 2 * height, : 2 * width], made.view(-1, height, width)
    for part, out in zip(planes.split(_block(h, w)), outs.split(_block(h, w)), strict=True):
        top, low = part[:, ::2], part[:, 1::2]
        torch.add(top[..., ::2], top[..., 1::2], out=out)
        out.add_(low[..., ::2]).add_(low[..., 1::2]).mul_(0.25)
    return made


def unpool2(g: Tensor, size: tuple[int, int]) -> Tensor:
    """The adjoint of `pool2` for maps of `size`: a quarter of each value on its four pixels, 0 on what was dropped."""
    n, c, height, width = g.shape
    h, w = size
    odd = h % 2 or w % 2
    made = g.new_zeros((n, c, h, w)) if odd else g.new_empty((n, c, h, w))
    planes, ins = made.view(-1, h, w)[:, : 2 * height, : 2 * width], g.reshape(-1, height, width)
    for part, given in zip(planes.split(_block(h, w)), ins.split(_block(h, w)), strict=True):
        top = part[:, ::2]
        torch.mul(given, 0.25, out=top[..., ::2])
        top[..., 1::2] = top[..., ::2]
        part[:, 1::2] = top
    return made


def _block(height: int, width: int) -> int:
    """Planes at once."""
    return max(1, _BLOCK // (height * width))


class _Pool(torch.autograd.Function):
    """`pool2`, differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.size = x.shape[2:]
        return pool2(x.contiguous())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _Unpool.apply(g, ctx.size)


class _Unpool(torch.autograd.Function):
    """`unpool2`, differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, size: tuple[int, int]) -> Tensor:
        return unpool2(g, size)

    @staticmethod
    def backward(ctx: Any, a: Tensor) -> Any:
        return _Pool.apply(a), None


@final
class MeanPool(nn.AvgPool2d):
    """2×2 means of stride 2 that drop an odd last row or column; values and gradients are those of `nn.AvgPool2d(2)`.

    What a compiler, a tracer or a transform of `torch.func` reads, other devices, other types and maps in
    channels-last memory, where torch's own kernel is the faster one, go by that.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, C, H, W]` → `[n, C, H // 2, W // 2]`."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return F.avg_pool2d(x, 2)
        else:  # which TorchScript does not read
            own = not torch.compiler.is_compiling() and _suits(x)
            return cast("Tensor", _Pool.apply(x)) if own else F.avg_pool2d(x, 2)


def _suits(x: Tensor) -> bool:
    read = torch._C._get_tracing_state() is not None or torch._C._are_functorch_transforms_active()
    read = read or forward_ad._current_level >= 0
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype in _KNOWN and not read
    return plain and x.dim() == 4 and x.is_contiguous() and x.numel() > 0 and min(x.shape[2:]) > 1
