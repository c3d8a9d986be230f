"""Pointwise parts of a ConvNet block, written out: norm → ReLU → 2×2 mean pool, its gradient, and both their tangents.

With z the map before the norm, m and r its mean and 1/std a picture and channel, n = (z − m) r, y = γ n + β:

    forward           out = pool(relu(y))
    backward          g_y = [y > 0] unpool(g_out);  g_n = γ g_y;  g_z = r (g_n − mean g_n − n mean(n g_n))
    tangent forward   ṅ = r (ż − mean ż − n mean(n ż));  ẏ = γ̇ n + γ ṅ + β̇;  out' = pool([y > 0] ẏ)
    tangent backward  the derivative of `backward` along the tangent; ṙ = −r² mean(n ż)

Each function is a plain chain of tensor operations without autograd, so that a compiler can fuse it into one or two
passes over memory. Means are over the map's pixels. z is `[N, C, H, W]`, H and W even; γ, β are `[1, C, 1, 1]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PIXELS = (2, 3)


def pool(a: Tensor) -> Tensor:
    """2×2 means, stride 2."""
    return (a[:, :, ::2, ::2] + a[:, :, 1::2, ::2] + a[:, :, ::2, 1::2] + a[:, :, 1::2, 1::2]) * 0.25


def unpool(g: Tensor) -> Tensor:
    """The adjoint of `pool`: a quarter of each value on its four pixels."""
    n, c, h, w = g.shape
    return (g * 0.25)[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def _mean(x: Tensor) -> Tensor:
    return x.mean(_PIXELS, keepdim=True)


def forward(z: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(out `[N, C, H/2, W/2]`, m, r `[N, C, 1, 1]`)."""
    m = _mean(z)
    r = ((z - m).square().mean(_PIXELS, keepdim=True) + eps).rsqrt()
    return pool(((z - m) * r * gamma + beta).relu()), m, r


def backward(
    z: Tensor, m: Tensor, r: Tensor, gamma: Tensor, beta: Tensor, g_out: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(g_z `[N, C, H, W]`, ∂γ and ∂β `[N, C, 1, 1]`, to be summed over pictures)."""
    n = (z - m) * r
    g_y = torch.where(n * gamma + beta > 0, unpool(g_out), 0.0)
    d_beta = g_y.sum(_PIXELS, keepdim=True)
    d_gamma = (g_y * n).sum(_PIXELS, keepdim=True)
    pixels = z.shape[2] * z.shape[3]
    g_z = r * gamma * (g_y - d_beta / pixels - n * (d_gamma / pixels))
    return g_z, d_gamma, d_beta


def tangent_forward(
    z: Tensor, zd: Tensor, m: Tensor, r: Tensor, gamma: Tensor, beta: Tensor, gamma_d: Tensor, beta_d: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(out', mean ż, mean(n ż)) of the tangent ż."""
    n = (z - m) * r
    md, q = _mean(zd), _mean(n * zd)
    yd = gamma_d * n + gamma * (r * (zd - md - n * q)) + beta_d
    return pool(torch.where(n * gamma + beta > 0, yd, 0.0)), md, q


def tangent_backward(
    z: Tensor,
    zd: Tensor,
    stats: tuple[Tensor, Tensor, Tensor, Tensor],
    gamma: Tensor,
    beta: Tensor,
    gamma_d: Tensor,
    g_out: Tensor,
    gd_out: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(g_z, ġ_z, ∂̇γ, ∂̇β): `backward` and its derivative along the tangent; stats = (m, r, mean ż, mean(n ż))."""
    m, r, md, q = stats
    n = (z - m) * r
    nd = r * (zd - md - n * q)
    on = n * gamma + beta > 0
    g_y = torch.where(on, unpool(g_out), 0.0)
    gd_y = torch.where(on, unpool(gd_out), 0.0)
    d_beta, d_gamma = _mean(g_y), _mean(g_y * n)
    dd_beta, dd_gamma = _mean(gd_y), _mean(gd_y * n + g_y * nd)
    g_z = r * gamma * (g_y - d_beta - n * d_gamma)
    centred = gamma_d * (g_y - d_beta - n * d_gamma) + gamma * (gd_y - dd_beta - nd * d_gamma - n * dd_gamma)
    gd_z = r * centred - r * q * g_z
    pixels = z.shape[2] * z.shape[3]
    return g_z, gd_z, dd_gamma * pixels, dd_beta * pixels
