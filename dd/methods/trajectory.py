"""Trajectory matching: one loop; the papers differ in the fields of one frozen value.

The papers' fields are in `dd.methods.papers`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from dd.data import Images, check_ipc
from dd.experts import ExpertRecipe, ExpertStore
from dd.methods.base import Run, Step
from dd.methods.checks import check_fields
from dd.methods.loop import Loop
from dd.process import under_own_settings
from dd.synthetic import TrainRecipe
from dd.whiten import make_transform

_LATER_FIELDS = (
    "init_snapshot init_space balance intermediate perturb perturb_norm labels lr_label momentum_label "
    "current_start_epoch window_iterations gradient truncate canvas canvas_samples"
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
            of a k-means per class), or `correct` (DATM: real ones that expert 0 classifies correctly).
        init_snapshot: what an expert means in `init` and in the start of learned labels: its `last` snapshot, as in the
            authors' code, which asks for whole trajectories, or the last one that the matching has `read`.
        init_space: of the k-means: an expert's `logit`s, as in the authors' code, or its last `feature`s.
        balance: AST's factor φ(t) of the inner loss, see `dd.methods.terms.balance`.
        intermediate: AST's extra matching points: `none`, `equal` (weight 1) or `adaptive` (m / M).
        perturb, perturb_norm: AST's α of the start's perturbation, see `dd.methods.terms.perturb`. `tensor` is the
            authors' code, and nearly nothing; `filter` is what the name promises.
        labels: `hard`; `assigned` each iteration by the target snapshot (TESLA); `learned` logits (DATM), which start
            from the experts that are right (`init="correct"`) or from expert 0.
        lr_label, momentum_label: of SGD on the logits.
        canvas: MTT's texture mode: a synthetic image is a canvas of canvas × canvas pictures, `[C, canvas·H,
            canvas·W]`, and every student step, of the matching as of the evaluation, sees crops `[C, H, W]` at fresh
            random places, with wrap-around. 1 is off. `init="noise"` is the authors' way; with `real` a canvas is
            tiled with different images of its class, whose borders take long to go (their code means to do so, but
            stops there with an error of shapes). Not with whitening.
        canvas_samples: crops of a canvas in a student step, which then sees batch_syn · canvas_samples pictures.
        current_start_epoch, window_iterations: DATM's window: the end of the starts grows from the first to
            `max_start_epoch` in so many iterations; `None` for a fixed one.
        gradient: `exact`, or `detached` (TESLA; its released code takes half of it for the images, so its published
            `lr_img` counts half here).
        truncate: last student steps whose gradients are differentiated (AST's ignore_graph: 8); those of earlier steps
            are constants, which β still multiplies. `None` for all.
        pixel_optimizer: `sgd` with `momentum_img` as published, or `adam`.
        lr_img: pixel step size (hundreds to ten thousands for `sgd`, because L is normalised).
        lr_lr, momentum_lr, lr_init: step size, momentum and start β₀ of the learnable β.
        lr_mode: `raw` is the published rule, SGD on β: `v ← m v + ∂L/∂β`, `β ← β − lr_lr v`; with many rows it ends
            below zero. `positive` is the same step kept positive, `β ← max(β − lr_lr v, β / 2)`, and equal to it until
            it halves β for the first time.
        ema: γ of the average x̄ ← γ x̄ + (1 − γ) x (FTD); 0 keeps none.
        skip_above: an iteration with L above it changes nothing.
        candidate_every: iterations between sets that are offered for selection; 0 offers the last one only.
        train: how fresh networks are trained on the set; its model, augmentation and lr are taken from `expert` and β.

    Raises:
        InputError: a field out of range, or t + M beyond the buffer's snapshots.
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
    init: Literal["real", "noise", "representative", "correct"] = "real"
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
        check_fields(self)

    @property
    def snapshots_read(self) -> int:
        """The last snapshot that is read: max_start_epoch − 1 + M of the matching, or that of the start."""
        asks = self.init in ("representative", "correct") or self.labels == "learned"
        return self.expert.snapshots if asks and self.init_snapshot == "last" else self.snapshots_matched

    @property
    def snapshots_matched(self) -> int:
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

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Buffer what experts are missing, then yield a step after each outer iteration; of the last state, that one.

        Raises:
            InputError: the data cannot give `ipc` images a class.
            DivergedError: ten iterations in a row without a finite loss and gradient, or fifty in which the student
                did not move.
        """
        check_ipc(real, self.ipc)
        transform = make_transform(real, self.expert.whiten)
        store = ExpertStore(run.store, self.expert, real)
        store.ensure(transform, snapshots=self.snapshots_read, device=run.device, progress=run.progress)
        loop = Loop(self, real, run, transform, store)
        current = dict(state) if state else loop.start()
        if (done := int(current["iteration"])) >= self.iterations:
            told = {"iteration": done, "lr": float(current["lr"])}
            yield Step(done, self.iterations, told, current, loop.candidates(current))
        while int(current["iteration"]) < self.iterations:
            current, metrics = loop.iterate(current)
            done = int(current["iteration"])
            yield Step(done, self.iterations, metrics, current, loop.candidates(current))
