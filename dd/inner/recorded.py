"""Student steps as recorded launches: on CUDA a step's hundreds of small kernels become one graph that is replayed.

A step of a small network takes longer to launch than to compute. Its two passes are functions of tensors of fixed
shapes, g(θ, x, y) and the derivatives of ⟨ρ, g⟩, so each is recorded once a student and shape (`torch.cuda.CUDAGraph`)
and replayed for all steps of all outer iterations. Augmentation stays outside: its draws differ from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dd.inner.problem import Matching, Problem
from dd.inner.student import Student
from dd.inner.sweep import Sums, sweep
from dd.inner.written import WrittenOut

Call = Callable[..., tuple[Tensor, ...]]
"""From tensors to tensors."""
Record = Callable[[Call, Sequence[Tensor]], Call]
"""A function, and tensors of the shapes that it will be given, to its replay."""
_WARM: Final = 3
"""Calls before the recording, in which libraries choose their kernels and take their memory."""
_RECORDED: Final[WeakKeyDictionary[Student, dict[tuple[object, ...], Call]]] = WeakKeyDictionary()


def adjoint_recorded(problem: Problem) -> Matching:
    """L and its exact gradients, whole batches at once, nothing of pass 1 reused; see `adjoint`.

    On CUDA. Elsewhere nothing is recorded: the same functions are called.
    """
    record = recorded if problem.theta.device.type == "cuda" else _called
    return sweep(problem, Steps(problem, record), reuse=0)


def _called(function: Call, given: Sequence[Tensor]) -> Call:
    del given
    return function


def recorded(function: Call, given: Sequence[Tensor]) -> Call:
    """The replay of a function on CUDA; what it gives is overwritten by its next call."""
    kept = [t.clone() for t in given]
    side, main = torch.cuda.Stream(kept[0].device), torch.cuda.current_stream(kept[0].device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(_WARM):
            function(*kept)
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function(*kept)

    def replay(*tensors: Tensor) -> tuple[Tensor, ...]:
        for place, tensor in zip(kept, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return found

    return replay


class Steps:
    """The passes of a step, as `sweep` wants them.

    Args:
        problem: the outer iteration.
        record: how a function is recorded.
    """

    def __init__(self, problem: Problem, record: Record) -> None:
        self._problem, self._record = problem, record
        self._gradients: dict[int, Tensor] = {}

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """See `Passes`."""
        del keep
        p, step = self._problem, self._problem.steps[i]
        pictures = step.draw(p.images[step.index].detach())
        (gradient,) = self._call("first", theta, pictures, p.labels[step.index].detach())
        total += gradient
        if i >= p.first:
            self._gradients[i] = gradient.clone()

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """See `Passes`."""
        p, step, lr = self._problem, self._problem.steps[i], self._problem.lr.detach()
        x = p.images[step.index].detach().requires_grad_()
        pictures = step.draw(x)
        parts = self._call("second", theta, pictures.detach(), p.labels[step.index].detach(), rho)
        (dx,) = torch.autograd.grad(pictures, x, parts[1])
        if p.gradient == "exact":
            sums.lam.sub_(lr * parts[0])
        sums.images.index_add_(0, step.index, -lr * dx)
        if sums.labels is not None:
            sums.labels.index_add_(0, step.index, -lr * parts[2])
        sums.lr.sub_(torch.dot(rho, self._gradients.pop(i)))

    def _call(self, name: str, *given: Tensor) -> tuple[Tensor, ...]:
        """A pass by its recording, which is made where there is none of these shapes."""
        student, soft = self._problem.student, self._problem.wants_labels
        shapes = tuple((tuple(t.shape), t.dtype) for t in given)
        known = _RECORDED.setdefault(student, {})
        key = (name, soft, self._record, shapes)
        if key not in known:
            known[key] = self._record(_first(student) if name == "first" else _second(student, soft), given)
        return known[key](*given)


def _first(student: Student) -> Call:
    loss_of = _without_a_cycle(student)

    def gradient(theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(loss_of(leaf, x, y), leaf)

    return gradient


def _second(student: Student, soft: bool) -> Call:
    loss_of = _without_a_cycle(student)

    def derivatives(theta: Tensor, x: Tensor, y: Tensor, rho: Tensor) -> tuple[Tensor, ...]:
        leaf, pictures = theta.detach().requires_grad_(), x.detach().requires_grad_()
        labels = y.detach().requires_grad_(soft)
        with WrittenOut(pictures, leaf):
            loss = loss_of(leaf, pictures, labels)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        wanted = [leaf, pictures, labels] if soft else [leaf, pictures]
        return torch.autograd.grad(torch.dot(rho, gradient), wanted, allow_unused=True, materialize_grads=True)

    return derivatives


def _without_a_cycle(student: Student) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The student's loss by a twin: a recording that held the student itself would keep it, and so itself, for ever."""
    twin = object.__new__(Student)
    twin.__dict__.update(student.__dict__)
    return twin.loss
