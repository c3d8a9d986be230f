"""A few seconds of the real thing: expert steps, outer iterations and evaluation steps at a method's own sizes.

Nothing here imitates a run. The expert trainer, the method's own loop with its engine, and the learner of the
selection are called as a run calls them, only for a few steps, on one throw-away expert in a temporary folder.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from dd.data import Images
from dd.evaluation import NetworkLearner
from dd.experts import ExpertRecipe
from dd.experts.train import ExpertTrainer
from dd.methods import Run, Step, TrajectoryMatching
from dd.synthetic import SyntheticImages
from dd.whiten import ZCA, Transform, make_transform

_EXPERT_SECONDS, _MATCHING_SECONDS, _SELECTION_SECONDS = 2.5, 4.0, 1.2
_SCORED = 500  # images of the split that times a score

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What was measured.

    Attributes:
        expert_step, expert_snapshot: seconds of an optimiser step; of a snapshot with its accuracy.
        iteration: seconds of an outer iteration apart from its student images (reads, outer update).
        student_image: seconds of one image in one student step, there and back.
        compile: seconds that the first iteration took above a later one.
        train_step, score_image: seconds of a step on the synthetic set; of a real image that is scored.
        expert_peak, matching_peak: growth of the resident (or CUDA) memory in bytes; 0 where it cannot be read.
        matching_steps, matching_batch: student steps and images a step that `matching_peak` was seen with.
    """

    expert_step: float
    expert_snapshot: float
    iteration: float
    student_image: float
    compile: float
    train_step: float
    score_image: float
    expert_peak: int
    matching_peak: int
    matching_steps: int
    matching_batch: int


def measure_pieces(method: TrajectoryMatching, real: Images, device: torch.device, affordable: float) -> Pieces:
    """Measure the pieces of a run in about eight seconds.

    Args:
        method: what will be run.
        real: on this data.
        device: where.
        affordable: student images that an assumed rate allows in a second; a larger student batch is measured
            with fewer images, since its time is a sum over images.
    """
    fixed, image, lengths, peak, small = _matching(method, real, device, affordable)
    with Memory(device) as of_expert:
        step, snapshot = _expert(method.expert, real, device)
    train_step, score_image = _selection(small, real, device)
    return Pieces(
        expert_step=step,
        expert_snapshot=snapshot,
        iteration=fixed,
        student_image=image,
        compile=0.0,
        train_step=train_step,
        score_image=score_image,
        expert_peak=of_expert.peak,
        matching_peak=peak,
        matching_steps=lengths[0],
        matching_batch=lengths[1],
    )


def images_seen(total: int, batch_syn: int | None, steps: int) -> int:
    """Images in the first `steps` student steps: permutations in chunks, the short chunk first."""
    size = min(batch_syn or total, total)
    rest, seen = 0, 0
    for _ in range(steps):
        rest = rest or total
        chunk = rest % size or size
        seen, rest = seen + chunk, rest - chunk
    return seen


def _matching(
    method: TrajectoryMatching, real: Images, device: torch.device, affordable: float
) -> tuple[float, float, tuple[int, int], int, SyntheticImages]:
    """(seconds an iteration apart from images, seconds an image, (steps, images a step), peak, a set)."""
    total = method.ipc * real.num_classes
    few = min(max(2, method.expert_epochs), method.student_steps)
    lengths = sorted({few, min(2 * few, method.student_steps)})
    wanted = min(method.batch_syn or total, total)
    batch = min(wanted, max(8, int(_MATCHING_SECONDS * affordable / (2 * sum(lengths)))))
    data = _some(real, method.ipc)
    with tempfile.TemporaryDirectory(prefix="dd-estimate-") as folder:
        run = Run(device=device, store=Path(folder))
        first = next(_shortened(method, few, batch, iterations=1).distill(data, run))
        streams = [_shortened(method, n, batch, iterations=1000).distill(data, run) for n in lengths]
        with Memory(device) as memory:  # libraries are warm by now
            times = _alternate(streams, device)
    means = [typical(of_length[1:]) for of_length in times]
    seen = [images_seen(total, batch, n) for n in lengths]
    image = means[-1] / seen[-1]
    if len(means) == 2 and means[1] > means[0]:
        image = min(image, (means[1] - means[0]) / (seen[1] - seen[0]))
    small = first.candidates[0].set
    assert isinstance(small, SyntheticImages)
    # with a step size that cannot diverge, and the transform of real images
    recipe = dataclasses.replace(small.recipe, lr=1e-6)
    small = dataclasses.replace(small, recipe=recipe, transform=_transform(method.expert, real))
    return max(0.0, means[-1] - image * seen[-1]), image, (lengths[-1], batch), memory.peak, small


