"""Trajectory matching: one loop; the papers differ in the fields of one frozen value.

MTT: Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022.
FTD: Du et al., Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import Tensor

from dd.data import Images, check_ipc
from dd.errors import DamagedError, DivergedError, refuse
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint, unroll
from dd.methods.base import PRECISIONS, Candidate, Run, Step
from dd.methods.outer import State, adam, sgd
from dd.models import as_spec, uses_batch_stats
from dd.seeding import child
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.whiten import Transform, make_transform

_GIVE_UP_AFTER = 10


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryMatching:
    """Synthetic images on which a student, started at an expert's snapshot t, ends near its snapshot t + M.

    `min_{x, β} E ‖θ_N(x, β) − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖²`, N student steps with learnable step size β.

    Attributes:
        name: key of the recipe of fields (`mtt`, `ftd`).
        ipc: images per class.
        expert: the buffer; also gives model, augmentation and whitening of student and evaluation.
        iterations: outer iterations.
        student_steps: N.
        expert_epochs: M, in snapshots of the buffer (epochs where it keeps one an epoch).
        min_start_epoch, max_start_epoch: t is uniform in [min, max), in snapshots.
        batch_syn: synthetic images a student step; `None` takes all.
        momentum: μ of the student steps; the papers' MTT and FTD have 0.
        init: `real` images of the class, or `noise` N(0, 1) in model space.
        pixel_optimizer: `sgd` with `momentum_img` as published, or `adam`.
        lr_img: pixel step size (hundreds to ten thousands for `sgd`, because L is normalised).
        lr_lr, momentum_lr, lr_init: step size, momentum and start β₀ of the learnable β.
        lr_mode: `log` keeps β positive: it learns log β with step size lr_lr/β₀², which to first order moves β as the
            published rule does; `raw` is the published rule.
        ema: γ of the average x̄ ← γ x̄ + (1 − γ) x (FTD); 0 keeps none.
        skip_above: an iteration with L above it changes nothing.
        candidate_every: iterations between sets that are offered for selection; 0 offers the last one only.
        train: how fresh networks are trained on the set; its model, augmentation and lr are taken from `expert` and β.

    Raises:
        InputError: a field out of range, or t + M beyond the buffer's snapshots.
    """

    name: str = "mtt"
    ipc: int = 10
    expert: ExpertRecipe = field(default_factory=ExpertRecipe)
    iterations: int = 5000
    student_steps: int = 30
    expert_epochs: int = 2
    min_start_epoch: int = 0
    max_start_epoch: int = 20
    batch_syn: int | None = None
    momentum: float = 0.0
    init: Literal["real", "noise"] = "real"
    pixel_optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: float = 100.0
    momentum_img: float = 0.5
    lr_lr: float = 1e-5
    momentum_lr: float = 0.5
    lr_init: float = 0.01
    lr_mode: Literal["log", "raw"] = "log"
    ema: float = 0.0
    skip_above: float = math.inf
    candidate_every: int = 0
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        for name in ("ipc", "iterations", "student_steps", "expert_epochs"):
            if getattr(self, name) < 1:
                raise refuse(name, "at least 1", getattr(self, name))
        for name in ("lr_img", "lr_init"):
            if not 0 < getattr(self, name) < math.inf:
                raise refuse(name, "positive and finite", getattr(self, name))
        if not 0 <= self.lr_lr < math.inf:
            raise refuse("lr_lr", "at least 0 and finite", self.lr_lr)
        for name in ("momentum", "momentum_img", "momentum_lr"):
            if not 0 <= getattr(self, name) < 1:
                raise refuse(name, "in [0, 1)", getattr(self, name))
        if not 0 <= self.ema <= 1:
            raise refuse("ema", "in [0, 1]", self.ema)
        if self.batch_syn is not None and self.batch_syn < 1:
            raise refuse("batch_syn", "None or at least 1", self.batch_syn)
        if not 0 <= self.min_start_epoch < self.max_start_epoch:
            raise refuse("max_start_epoch", f"above min_start_epoch = {self.min_start_epoch} ≥ 0", self.max_start_epoch)
        for name, known in (
            ("init", ("real", "noise")),
            ("pixel_optimizer", ("sgd", "adam")),
            ("lr_mode", ("log", "raw")),
        ):
            if getattr(self, name) not in known:
                raise refuse(name, " or ".join(known), repr(getattr(self, name)))
        if self.snapshots_read > self.expert.snapshots:
            raise refuse(
                "max_start_epoch",
                f"at most {self.expert.snapshots - self.expert_epochs + 1}, so that the last start and "
                f"expert_epochs = {self.expert_epochs} stay inside the buffer's {self.expert.snapshots} snapshots",
                self.max_start_epoch,
                "Lower it, or raise the recipe's `snapshots`.",
            )

    @property
    def snapshots_read(self) -> int:
        """The last snapshot that the matching reads: max_start_epoch − 1 + M."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields.update(expert=self.expert.describe(), train=self.train.to_json())
        return {k: ("inf" if v == math.inf else v) for k, v in fields.items()}

    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Buffer what experts are missing, then yield a step after each outer iteration.

        Raises:
            InputError: the data cannot give `ipc` images a class.
            DivergedError: ten iterations in a row without a finite loss and gradient.
        """
        check_ipc(real, self.ipc)
        transform = make_transform(real, self.expert.whiten)
        store = ExpertStore(run.store, self.expert, real)
        store.ensure(transform, snapshots=self.snapshots_read, device=run.device, progress=run.progress)
        loop = _Loop(self, real, run, transform, store)
        current = dict(state) if state else loop.start()
        while int(current["iteration"]) < self.iterations:
            current, metrics = loop.iterate(current)
            done = int(current["iteration"])
            yield Step(done, self.iterations, metrics, current, loop.candidates(current))

    def beta(self, state: Mapping[str, Tensor]) -> Tensor:
        """β from the state: exp of the learned logarithm, or the raw value."""
        return state["lr"].exp() if self.lr_mode == "log" else state["lr"]


class _Loop:
    """One run of the matching loop: what does not change between its iterations."""

    def __init__(
        self, method: TrajectoryMatching, real: Images, run: Run, transform: Transform, store: ExpertStore
    ) -> None:
        self.method, self.real, self.run = method, real, run
        self.transform, self.store = transform, store
        self.dtype = torch.float32 if run.precision == "bf16" else PRECISIONS[run.precision]
        self.student = self._student()
        self.labels = torch.arange(real.num_classes).repeat_interleave(method.ipc).to(run.device)
        self.dsa = method.expert.dsa()

    def _student(self) -> Student:
        student = make_student(self.method.expert, self.real, 0, self.dtype)
        module, run = student.module.to(self.run.device), self.run
        if run.micro_batch is not None and uses_batch_stats(module):
            raise refuse(
                "micro_batch",
                "None for a network with batch statistics, whose batch mean is not a sum over images",
                run.micro_batch,
                "Use norm=instance, or leave `micro_batch` out.",
            )
        return Student(module, autocast=torch.bfloat16 if run.precision == "bf16" else None)

    def start(self) -> State:
        """Images, step size and counters before the first iteration."""
        method, real = self.method, self.real
        if method.init == "noise":
            shape = (len(self.labels), real.channels, *real.size)
            images = torch.randn(shape, generator=child(self.run.seed, "init"))
        else:
            images = self.transform.forward(real.train.pixels(pick_real(real, method.ipc, self.run.seed)))
        images = images.to(self.run.device, self.dtype)
        lr = math.log(method.lr_init) if method.lr_mode == "log" else method.lr_init
        state = {
            "images": images,
            "lr": torch.tensor(lr, dtype=self.dtype, device=self.run.device),
            "iteration": torch.tensor(0),
            "failures": torch.tensor(0),
        }
        return {**state, "ema": images} if method.ema else state

    def iterate(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        """One outer iteration: the new state and what is logged."""
        iteration = int(state["iteration"])
        problem, where = self._problem(state, iteration)
        matching = self._engine(problem)
        loss, beta = float(matching.loss), float(problem.lr)
        new: State = {**state, "iteration": torch.tensor(iteration + 1)}
        rms = float(matching.images.square().mean().sqrt())
        log: dict[str, float | int | str] = {"iteration": iteration + 1, "lr": beta, **where}
        if not (math.isfinite(loss) and math.isfinite(rms) and math.isfinite(float(matching.lr))):
            return self._not_finite(new, {**log, "skipped": "not finite"}, where)
        log.update(loss=loss, grad_rms=rms, grad_lr=float(matching.lr))
        new["failures"] = torch.tensor(0)
        if loss > self.method.skip_above:
            return new, {**log, "skipped": f"loss above {self.method.skip_above:g}"}
        updated = {**new, **self._update(state, matching, beta)}
        if not 0 < float(self.method.beta(updated)) < math.inf:
            return self._not_finite(new, {**log, "skipped": "step size"}, where)
        return updated, log

    def _not_finite(
        self, state: State, log: dict[str, float | int | str], where: Mapping[str, int]
    ) -> tuple[State, dict[str, float | int | str]]:
        """Keep the last good images, halve β, and give up after ten in a row."""
        failures = int(state["failures"]) + 1
        if failures >= _GIVE_UP_AFTER:
            raise DivergedError(
                f"{failures} outer iterations in a row were not finite (last: expert {where['expert']}, start "
                f"{where['start']}). Lower `lr_img`, `lr_lr` or `lr_init`; the last good state is kept."
            )
        half = state["lr"] - math.log(2) if self.method.lr_mode == "log" else state["lr"] / 2
        return {**state, "failures": torch.tensor(failures), "lr": half}, log

    def _problem(self, state: State, iteration: int) -> tuple[Problem, dict[str, int]]:
        method, seed = self.method, self.run.seed
        experts = method.expert.experts
        order = torch.randperm(experts, generator=child(seed, "experts", iteration // experts))
        expert = int(order[iteration % experts])
        window = (method.min_start_epoch, method.max_start_epoch)
        start = int(torch.randint(*window, (), generator=child(seed, "start", iteration)))
        pair = self.store.read(expert, [start, start + method.expert_epochs])
        theta, target = (t.to(self.run.device, self.dtype) for t in pair)
        if torch.equal(theta, target):
            raise DamagedError(
                f"expert {expert} of {self.store.folder} has equal snapshots {start} and "
                f"{start + method.expert_epochs}. Remove its file; `dd.buffer` makes it anew."
            )
        problem = Problem(
            student=self.student,
            theta=theta,
            targets=[Target(method.student_steps, target)],
            images=state["images"],
            labels=self.labels,
            lr=method.beta(state),
            steps=self._steps(child(seed, "inner", iteration)),
            momentum=method.momentum,
        )
        return problem, {"expert": expert, "start": start}

    def _steps(self, generator: torch.Generator) -> list[InnerStep]:
        """Index chunks from permutations, taken from the end (the short one first), and one draw a step."""
        count = len(self.labels)
        size = min(self.method.batch_syn or count, count)
        pool: list[Tensor] = []
        steps = []
        for _ in range(self.method.student_steps):
            if not pool:
                pool = list(torch.randperm(count, generator=generator).split(size))
            index = pool.pop()
            draw = self.dsa.draw(len(index), self.real.size, generator)
            steps.append(InnerStep(index.to(self.run.device), draw))
        return steps

    def _engine(self, problem: Problem) -> Matching:
        if self.run.engine == "unroll":
            return unroll(problem)
        micro = self.run.micro_batch
        if micro is None and self.run.device.type == "cpu" and not uses_batch_stats(self.student.module):
            micro = 50
        return adjoint(problem, micro_batch=micro, reuse=self.run.reuse)

    def _update(self, state: State, matching: Matching, beta: float) -> State:
        method = self.method
        if method.pixel_optimizer == "adam":
            new = adam(state["images"], matching.images, state, "images", method.lr_img)
        else:
            new = sgd(state["images"], matching.images, state, "images", method.lr_img, method.momentum_img)
        gradient, step = matching.lr, method.lr_lr
        if method.lr_mode == "log":
            gradient, step = gradient * beta, method.lr_lr / method.lr_init**2
        new.update(sgd(state["lr"], gradient, state, "lr", step, method.momentum_lr))
        if method.ema:
            new["ema"] = method.ema * state["ema"] + (1 - method.ema) * new["images"]
        return new

    def candidates(self, state: State) -> tuple[Candidate, ...]:
        """The sets offered after this iteration: the images, and their average where one is kept."""
        done, every = int(state["iteration"]), self.method.candidate_every
        if done != self.method.iterations and (every == 0 or done % every):
            return ()
        names = ("last", "ema") if self.method.ema else ("last",)
        return tuple(Candidate(n, done, self._set(state["ema" if n == "ema" else "images"], state)) for n in names)

    def _set(self, images: Tensor, state: State) -> SyntheticImages:
        method = self.method
        recipe = dataclasses.replace(
            method.train,
            model=str(as_spec(method.expert.model)),
            lr=float(method.beta(state)),
            augment=method.expert.augment,
            augment_mode=method.expert.augment_mode,
        )
        return SyntheticImages(
            images=images.detach().float().cpu(),
            labels=self.labels.cpu(),
            classes=self.real.classes,
            recipe=recipe,
            transform=self.transform,
            method=method.describe(),
        )


def pick_real(real: Images, ipc: int, seed: int) -> Tensor:
    """Row numbers of `ipc` distinct random training images of each class, in class order `[K · ipc]`."""
    rows = []
    for k in range(real.num_classes):
        of_class = real.class_index(k)
        rows.append(of_class[torch.randperm(len(of_class), generator=child(seed, "pick", k))[:ipc]])
    return torch.cat(rows)


def MTT(**fields: Any) -> TrajectoryMatching:
    """Matching training trajectories: plain SGD experts, no averaging."""
    return TrajectoryMatching(**{"name": "mtt", **fields})


def FTD(**fields: Any) -> TrajectoryMatching:
    """Flat trajectory distillation: experts trained by GSAM, and an average of the images over the iterations.

    The EMA set is evaluated with a fresh network; the authors' code continues the network trained on x.
    """
    defaults = {"name": "ftd", "expert": ExpertRecipe(step="gsam"), "ema": 0.9995}
    return TrajectoryMatching(**{**defaults, **fields})
