"""The exact engine: gradients through training by the adjoint, with graph memory that does not grow with N.

Pass 1 runs the N student steps without a graph and keeps θ_0…θ_N (N·P numbers). Pass 2 goes backwards and builds
the second-order graph of one micro-batch of one step at a time:

    λ_N = ∂L/∂θ_N;  for i = N−1…0:   λ += ∂L/∂θ_{i+1} where step i+1 is a matching point before N
        ρ ← μ ρ + λ                  (so that π = −βρ is the cotangent of g_i)
        s = ⟨ρ, g_i⟩
        dβ −= s;   dx[B_i], dy[B_i] −= β ∂s/∂x, β ∂s/∂y;   λ ← λ − β ∂s/∂θ_i

It is the exact gradient of the unrolled loop (equal to rounding), unlike TESLA's (`gradient="detached"`), which keeps
λ = λ_N. With `truncate=K` pass 2 stops after K steps. Splitting a
step into micro-batches is exact because g_i is a mean over images; it is refused for nets with batch statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.problem import InnerStep, Matching, Problem

_Graph = tuple[InnerStep, Tensor, Tensor, Tensor, Tensor]


def adjoint(problem: Problem, micro_batch: int | None = None, reuse: int = 1) -> Matching:
    """L and its exact gradients.

    Args:
        problem: the outer iteration.
        micro_batch: images whose graph is alive at once; `None` takes the whole batch of a step.
        reuse: how many of the last steps keep the graph that pass 1 has built, which saves their second forward
            pass; each costs the graph memory of one whole step. 0 is the leanest.
    """
    if micro_batch is not None and micro_batch < 1:
        raise refuse("micro_batch", "None or at least 1", micro_batch)
    if reuse < 0:
        raise refuse("reuse", "at least 0", reuse)
    p, lr = problem, problem.lr.detach()
    # What outlives a micro-batch is allocated before the first of them and changed in place; allocated in between,
    # it would sit in the middle of the heap's free space and keep the next large block out of it.
    path = [torch.empty_like(p.theta) for _ in range(len(p.steps) + 1)]
    lam, rho = torch.zeros_like(p.theta), torch.zeros_like(p.theta)
    dx, dlr = torch.zeros_like(p.images), torch.zeros_like(lr)
    dy = torch.zeros_like(p.labels) if p.wants_labels else None
    kept, before = _forward(p, path, micro_batch, min(reuse, len(p.steps) - p.first))
    loss = torch.zeros_like(lr)
    for i in reversed(range(len(p.steps))):
        for target in p.targets:
            if target.step == i + 1:
                apart, scale = path[i + 1] - target.theta, p.scale(target)
                loss += scale * apart.square().sum()
                lam += 2 * scale * apart
        if i < p.first:
            continue
        rho.mul_(p.momentum).add_(lam)
        graphs: Iterator[_Graph] = iter(kept.pop(i)) if i in kept else _graphs(p, i, path[i], micro_batch)
        for part, theta, x, y, gradient in graphs:
            s = torch.dot(rho, gradient)
            wanted = [theta, x, y] if p.wants_labels else [theta, x]
            parts = torch.autograd.grad(s, wanted, allow_unused=True, materialize_grads=True)
            if p.gradient == "exact":
                lam -= lr * parts[0]
            dx.index_add_(0, part.index, -lr * parts[1])
            if dy is not None:
                dy.index_add_(0, part.index, -lr * parts[2])
            dlr -= s.detach()
            del s, parts, theta, x, y, gradient
    if before is not None:  # v_{N−K−1} is a constant that β still multiplies
        dlr -= p.momentum * torch.dot(rho, before)
    return Matching(loss=loss, images=dx, lr=dlr, labels=dy, theta=path[-1])


def _forward(
    p: Problem, path: list[Tensor], micro_batch: int | None, reuse: int
) -> tuple[dict[int, list[_Graph]], Tensor | None]:
    """Pass 1: fills `path` with θ_0…θ_N; returns the graphs of the last `reuse` steps and a truncation's velocity."""
    path[0].copy_(p.theta.detach())
    total, velocity = torch.zeros_like(p.theta), torch.zeros_like(p.theta)
    kept: dict[int, list[_Graph]] = {}
    before = None
    for i, step in enumerate(p.steps):
        if i == p.first > 0:
            before = velocity.clone()
        total.zero_()
        if i >= len(p.steps) - reuse:
            kept[i] = list(_graphs(p, i, path[i], micro_batch))
            for graph in kept[i]:
                total += graph[-1].detach()
        else:
            for part, share in _parts(step, micro_batch):
                leaf = path[i].detach().requires_grad_()
                x, y = p.images[part.index].detach(), p.labels[part.index].detach()
                loss = share * p.student.loss(leaf, part.draw(x), y)
                total += torch.autograd.grad(loss, leaf)[0]
        velocity.mul_(p.momentum).add_(total)
        path[i + 1].copy_(path[i] - p.lr.detach() * velocity)
    return kept, before


def _graphs(p: Problem, i: int, theta: Tensor, micro_batch: int | None) -> Iterator[_Graph]:
    """The first-order gradient of each micro-batch of step i, differentiable in θ, x and soft labels."""
    for part, share in _parts(p.steps[i], micro_batch):
        leaf = theta.detach().requires_grad_()
        x = p.images[part.index].detach().requires_grad_()
        y = p.labels[part.index].detach()
        if p.wants_labels:
            y.requires_grad_()
        loss = share * p.student.loss(leaf, part.draw(x), y)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        yield part, leaf, x, y, gradient


def _parts(step: InnerStep, micro_batch: int | None) -> Iterator[tuple[InnerStep, float]]:
    """The micro-batches of a step, each with its share of the batch mean."""
    count = len(step.index)
    size = micro_batch or count
    if size >= count:
        yield step, 1.0
        return
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        yield InnerStep(step.index[rows], step.draw.rows(rows)), (rows.stop - start) / count
