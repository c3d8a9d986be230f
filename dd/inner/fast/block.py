"""The ConvNet's forward pass by built kernels, differentiable once: norm, ReLU and pool are one pass over memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dd.inner.fast import native
from dd.models.images.convnet import Block, ConvNet


class NormReluPool(torch.autograd.Function):
    """`pool(relu(instance_norm(z)))` and its first derivatives; see `dd.inner.fast.kernels`.

    Arguments of `apply`: z `[n, C, H, W]`, H and W even, on the CPU; γ and β `[C]`; ε. What is kept for the way back
    is z and two numbers a map, where the layers one by one keep three maps.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        z = z.contiguous(memory_format=torch.channels_last)
        out, mean, rstd = native.block("forward", z, *_rows(gamma, beta), eps, threads=torch.get_num_threads())
        ctx.save_for_backward(z, mean, rstd, gamma, beta)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        z, mean, rstd, gamma, beta = ctx.saved_tensors
        given = (mean, rstd, *_rows(gamma, beta), g)
        g_z, d_gamma, d_beta = native.block("backward", z, *given, threads=torch.get_num_threads())
        return g_z, d_gamma.sum((0, 2, 3)), d_beta.sum((0, 2, 3)), None


def _rows(*weights: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.detach().view(1, -1, 1, 1) for t in weights)


def block_forward(net: nn.Module, x: Tensor) -> Tensor:
    """Logits `[n, K]` of a ConvNet that `supported` knows, on pictures `[n, C, H, W]` in CPU memory.

    The network's own pass to rounding, differentiable once. Hooks of norms, activations and pools are not called.

    Raises:
        NotCompiledError: see `native.library`.
    """
    assert isinstance(net, ConvNet)
    x = x.contiguous(memory_format=torch.channels_last)
    for block in net.blocks:
        assert isinstance(block, Block)
        norm = cast("nn.GroupNorm", block.norm)
        x = cast("Tensor", NormReluPool.apply(block.conv(x), norm.weight, norm.bias, norm.eps))
    return net.classifier(x.flatten(1))