def _alternate(streams: Sequence[Iterator[Step]], device: torch.device) -> list[list[float]]:
    """Seconds of iterations of each stream in turn; the first of each has the set-up in it."""
    times: list[list[float]] = [[] for _ in streams]
    start = time.perf_counter()
    while len(times[0]) < 2 or (len(times[0]) < 40 and time.perf_counter() - start < 0.8 * _MATCHING_SECONDS):
        for mine, stream in zip(times, streams, strict=True):
            mine.append(timed(partial(next, stream), device)[0])
    return times


def _shortened(method: TrajectoryMatching, steps: int, batch: int, iterations: int) -> TrajectoryMatching:
    """The method with few student steps, and an expert that costs nothing to train."""
    expert = dataclasses.replace(
        method.expert,
        experts=1,
        snapshots=method.expert_epochs,
        snapshot_every=1,
        snapshot_unit="step",
        batch_size=8,
        whiten=False,
    )
    return dataclasses.replace(
        method,
        expert=expert,
        student_steps=steps,
        batch_syn=batch,
        iterations=iterations,
        candidate_every=0,
        min_start_epoch=0,
        max_start_epoch=1,
        current_start_epoch=None,
        window_iterations=0,
        init="real",
        skip_above=math.inf,
    )


def _some(real: Images, ipc: int) -> Images:
    """The first `ipc` training images of each class: the loop reads no others."""
    rows = torch.cat([real.class_index(k)[:ipc] for k in range(real.num_classes)])
    return Images(train=real.train.subset(rows), classes=real.classes, mean=real.mean, std=real.std)


def _expert(recipe: ExpertRecipe, real: Images, device: torch.device) -> tuple[float, float]:
    """(seconds a step, seconds a snapshot) of the trainer; more and more steps while there is time."""
    transform = _transform(recipe, real)
    start, every, step, snapshot = time.perf_counter(), 1, math.inf, math.inf
    while True:
        short = dataclasses.replace(recipe, snapshot_every=every, snapshot_unit="step")
        stream = ExpertTrainer(short, real, transform, device).snapshots(0)
        # the initialisation: a network, and its accuracy
        snapshot = min(snapshot, timed(partial(next, stream), device)[0])
        took, _ = timed(partial(next, stream), device)
        step = max(took - snapshot, 0.02 * took) / every
        left = _EXPERT_SECONDS - (time.perf_counter() - start) - snapshot
        if left < 2 * every * step or every >= 200:
            return step, snapshot
        every = max(every + 1, min(8 * every, 200, int(left / step)))


def _selection(small: SyntheticImages, real: Images, device: torch.device) -> tuple[float, float]:
    """(seconds a training step on the set, seconds a scored image)."""
    NetworkLearner(device=device, steps=1).fit(small, 0)  # the first optimiser of a process takes a second
    start, steps = time.perf_counter(), 1
    while True:
        fit = partial(NetworkLearner(device=device, steps=steps).fit, small, 0)
        took, predictor = timed(fit, device)
        if steps >= 80 or time.perf_counter() - start + 4 * took > _SELECTION_SECONDS:
            break
        steps *= 4
    split = real.val if real.val is not None else real.test
    if split is None or not len(split):
        return took / steps, 0.0
    part = split.subset(torch.arange(min(_SCORED, len(split))))
    scoring, _ = timed(partial(predictor.score, part), device)
    return took / steps, scoring / len(part)


def _transform(recipe: ExpertRecipe, real: Images) -> Transform:
    """The recipe's transform; a whitening that costs as much as a fitted one, without the fit."""
    if not recipe.whiten:
        return make_transform(real, whiten=False)
    q = math.prod((real.channels, *real.size))
    eye = torch.eye(q)
    return ZCA(
        mean=torch.zeros(q), matrix=eye, inverse_matrix=eye, shape=(real.channels, *real.size), eps=0.1, fitted_on=""
    )


def typical(seconds: Sequence[float]) -> float:
    """The mean without the slowest quarter: a mean, since augmentations cost unequally; trimmed, since
    another process may have the machine for a moment."""
    kept = sorted(seconds)[: math.ceil(0.75 * len(seconds))]
    return sum(kept) / len(kept)


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """(seconds, result) of one call, with the device's queue empty before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


class Memory:
    """`with Memory(device) as memory: …`, then `memory.peak`: growth in bytes, 0 where it cannot be read."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak, self._base = device, 0, 0

    def __enter__(self) -> Memory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._base = torch.cuda.memory_allocated(self.device)
            return self
        if platform.libc_ver()[0] == "glibc":  # pages that are free in the heap would hide growth
            ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return self
        self._base = _status("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device) - self._base
        elif self._base:
            self.peak = max(0, _status("VmHWM") - self._base)


def _status(key: str) -> int:
    """A size in bytes from `/proc/self/status`; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return 1024 * found[0] if found else 0
