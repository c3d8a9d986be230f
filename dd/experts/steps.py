"""One optimiser step of an expert on a flat θ `[P]`: plain SGD, and FTD's flat GSAM step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]
"""θ `[P]` → ∇L(θ) `[P]` on one fixed, already augmented mini-batch."""

_TINY = 1e-12


def perturbation(theta: Tensor, gradient: Tensor, rho: float, adaptive: bool) -> Tensor:
    """ε = ρ g / ‖g‖, or the adaptive ε = ρ w²⊙g / ‖|w|⊙g‖ (global norms over all parameters)."""
    if adaptive:
        return rho / ((theta.abs() * gradient).norm() + _TINY) * theta.square() * gradient
    return rho / (gradient.norm() + _TINY) * gradient


def orthogonal_part(gradient: Tensor, perturbed: Tensor) -> Tensor:
    """v: what of g is orthogonal to g_p, with one global inner product."""
    length = perturbed.norm() + _TINY
    cosine = torch.dot(gradient, perturbed) / (length * gradient.norm() + _TINY)
    return gradient - cosine * gradient.norm() * perturbed / length


def gsam_direction(theta: Tensor, grad: Gradient, rho: float, alpha: float, adaptive: bool) -> Tensor:
    """g_p − α v (GSAM as FTD uses it); ρ = 0 is SGD whatever α, α = 0 is SAM or ASAM."""
    g = grad(theta)
    g_p = grad(theta + perturbation(theta, g, rho, adaptive))
    return g_p - alpha * orthogonal_part(g, g_p)


def sgd_update(
    theta: Tensor, direction: Tensor, velocity: Tensor, lr: float, momentum: float, weight_decay: float
) -> tuple[Tensor, Tensor]:
    """New (θ, velocity) of SGD with heavy-ball momentum and coupled weight decay, out of place."""
    if weight_decay:
        direction = direction + weight_decay * theta
    velocity = momentum * velocity + direction
    return theta - lr * velocity, velocity
