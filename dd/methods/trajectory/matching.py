"""Trajectory matching: one loop; the papers differ in the fields of one frozen value.

The papers' fields are in `dd.methods.trajectory.papers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, final

import torch
from torch import Tensor

from dd.base.bounds import check_memory
from dd.base.process import under_own_settings
from dd.base.shapes import check_choices, check_types, check_whole
from dd.data import Images, check_ipc
from dd.errors import InputError, refuse
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.methods.base import Run, Step
from dd.methods.start import check_small
from dd.methods.trajectory.given import GivenSet, Init, check_start, completed, given_init
from dd.methods.trajectory.loop import Loop
from dd.synthetic import Layout, Storage, TrainRecipe
from dd.synthetic.layout import STORAGE, told
from dd.transforms.whiten import make_transform

_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "init_snapshot": ("read", "last"),
    "init_space": ("logit", "feature"),
    "pixel_optimizer": ("sgd", "adam"),
    "lr_mode": ("positive", "raw"),
    "intermediate": ("none", "equal", "adaptive"),
    "perturb_norm": ("tensor", "filter"),
    "labels": ("hard", "assigned", "learned"),
    "gradient": ("exact", "detached"),
}

_NEVER: Final = "Leave it out, or give inf, where none is to be."
_FEW: Final = 1000
"""Student steps that no network makes too large."""


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
        batch_syn: pictures a student step; `None` takes as many as there are stored images, which without `factor` and
            `mirror` are all.
        momentum: μ of the student steps; the papers' MTT and FTD have 0.
        init: `real` images of the class, `noise` N(0, 1) in model space, `representative` (AST: nearest to the centres
            of a k-means per class), `correct` (DATM: real ones that expert 0 classifies correctly), or a set, its file
            or its run folder, of the same classes, shape, `ipc`, `canvas` and whitening. Of a set are taken its images
            in model space, bit for bit where it is normalised alike; its soft labels, where labels are `learned`
            (classes become the logits of the first expert there, and `assigned` ones are not read). By name, and in
            `dd.MTT(init=…)` and the like, an `lr_init` that is not given is its step size, where trajectory matching
            has learned it or the set was imported. Momenta, averages and the window of starts begin anew.
        init_snapshot: what an expert means in `init` and in the start of learned labels: its `last` snapshot, as in the
            authors' code, which asks for whole trajectories, or the last one that the matching has `read`.
        init_space: of the k-means: an expert's `logit`s, as in the authors' code, or its last `feature`s.
        balance: AST's factor φ(t) of the inner loss, see `dd.methods.trajectory.terms.balance`.
        intermediate: AST's extra matching points: `none`, `equal` (weight 1) or `adaptive` (m / M).
        perturb, perturb_norm: AST's α of the start's perturbation, see `dd.methods.trajectory.terms.perturb`. `tensor`
            is the authors' code, and nearly nothing; `filter` is what the name promises.
        labels: `hard`; `assigned` each iteration by the target snapshot (TESLA); `learned` logits (DATM), which start
            from the experts that are right (`init="correct"`) or from expert 0.
        lr_label, momentum_label: of SGD on the logits.
        canvas: MTT's texture mode: a synthetic image is a canvas of canvas × canvas pictures, `[C, canvas·H,
            canvas·W]`, and every student step, of the matching as of the evaluation, sees crops `[C, H, W]` at fresh
            random places, with wrap-around. 1 is off. `init="noise"` is the authors' way; with `real` a canvas is
            tiled with different images of its class, whose borders take long to go (their code means to do so, but
            stops there with an error of shapes). Not with whitening.
        canvas_samples: crops of a canvas in a student step, which then sees batch_syn · canvas_samples pictures.
        factor, mirror, storage: what a stored image is, see `dd.synthetic.Layout`: factor × factor pictures (IDC),
            which start from as many real ones of its class made smaller; mirrored ones too (FYI); and its bits, a
            byte a number by default, of published rows float32. `ipc` counts stored images. Matching is in float32;
            what is offered is rounded. A student step costs what it did. A label is of a stored image: of an `assigned`
            one the mean over its pictures. Of a set to start from `factor` and `mirror` are those of the method.
            `lr_img` of the presets was found without them.
        current_start_epoch, window_iterations: DATM's window: the end of the starts grows from the first to
            `max_start_epoch` in so many iterations; `None` for a fixed one.
        gradient: `exact`, or `detached` (TESLA; its released code takes half of it for the images, so its published
            `lr_img` counts half here).
        truncate: last student steps whose gradients are differentiated (AST's ignore_graph: 8); those of earlier steps
            are constants, which β still multiplies. `None` for all.
        pixel_optimizer, momentum_img: `sgd` with `momentum_img` as published, or `adam`.
        lr_img: pixel step size (hundreds to ten thousands for `sgd`, because L is normalised).
        lr_lr, momentum_lr, lr_init: step size, momentum and start β₀ of the learnable β.
        lr_mode: `raw` is the published rule, SGD on β: `v ← m v + ∂L/∂β`, `β ← β − lr_lr v`; with many rows it ends
            below zero. `positive` is the same step kept positive, `β ← max(β − lr_lr v, β / 2)`, and equal to it until
            it halves β for the first time.
        ema: γ of the average x̄ ← γ x̄ + (1 − γ) x (FTD); 0 keeps none.
        skip_above: an iteration with L above it changes nothing; positive.
        candidate_every: iterations between sets that are offered for selection; 0 offers the last one only.
        train: how fresh networks are trained on the set; its model, augmentation and lr are taken from `expert` and β.

    Raises:
        InputError: a field out of range or of another type, options that exclude each other, or t + M beyond the
            buffer's snapshots.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
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
    init: Init = "real"
    init_snapshot: Literal["read", "last"] = "read"
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
    canvas: int = 1
    canvas_samples: int = 1
    factor: int = 1
    mirror: bool = False
    storage: Storage = STORAGE
    gradient: Literal["exact", "detached"] = "exact"
    truncate: int | None = None
    pixel_optimizer: Literal["sgd", "adam"] = "sgd"
    lr_img: float = 100.0
    momentum_img: float = 0.5
    lr_lr: float = 1e-5
    momentum_lr: float = 0.5
    lr_init: float = 0.01
    lr_mode: Literal["positive", "raw"] = "positive"
    ema: float = 0.0
    skip_above: float = math.inf
    candidate_every: int = 0
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", given_init(self.init))
        _check_fields(self)

    @staticmethod
    def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields that a user gives, with those that follow from them."""
        return completed(fields)

    @property
    def layout(self) -> Layout:
        """What a stored image is."""
        return Layout(factor=self.factor, mirror=self.mirror, storage=self.storage)

    @property
    def snapshots_read(self) -> int:
        """The last snapshot that is read: max_start_epoch − 1 + M of the matching, or that of the start."""
        start = self.init
        labelled = isinstance(start, GivenSet) and start.small.labels.ndim == 2
        asks = start in ("representative", "correct") or (self.labels == "learned" and not labelled)
        return self.expert.snapshots if asks and self.init_snapshot == "last" else self.snapshots_matched

    @property
    def snapshots_matched(self) -> int:
        """The last snapshot that the matching reads: max_start_epoch − 1 + M."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def check_fits(self, real: Images, device: torch.device) -> None:
        """Refuse a set that the run cannot start from, and more student steps than a CPU has room for the weights of.

        Raises:
            InputError: says what of the set does not fit, or has both figures.
        """
        self._check_data(real)
        if device.type == "cpu" and (steps := self.student_steps) > _FEW:
            numbers = [steps, make_student(self.expert, real, seed=0).size]
            check_memory(f"the weights after each of {steps:,} student steps", numbers, "Lower `student_steps`.")

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields.update(expert=self.expert.describe(), train=self.train.to_json())
        if isinstance(self.init, GivenSet):
            fields.update(init=self.init.describe())
        return told({k: ("inf" if v == math.inf else v) for k, v in fields.items()}, ("factor", "mirror"))

    def _check_data(self, real: Images) -> None:
        """Refuse data of too few images or another size than the layout's, and a set that is no start for it."""
        check_ipc(real, self.ipc)
        self.layout.check_size(real.size)
        check_start(self, real)
        if self.factor > 1 and isinstance(self.init, str) and self.init != "noise":
            check_small(real, self.ipc, self.layout)

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Buffer what experts are missing, then yield a step after each outer iteration; of the last state, that one.

        Raises:
            InputError: the data cannot give `ipc` images a class.
            DivergedError: ten iterations in a row without a finite loss and gradient; fifty, or all, in which the
                student did not move; all changed nothing; or nobody can train on the set (`watch.check_end`).
        """
        self._check_data(real)
        transform = make_transform(real, self.expert.whiten)
        store = ExpertStore(run.store, self.expert, real)
        store.ensure(transform, snapshots=self.snapshots_read, device=run.device, progress=run.progress)
        loop = Loop(self, real, run, transform, store)
        current = dict(state) if state else loop.start()
        if (done := int(current["iteration"])) >= self.iterations:
            metrics: dict[str, Any] = {"iteration": done, "lr": float(current["lr"])}
            yield Step(done, self.iterations, metrics, current, loop.candidates(current))
        while int(current["iteration"]) < self.iterations:
            current, metrics = loop.iterate(current)
            done = int(current["iteration"])
            yield Step(done, self.iterations, metrics, current, loop.candidates(current))


def _check_fields(m: TrajectoryMatching) -> None:
    """Refuse what no `TrajectoryMatching` can have; every refusal says the way out."""
    check_types(m)
    m.train.check_classes()
    for name in ("ipc", "iterations", "student_steps", "expert_epochs"):
        if getattr(m, name) < 1:
            raise refuse(name, "at least 1", getattr(m, name))
    if not m.skip_above > 0:
        raise refuse("skip_above", "positive: the loss is, and each iteration would be skipped", m.skip_above, _NEVER)
    check_whole(m.candidate_every, "candidate_every", low=0)
    for name in ("lr_img", "lr_init", "lr_label"):
        if not 0 < getattr(m, name) < math.inf:
            raise refuse(name, "positive and finite", getattr(m, name))
    for name in ("lr_lr", "perturb"):
        if not 0 <= getattr(m, name) < math.inf:
            raise refuse(name, "at least 0 and finite", getattr(m, name))
    for name in ("momentum", "momentum_img", "momentum_lr", "momentum_label"):
        if not 0 <= getattr(m, name) < 1:
            raise refuse(name, "in [0, 1)", getattr(m, name))
    if not 0 <= m.ema <= 1:
        raise refuse("ema", "in [0, 1]", m.ema)
    for name in ("batch_syn", "truncate"):
        if getattr(m, name) is not None and getattr(m, name) < 1:
            raise refuse(name, "None or at least 1", getattr(m, name))
    check_choices(m, _CHOICES)
    if m.labels == "hard":
        m.train.check_hard()
    _check_window(m)
    if m.intermediate != "none" and m.student_steps < m.expert_epochs:
        way_out = 'Raise `student_steps`, or use `intermediate="none"`.'
        raise refuse("student_steps", f"at least expert_epochs = {m.expert_epochs}", m.student_steps, way_out)
    if m.truncate is not None and m.truncate > m.student_steps:
        raise refuse("truncate", f"at most student_steps = {m.student_steps}", m.truncate, "Use None for all steps.")
    if m.labels == "learned" and m.init == "noise":
        way_out = 'Use init="correct" or "real", whose images the experts can label.'
        raise refuse("init", "real images where labels are learned", "'noise'", way_out)
    if m.layout.copies > 1 and check_whole(m.canvas, "canvas") > 1:
        way_out = "Use `canvas=1`, or leave `factor` and `mirror` out."
        got = f"{m.canvas} with {m.layout}"
        raise refuse("canvas", "1 with `factor` or `mirror`: its pictures are crops", got, way_out)
    _check_canvas(m)


def _check_canvas(m: TrajectoryMatching) -> None:
    if check_whole(m.canvas_samples, "canvas_samples") > 1 and check_whole(m.canvas, "canvas") == 1:
        raise refuse("canvas_samples", "1 without a canvas", m.canvas_samples, "Give `canvas=2`.")
    if check_whole(m.canvas, "canvas") == 1:
        return
    if m.expert.whiten:
        way_out = "Use an `expert` with whiten=False, or `canvas=1`."
        raise refuse("canvas", "1 with a whitened buffer, whose matrix is of one picture size", m.canvas, way_out)
    if m.labels != "hard":
        way_out = 'Use labels="hard", or `canvas=1`.'
        raise refuse("labels", "`hard` with a canvas, whose crops share one label", repr(m.labels), way_out)
    if m.init not in ("real", "noise") and not isinstance(m.init, GivenSet):
        way_out = 'Use init="noise" or "real", or `canvas=1`.'
        raise refuse("init", "`real` or `noise` with a canvas", repr(m.init), way_out)


def _check_window(m: TrajectoryMatching) -> None:
    if not 0 <= m.min_start_epoch < m.max_start_epoch:
        raise refuse("max_start_epoch", f"above min_start_epoch = {m.min_start_epoch} ≥ 0", m.max_start_epoch)
    current = m.current_start_epoch
    if current is not None and not m.min_start_epoch < current <= m.max_start_epoch:
        expected = f"None, or above min_start_epoch = {m.min_start_epoch} and at most {m.max_start_epoch}"
        raise refuse("current_start_epoch", expected, current)
    if m.window_iterations < 0:
        raise refuse("window_iterations", "at least 0", m.window_iterations)
    if m.snapshots_matched > m.expert.snapshots:
        raise _beyond(m)


def _beyond(m: TrajectoryMatching) -> InputError:
    """What is said of starts and epochs that leave the buffer: the field that can be lowered is named."""
    there, way_out = m.expert.snapshots, "Lower it, or raise the recipe's `snapshots`."
    inside = f"so that the last start and {{}} stay inside the buffer's {there} snapshots"
    if (most := there - m.expert_epochs + 1) > m.min_start_epoch:
        expected = f"at most {most}, {inside.format(f'expert_epochs = {m.expert_epochs}')}"
        return refuse("max_start_epoch", expected, m.max_start_epoch, way_out)
    if (most := there - m.max_start_epoch + 1) >= 1:
        expected = f"at most {most}, {inside.format('what follows it')} (max_start_epoch = {m.max_start_epoch})"
        return refuse("expert_epochs", expected, m.expert_epochs, way_out)
    if m.min_start_epoch >= there:
        return refuse("min_start_epoch", f"below the buffer's {there} snapshots", m.min_start_epoch, way_out)
    expected = f"at most {there}, {inside.format('expert_epochs = 1')}"
    return refuse("max_start_epoch", expected, m.max_start_epoch, f"{way_out} Give `expert_epochs=1` with it.")
