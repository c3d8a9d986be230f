"""What trajectory matching will cost, before it starts: from tables, or from a few seconds of measurement."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from dd.cost.calibrate import measure_pieces
from dd.cost.counts import Counts, Pieces, Plan, chunks, images_seen
from dd.cost.estimate import Estimate
from dd.cost.forward import DISPATCH, GRADIENT, assumed_rate, forward_cost
from dd.cost.memory import peak_bytes
from dd.data import Images
from dd.evaluation.selection import REPEATS
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.experts.fast import can_compile, long_enough
from dd.inner import Student
from dd.inner.engines import BUILD
from dd.inner.fast import FastNet, supported
from dd.inner.fast.compile import Kernels
from dd.methods import Run, TrajectoryMatching
from dd.methods.trajectory.loop import Loop
from dd.transforms.whiten import Normalise

# Forward passes of a gradient penalty, and of an outer iteration there and back.
_PENALTY, _ADJOINT = 3, 12
_DISK = 4e8  # bytes a second, checksums included
# `torch.compile`, with an empty cache on one core of a Xeon under other load, 2026-11-24, torch 2.14, commit b3330aa:
# 2.6 to 3.7 s a kernel of the fast path (31 to 53 s at depth 3 and 4); the resident size grew by 171 MB.
_KERNEL_SECONDS, _COMPILER_BYTES = 3.2, 171_000_000


def estimate_matching(method: TrajectoryMatching, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Predict a trajectory-matching run, its experts included, on the road that it takes by default.

    From tables: the FLOPs of its passes at an assumed rate, and a dispatch time a layer. Calibrated: the times of its
    own pieces at its own sizes (`dd.cost.calibrate`), times how often each comes.
    """
    student = make_student(method.expert, real, 0)
    n = _count(method, real, device, student)
    assumed = assumed_rate(device)
    if calibrate:
        with tempfile.TemporaryDirectory(prefix="dd-estimate-") as folder:
            pieces = measure_pieces(method, real, device, _plan(method, n, assumed), Path(folder))
    else:
        pieces = _from_tables(method, n, assumed)
    rate = n.expert_images * passes_of(method.expert) * n.flops / pieces.expert_step if calibrate else assumed
    experts, iterations = method.expert.experts, method.iterations
    road = "compiled" if n.expert_compiled else "eager"
    store = ExpertStore(Path(), method.expert, real)
    disk = store.size_on_disk(experts, method.snapshots_read, n.parameters, road)
    shown, soft = n.student_images * _truncated(method), method.labels != "hard"
    return Estimate(
        stages={
            "experts": n.expert_steps * pieces.expert_step
            + experts * n.snapshots * pieces.expert_snapshot
            + disk / _DISK,
            "matching": iterations * (pieces.iteration + shown * pieces.student_image)
            + _preparation(method, real, n, rate),
            "selection": n.networks * method.train.steps * pieces.train_step + n.scored * pieces.score_image,
            "compilation": _compilation(n),
        },
        disk_bytes=disk,
        set_bytes=n.synthetic
        * (method.layout.itemsize * n.pixels * method.canvas**2 + (4 * real.num_classes if soft else 8)),
        peak_bytes=peak_bytes(method, n, pieces.peaks) + _compiler(n),
        rate=rate,
        measured=calibrate,
    )


