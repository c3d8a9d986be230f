"""AST's gradient penalty the slow way: one picture and one score at a time, pixel after pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def penalty_of(scores_of: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, form: str) -> float:
    """Mean of (‖q‖ − 1)² with q = ∇_x of the sum of scores (`pixel`, `sample`) or of the true class's (`label`).

    Args:
        scores_of: pictures `[1, C, H, W]` → scores `[1, K]`; pictures must not see each other.
        x, y: pictures `[N, C, H, W]` and classes `[N]`.
        form: `pixel` and `label` take the norm over channels at each pixel, `sample` over the whole picture.
    """
    terms = []
    for picture, label in zip(x, y.tolist(), strict=True):
        q = torch.zeros_like(picture)
        for k in range(scores_of(picture[None]).shape[1]):
            if form == "label" and k != label:
                continue
            leaf = picture[None].clone().requires_grad_()
            scores_of(leaf)[0, k].backward()
            assert leaf.grad is not None
            q += leaf.grad[0]
        if form == "sample":
            terms.append((math.sqrt(sum(v * v for v in q.flatten().tolist())) - 1) ** 2)
        else:
            columns = q.flatten(1).T.tolist()
            terms += [(math.sqrt(sum(v * v for v in column)) - 1) ** 2 for column in columns]
    return sum(terms) / len(terms)


def ramp_of(unit: int) -> float:
    """The published ramp, as a list."""
    factors = [0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95]
    return factors[unit] if unit < len(factors) else 1.0
