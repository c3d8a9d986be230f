"""The exact adjoint with `FastNet` in place of a second-order graph; its twin is `dd.inner.adjoint`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.fast.compile import Kernels
from dd.inner.fast.network import FastNet, Kept, supported
from dd.inner.fast.workers import Workers
from dd.inner.problem import InnerStep, Matching, Problem
from dd.inner.sweep import Sums, sweep


class _Chunk(NamedTuple):
    part: InnerStep
    weight: Tensor
    """Share of each picture in the batch mean `[n]`; 0 for those that only fill the micro-batch up."""


class _Seen(NamedTuple):
    """What pass 1 leaves for pass 2 of a micro-batch: its pictures with the graph of their augmentation, and maps."""

    leaf: Tensor
    x: Tensor
    tape: Kept | None


def adjoint_fast(
    problem: Problem,
    micro_batch: int | None = 50,
    reuse: int | None = None,
    compiled: bool = True,
    hybrid: bool = False,
) -> Matching:
    """L and its exact gradients, for a ConvNet with instance norm.

    Args:
        problem: the outer iteration.
        micro_batch: pictures at once; 25 to 50 are fastest on a CPU. `None` takes the whole batch of a step.
            On a CPU one micro-batch a thread is under way at a time, and there are at least as many as threads.
        reuse: how many of the last steps keep maps and gradients of pass 1 (about a third of a step's activations);
            `None` keeps all, 0 is the leanest. A kept step is not augmented twice.
        compiled: fuse the pointwise kernels with `torch.compile`; without, each is a chain of eager operations.
        hybrid: bfloat16 in the convolutions that are linear in the tangent; pass 1 and all else stay as they are.

    Raises:
        InputError: a network or picture size that the fast path does not know.
    """
    p = problem
    if not supported(p.student.module, _size(p)):
        raise refuse("engine", "`generic` for this network", "`adjoint_fast`", "It knows the ConvNet with even maps.")
    if micro_batch is not None and micro_batch < 1:
        raise refuse("micro_batch", "None or at least 1", micro_batch)
    if reuse is not None and reuse < 0:
        raise refuse("reuse", "None or at least 0", reuse)
    with torch.no_grad():
        net = FastNet(p.student, Kernels(compiled), torch.bfloat16 if hybrid else None)
        layers = _Layers(p, net, micro_batch, Workers(p.images.device))
        return sweep(p, layers, len(p.steps) if reuse is None else reuse)


class _Layers:
    """The passes of a step by the network's own layers; the micro-batches of a step are shared between workers."""

    def __init__(self, problem: Problem, net: FastNet, micro_batch: int | None, workers: Workers) -> None:
        self._problem, self._net, self._micro_batch, self._workers = problem, net, micro_batch, workers
        self._kept: dict[int, list[_Seen]] = {}

    def _chunks(self, i: int) -> list[_Chunk]:
        return _chunks(self._problem.steps[i], self._micro_batch, self._workers.count, self._problem.images)

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """See `Passes`."""
        p, net, weights = self._problem, self._net, self._net.weights(theta)

        def one(chunk: _Chunk) -> tuple[Tensor, _Seen | None]:
            part, labels = torch.zeros_like(total), p.labels[chunk.part.index]
            if not keep:
                net.gradient(weights, _pixels(p, chunk), labels, chunk.weight, part, keep)
                return part, None
            leaf, x = _leaf(p, chunk)
            return part, _Seen(leaf, x, net.gradient(weights, x.detach(), labels, chunk.weight, part, keep))

        kept = []
        for part, seen in self._workers.map(one, self._chunks(i)):
            total.add_(part)
            kept.append(seen)
        if keep:
            self._kept[i] = [seen for seen in kept if seen is not None]

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """See `Passes`."""
        p, lr, net = self._problem, self._problem.lr.detach(), self._net
        weights, along = net.weights(theta), net.weights(rho)
        want = p.gradient == "exact" and i > 0  # ∂L/∂θ_0 is nobody's
        chunks = self._chunks(i)
        stored: list[_Seen | None] = [*self._kept.pop(i, [])] or [None] * len(chunks)

        def one(work: tuple[_Chunk, _Seen | None]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
            chunk, seen = work
            hessian = torch.zeros_like(rho) if want else None
            leaf, x, tape = seen if seen is not None else (*_leaf(p, chunk), None)
            index = chunk.part.index
            s, x_bar, y_bar = net.second(weights, along, x.detach(), p.labels[index], chunk.weight, hessian, tape)
            (back,) = torch.autograd.grad(x, leaf, x_bar)
            return index, s, back, y_bar, hessian

        for index, s, back, y_bar, hessian in self._workers.map(one, list(zip(chunks, stored, strict=True))):
            sums.images.index_add_(0, index, -lr * back)
            if sums.labels is not None:
                sums.labels.index_add_(0, index, -lr * y_bar)
            sums.lr.sub_(s)
            if hessian is not None:
                sums.lam.sub_(lr * hessian)


def _size(p: Problem) -> tuple[int, int]:
    """Height and width of what the network sees."""
    return p.images.shape[2], p.images.shape[3]


def _chunks(step: InnerStep, micro_batch: int | None, workers: int, like: Tensor) -> list[_Chunk]:
    """Micro-batches of one size, so that one compilation serves; the last is filled up with pictures of weight 0.

    No worker is left without one while there are pictures: their number is a multiple of that of the workers.
    """
    count = len(step.index)
    parts = -(-count // min(micro_batch or count, count))
    parts = min(-(-parts // workers) * workers, count)
    size = -(-count // parts)
    chunks = []
    for start in range(0, count, size):
        stop = min(start + size, count)
        rows = torch.arange(start, start + size).clamp(max=count - 1)
        weight = torch.zeros(size, dtype=like.dtype, device=like.device)
        weight[: stop - start] = 1.0 / count
        part = step if parts == 1 else InnerStep(step.index[rows.to(step.index.device)], step.draw.rows(rows))
        chunks.append(_Chunk(part, weight))
    return chunks


def _pixels(p: Problem, chunk: _Chunk) -> Tensor:
    """The augmented pictures of a micro-batch in channels-last memory."""
    x = chunk.part.draw(p.images[chunk.part.index].detach())
    return x.contiguous(memory_format=torch.channels_last)


def _leaf(p: Problem, chunk: _Chunk) -> tuple[Tensor, Tensor]:
    """(pictures before the augmentation as a leaf, after it with its graph)."""
    with torch.enable_grad():
        leaf = p.images[chunk.part.index].detach().requires_grad_()
        x = chunk.part.draw(leaf).contiguous(memory_format=torch.channels_last)
        if x is leaf:
            x = leaf.view_as(leaf)
    return leaf, x
