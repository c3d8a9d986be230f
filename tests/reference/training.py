"""Training loops written out: SGD with momentum and coupled weight decay, one parameter at a time.

From the definitions (v ← μ v + g + λ w, w ← w − η v), with plain autograd and no optimiser class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of −Σ_k y_k log softmax(logits)_k; a label stands for its one-hot row."""
    total = logits.new_zeros(())
    for row, target in zip(logits, y, strict=True):
        log_p = row - torch.log(torch.exp(row).sum())
        total = total - (log_p[target] if target.ndim == 0 else (target * log_p).sum())
    return total / len(logits)


def sgd(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    lrs: Sequence[float],
    momentum: float,
    weight_decay: float,
    forget_at: int | None = None,
) -> list[Tensor]:
    """Train in place, one batch a step; returns the flat parameters before the first step and after each.

    Args:
        net: in the modes it should be trained in.
        batches: (x, y), as the network sees them.
        lrs: one a step.
        momentum: μ.
        weight_decay: λ.
        forget_at: the step before which all velocities are set to zero.
    """
    parameters = list(net.parameters())
    velocities = [torch.zeros_like(p) for p in parameters]
    history = [torch.cat([p.detach().flatten() for p in parameters])]
    for step, ((x, y), lr) in enumerate(zip(batches, lrs, strict=True)):
        if step == forget_at:
            velocities = [torch.zeros_like(p) for p in parameters]
        gradients = torch.autograd.grad(loss_of(net(x), y), parameters)
        for p, v, g in zip(parameters, velocities, gradients, strict=True):
            with torch.no_grad():
                v.copy_(momentum * v + g + weight_decay * p)
                p.copy_(p - lr * v)
        history.append(torch.cat([p.detach().flatten() for p in parameters]))
    return history
