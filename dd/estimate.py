"""What a run will cost, before it starts: from tables, or from a few seconds of measurement."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dd.calibrate import Pieces, images_seen, measure_pieces
from dd.data import Images
from dd.experts import ExpertRecipe, make_student
from dd.inner import Student
from dd.methods import TrajectoryMatching
from dd.selection import REPEATS

# Assumed rates of one device in FLOP/s for small convolutional nets, eager fp32; `calibrate=True` measures instead.
_ASSUMED = {"cpu": 5e10, "cuda": 5e12}
# Seconds that one layer's pass takes however small its tensors are (dispatch and autograd); rules at 8 px.
_DISPATCH = 1.2e-4
# Forward passes that an image costs: a gradient; what the gradient penalty adds; an outer iteration's two passes.
_GRADIENT, _PENALTY, _ADJOINT = 3, 6, 12
_DISK = 4e8  # bytes a second, checksums included


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Predicted cost of one run.

    Attributes:
        disk_bytes: expert store at the snapshots that the matching reads.
        peak_bytes: memory over that of the libraries and the data: stored student parameters and the graph of one
            micro-batch, or an expert and its snapshots where that is more.
        expert_seconds, matching_seconds: on this device; with initialisation and whitening.
        selection_seconds: scoring of the candidates among which the run chooses; 0 where it offers one only.
        compile_seconds: compiling kernels, once a process; 0 where nothing is compiled.
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


@dataclass(frozen=True)
class _Counts:
    """What a run does, counted from its fields: no measurement in here."""

    flops: int  # of one image's forward pass
    numbers: int  # outputs of all layers for one image
    layers: int
    parameters: int
    expert_steps: int  # of all experts
    snapshots: int  # of one expert, the initialisation included
    expert_images: int  # a step
    checked: int  # held-out images that a snapshot classifies
    student_images: int  # an outer iteration
    micro: int  # images whose graph is alive at once
    networks: int  # trained for the selection
    train_batch: int
    scored: int  # real images that all those networks classify


def estimate_matching(method: TrajectoryMatching, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Predict a trajectory-matching run, its experts included.

    From tables: the FLOPs of its passes at an assumed rate, and a dispatch time a layer. Calibrated: the times of its
    own pieces at its own sizes (`dd.calibrate`), times how often each comes.
    """
    n = _count(method, real, device)
    assumed = _ASSUMED.get(device.type, 5e10)
    if calibrate:
        pieces = measure_pieces(method, real, device, assumed / (_ADJOINT * n.flops))
    else:
        pieces = _from_tables(method, n, assumed)
    passes = _passes(method.expert)
    rate = n.expert_images * passes * n.flops / pieces.expert_step if calibrate else assumed
    experts, iterations = method.expert.experts, method.iterations
    disk = experts * (n.snapshots + 1) * n.parameters * 4
    return Estimate(
        disk_bytes=disk,
        peak_bytes=max(_matching_peak(method, n, pieces), _expert_peak(n, pieces)),
        expert_seconds=n.expert_steps * pieces.expert_step
        + experts * n.snapshots * pieces.expert_snapshot
        + disk / _DISK,
        matching_seconds=iterations * (pieces.iteration + n.student_images * pieces.student_image)
        + _preparation(method, real, n, rate),
        selection_seconds=n.networks * method.train.steps * pieces.train_step + n.scored * pieces.score_image,
        compile_seconds=pieces.compile,
        flops_per_image=n.flops,
        rate=rate,
        measured=calibrate,
    )


def _count(method: TrajectoryMatching, real: Images, device: torch.device) -> _Counts:
    recipe, count = method.expert, len(real.train)
    student = make_student(recipe, real, 0)
    flops, numbers, layers = _forward_cost(student, real)
    every = recipe.snapshot_every * (-(-count // recipe.batch_size) if recipe.snapshot_unit == "epoch" else 1)
    steps = recipe.experts * method.snapshots_read * every
    total = method.ipc * real.num_classes
    batch = min(method.batch_syn or total, total)
    candidates = 1 + (method.iterations - 1) // method.candidate_every if method.candidate_every else 1
    candidates *= 2 if method.ema else 1
    networks = REPEATS * candidates if candidates > 1 else 0
    split = real.val if real.val is not None else real.test
    held_out = 0 if split is None else len(split)
    return _Counts(
        flops=flops,
        numbers=numbers,
        layers=layers,
        parameters=student.size,
        expert_steps=steps,
        snapshots=method.snapshots_read + 1,
        expert_images=min(recipe.batch_size, count),
        checked=min(1000, held_out),
        student_images=images_seen(total, method.batch_syn, method.student_steps),
        micro=min(batch, 50 if device.type == "cpu" else batch),
        networks=networks,
        train_batch=min(method.train.batch_size, total),
        scored=networks * held_out,
    )


def _passes(recipe: ExpertRecipe) -> int:
    """Forward passes that an expert's step costs an image."""
    return (_GRADIENT + (_PENALTY if recipe.penalty else 0)) * (2 if recipe.step == "gsam" else 1)


def _from_tables(method: TrajectoryMatching, n: _Counts, rate: float) -> Pieces:
    """Every piece by its FLOPs and a dispatch time for each layer's pass."""
    passes, steps = _passes(method.expert), method.student_steps
    parts = -(-n.student_images // (steps * n.micro))  # micro-batches a step
    return Pieces(
        expert_step=passes * (n.expert_images * n.flops / rate + n.layers * _DISPATCH),
        expert_snapshot=n.checked * n.flops / rate,
        iteration=steps * parts * _ADJOINT * n.layers * _DISPATCH,
        student_image=_ADJOINT * n.flops / rate,
        compile=0.0,
        train_step=_GRADIENT * (n.train_batch * n.flops / rate + n.layers * _DISPATCH),
        score_image=n.flops / rate,
        expert_peak=0,
        matching_peak=0,
        matching_steps=0,
        matching_batch=0,
    )


def _matching_peak(method: TrajectoryMatching, n: _Counts, pieces: Pieces) -> int:
    """θ_0 … θ_N and what is measured, or ten numbers for every one that a layer puts out for a micro-batch."""
    if pieces.matching_peak:
        graph = pieces.matching_peak * max(1.0, n.micro / pieces.matching_batch)
        return int(graph) + 4 * n.parameters * (method.student_steps - pieces.matching_steps)
    return 4 * (n.parameters * (method.student_steps + 6) + 10 * n.numbers * n.micro)


def _expert_peak(n: _Counts, pieces: Pieces) -> int:
    """A step, and the snapshots of one expert, which are copied once to be saved."""
    step = pieces.expert_peak or 4 * (3 * n.numbers * n.expert_images + 6 * n.parameters)
    return step + 4 * n.parameters * 4 * n.snapshots


def _preparation(method: TrajectoryMatching, real: Images, n: _Counts, rate: float) -> float:
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
