"""Which engine serves a problem: the fast path where it knows the network and pays, else one of its twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from torch import nn

from dd.inner.adjoint_pass import adjoint
from dd.inner.fast import adjoint_fast, compiler_present, supported
from dd.inner.problem import Matching, Problem
from dd.inner.unrolled import unroll
from dd.models.images.convnet import Block, ConvNet

EngineName = Literal["adjoint", "generic", "unroll"]
ENGINES: Final = ("adjoint", "generic", "unroll")
_WORTH_COMPILING = 2e13
"""FLOPs of all student steps (12 forward passes each) from which compiling, about 30 s on two cores, pays."""


@dataclass(frozen=True)
class Road:
    """How an outer iteration is computed, as opposed to what.

    Attributes:
        engine: `adjoint` takes the fast path for a ConvNet with instance norm, `generic` never does, `unroll` is the
            reference. All three are exact.
        micro_batch: images at once; `None` takes the whole batch.
        reuse: last steps that keep what pass 1 has computed; `None`: all on the fast path, on the generic one
            those that fit in a gigabyte (`dd.inner.adjoint_pass.ROOM`).
        compiled: whether pointwise kernels are fused by a compiler; without, the fast path is the slower one and the
            generic one serves.
        hybrid: bfloat16 in the convolutions that are linear in the tangent (fast path only).
    """

    engine: EngineName = "adjoint"
    micro_batch: int | None = None
    reuse: int | None = None
    compiled: bool = False
    hybrid: bool = False


def solve(problem: Problem, road: Road) -> Matching:
    """L and its gradients by the engine of `road`."""
    if road.engine == "unroll":
        return unroll(problem)
    height, width = problem.images.shape[2:]
    if road.engine == "adjoint" and road.compiled and supported(problem.student.module, (height, width)):
        return adjoint_fast(problem, road.micro_batch, road.reuse, compiled=True, hybrid=road.hybrid)
    return adjoint(problem, micro_batch=road.micro_batch, reuse=road.reuse)


def worth_compiling(module: nn.Module, size: tuple[int, int], images: int, device: str) -> bool:
    """Whether a run that shows `images` pictures in all to its students gains more than the compilation costs."""
    if not supported(module, size) or not compiler_present(device):
        return False
    return 12 * images * forward_flops(module, size) >= _WORTH_COMPILING


def forward_flops(module: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds × 2 of the convolutions of a `supported` network, one picture forward."""
    assert isinstance(module, ConvNet)
    height, width = size
    total = 0
    for block in module.blocks:
        assert isinstance(block, Block)
        grow = 2 * int(block.conv.padding[0]) - 2
        height, width = height + grow, width + grow
        total += 2 * height * width * block.conv.weight.numel()
        height, width = height // 2, width // 2
    return total
