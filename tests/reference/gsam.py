"""FTD's flat step the slow way: lists of parameter tensors, the published steps one after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Parameters = list[Tensor]


def flat_step(
    weights: Parameters,
    gradient_at: Callable[[Parameters], Parameters],
    *,
    lr: float,
    rho: float,
    alpha: float,
    adaptive: bool,
) -> Parameters:
    """New weights after one step; `gradient_at` evaluates the same augmented mini-batch twice."""
    tiny = 1e-12
    g = gradient_at(weights)
    scaled = [w.abs() * d if adaptive else d for w, d in zip(weights, g, strict=True)]
    norm = torch.sqrt(sum((s**2).sum() for s in scaled))
    e = [rho / (norm + tiny) * (w**2 * d if adaptive else d) for w, d in zip(weights, g, strict=True)]
    moved = [w + x for w, x in zip(weights, e, strict=True)]
    g_p = gradient_at(moved)
    inner = sum((a * b).sum() for a, b in zip(g, g_p, strict=True))
    length = torch.sqrt(sum((a**2).sum() for a in g))
    length_p = torch.sqrt(sum((a**2).sum() for a in g_p))
    cosine = inner / (length_p * length + tiny)
    v = [a - cosine * length * b / (length_p + tiny) for a, b in zip(g, g_p, strict=True)]
    return [w - lr * (b - alpha * o) for w, b, o in zip(weights, g_p, v, strict=True)]
