"""A few seconds of the real thing: experts, outer iterations and selection at a method's own sizes, in a run's order.

Nothing here imitates a run. The expert store, the method's own loop with the engine of its road, and the learner of
the selection are called as a run calls them, only for a few steps, in a temporary folder. Where a step is too long,
fewer pictures are shown: times and graphs are sums over pictures. What `torch.compile` would compile is not, for that
alone takes longer than a calibration may: such a road is walked with eager kernels, the time inside convolutions is
told apart, and the rest is scaled by `FUSED`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch

from dd.cost.counts import Peaks, Pieces, Plan, images_seen
from dd.cost.meter import Convolutions, Memory, Moment, quickest, timed
from dd.data import Images, Split
from dd.evaluation import NetworkLearner, fresh
from dd.evaluation.fast import usual_forward
from dd.experts import ExpertStore
from dd.inner.fast import builds
from dd.methods import Run, Step, TrajectoryMatching, own_network
from dd.methods.trajectory.given import GivenSet
from dd.synthetic import SyntheticImages
from dd.transforms.whiten import ZCA, Transform, make_transform

FUSED: Final = {"matching": 0.25, "expert": 0.35}
"""Time outside convolutions that compiling leaves, as a share of the eager time: ConvNets of width 32 and 128 at 32 px,
torch 2.14, under other load. Matching 0.20 and 0.30, one core of a Xeon, 2026-11-24; experts 0.36 and 0.32, an AMD
EPYC, 2026-11-29, by the CPU seconds of `compiled`, `eager` and `convolutions` in scripts/bench/expert_epoch.py."""

_EXPERT_SECONDS, _MATCHING_SECONDS, _SELECTION_SECONDS = 1.8, 2.2, 0.6
_PILOT = 0.12  # seconds of a first call, at the assumed rate
_SCORED = 500  # images of the split that times a score
_EXPERTS, _SNAPSHOTS = 2, 2  # that the calibration trains
_NUMBERS = 10_000_000  # of the synthetic images; beyond, fewer images a class are calibrated


def measure_pieces(method: TrajectoryMatching, real: Images, device: torch.device, plan: Plan, folder: Path) -> Pieces:
    """Measure the pieces of a run in well under ten seconds.

    Args:
        method: what will be run.
        real: on this data.
        device: where.
        plan: its sizes and road.
        folder: an empty folder for throw-away experts.
    """
    if plan.built and (plan.road.compiled or plan.expert_compiled) and not builds():
        plan = dataclasses.replace(plan, road=dataclasses.replace(plan.road, compiled=False), expert_compiled=False)
    start = time.perf_counter()
    transform = unfitted(real, method.expert.whiten)
    matching = _Matching(method, real, device, plan, folder)
    experts = _Experts(method, real, device, plan, folder, transform)
    small = matching.pilot()
    experts.pilot()
    selection = _Selection(small, method, real, device, plan, transform)
    selection.pilot()
    memory = Memory(device)  # libraries are warm by now
    late = max(0.0, time.perf_counter() - start - 2.0)  # a slow machine gets fewer repeats
    step, snapshot = experts.measure(max(0.3, _EXPERT_SECONDS - 0.4 * late))
    expert_peak, left = memory.peak(), memory.now()
    memory.restart()
    iteration, image = matching.measure(max(0.3, _MATCHING_SECONDS - 0.6 * late))
    matching_peak = memory.peak()
    memory.restart()
    train_step, score_image = selection.measure(_SELECTION_SECONDS)
    peaks = Peaks(
        expert=expert_peak,
        left=left,
        matching=matching_peak,
        selection=memory.peak() if plan.selects else 0,
        expert_images=experts.batch,
        snapshots=_SNAPSHOTS + 1,
        student_steps=matching.lengths[-1],
        student_batch=matching.batch * method.canvas_samples,
        synthetic=matching.total // method.layout.copies,
        train_images=selection.batch,
    )
    return Pieces(
        expert_step=step,
        expert_snapshot=snapshot,
        iteration=iteration,
        student_image=image,
        train_step=train_step,
        score_image=score_image,
        peaks=peaks if memory.readable else None,
    )


class _Experts:
    """Two short experts in a store, as `ExpertStore.ensure` makes them."""

    def __init__(
        self,
        method: TrajectoryMatching,
        real: Images,
        device: torch.device,
        plan: Plan,
        folder: Path,
        transform: Transform,
    ) -> None:
        self._recipe, self._device, self._plan = method.expert, device, plan
        self._folder, self._transform = folder, transform
        self._checked = _few(plan.checked, 4 * plan.score)  # once a snapshot
        split = real.val if real.val is not None else real.test
        held_out = None if not self._checked or split is None else split.subset(torch.arange(self._checked))
        rows = torch.linspace(0, len(real.train) - 1, min(len(real.train), 8 * plan.expert_images)).long()
        firsts = torch.cat([real.class_index(k)[:1] for k in range(real.num_classes)])
        train = real.train.subset(torch.cat((firsts, rows)).unique())
        self._data = Images(train=train, val=held_out, classes=real.classes, mean=real.mean, std=real.std)
        self.batch = _few(plan.expert_images, plan.expert)

    def pilot(self) -> None:
        """One step, whose time says how many images and steps are affordable."""
        marks = self._train(1, 1, 1)
        self._step = marks[1]

    def _train(self, experts: int, snapshots: int, every: int) -> list[float]:
        """Seconds of each snapshot in turn; the first of every expert is its initialisation."""
        recipe = dataclasses.replace(
            self._recipe, batch_size=self.batch, snapshot_every=every, snapshot_unit="step", lr=1e-6
        )  # a step size that cannot diverge
        store = ExpertStore(self._folder, recipe, self._data)
        marks = [Moment.now()]

        def progress(done: int, total: int, text: str) -> None:
            del done, total, text
            marks.append(Moment.now())

        store.ensure(
            self._transform,
            experts=experts,
            snapshots=snapshots,
            device=self._device,
            progress=progress,
            compile=self._plan.built and self._plan.expert_compiled,
        )
        pairs = itertools.pairwise(marks)
        if self._device.type != "cpu":
            return [after.wall - before.wall for before, after in pairs]
        return [before.until(after) for before, after in pairs]

    def measure(self, budget: float) -> tuple[float, float]:
        """(seconds a step, seconds a snapshot) of a run."""
        count, total = _EXPERTS * _SNAPSHOTS, self._plan.expert_images
        image = self._step / self.batch
        self.batch = max(self.batch, min(total, int(budget / (3 * count * image))))
        every = max(3, min(100, int(budget / (count * image * self.batch))))
        marks = self._train(_EXPERTS, _SNAPSHOTS, every)
        starts = [marks[i] for i in range(0, len(marks), _SNAPSHOTS + 1)]
        stretches = [s for i, s in enumerate(marks) if i % (_SNAPSHOTS + 1)]
        snapshot, stretch = min(starts), min(stretches)
        step = max(stretch - snapshot, 0.02 * stretch) / every
        if self._plan.expert_compiled and not self._plan.built:
            with Convolutions(self._device) as inside:
                again = self._train(1, 1, 2)[1]
            step *= fused(inside.seconds / again, "expert")
        return step * total / self.batch, snapshot * max(1, self._plan.checked) / max(1, self._checked)


def fused(convolutions: float, which: str) -> float:
    """Time that compiling leaves, as a share of the eager time, given the convolutions' share of that."""
    inside = min(1.0, convolutions)
    return inside + FUSED[which] * (1 - inside)