def _count(method: TrajectoryMatching, real: Images, device: torch.device, student: Student) -> Counts:
    recipe, count = method.expert, len(real.train)
    one = forward_cost(student.module, real.channels, real.size)
    every = recipe.snapshot_every * (-(-count // recipe.batch_size) if recipe.snapshot_unit == "epoch" else 1)
    steps = recipe.experts * method.snapshots_read * every
    total = method.ipc * real.num_classes
    pictures, samples = total * method.layout.copies, method.canvas_samples
    size = min(method.batch_syn or total, pictures)
    batch = size * samples
    candidates = 1 + (method.iterations - 1) // method.candidate_every if method.candidate_every else 1
    candidates *= 2 if method.ema else 1
    networks = REPEATS * candidates if candidates > 1 else 0
    split = real.val if real.val is not None else real.test
    held_out = 0 if split is None else len(split)
    compiled = can_compile(student) and long_enough(student, steps * recipe.batch_size, real.size, device.type)
    # the loop's own choice; it asks neither the transform nor the store
    road = Loop(
        method, real, Run(device=device), Normalise(real.mean, real.std), ExpertStore(Path(), recipe, real)
    ).road
    sizes = {min(road.micro_batch or b * samples, b * samples) for b in chunks(pictures, size, method.student_steps)}
    return Counts(
        flops=one.flops,
        numbers=one.numbers,
        pixels=math.prod((real.channels, *real.size)),
        layers=one.layers,
        parameters=student.size,
        real_images=count,
        expert_steps=steps,
        expert_compiled=compiled,
        penalty_compiled=compiled and recipe.penalty > 0 and supported(student.module, real.size),
        built=device.type == "cpu" and supported(student.module, real.size),
        snapshots=method.snapshots_read + 1,
        expert_images=min(recipe.batch_size, count),
        checked=min(1000, held_out),
        student_images=images_seen(pictures, size, method.student_steps) * samples,
        synthetic=total,
        batch=batch,
        road=road,
        kept=_kept_bytes(student, real) if road.compiled else 0,
        workers=torch.get_num_threads() if device.type == "cpu" else 1,
        shapes=len(sizes),
        networks=networks,
        train_batch=min(method.train.batch_size, pictures),
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
        built=n.built,
        expert_images=n.expert_images,
        train_images=n.train_batch,
        checked=n.checked,
        selects=n.networks > 0,
        expert=passes_of(method.expert) * forward,
        student=_ADJOINT * forward,
        train=GRADIENT * forward,
        score=forward,
    )


def _truncated(method: TrajectoryMatching) -> float:
    """Cost of an image in a student step as a share of that there and back, where only the last steps go back."""
    back = min(method.truncate or method.student_steps, method.student_steps) / method.student_steps
    return (GRADIENT + (_ADJOINT - GRADIENT) * back) / _ADJOINT


def _compilation(n: Counts) -> float:
    """Seconds of compiling: once for all, or four kernels a block and size of micro-batch, two of an expert's batch."""
    if n.built:
        return BUILD if n.road.compiled or n.expert_compiled else 0.0
    sizes = (n.shapes if n.road.compiled else 0) + n.penalty_compiled
    return 2 * n.blocks * (2 * sizes + n.expert_compiled) * _KERNEL_SECONDS


def _compiler(n: Counts) -> int:
    """Bytes of the compiler in this process, where it is used."""
    return _COMPILER_BYTES if not n.built and (n.road.compiled or n.expert_compiled) else 0


def passes_of(recipe: ExpertRecipe) -> int:
    """Forward passes that an expert's step costs an image."""
    return (GRADIENT + (_PENALTY if recipe.penalty else 0)) * (2 if recipe.step == "gsam" else 1)


def _from_tables(method: TrajectoryMatching, n: Counts, rate: float) -> Pieces:
    """Every piece by its FLOPs and a dispatch time for each layer's pass."""
    passes, steps = passes_of(method.expert), method.student_steps
    parts = -(-n.student_images // (steps * min(n.road.micro_batch or n.batch, n.batch)))  # micro-batches a step
    return Pieces(
        expert_step=passes * (n.expert_images * n.flops / rate + n.layers * DISPATCH),
        expert_snapshot=n.checked * n.flops / rate,
        iteration=steps * parts * _ADJOINT * n.layers * DISPATCH,
        student_image=_ADJOINT * n.flops / rate,
        train_step=GRADIENT * (n.train_batch * n.flops / rate + n.layers * DISPATCH),
        score_image=n.flops / rate,
    )


def whitening_seconds(real: Images, rate: float) -> float:
    """Of the fit of ZCA: the covariance, and its eigenvectors."""
    q = math.prod(real.train.shape)
    return (2 * len(real.train) * q**2 + 25 * q**3) / rate


def _preparation(method: TrajectoryMatching, real: Images, n: Counts, rate: float) -> float:
    """Seconds before the first iteration: whitening, and forward passes for the initialisation and its labels."""
    seconds = whitening_seconds(real, rate) if method.expert.whiten else 0.0
    if method.init == "representative":
        seconds += len(real.train) * n.flops / rate
    elif method.init == "correct" or method.labels == "learned":
        seconds += 2 * method.ipc * method.layout.small * real.num_classes * method.expert.experts * n.flops / rate
    return seconds
