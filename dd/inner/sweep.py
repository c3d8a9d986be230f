"""The adjoint's two sweeps over the student steps, whatever computes a step.

    λ_N = ∂L/∂θ_N;  for i = N−1…0:   λ += ∂L/∂θ_{i+1} where step i+1 is a matching point before N
        ρ ← μ ρ + λ                  (so that π = −βρ is the cotangent of g_i)
        s = ⟨ρ, g_i⟩
        dβ −= s;   dx[B_i], dy[B_i] −= β ∂s/∂x, β ∂s/∂y;   λ ← λ − β ∂s/∂θ_i

With `truncate=K` the way back ends after K steps. The g_i, and so the velocities, of the steps before are constants:
λ does not change between their matching points, and `dβ −= ⟨λ, Σ v_i⟩` over the steps from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dd.inner.problem import Matching, Problem


@dataclass(frozen=True)
class Sums:
    """What the way back adds up, in place: λ `[P]`, dx, dβ, and dy where labels have a gradient."""

    lam: Tensor
    images: Tensor
    lr: Tensor
    labels: Tensor | None


class Passes(Protocol):
    """How one student step is computed, there and back."""

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """Add g_i at θ_i to `total` `[P]`; with `keep`, keep what saves the way back its forward pass."""
        ...

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """Add the derivatives of ⟨ρ, g_i⟩ to `sums`: those in θ (unless the gradient is detached), x, β and y."""
        ...


def sweep(p: Problem, passes: Passes, reuse: int) -> Matching:
    """L and its gradients; the last `reuse` steps keep what their first pass has computed."""
    lr, count = p.lr.detach(), len(p.steps)
    reuse = min(reuse, count - p.first)
    # What outlives a micro-batch is allocated before the first of them and changed in place; allocated in between,
    # it would sit in the middle of the heap's free space and keep the next large block out of it.
    path = [torch.empty_like(p.theta) for _ in range(count + 1)]
    rho = torch.zeros_like(p.theta)
    dy = torch.zeros_like(p.labels) if p.wants_labels else None
    sums = Sums(torch.zeros_like(p.theta), torch.zeros_like(p.images), torch.zeros_like(lr), dy)
    before, moved = _there(p, passes, path, count - reuse)
    loss = torch.zeros_like(lr)
    for i in reversed(range(count)):
        for target in p.targets:
            if target.step == i + 1:
                apart, scale = path[i + 1] - target.theta, p.scale(target)
                loss += scale * apart.square().sum()
                sums.lam.add_(2 * scale * apart)
        if i + 1 in moved:
            sums.lr.sub_(torch.dot(sums.lam, moved[i + 1]))
        if i >= p.first:
            rho.mul_(p.momentum).add_(sums.lam)
            passes.second(i, path[i], rho, sums)
    if before is not None:  # v_{N−K−1} is a constant that β still multiplies
        sums.lr.sub_(p.momentum * torch.dot(rho, before))
    return Matching(loss=loss, images=sums.images, lr=sums.lr, labels=dy, theta=path[-1])


def _there(p: Problem, passes: Passes, path: list[Tensor], keep_from: int) -> tuple[Tensor | None, dict[int, Tensor]]:
    """Fill `path` with θ_0…θ_N.

    Returns:
        Of a truncation, if there is one: the velocity that it starts from; and Σ v_i of the steps before it, up to
        each of their matching points and to its start, from the last such place.
    """
    path[0].copy_(p.theta.detach())
    total, velocity = torch.zeros_like(p.theta), torch.zeros_like(p.theta)
    before, stops = None, {p.first, *(t.step for t in p.targets if t.step < p.first)} - {0}
    moved, way = {}, torch.zeros_like(p.theta) if stops else None
    for i in range(len(p.steps)):
        if i == p.first > 0:
            before = velocity.clone()
        passes.first(i, path[i], total.zero_(), i >= keep_from)
        velocity.mul_(p.momentum).add_(total)
        path[i + 1].copy_(path[i] - p.lr.detach() * velocity)
        if way is not None and i < p.first:
            way += velocity
            if i + 1 in stops:
                moved[i + 1], way = way, torch.zeros_like(way)
    return before, moved
