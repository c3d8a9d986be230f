"""What a run will cost, before it starts: from tables, or from a few seconds of measurement."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from dd.cost.calibrate import measure_pieces
from dd.cost.counts import Counts, Pieces, Plan, chunks, images_seen
from dd.cost.memory import peak_bytes
from dd.data import Images
from dd.evaluation.selection import REPEATS
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.experts.fast import can_compile, long_enough
from dd.inner import Student
from dd.inner.fast import FastNet, supported
from dd.inner.fast.compile import Kernels
from dd.methods import METHODS, Run, TrajectoryMatching, class_of
from dd.methods.trajectory.loop import Loop
from dd.transforms.whiten import Normalise

# Assumed rates of one device in FLOP/s for small convolutional nets, eager fp32; `calibrate=True` measures instead.
_ASSUMED = {"cpu": 5e10, "cuda": 5e12}
# Seconds that one layer's pass takes however small its tensors are (dispatch and autograd); rules at 8 px.
_DISPATCH = 1.2e-4
# Forward passes that an image costs: a gradient; what the gradient penalty adds; an outer iteration's two passes.
_GRADIENT, _PENALTY, _ADJOINT = 3, 6, 12
_DISK = 4e8  # bytes a second, checksums included
# Compiling, with an empty cache on one core of a Xeon under other load, 2026-11-24, torch 2.14, commit b3330aa: 2.6 to
# 3.7 s a kernel of the fast path (31 to 53 s at depth 3 and 4), 8 to 12 s a block of the experts' loss; the resident
# size grew by 171 MB.
_KERNEL_SECONDS, _LOSS_SECONDS, _COMPILER_BYTES = 3.2, 8.5, 171_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Predicted cost of one run.

    Attributes:
        disk_bytes: expert store at the snapshots that the matching reads, its recipe included.
        peak_bytes: resident (CUDA) bytes over those of the libraries and the data at the highest moment of the run:
            the whitening's fit, an expert and its snapshots, an outer iteration, or the selection. With the compiler
            where the run compiles. Each stage is counted on top of what the one before leaves in the heap.
        expert_seconds, matching_seconds: on this device; with initialisation and whitening.
        selection_seconds: scoring of the candidates among which the run chooses; 0 where it offers one only.
        compile_seconds: compiling kernels, once a process, with an empty cache; never measured, but a constant a
            kernel (2 cores); 0 where nothing is compiled.
        flops_per_image: multiply-adds × 2 of one forward pass.
        rate: FLOP/s used, of an expert's step.
        measured: whether this machine was measured.
    """

    disk_bytes: int
    peak_bytes: int
    expert_seconds: float
    matching_seconds: float
    selection_seconds: float = 0.0
    compile_seconds: float = 0.0
    flops_per_image: int
    rate: float
    measured: bool

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.expert_seconds + self.matching_seconds + self.selection_seconds + self.compile_seconds

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        how = "measured" if self.measured else "assumed"
        more = f", selection about {duration(self.selection_seconds)}" if self.selection_seconds >= 1 else ""
        if self.compile_seconds >= 1:
            more += f", compilation about {duration(self.compile_seconds)}"
        return (
            f"experts about {duration(self.expert_seconds)} and {self.disk_bytes / 1e6:,.0f} MB on disk, matching "
            f"about {duration(self.matching_seconds)}{more}, peak about {self.peak_bytes / 1e9:.1f} GB "
            f"({how} {self.rate / 1e9:.0f} GFLOP/s)"
        )


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def estimator_of(made: type) -> Callable[..., Estimate] | None:
    """What predicts the cost of the methods of a class, `f(method, real, device, calibrate)`, where something does.

    A method of one's own has it as a method, `estimate(real, device, calibrate)`.
    """
    own: Callable[..., Estimate] | None = getattr(made, "estimate", None)
    return own or ESTIMATES.get(made)


def estimated() -> tuple[str, ...]:
    """The names of the methods whose cost can be predicted."""
    return tuple(name for name in METHODS if estimator_of(class_of(name)) is not None)


