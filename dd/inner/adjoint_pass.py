"""The exact engine: gradients through training by the adjoint, with graph memory that does not grow with N.

Pass 1 runs the N student steps without a graph and keeps θ_0…θ_N and g_0…g_{N−1} (2·N·P numbers). Pass 2 goes
backwards and builds the second-order graph of one micro-batch of one step at a time (`dd.inner.sweep`).
The last steps keep the graphs that pass 1 has built, as far as they fit in `ROOM`.

It is the exact gradient of the unrolled loop (equal to rounding), unlike TESLA's (`gradient="detached"`), which keeps
λ = λ_N. Splitting a step into micro-batches is exact because g_i is a mean over images; it is refused for nets with
batch statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.problem import InnerStep, Matching, Problem
from dd.inner.student import Student
from dd.inner.sweep import Sums, sweep
from dd.inner.written import WrittenOut

_Graph = tuple[InnerStep, Tensor, Tensor, Tensor, Tensor]


ROOM: Final = 2**30
"""Bytes that the graphs of the steps that are kept may take together."""


def adjoint(problem: Problem, micro_batch: int | None = None, reuse: int | None = None) -> Matching:
    """L and its exact gradients.

    Args:
        problem: the outer iteration.
        micro_batch: images whose graph is alive at once; `None` takes the whole batch of a step.
        reuse: how many of the last steps keep the graph that pass 1 has built, which saves their second forward
            pass; each costs the graph memory of one whole step. 0 is the leanest. `None`: as many as fit in `ROOM`,
            which a student's first call finds out by keeping one. The result is the same to the last bit.
    """
    if micro_batch is not None and micro_batch < 1:
        raise refuse("micro_batch", "None or at least 1", micro_batch)
    if reuse is not None and reuse < 0:
        raise refuse("reuse", "None or at least 0", reuse)
    return sweep(problem, _DoubleBackward(problem, micro_batch), _fitting(problem) if reuse is None else reuse)


class _DoubleBackward:
    """The passes of a step by autograd."""

    def __init__(self, problem: Problem, micro_batch: int | None) -> None:
        self._problem, self._micro_batch = problem, micro_batch
        self._kept: dict[int, list[_Graph]] = {}
        self._gradients: dict[int, Tensor] = {}

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """See `Passes`."""
        p = self._problem
        if keep:
            with _weighed(p):
                self._kept[i] = list(_graphs(p, i, theta, self._micro_batch, values=True))
            for graph in self._kept[i]:
                total += graph[-1].detach()
        else:
            for part, share in _parts(p.steps[i], self._micro_batch):
                leaf = theta.detach().requires_grad_()
                x, y = p.images[part.index].detach(), p.labels[part.index].detach()
                loss = share * p.student.loss(leaf, part.draw(x), y)
                total += torch.autograd.grad(loss, leaf)[0]
        if i >= p.first:
            self._gradients[i] = total.clone()

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """See `Passes`."""
        p, lr = self._problem, self._problem.lr.detach()
        kept = self._kept.pop(i, None)
        graphs = _graphs(p, i, theta, self._micro_batch, values=False) if kept is None else iter(kept)
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
            del s, parts, leaf, x, y, gradient
        sums.lr.sub_(torch.dot(rho, self._gradients.pop(i)))


def _graphs(p: Problem, i: int, theta: Tensor, micro_batch: int | None, values: bool) -> Iterator[_Graph]:
    """The first-order gradient of each micro-batch of step i, differentiable in θ, x and soft labels.

    Without `values` only its derivatives are right.
    """
    for part, share in _parts(p.steps[i], micro_batch):
        leaf = theta.detach().requires_grad_()
        x = p.images[part.index].detach().requires_grad_()
        y = p.labels[part.index].detach()
        if p.wants_labels:
            y.requires_grad_()
        pictures = part.draw(x)
        with WrittenOut(pictures, None if values else leaf):
            loss = share * p.student.loss(leaf, pictures, y)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        yield part, leaf, x, y, gradient


_WEIGHTS: Final[WeakKeyDictionary[Student, dict[tuple[int, ...], int]]] = WeakKeyDictionary()
"""Bytes of the graph of one step, by student and the shape of its batch."""


def _shape(p: Problem) -> tuple[int, ...]:
    """What the size of a step's graph follows from, but for the student."""
    return (max(len(step.index) for step in p.steps), *p.images.shape[1:])


def _fitting(p: Problem) -> int:
    """Steps whose graphs fit in `ROOM`; 1 where their size is not known yet."""
    weight = _WEIGHTS.get(p.student, {}).get(_shape(p))
    return 1 if weight is None else max(1, ROOM // max(1, weight))


@contextmanager
def _weighed(p: Problem) -> Iterator[None]:
    """Find out what the graph of a step takes, where that is not known yet."""
    shapes = _WEIGHTS.setdefault(p.student, {})
    if _shape(p) in shapes:
        yield
        return
    seen: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        yield
    shapes[_shape(p)] = sum(seen.values())


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
