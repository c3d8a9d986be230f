"""The exact adjoint with `FastNet` in place of a second-order graph; its twin is `dd.inner.adjoint`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dd.errors import refuse
from dd.inner.fast.compile import Kernels
from dd.inner.fast.network import FastNet, Kept, supported
from dd.inner.problem import InnerStep, Matching, Problem
from dd.inner.sweep import Sums, sweep


class _Chunk(NamedTuple):
    part: InnerStep
    weight: Tensor
    """Share of each picture in the batch mean `[n]`; 0 for those that only fill the micro-batch up."""


def adjoint_fast(
    problem: Problem,
    micro_batch: int | None = 25,
    reuse: int | None = None,
    compiled: bool = True,
    hybrid: bool = False,
) -> Matching:
    """L and its exact gradients, for a ConvNet with instance norm.

    Args:
        problem: the outer iteration.
        micro_batch: pictures at once; 25 keep a micro-batch near the cache. `None` takes the whole batch of a step.
        reuse: how many of the last steps keep maps and gradients of pass 1 (about a third of a step's activations);
            `None` keeps all, 0 is the leanest.
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
    net = FastNet(p.student, Kernels(compiled), torch.bfloat16 if hybrid else None)
    with torch.no_grad():
        return sweep(p, _Layers(p, net, micro_batch), len(p.steps) if reuse is None else reuse)


class _Layers:
    """The passes of a step by the network's own layers."""

    def __init__(self, problem: Problem, net: FastNet, micro_batch: int | None) -> None:
        self._problem, self._net, self._micro_batch = problem, net, micro_batch
        self._kept: dict[int, list[Kept | None]] = {}

    def first(self, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        """See `Passes`."""
        p, weights = self._problem, self._net.weights(theta)
        tapes = [
            self._net.gradient(weights, _pixels(p, chunk), p.labels[chunk.part.index], chunk.weight, total, keep)
            for chunk in _chunks(p.steps[i], self._micro_batch, p.images)
        ]
        if keep:
            self._kept[i] = tapes

    def second(self, i: int, theta: Tensor, rho: Tensor, sums: Sums) -> None:
        """See `Passes`."""
        p, lr = self._problem, self._problem.lr.detach()
        weights, along = self._net.weights(theta), self._net.weights(rho)
        hessian = torch.zeros_like(rho) if p.gradient == "exact" else None
        stored = self._kept.pop(i, None)
        for j, chunk in enumerate(_chunks(p.steps[i], self._micro_batch, p.images)):
            index, leaf, x = _leaf(p, chunk)
            tape = None if stored is None else stored[j]
            s, x_bar, y_bar = self._net.second(weights, along, x.detach(), p.labels[index], chunk.weight, hessian, tape)
            (back,) = torch.autograd.grad(x, leaf, x_bar)
            sums.images.index_add_(0, index, -lr * back)
            if sums.labels is not None:
                sums.labels.index_add_(0, index, -lr * y_bar)
            sums.lr.sub_(s)
        if hessian is not None:
            sums.lam.sub_(lr * hessian)


def _size(p: Problem) -> tuple[int, int]:
    """Height and width of what the network sees."""
    return p.images.shape[2], p.images.shape[3]


def _chunks(step: InnerStep, micro_batch: int | None, like: Tensor) -> Iterator[_Chunk]:
    """Micro-batches of one size, so that one compilation serves; the last is filled up with pictures of weight 0."""
    count = len(step.index)
    parts = -(-count // min(micro_batch or count, count))
    size = -(-count // parts)
    for start in range(0, count, size):
        stop = min(start + size, count)
        rows = torch.arange(start, start + size).clamp(max=count - 1)
        weight = torch.zeros(size, dtype=like.dtype, device=like.device)
        weight[: stop - start] = 1.0 / count
        part = step if parts == 1 else InnerStep(step.index[rows.to(step.index.device)], step.draw.rows(rows))
        yield _Chunk(part, weight)


def _pixels(p: Problem, chunk: _Chunk) -> Tensor:
    """The augmented pictures of a micro-batch in channels-last memory."""
    x = chunk.part.draw(p.images[chunk.part.index].detach())
    return x.contiguous(memory_format=torch.channels_last)


def _leaf(p: Problem, chunk: _Chunk) -> tuple[Tensor, Tensor, Tensor]:
    """(index, pictures before the augmentation as a leaf, after it with its graph)."""
    index = chunk.part.index
    with torch.enable_grad():
        leaf = p.images[index].detach().requires_grad_()
        x = chunk.part.draw(leaf).contiguous(memory_format=torch.channels_last)
        if x is leaf:
            x = leaf.view_as(leaf)
    return index, leaf, x
