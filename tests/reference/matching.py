"""The matching loss the slow way: parameters by name, a create-graph loop, everything kept for autograd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Named = dict[str, Tensor]


def named(module: nn.Module, theta: Tensor) -> Named:
    """θ `[P]` cut into the module's parameters, one after the other."""
    parts, start = {}, 0
    for name, p in module.named_parameters():
        parts[name] = theta[start : start + p.numel()].reshape(p.shape)
        start += p.numel()
    return parts


def matching_loss(
    module: nn.Module,
    theta: Tensor,
    targets: Mapping[int, tuple[float, Tensor]],
    batches: Sequence[tuple[Tensor, Tensor]],
    lr: Tensor,
    momentum: float,
) -> Tensor:
    """Σ w ‖θ_s − θ*‖² / ‖θ_0 − θ*‖² over the matching points after the student has seen `batches`, in order."""
    now = {name: p.detach().clone().requires_grad_() for name, p in named(module, theta).items()}
    velocity = {name: torch.zeros_like(p) for name, p in now.items()}
    total = torch.zeros((), dtype=theta.dtype)
    for step, (x, y) in enumerate(batches, start=1):
        scores = functional_call(module, now, (x,))
        if y.dtype == torch.int64:
            loss = F.nll_loss(F.log_softmax(scores, dim=1), y)
        else:
            loss = torch.stack([-(p * F.log_softmax(s, dim=0)).sum() for s, p in zip(scores, y, strict=True)]).mean()
        gradients = torch.autograd.grad(loss, list(now.values()), create_graph=True)
        for name, g in zip(list(now), gradients, strict=True):
            velocity[name] = momentum * velocity[name] + g
            now[name] = now[name] - lr * velocity[name]
        if step in targets:
            weight, goal = targets[step]
            goals, starts = named(module, goal), named(module, theta)
            top = sum(((now[n] - goals[n]) ** 2).sum() for n in now)
            bottom = sum(((starts[n] - goals[n]) ** 2).sum() for n in now)
            total = total + weight * top / bottom
    return total
