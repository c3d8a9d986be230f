"""Trajectory matching: one loop; the papers differ in the fields of one frozen value.

The papers' fields are in `dd.methods.papers`.
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
from dd.inner import InnerStep, Matching, Problem, Road, Student, Target, compiler_present, solve, worth_compiling
from dd.methods.base import PRECISIONS, Candidate, Run, Step
from dd.methods.checks import check_fields
from dd.methods.outer import State, adam, sgd
from dd.methods.start import committee_logits, correct, pick_real, representative
from dd.methods.terms import balance, matching_points, perturb, softmax_pull, window_end
from dd.models import as_spec, uses_batch_stats
from dd.seeding import child
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.whiten import Transform, make_transform

_GIVE_UP_AFTER = 10
_LATER_FIELDS = (
    "init_space balance intermediate perturb perturb_norm labels lr_label momentum_label current_start_epoch "
    "window_iterations gradient truncate"
).split()


@final
@dataclass(frozen=True, kw_only=True)
class TrajectoryMatching:
    """Synthetic images on which a student, started at an expert's snapshot t, ends near its snapshot t + M.

    `min_{x, β} E ‖θ_N(x, β) − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖²`, N student steps with learnable step size β.

    Attributes:
        name: key of the recipe of fields (`mtt`, `ftd`, `ast`, `tesla`, `datm`).
        ipc: images per class.
        expert: the buffer; also gives model, augmentation and whitening of student and evaluation.
        iterations: outer iterations.
        student_steps: N.
        expert_epochs: M, in snapshots of the buffer (epochs where it keeps one an epoch).
        min_start_epoch, max_start_epoch: t is uniform in [min, max), in snapshots.
        batch_syn: synthetic images a student step; `None` takes all.
        momentum: μ of the student steps; the papers' MTT and FTD have 0.
        init: `real` images of the class, `noise` N(0, 1) in model space, `representative` (AST: nearest to the centres
            of a k-means per class), or `correct` (DATM: real ones that expert 0 classifies correctly). An expert means
            its last snapshot that the matching reads.
        init_space: of the k-means: an expert's `logit`s, as in the authors' code, or its last `feature`s.
        balance: AST's factor φ(t) of the inner loss, see `dd.methods.terms.balance`.
        intermediate: AST's extra matching points: `none`, `equal` (weight 1) or `adaptive` (m / M).
        perturb, perturb_norm: AST's α of the start's perturbation, see `dd.methods.terms.perturb`. `tensor` is the
            authors' code, and nearly nothing; `filter` is what the name promises.
        labels: `hard`; `assigned` each iteration by the target snapshot (TESLA); `learned` logits (DATM), which start
            from the experts that are right (`init="correct"`) or from expert 0.
        lr_label, momentum_label: of SGD on the logits.
        current_start_epoch, window_iterations: DATM's window: the end of the starts grows from the first to
            `max_start_epoch` in so many iterations; `None` for a fixed one.
        gradient: `exact`, or `detached` (TESLA; its released code takes half of it for the images, so its published
            `lr_img` counts half here).
        truncate: last student steps that the gradient goes through (AST's ignore_graph: 8); `None` for all.
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
    init: Literal["real", "noise", "representative", "correct"] = "real"
    init_space: Literal["logit", "feature"] = "logit"
    balance: bool = False
    intermediate: Literal["none", "equal", "adaptive"] = "none"
    perturb: float = 0.0
    perturb_norm: Literal["tensor", "filter"] = "tensor"
    labels: Literal["hard", "assigned", "learned"] = "hard"
    lr_label: float = 1.0
    momentum_label: float = 0.9
    current_start_epoch: int | None = None
    window_iterations: int = 0
    gradient: Literal["exact", "detached"] = "exact"
    truncate: int | None = None
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
        check_fields(self)

    @property
    def snapshots_read(self) -> int:
        """The last snapshot that the matching reads: max_start_epoch − 1 + M."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in _LATER_FIELDS or getattr(self, f.name) != f.default  # older sets keep their bytes
        }
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
        self.road = self._road()

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
        logits = None
        if method.init == "noise":
            shape = (len(self.labels), real.channels, *real.size)
            images = torch.randn(shape, generator=child(self.run.seed, "init"))
        else:
            rows = self._rows()
            images = self.transform.forward(real.train.pixels(rows))
            if method.labels == "learned":
                experts = range(method.expert.experts if method.init == "correct" else 1)
                thetas = [self._last(expert) for expert in experts]
                logits = committee_logits(self.student, thetas, real, self.transform, rows, self.labels)
        images = images.to(self.run.device, self.dtype)
        lr = math.log(method.lr_init) if method.lr_mode == "log" else method.lr_init
        state = {
            "images": images,
            "lr": torch.tensor(lr, dtype=self.dtype, device=self.run.device),
            "iteration": torch.tensor(0),
            "failures": torch.tensor(0),
        }
        if method.ema:
            state["ema"] = images
        return state if logits is None else {**state, "logits": logits}

    def _last(self, expert: int) -> Tensor:
        """θ of the last snapshot that the matching reads."""
        return self.store.read(expert, [self.method.snapshots_read])[0].to(self.run.device, self.dtype)

    def _rows(self) -> Tensor:
        """The training images to start from `[K · ipc]`."""
        method, seed = self.method, self.run.seed
        if method.init == "real":
            return pick_real(self.real, method.ipc, seed)
        args = (self.student, self._last(0), self.real, self.transform, method.ipc)
        if method.init == "correct":
            return correct(*args, seed)
        return representative(*args, method.init_space, seed)

    def iterate(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        """One outer iteration: the new state and what is logged."""
        iteration = int(state["iteration"])
        problem, where = self._problem(state, iteration)
        matching = self._engine(problem)
        loss, beta = float(matching.loss), float(self.method.beta(state))
        new: State = {**state, "iteration": torch.tensor(iteration + 1)}
        rms = float(matching.images.square().mean().sqrt())
        log: dict[str, float | int | str] = {
            "iteration": iteration + 1,
            "lr": beta,
            "expert": where["expert"],
            "start": where["start"],
        }
        if problem.soft and not problem.wants_labels:
            new["labels"] = problem.labels
        if matching.labels is not None:
            labels = softmax_pull(problem.labels, matching.labels)
            matching = dataclasses.replace(matching, labels=labels)
        told = [t for t in (matching.loss, matching.images, matching.lr, matching.labels) if t is not None]
        if not (math.isfinite(rms) and all(bool(torch.isfinite(t).all()) for t in told)):
            return self._not_finite(new, {**log, "skipped": "not finite; step size halved"}, where)
        log.update(loss=loss, grad_rms=rms, grad_lr=float(matching.lr))
        new["failures"] = torch.tensor(0)
        if loss > self.method.skip_above:
            return new, {**log, "skipped": f"loss above {self.method.skip_above:g}"}
        if where["phi"] != 1:  # ∂L/∂β of a step size φ β
            matching = dataclasses.replace(matching, lr=matching.lr * where["phi"])
        updated = {**new, **self._update(state, matching, beta)}
        if not all(bool(torch.isfinite(updated[k]).all()) for k in ("images", "logits") if k in updated):
            return self._not_finite(new, {**log, "skipped": "update not finite; step size halved"}, where)
        if not 0 < float(self.method.beta(updated)) < math.inf:
            return self._not_finite(new, {**log, "skipped": "step size"}, where)
        return updated, log

    def _not_finite(
        self, state: State, log: dict[str, float | int | str], where: Mapping[str, Any]
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

    def _problem(self, state: State, iteration: int) -> tuple[Problem, dict[str, Any]]:
        method, seed = self.method, self.run.seed
        experts = method.expert.experts
        order = torch.randperm(experts, generator=child(seed, "experts", iteration // experts))
        expert = int(order[iteration % experts])
        end = window_end(method.current_start_epoch, method.max_start_epoch, iteration, method.window_iterations)
        start = int(torch.randint(method.min_start_epoch, end, (), generator=child(seed, "start", iteration)))
        points = matching_points(method.student_steps, method.expert_epochs, method.intermediate)
        rows = [start, *(start + after for _, after, _ in points)]
        theta, *ends = (t.to(self.run.device, self.dtype) for t in self.store.read(expert, rows))
        for row, target in zip(rows[1:], ends, strict=True):
            if torch.equal(theta, target):
                raise DamagedError(
                    f"expert {expert} of {self.store.folder} has equal snapshots {start} and {row}. "
                    "Remove its file; `dd.buffer` makes it anew."
                )
        if method.perturb > 0:
            views = self.student.views(theta)
            theta = perturb(views, method.perturb, method.perturb_norm, child(seed, "perturb", iteration))
        phi = balance(start, method.max_start_epoch) if method.balance else 1.0
        problem = Problem(
            student=self.student,
            theta=theta,
            targets=[Target(step, t, w) for (step, _, w), t in zip(points, ends, strict=True)],
            images=state["images"],
            labels=self._labels(state, ends[-1]),
            lr=method.beta(state) * phi if method.balance else method.beta(state),
            steps=self._steps(child(seed, "inner", iteration)),
            momentum=method.momentum,
            gradient=method.gradient,
            truncate=method.truncate,
            labels_constant=method.labels == "assigned",
        )
        return problem, {"expert": expert, "start": start, "phi": phi}

    @torch.no_grad()
    def _labels(self, state: State, target: Tensor) -> Tensor:
        """int64 `[n]`, or probabilities `[n, K]`: the target snapshot's, or the softmax of the learned logits."""
        if self.method.labels == "learned":
            return state["logits"].softmax(1)
        if self.method.labels == "assigned":
            parts = [self.student.logits(target, x) for x in state["images"].split(500)]
            return torch.cat(parts).softmax(1)
        return self.labels

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

    def _road(self) -> Road:
        method, run, module = self.method, self.run, self.student.module
        batch = min(method.batch_syn or len(self.labels), len(self.labels))
        device, compiled = run.device.type, run.compile
        if compiled and not compiler_present(device):
            raise refuse(
                "compile", "False or None where no compiler is present", True, "Install g++, or Triton on a GPU."
            )
        if compiled is None:
            seen = method.iterations * method.student_steps * batch
            compiled = run.engine == "adjoint" and worth_compiling(module, self.real.size, seen, device)
        micro = run.micro_batch
        if micro is None and device == "cpu" and not uses_batch_stats(module):
            micro = 50
        hybrid = run.precision == "hybrid"
        return Road(run.engine, micro, run.reuse, (compiled or hybrid) and run.precision != "bf16", hybrid)

    def _engine(self, problem: Problem) -> Matching:
        return solve(problem, self.road)

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
        if matching.labels is not None:
            step_label, keep = method.lr_label, method.momentum_label
            new.update(sgd(state["logits"], matching.labels, state, "logits", step_label, keep))
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
        labels = self.labels
        if method.labels == "learned":
            labels = state["logits"].float().softmax(1)
        elif method.labels == "assigned" and "labels" in state:
            labels = state["labels"].float()
        return SyntheticImages(
            images=images.detach().float().cpu(),
            labels=labels.cpu(),
            classes=self.real.classes,
            recipe=recipe,
            transform=self.transform,
            method=method.describe(),
        )
