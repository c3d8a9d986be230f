"""INFER: real images and compensators that all classes share, with static or dynamic labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_choices, check_types, check_whole
from dd.base.texts import shown
from dd.data import Images, check_ipc
from dd.errors import refuse
from dd.methods.base import DONE, Candidate, Run, Step
from dd.methods.decoupled.checks import (
    NORMS,
    check_class_ids,
    check_label_bytes,
    check_label_room,
    check_norms,
    check_plain_views,
)
from dd.methods.decoupled.recovery import Recovery, compensator
from dd.methods.decoupled.relabel import label_lengths, label_parts, make_labels
from dd.methods.panel import Member, Panel, check_members, describe_members, seat
from dd.methods.start import pick_real
from dd.synthetic import CompensatedImages, TrainRecipe, base_sets, most_compensators
from dd.teachers import TeacherRecipe, label
from dd.teachers.statistics import StatisticsNorm
from dd.transforms.levels import levels
from dd.transforms.views import MIX_KINDS, MixKind
from dd.transforms.whiten import Normalise


@final
@dataclass(frozen=True, kw_only=True)
class Infer:
    """k real images a class, and M compensators u for each base set (one image of every class), one a member.

    `u_jm = argmin_u 1/K Σ_c CE(f_m(A(x_jc + u)), c) + λ R(f_m, A(x_jc + u)_c)` for the first M members; a network
    trains on the k (M + 1) images a class x and clip(x + u_m). Stored are k K + k M ≤ ipc K images
    (`dd.synthetic.base_sets`).

    Attributes:
        name: key of the recipe of fields.
        ipc: images per class that base images and compensators may take together.
        committee: the members: see `Recover`; all make the labels, the first M of them a compensator a base set each.
        teacher, class_ids: as in `Recover`.
        compensators: M; `auto` for as many of the members as leave at least 90 % of `ipc` as base images, and one at
            least (`dd.synthetic.most_compensators`). In the paper all members make them (three or four), which of ten
            classes displace three of ten real images, more than they are worth. 0 for `ipc` real images a class under
            the same labels.
        iterations, lr: T ≥ 0 steps of Adam on u, and their step size.
        bn_weight, first_bn, bn_norm, crop, shared_crop, jitter: as in `Recover`; the paper crops at 224 px only.
        labels: `hard`; `static`: the mean of the teachers' logits on each composed image, not augmented, 2 K bytes an
            image; or `dynamic`: logits of every augmented, mixed batch, stored for `label_epochs` epochs.
        label_epochs, mix: of dynamic labels; batches are the student's `train.batch_size`. The paper divides a static
            run's epochs by M + 1, so that the labels are as many as SRe2L's.
        label_bytes: what dynamic labels may take, as in `Recover`.
        train: how fresh networks are trained; loss="kl" or "gift" (not with hard labels). With static labels it has the
            augmentation and the mixing, which interpolates their logits.

    Raises:
        InputError: a field out of range.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "infer"
    ipc: int = 10
    committee: tuple[Member, ...] = ("convnet(norm=batch)",)
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    class_ids: tuple[int, ...] | None = None
    compensators: int | Literal["auto"] = "auto"
    iterations: int = 1000
    lr: float = 0.25
    bn_weight: float = 1.0
    first_bn: float = 10.0
    bn_norm: StatisticsNorm = "sum"
    crop: bool = False
    shared_crop: bool = True
    jitter: int = 4
    labels: Literal["hard", "static", "dynamic"] = "static"
    label_epochs: int = 80
    label_bytes: int | None = None
    mix: MixKind = "mixup"
    train: TrainRecipe = field(default_factory=lambda: TrainRecipe(loss="kl", temperature=30.0, mix="mixup"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "committee", check_members(self.committee))
        for name in ("ipc", "label_epochs"):
            check_whole(getattr(self, name), name)
        Recovery.of(self)
        check_types(self)
        check_choices(self, _CHOICES)
        self._check_compensators()
        if (self.labels == "hard") != (self.train.loss == "ce"):
            got = f"{self.train.loss!r} with {self.labels!r}"
            raise refuse("train.loss", "`ce` with hard labels, and `kl` or `gift` with others", got)
        if self.labels == "hard":
            self.train.check_hard()
        if self.labels == "dynamic":
            check_plain_views(self.labels, self.train)
        check_class_ids(self.class_ids)
        check_label_bytes(self.label_bytes, self.labels)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields.update(teacher=self.teacher.to_json(), train=self.train.to_json())
        fields["committee"] = describe_members(self.committee)
        fields["class_ids"] = None if self.class_ids is None else list(self.class_ids)
        return {"class": "Infer", **fields}

    def of_random_images(self) -> Self:
        """The same teachers, labels and students on `ipc` random real images a class."""
        return dataclasses.replace(self, compensators=0, name="random_labels")

    def makers(self, classes: int) -> int:
        """M: how many members make compensators for data of so many classes."""
        if self.compensators == "auto":
            return most_compensators(self.ipc, classes, len(self.committee))
        return self.compensators

    def parts_of(self, real: Images, seed: int) -> dict[str, int]:
        """How many parts of each kind several processes share, in the order in which they need each other."""
        members, sets = self._sizes(real.num_classes)
        found = {"compensator": sets * members} if members and self.iterations else {}
        if self.labels != "dynamic":
            return found
        return {
            **found,
            "labels": label_parts(self._lengths(real.num_classes), real.num_classes, 0, self.label_bytes, seed),
        }

    def _sizes(self, classes: int) -> tuple[int, int]:
        """(M, k): compensators a base set, and base sets."""
        members = self.makers(classes)
        return members, base_sets(self.ipc, classes, members) if members else self.ipc

    def _lengths(self, classes: int) -> list[int]:
        """Images of each batch that has dynamic labels."""
        members, sets = self._sizes(classes)
        images = sets * (members + 1) * classes
        return label_lengths(images, min(self.train.batch_size, images), self.label_epochs)

    def check_fits(self, real: Images, device: torch.device) -> None:
        """Refuse data that the fields do not fit, before a teacher is trained.

        Raises:
            InputError: `ipc` is too small for one base set, too few images of a class, a budget of labels below that
                of a batch, or a member without the batch norms that compensators are made by.
        """
        del device
        members, sets = self._sizes(real.num_classes)
        check_ipc(real, sets)
        self.teacher.transform(real)
        if self.label_bytes is not None:
            check_label_room(self.label_bytes, self._lengths(real.num_classes), real.num_classes)
        if self.iterations:
            check_norms(self.committee[:members], real, "for compensators", NORMS)

    def _check_compensators(self) -> None:
        count, given = len(self.committee), self.compensators
        whole = isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= count
        if not whole and not (isinstance(given, str) and given == "auto"):
            expected = f"`auto`, or a whole number of at most {count}, the members of the committee"
            raise refuse("compensators", expected, shown(given))

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Train the teachers that are missing, then yield a step after each base set.

        Raises:
            InputError: `ipc` is too small for one base set, the data cannot give the base images, or a teacher does not
                know the data.
            DivergedError: a teacher or a compensator is not finite.
        """
        self.check_fits(real, run.device)
        members, sets = self._sizes(real.num_classes)
        transform = self.teacher.transform(real)
        panel = seat(self.committee, self.teacher, None, self.class_ids, real, run)
        rows = pick_real(real, sets, run.seed).view(real.num_classes, sets).T
        base = torch.stack([levels(real.train.pixels(row)) for row in rows])
        done = min(int(state["iteration"]), sets - 1) if state else 0  # the last step makes the set
        shape = (sets, members, *base.shape[2:])
        made = torch.empty(shape, dtype=torch.float16)
        for j in range(done):
            made[j] = (state or {})[f"{DONE}{j}"]

        def make(number: int) -> dict[str, Tensor]:
            j, m = divmod(number, members)
            start = transform.forward(base[j].float() / 255).to(run.device)
            return {"u": self._compensator(panel, start, transform, run, (j, m, sets, members))}

        found = run.parts.each("compensator", range(done * members, sets * members), make, panel.hashes)
        for j in range(done, sets):
            for m in range(members):
                made[j, m] = next(found)["u"]
            kept = {"iteration": torch.tensor(j + 1), **{f"{DONE}{n}": made[n] for n in range(j + 1)}}
            candidates: tuple[Candidate, ...] = ()
            if j + 1 == sets:
                candidates = (Candidate("last", sets, self._set(base, made, panel, real, transform, run)),)
            yield Step(j + 1, sets, {"iteration": j + 1}, kept, candidates)

    def _compensator(
        self, panel: Panel, start: Tensor, transform: Normalise, run: Run, place: tuple[int, int, int, int]
    ) -> Tensor:
        j, m, sets, count = place

        def tell(t: int, loss: float) -> None:
            done = (j * count + m) * self.iterations + t
            run.progress(done, sets * count * self.iterations, f"compensate, loss {loss:.3f}")

        y, how, voters = torch.arange(len(start), device=run.device), Recovery.of(self), [(panel.teachers[m], 1.0)]
        return compensator(voters, start, y, transform, how, run.seed, (j, m), tell)[0].half().cpu()

    def _set(
        self, base: Tensor, compensators: Tensor, panel: Panel, real: Images, transform: Normalise, run: Run
    ) -> CompensatedImages:
        plain = CompensatedImages(
            base=base,
            compensators=compensators,
            logits=None,
            classes=real.classes,
            recipe=self.train,
            transform=transform,
            method=self.describe(),
        )
        weight = 1 / len(panel.teachers)
        if self.labels == "static":
            nets = [teacher.as_module() for teacher in panel.teachers]
            parts = [label(nets, [weight] * len(nets), x.to(run.device)) for x in plain.pixels().split(_BATCH)]
            shape = (len(base), plain.members + 1, real.num_classes, real.num_classes)
            return dataclasses.replace(plain, logits=torch.cat(parts).view(shape).half().cpu())
        if self.labels == "dynamic":
            committee = [(teacher, weight) for teacher in panel.teachers]
            pictures = plain.pictures()
            store = make_labels(
                pictures,
                committee,
                epochs=self.label_epochs,
                batch=min(self.train.batch_size, len(pictures)),
                mix=self.mix,
                scale=None,
                nbytes=self.label_bytes,
                seed=run.seed,
                device=run.device,
                progress=run.progress,
                parts=run.parts,
            )
            return dataclasses.replace(plain, store=store)
        return plain


_BATCH = 500
_CHOICES = {
    "labels": ("hard", "static", "dynamic"),
    "mix": MIX_KINDS,
}
