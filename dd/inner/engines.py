"""Which engine serves a problem: the fast path where it knows the network and pays, else one of its twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from torch import nn

from dd.inner.adjoint_pass import adjoint
from dd.inner.fast import adjoint_fast, compiler_present, maps, supported
from dd.inner.problem import Matching, Problem
from dd.inner.recorded import adjoint_recorded
from dd.inner.unrolled import unroll

EngineName = Literal["adjoint", "generic", "recorded", "unroll"]
ENGINES: Final = ("adjoint", "generic", "recorded", "unroll")
Work = Literal["matching", "gradient"]
"""A student step there and back, or a plain training step."""
_SAVED: Final[dict[Work, float]] = {"matching": 1.6e-8, "gradient": 3e-9}
"""Processor seconds that compiled kernels save on a CPU, a value of a convolution's output and a picture: beside the
generic engine in a student step, launches included (1.5e-8 to 1.8e-8 at widths 32, 64 and 128 and batches of 10 to 50),
and beside the network's own layers in a plain one."""
BUILD: Final = 1.5
"""Seconds that the kernels take to build on a CPU, once a process; 1.1 processor seconds."""
_WORTH_COMPILING: Final = 2e13
"""On an accelerator: FLOPs of all student steps (12 forward passes each) from which compiling pays."""


@dataclass(frozen=True)
class Road:
    """How an outer iteration is computed, as opposed to what.

    Attributes:
        engine: `adjoint` takes the fast path for a ConvNet with instance norm, `generic` never does, `recorded`
            replays CUDA graphs, `unroll` is the reference. All are exact.
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
    if road.engine == "recorded":
        return adjoint_recorded(problem)
    height, width = problem.images.shape[2:]
    if road.engine == "adjoint" and road.compiled and supported(problem.student.module, (height, width)):
        return adjoint_fast(problem, road.micro_batch, road.reuse, compiled=True, hybrid=road.hybrid)
    return adjoint(problem, micro_batch=road.micro_batch, reuse=road.reuse)


def worth_compiling(
    module: nn.Module, size: tuple[int, int], images: int, device: str, work: Work = "matching"
) -> bool:
    """Whether work that shows `images` pictures in all to its networks gains more than the compilation costs.

    Args:
        module: the network.
        size: height and width of a picture.
        images: pictures of all steps of all outer iterations, or of all trainings.
        device: `cpu`, `cuda`, ….
        work: what a picture goes through.
    """
    found = maps(module, size)
    if found is None or not compiler_present(device):
        return False
    values = [one.channels * one.height * one.width for one in found]
    if device != "cpu":
        flops = sum(2 * count * one.weights for count, one in zip(values, found, strict=True))
        return 12 * images * flops >= _WORTH_COMPILING
    return images * sum(values) * _SAVED[work] >= BUILD  # whatever the number of threads: it changes no digit
