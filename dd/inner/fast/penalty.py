"""AST's gradient penalty by tangents of the network's own layers; its twin is autograd twice."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.inner.fast.network import BlockWeights, FastNet, Tape


@torch.no_grad()
def penalty_gradient(net: FastNet, theta: Tensor, x: Tensor, y: Tensor | None, whole: bool) -> tuple[Tensor, Tensor]:
    """(R, ∇_θ R) of R = mean (‖q‖ − 1)², q = ∇_x s, s the sum of all scores or of the true classes' scores.

    With u = ∂R/∂q held still, ∇_θ R = ∇_θ ⟨u, ∇_x s(θ, x)⟩ = d/dε ∇_θ s(θ, x + ε u) at ε = 0: the first-order gradient
    and its derivative along the direction u in the pictures, no graph of second order.

    Args:
        net: the network's layers.
        theta: θ `[P]`.
        x: pictures `[N, C, H, W]` in model space.
        y: int64 `[N]` for the score of the true class; `None` for the sum of all.
        whole: the norm over a whole picture, and not over the channels at each pixel.
    """
    blocks, head, _ = net.weights(theta)
    tapes, out = net.forward(blocks, x.contiguous(memory_format=torch.channels_last))
    ones = torch.ones(len(x), len(head), dtype=x.dtype, device=x.device)
    g = ones if y is None else F.one_hot(y, len(head)).to(x.dtype)
    top = (g @ head).view(out.shape).contiguous(memory_format=torch.channels_last)
    q, g_out = _first_order(net, blocks, tapes, top)
    length = torch.linalg.vector_norm(q, dim=(1, 2, 3) if whole else 1, keepdim=True)
    share = torch.where(length > 0, (length - 1) / length, 0.0) * (2 / length.numel())
    total = torch.zeros_like(theta)
    _along(net, (blocks, tapes), (share * q).contiguous(memory_format=torch.channels_last), g, g_out, total)
    return (length - 1).square().mean(), total


def _first_order(
    net: FastNet, blocks: list[BlockWeights], tapes: list[Tape], top: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """(gradient in the pictures, gradient in each block's output)."""
    g_out: list[Tensor] = []
    for i in reversed(range(len(blocks))):
        w, tape = blocks[i], tapes[i]
        g_out.insert(0, top)
        g_z, _, _ = net.kernels.run("backward", tape.z, tape.m, tape.r, w.gamma, w.beta, top)
        top, _ = net.back(i, g_z, tape.x, w.conv, (True, False))
    return top, g_out


def _along(
    net: FastNet,
    layers: tuple[list[BlockWeights], list[Tape]],
    xd: Tensor,
    g: Tensor,
    g_out: list[Tensor],
    total: Tensor,
) -> None:
    """Add the derivative of the gradient in θ along the direction `xd` in the pictures to `total`."""
    sums = net.student.views(total)
    tangents = []
    for i, (w, tape) in enumerate(zip(*layers, strict=True)):
        zd, still = net.conv(i, xd, w.conv), torch.zeros_like(w.gamma)
        out_d, md, q = net.kernels.run("tangent_forward", tape.z, zd, tape.m, tape.r, w.gamma, w.beta, still, still)
        tangents.append((xd, zd, md, q))
        xd = out_d
    sums["classifier.weight"] += g.T @ xd.flatten(1)
    gd_out = torch.zeros_like(g_out[-1])
    for i in reversed(range(len(tangents))):
        w, tape, (xd, zd, md, q) = layers[0][i], layers[1][i], tangents[i]
        still, stats = torch.zeros_like(w.gamma), (tape.m, tape.r, md, q)
        found = net.kernels.run("tangent_backward", tape.z, zd, stats, w.gamma, w.beta, still, g_out[i], gd_out)
        g_z, gd_z, dd_gamma, dd_beta = found
        sums[f"blocks.{i}.norm.weight"] += dd_gamma.sum(0).flatten()
        sums[f"blocks.{i}.norm.bias"] += dd_beta.sum(0).flatten()
        gd_out, d_conv = net.back(i, gd_z, tape.x, w.conv, (i > 0, True))
        sums[f"blocks.{i}.conv.weight"] += d_conv + net.back(i, g_z, xd, w.conv, (False, True))[1]