class _Matching:
    """The method's loop with few student steps and an expert that costs nothing to train."""

    def __init__(
        self, method: TrajectoryMatching, real: Images, device: torch.device, plan: Plan, folder: Path
    ) -> None:
        self._method, self._device, self._plan = method, device, plan
        layout = method.layout
        numbers = real.num_classes * real.channels * math.prod(real.size) * method.canvas**2 * layout.copies
        ipc = max(1, min(method.ipc, _NUMBERS // numbers))
        self.total = ipc * real.num_classes * layout.copies
        self._ipc, self._data = ipc, _some(real, ipc * method.canvas**2 * layout.small)
        self._wanted = min(method.batch_syn or self.total // layout.copies, self.total)
        heavy = 2 * plan.student > _PILOT  # one image in two steps
        few = 1 if heavy else min(max(2, method.expert_epochs), method.student_steps)
        self._epochs = min(few, method.expert_epochs)
        self.lengths = sorted({few, few if heavy else min(2 * few, method.student_steps)})
        self._samples = method.canvas_samples
        self.batch = _few(self._wanted, few * plan.student * self._samples)
        self._run = Run(
            device=device,
            store=folder,
            engine=plan.road.engine,
            micro_batch=plan.road.micro_batch,
            reuse=plan.road.reuse,
            compile=plan.road.compiled,
        )

    def pilot(self) -> SyntheticImages:
        """Two iterations, whose time says how many images are affordable; the set that they make.

        They start as a run does, where that is short: choosing images loads libraries of its own.
        """
        short = self._epochs * self.total * self._plan.score < _PILOT
        stream = self._stream(self.lengths[0], iterations=2, as_it_starts=short)
        self._next(stream)
        took, last = timed(partial(self._next, stream), self._device)
        self._image = took / self._seen(self.lengths[0])
        small = last.candidates[0].set
        assert isinstance(small, SyntheticImages)
        return small

    def _seen(self, steps: int) -> int:
        return self._samples * images_seen(self.total, self.batch, steps)

    def _next(self, stream: Iterator[Step]) -> Step:
        """One iteration on the run's road, its kernels eager where compiling is long."""
        if self._plan.built or not self._plan.road.compiled:
            return next(stream)
        with torch.compiler.set_stance("force_eager"):
            return next(stream)

    def _stream(self, steps: int, iterations: int, as_it_starts: bool = False) -> Iterator[Step]:
        method = self._method
        expert = dataclasses.replace(
            method.expert,
            experts=1,
            snapshots=self._epochs,
            snapshot_every=1,
            snapshot_unit="step",
            batch_size=min(8, self.batch),
            whiten=False,
        )
        shortened = dataclasses.replace(
            method,
            expert=expert,
            ipc=self._ipc,
            student_steps=steps,
            expert_epochs=self._epochs,
            batch_syn=self.batch,
            iterations=iterations,
            candidate_every=0,
            min_start_epoch=0,
            max_start_epoch=1,
            current_start_epoch=None,
            window_iterations=0,
            truncate=None,
            init=method.init if as_it_starts and not isinstance(method.init, GivenSet) else "real",
            skip_above=math.inf,
        )
        return shortened.distill(self._data, self._run)

    def measure(self, budget: float) -> tuple[float, float]:
        """(seconds an iteration apart from images, seconds an image) of a run."""
        cost = 2 * sum(self.lengths) * self._image * self._samples  # of an image a step, first iterations included
        self.batch = max(self.batch, min(self._wanted, int(budget / cost)))
        streams = [self._stream(n, iterations=1000) for n in self.lengths]
        times = self._alternate(streams, budget)
        means = [quickest(of_length[1:]) for of_length in times]
        seen = [self._seen(n) for n in self.lengths]
        image = means[-1] / seen[-1]
        if len(means) == 2 and means[1] > means[0]:
            image = min(image, (means[1] - means[0]) / (seen[1] - seen[0]))
        fixed = max(0.0, means[-1] - image * seen[-1])
        if self._plan.road.compiled and not self._plan.built:
            image *= fused(self._convolutions(streams[-1]), "matching")
        return fixed * self._method.ipc / self._ipc, image

    def _convolutions(self, stream: Iterator[Step]) -> float:
        """Their share of an iteration in one thread, which is what each worker of the fast path has."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with Convolutions(self._device) as inside:
                took, _ = timed(partial(self._next, stream), self._device)
        finally:
            torch.set_num_threads(threads)
        return inside.seconds / took

    def _alternate(self, streams: Sequence[Iterator[Step]], budget: float) -> list[list[float]]:
        """Seconds of iterations of each stream in turn; the first of each has the set-up in it."""
        times: list[list[float]] = [[] for _ in streams]
        start = time.perf_counter()
        while len(times[0]) < 2 or (len(times[0]) < 40 and time.perf_counter() - start < 0.8 * budget):
            for mine, stream in zip(times, streams, strict=True):
                mine.append(timed(partial(self._next, stream), self._device)[0])
        return times


class _Selection:
    """The learner that scores candidates, on the set of the first iterations."""

    def __init__(
        self,
        small: SyntheticImages,
        method: TrajectoryMatching,
        real: Images,
        device: torch.device,
        plan: Plan,
        transform: Transform,
    ) -> None:
        # with a step size that cannot diverge, and the transform of real images
        self._recipe = dataclasses.replace(small.recipe, lr=1e-6)
        self._model = own_network(method)
        self._small, self._transform, self._device, self._plan = small, transform, device, plan
        self._total = min(plan.train_images, len(small))
        net = fresh(small, self._model or small.recipe.model, 0, device)
        self._forward = usual_forward(net, small.recipe.steps * self._total, small.size, device)
        self.batch = _few(self._total, plan.train)
        split = real.val if real.val is not None else real.test
        self._split: Split | None = split if split is not None and len(split) else None

    def _fit(self, steps: int) -> tuple[float, SyntheticImages]:
        recipe = dataclasses.replace(self._recipe, batch_size=self.batch)
        small = dataclasses.replace(self._small, recipe=recipe, transform=self._transform)
        learner = NetworkLearner(model=self._model, device=self._device, steps=steps, forward=self._forward)
        took, self._predictor = timed(partial(learner.fit, small, 0), self._device)
        return took / steps, small

    def pilot(self) -> None:
        """The first optimiser of a process takes a second; then how many images are affordable."""
        if self._plan.selects:
            self._fit(1)
            self._step, _ = self._fit(1)

    def measure(self, budget: float) -> tuple[float, float]:
        """(seconds a training step on the set, seconds a scored image) of a run; zeros where nothing is chosen."""
        if not self._plan.selects:
            return 0.0, 0.0
        image = self._step / self.batch
        self.batch = max(self.batch, min(self._total, int(budget / (3 * image))))
        steps = max(1, min(80, int(0.7 * budget / (image * self.batch))))
        step, _ = self._fit(steps)
        step *= self._plan.train_images / self.batch
        if self._split is None:
            return step, 0.0
        count = min(len(self._split), _SCORED, max(8, int(0.3 * budget / (image / 3))))
        part = self._split.subset(torch.arange(count))
        took, _ = timed(partial(self._predictor.score, part), self._device)
        return step, took / count


def _few(most: int, seconds: float) -> int:
    """Images of a first call, at `seconds` each."""
    return max(min(1, most), min(most, int(_PILOT / seconds)))


def _some(real: Images, ipc: int) -> Images:
    """The first `ipc` training images of each class: the loop reads no others."""
    rows = torch.cat([real.class_index(k)[:ipc] for k in range(real.num_classes)])
    return Images(train=real.train.subset(rows), classes=real.classes, mean=real.mean, std=real.std)


def unfitted(real: Images, whiten: bool) -> Transform:
    """The transform of a run; a whitening that costs as much as a fitted one, without the fit."""
    if not whiten:
        return make_transform(real, whiten=False)
    q = math.prod((real.channels, *real.size))
    eye = torch.eye(q)
    return ZCA(
        mean=torch.zeros(q), matrix=eye, inverse_matrix=eye, shape=(real.channels, *real.size), eps=0.1, fitted_on=""
    )