def estimate_matching(method: TrajectoryMatching, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Predict a trajectory-matching run, its experts included, on the road that it takes by default.

    From tables: the FLOPs of its passes at an assumed rate, and a dispatch time a layer. Calibrated: the times of its
    own pieces at its own sizes (`dd.cost.calibrate`), times how often each comes.
    """
    student = make_student(method.expert, real, 0)
    n = _count(method, real, device, student)
    assumed = _ASSUMED.get(device.type, 5e10)
    if calibrate:
        with tempfile.TemporaryDirectory(prefix="dd-estimate-") as folder:
            pieces = measure_pieces(method, real, device, _plan(method, n, assumed), Path(folder))
    else:
        pieces = _from_tables(method, n, assumed)
    rate = n.expert_images * _passes(method.expert) * n.flops / pieces.expert_step if calibrate else assumed
    experts, iterations = method.expert.experts, method.iterations
    road = "compiled" if n.expert_compiled else "eager"
    store = ExpertStore(Path(), method.expert, real)
    disk = store.size_on_disk(experts, method.snapshots_read, n.parameters, road)
    shown = n.student_images * _truncated(method)
    return Estimate(
        disk_bytes=disk,
        peak_bytes=peak_bytes(method, n, pieces.peaks) + _compiler(n),
        expert_seconds=n.expert_steps * pieces.expert_step
        + experts * n.snapshots * pieces.expert_snapshot
        + disk / _DISK,
        matching_seconds=iterations * (pieces.iteration + shown * pieces.student_image)
        + _preparation(method, real, n, rate),
        selection_seconds=n.networks * method.train.steps * pieces.train_step + n.scored * pieces.score_image,
        compile_seconds=_compilation(n),
        flops_per_image=n.flops,
        rate=rate,
        measured=calibrate,
    )


def _count(method: TrajectoryMatching, real: Images, device: torch.device, student: Student) -> Counts:
    recipe, count = method.expert, len(real.train)
    flops, numbers, layers = _forward_cost(student, real)
    every = recipe.snapshot_every * (-(-count // recipe.batch_size) if recipe.snapshot_unit == "epoch" else 1)
    steps = recipe.experts * method.snapshots_read * every
    total = method.ipc * real.num_classes
    samples = method.canvas_samples
    batch = min(method.batch_syn or total, total) * samples
    candidates = 1 + (method.iterations - 1) // method.candidate_every if method.candidate_every else 1
    candidates *= 2 if method.ema else 1
    networks = REPEATS * candidates if candidates > 1 else 0
    split = real.val if real.val is not None else real.test
    held_out = 0 if split is None else len(split)
    compiled = can_compile(student) and long_enough(steps * recipe.batch_size, real.size)
    # the loop's own choice; it asks neither the transform nor the store
    road = Loop(
        method, real, Run(device=device), Normalise(real.mean, real.std), ExpertStore(Path(), recipe, real)
    ).road
    sizes = {
        min(road.micro_batch or b * samples, b * samples) for b in chunks(total, method.batch_syn, method.student_steps)
    }
    return Counts(
        flops=flops,
        numbers=numbers,
        pixels=math.prod((real.channels, *real.size)),
        layers=layers,
        parameters=student.size,
        real_images=count,
        expert_steps=steps,
        expert_compiled=compiled,
        penalty_compiled=compiled and recipe.penalty > 0 and supported(student.module, real.size),
        snapshots=method.snapshots_read + 1,
        expert_images=min(recipe.batch_size, count),
        checked=min(1000, held_out),
        student_images=images_seen(total, method.batch_syn, method.student_steps) * samples,
        synthetic=total,
        batch=batch,
        road=road,
        kept=_kept_bytes(student, real) if road.compiled else 0,
        workers=torch.get_num_threads() if device.type == "cpu" else 1,
        shapes=len(sizes),
        networks=networks,
        train_batch=min(method.train.batch_size, total),
        held_out=held_out,
        scored=networks * held_out,
    )


def _kept_bytes(student: Student, real: Images) -> int:
    """What the fast path keeps of one image in one student step between its passes, from a pass on one image."""
    net = FastNet(student, Kernels(compiled=False))
    x = torch.zeros(1, real.channels, *real.size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        total = torch.zeros_like(student.initial)
        weights = net.weights(student.initial)
        kept = net.gradient(weights, x, torch.zeros(1, dtype=torch.int64), torch.ones(1), total, keep=True)
    assert kept is not None
    return sum(t.numel() * t.element_size() for t in (*kept.z, *kept.g_out))


def _plan(method: TrajectoryMatching, n: Counts, rate: float) -> Plan:
    forward = n.flops / rate
    return Plan(
        road=n.road,
        expert_compiled=n.expert_compiled,
        expert_images=n.expert_images,
        train_images=n.train_batch,
        checked=n.checked,
        selects=n.networks > 0,
        expert=_passes(method.expert) * forward,
        student=_ADJOINT * forward,
        train=_GRADIENT * forward,
        score=forward,
    )


def _truncated(method: TrajectoryMatching) -> float:
    """Cost of an image in a student step as a share of that there and back, where only the last steps go back."""
    back = min(method.truncate or method.student_steps, method.student_steps) / method.student_steps
    return (_GRADIENT + (_ADJOINT - _GRADIENT) * back) / _ADJOINT


def _compilation(n: Counts) -> float:
    """Seconds of compiling: four kernels a block for each size of micro-batch and a penalty, and the experts' loss."""
    sizes = (n.shapes if n.road.compiled else 0) + n.penalty_compiled
    return 4 * n.blocks * sizes * _KERNEL_SECONDS + (n.blocks * _LOSS_SECONDS if n.expert_compiled else 0.0)


def _compiler(n: Counts) -> int:
    """Bytes of the compiler in this process, where it is used."""
    return _COMPILER_BYTES if n.road.compiled or n.expert_compiled else 0


def _passes(recipe: ExpertRecipe) -> int:
    """Forward passes that an expert's step costs an image."""
    return (_GRADIENT + (_PENALTY if recipe.penalty else 0)) * (2 if recipe.step == "gsam" else 1)


def _from_tables(method: TrajectoryMatching, n: Counts, rate: float) -> Pieces:
    """Every piece by its FLOPs and a dispatch time for each layer's pass."""
    passes, steps = _passes(method.expert), method.student_steps
    parts = -(-n.student_images // (steps * min(n.road.micro_batch or n.batch, n.batch)))  # micro-batches a step
    return Pieces(
        expert_step=passes * (n.expert_images * n.flops / rate + n.layers * _DISPATCH),
        expert_snapshot=n.checked * n.flops / rate,
        iteration=steps * parts * _ADJOINT * n.layers * _DISPATCH,
        student_image=_ADJOINT * n.flops / rate,
        train_step=_GRADIENT * (n.train_batch * n.flops / rate + n.layers * _DISPATCH),
        score_image=n.flops / rate,
    )


def _preparation(method: TrajectoryMatching, real: Images, n: Counts, rate: float) -> float:
    """Seconds before the first iteration: whitening, and forward passes for the initialisation and its labels."""
    seconds = 0.0
    if method.expert.whiten:
        q = real.channels * real.size[0] * real.size[1]
        seconds += (2 * len(real.train) * q**2 + 25 * q**3) / rate
    if method.init == "representative":
        seconds += len(real.train) * n.flops / rate
    elif method.init == "correct" or method.labels == "learned":
        seconds += 2 * method.ipc * real.num_classes * method.expert.experts * n.flops / rate
    return seconds


def _forward_cost(student: Student, real: Images) -> tuple[int, int, int]:
    """(FLOPs, output numbers of all layers, layers) of one image, counted by hooks on one forward pass."""
    flops = numbers = layers = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flops, numbers, layers
        del inputs
        numbers += output.numel()
        layers += 1
        if isinstance(layer, nn.Conv2d):
            flops += 2 * output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            flops += 2 * layer.weight.numel()

    module = student.module
    hooks = [m.register_forward_hook(count) for m in module.modules() if not list(m.children())]
    try:
        with torch.no_grad():
            module(torch.zeros(1, real.channels, *real.size))
    finally:
        for hook in hooks:
            hook.remove()
    return max(flops, 1), numbers, layers


ESTIMATES: Final[dict[type, Callable[..., Estimate]]] = {TrajectoryMatching: estimate_matching}
"""What predicts the cost of this library's methods, by their class; it knows their loops, which do not know it."""
