"""What a run will cost, before it starts: from tables, or from a few seconds of measurement."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dd.data import Images
from dd.experts import make_student
from dd.inner import Student
from dd.methods import TrajectoryMatching

# Assumed rates of one device in FLOP/s for small convolutional nets, eager fp32; `calibrate=True` measures instead.
_ASSUMED = {"cpu": 5e10, "cuda": 5e12}
_CALIBRATION_SECONDS = 5.0
# Seconds that one layer's pass takes however small its tensors are (dispatch and autograd); rules at 8 px.
_DISPATCH = 1.2e-4


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Predicted cost of one run.

    Attributes:
        disk_bytes: expert store at the snapshots that the matching reads.
        peak_bytes: stored student parameters and the graph of one micro-batch (a rough upper figure).
        expert_seconds, matching_seconds: on this device.
        flops_per_image: multiply-adds × 2 of one forward pass.
        rate: FLOP/s used.
        measured: whether `rate` was measured here.
    """

    disk_bytes: int
    peak_bytes: int
    expert_seconds: float
    matching_seconds: float
    flops_per_image: int
    rate: float
    measured: bool

    @property
    def seconds(self) -> float:
        """Experts and matching."""
        return self.expert_seconds + self.matching_seconds

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        how = "measured" if self.measured else "assumed"
        return (
            f"experts about {duration(self.expert_seconds)} and {self.disk_bytes / 1e6:,.0f} MB on disk, matching "
            f"about {duration(self.matching_seconds)}, peak about {self.peak_bytes / 1e9:.1f} GB "
            f"({how} {self.rate / 1e9:.0f} GFLOP/s)"
        )


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def estimate_matching(method: TrajectoryMatching, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Predict a trajectory-matching run from its FLOPs: 3 passes an expert image (6 with gsam), 12 a student image.

    A forward costs F, forward and backward 3F; the exact engine's two passes with recomputation 12F.
    """
    recipe = method.expert
    student = make_student(recipe, real, 0)
    flops, activations, layers = _forward_cost(student, real)
    rate = _measure(student, real, flops, device) if calibrate else _ASSUMED.get(device.type, 5e10)
    count = len(real.train)
    steps_per_epoch = -(-count // recipe.batch_size)
    every = recipe.snapshot_every * (steps_per_epoch if recipe.snapshot_unit == "epoch" else 1)
    seen = method.snapshots_read * every * min(recipe.batch_size, count)
    passes = 6 if recipe.step == "gsam" else 3
    total = method.ipc * real.num_classes
    batch = min(method.batch_syn or total, total)
    micro = min(batch, 50 if device.type == "cpu" else batch)
    expert_steps = recipe.experts * method.snapshots_read * every
    student_steps = method.iterations * method.student_steps
    return Estimate(
        disk_bytes=recipe.experts * (method.snapshots_read + 2) * student.size * 4,
        peak_bytes=4 * (student.size * (method.student_steps + 6) + 10 * activations * micro),
        expert_seconds=recipe.experts * seen * passes * flops / rate + expert_steps * passes * layers * _DISPATCH,
        matching_seconds=student_steps * 12 * (batch * flops / rate + -(-batch // micro) * layers * _DISPATCH),
        flops_per_image=flops,
        rate=rate,
        measured=calibrate,
    )


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


def _measure(student: Student, real: Images, flops: int, device: torch.device) -> float:
    """FLOP/s of forward and backward on batches of 64, for at most a few seconds."""
    theta = student.initial.to(device).requires_grad_()
    student.module.to(device)
    x = torch.zeros(64, real.channels, *real.size, device=device)
    y = torch.zeros(64, dtype=torch.int64, device=device)
    torch.autograd.grad(student.loss(theta, x, y), theta)
    done, start = 0, time.perf_counter()
    while done < 3 or (time.perf_counter() - start < _CALIBRATION_SECONDS and done < 50):
        torch.autograd.grad(student.loss(theta, x, y), theta)[0].sum().item()
        done += 1
    return done * 64 * 3 * flops / (time.perf_counter() - start)
