"""Pure functions in which the trajectory-matching papers differ: window, balance, perturbation, matching points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor


def window_end(first: int | None, last: int, iteration: int, span: int) -> int:
    """DATM's exclusive upper end of the start epochs: `min(t_max, t_cur + ⌊(t_max − t_cur) · it / T⌋)`.

    Args:
        first: t_cur; `None` for a window that does not grow.
        last: t_max.
        iteration: it, from 0.
        span: T, iterations after which it has grown to t_max; 0 at once.
    """
    if first is None or span == 0:
        return last
    return min(last, first + (last - first) * iteration // span)


def balance(start: int, max_start: int) -> float:
    """AST's factor φ(t) of the inner loss: `log₅(t − h + 8)` for t ≥ h = ⌊max_start/2⌋, else `1 / log₅(h − t + 8)`."""
    half = max_start // 2
    if start >= half:
        return math.log(start - half + 8, 5)
    return 1 / math.log(half - start + 8, 5)


def matching_points(
    steps: int, epochs: int, kind: Literal["none", "equal", "adaptive"]
) -> list[tuple[int, int, float]]:
    """(student step, epochs after the start, weight): the end, and AST's intermediate points at m ⌊N / M⌋, m < M."""
    points = []
    if kind != "none":
        for m in range(1, epochs):
            points.append((m * (steps // epochs), m, 1.0 if kind == "equal" else m / epochs))
    return [*points, (steps, epochs, 1.0)]


def perturb(
    views: Mapping[str, Tensor], alpha: float, norm: Literal["tensor", "filter"], generator: torch.Generator
) -> Tensor:
    """AST's perturbed start, flat `[P]`: only convolution weights (4-D tensors) change.

    `tensor`: `w + α (d / ‖d‖) ⊙ w`, the authors' code, about α/√numel of the weights' norm and so nearly nothing;
    `filter`: `w_f + α ‖w_f‖ d_f / ‖d_f‖` a filter f, a change of α of its norm. d ~ N(0, 1).
    """
    parts = []
    for w in views.values():
        if w.ndim == 4 and alpha > 0:
            d = torch.randn(w.shape, generator=generator).to(w)
            if norm == "tensor":
                w = w + alpha * (d / d.norm()) * w
            else:
                size, length = (t.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for t in (w, d))
                w = w + alpha * size * d / length
        parts.append(w.reshape(-1))
    return torch.cat(parts)


def softmax_pull(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in logits of a function of their softmax: `p ⊙ (g − ⟨p, g⟩)`; each row sums to zero."""
    return probabilities * (gradient - (probabilities * gradient).sum(1, keepdim=True))
