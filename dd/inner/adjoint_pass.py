"""The exact engine: gradients through training by the adjoint, with graph memory that does not grow with N.

Pass 1 runs the N student steps without a graph and keeps θ_0…θ_N (N·P numbers). Pass 2 goes backwards and builds
the second-order graph of one micro-batch of one step at a time; `dd.inner.sweep` has the equations.

It is the exact gradient of the unrolled loop (equal to rounding), unlike TESLA's (`gradient="detached"`), which keeps
λ = λ_N. Splitting a step into micro-batches is exact because g_i is a mean over images; it is refused for nets with
batch statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.problem import InnerStep, Matching, Problem
from dd.inner.sweep import Sums, sweep

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
    return sweep(problem, _DoubleBackward(problem, micro_batch), reuse)


class _DoubleBackward:
    """The passes of a step by autograd."""

    def __init__(self, problem: Problem, micro_batch: int | None) -> None:
        self._problem, self._micro_batch = problem, micro_batch
        self._kept: dict[int, list[_Graph]] = {}

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """See `Passes`."""
        p = self._problem
        if keep:
            self._kept[i] = list(_graphs(p, i, theta, self._micro_batch))
            for graph in self._kept[i]:
                total += graph[-1].detach()
            return
        for part, share in _parts(p.steps[i], self._micro_batch):
            leaf = theta.detach().requires_grad_()
            x, y = p.images[part.index].detach(), p.labels[part.index].detach()
            loss = share * p.student.loss(leaf, part.draw(x), y)
            total += torch.autograd.grad(loss, leaf)[0]

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """See `Passes`."""
        p, lr = self._problem, self._problem.lr.detach()
        kept = self._kept.pop(i, None)
        graphs: Iterator[_Graph] = _graphs(p, i, theta, self._micro_batch) if kept is None else iter(kept)
        del kept
        for part, leaf, x, y, gradient in graphs:
            s = torch.dot(rho, gradient)
            wanted = [leaf, x, y] if p.wants_labels else [leaf, x]
            parts = torch.autograd.grad(s, wanted, allow_unused=True, materialize_grads=True)
            if p.gradient == "exact":
                sums.lam.sub_(lr * parts[0])
            sums.images.index_add_(0, part.index, -lr * parts[1])
            if sums.labels is not None:
                sums.labels.index_add_(0, part.index, -lr * parts[2])
            sums.lr.sub_(s.detach())
            del s, parts, leaf, x, y, gradient


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
