"""Recovery by teachers: SRe2L, SRe2L++, CV-DD and RDED are fields of one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import check_choices, check_number, check_types, check_whole
from dd.data import Images, check_ipc
from dd.errors import refuse
from dd.methods.base import DONE, Candidate, Run, Step
from dd.methods.decoupled.checks import (
    NORMS,
    check_class_ids,
    check_label_bytes,
    check_label_recipe,
    check_label_room,
    check_norms,
    check_pairs,
    check_priors,
    check_scale,
)
from dd.methods.decoupled.curriculum import Curriculum, iterations_of
from dd.methods.decoupled.patches import Patches, check_patches, cut_patches, patch_parts
from dd.methods.decoupled.recovery import Recovery, recover_block
from dd.methods.decoupled.relabel import label_lengths, label_parts, make_labels
from dd.methods.panel import Member, Panel, check_members, describe_members, seat
from dd.methods.start import pick_real
from dd.synthetic import LabelStore, Layout, Storage, SyntheticImages, TrainRecipe
from dd.synthetic.layout import PLAIN, pixel_levels, told
from dd.teachers import BN_MODES, LABEL_TAU, RECOVER_TAU, BNMode, Teacher, TeacherRecipe, label, voters
from dd.teachers.committee import SCHEDULES, Schedule
from dd.teachers.statistics import StatisticsNorm
from dd.transforms.levels import from_levels, levels
from dd.transforms.views import MIX_KINDS, MixKind
from dd.transforms.whiten import Normalise


@final
@dataclass(frozen=True, kw_only=True)
class Recover:
    """Images that teachers classify as their class while their batch norms see the statistics of real data.

    For image i of every class a part S_i of the committee votes:
    `min_x Σ_{m ∈ S_i} w_m [CE(f_m(A(x)), y) + λ R(f_m, A(x))]`, w = softmax of the members' priors over S_i.
    Without iterations the first images stay as they are: real patches (RDED), or random images under the same labels.

    Attributes:
        name: key of the recipe of fields.
        ipc: images per class.
        committee: model names (each trained by `teacher`, or taken from its store), `tv:NAME(weights=default)`,
            `timm:NAME(weights=default)`, `dd.Teacher` values or trained modules, the last for pictures in the data's
            own mean and std.
        teacher: how teachers are trained (its `model` is not read).
        class_ids: which outputs of pretrained members are the data's classes; `None` for all, or those of the card.
        priors: α in per cent, one a member; `None` takes the accuracies of the teachers on held-out training images.
            The published priors are test accuracies of students, see `dd.teachers.PUBLISHED_PRIORS`.
        tau, voters, schedule: τ of the votes, how many members vote for an image, and which of them:
            `dd.teachers.voters`.
        pairs: in place of `schedule`: which two members vote for image 0, 1, … of every class, by their places in
            `committee` from 0; further images begin again. CV-DD's pairs of one image a class were picked by hand.
        iterations, lr: T ≥ 0 steps of Adam on the pixels, their step size α.
        bn_weight, first_bn, bn_norm: λ of R, and its options: `dd.teachers.StatisticsMatch`.
        crop, shared_crop, jitter: A: whether there are random resized crops and flips; one for the whole batch, as
            published, or one an image; the largest roll in pixels.
        curriculum, curriculum_share: how the crops grow harder over the first m·T iterations, and m (CDA): see
            `dd.methods.decoupled.curriculum.smallest_area`.
        rounds: R in which the images of a class enter, and so have T down to T / R iterations (DELT): see
            `dd.methods.decoupled.curriculum.iterations_of`. 1: all from the start; more than `ipc` or T are as many.
        turns: whether the members that vote for an image take turns, one an iteration, in place of all at each (the
            committee of FADRM): M times cheaper.
        init: `noise` N(0, 1) in model space (SRe2L), `real` images, `rded`: the patches that the committee finds
            easiest, or `medium` ones (SRe2L++, CV-DD): `dd.methods.decoupled.patches`.
        factor, candidates, crops: of patches, so for `rded` and `medium` alone: an image is factor × factor of them,
            chosen among as many `crops` of as many `candidates`, images of the class.
        batch: classes at once; `None` for all. One batch has one image of each.
        labels: `hard`; `static`: one vector of probabilities an image, without augmentation, at temperature 1; or
            `stored`: logits of every batch that a student will see (`make_labels`), for which `train` must have
            loss="kl" or "gift". Batch and micro-batch are the student's: `train.batch_size`, cut in
            `train.accumulate`.
        bn_mode, label_tau: of soft labels: running or batch statistics (see `dd.teachers.label`), τ of the whole
            committee's weights.
        label_epochs, mix, scale: of stored labels: E, the mixing, and the crops' share of the area; an empty tuple
            stands for shifts by up to 4 pixels in place of crops.
        shuffle: of stored labels: whether the factor × factor patches of an image change places in each view (RDED).
        mirror, storage: of labels that are not stored, what a stored image is: see `dd.synthetic.Layout`. `uint8` keeps
            the pixels as they are, rounded to 1/255; so are those of stored labels, whatever is said here. `factor` is
            that of the patches: networks see an image of patches as a whole.
        label_bytes: what stored labels may take: a random part of the batches is kept, from which the student's epochs
            are composed anew (LPLD); `None` for all.
        train: how fresh networks are trained on the set.

    Raises:
        InputError: a field out of range.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    unsaid: ClassVar[Mapping[str, Any]] = {"curriculum": "none", "curriculum_share": 1.0, "rounds": 1, "turns": False}
    """What a description leaves out where it is so: sets and runs without it stay what they were."""
    name: str = "recover"
    ipc: int = 10
    committee: tuple[Member, ...] = ("convnet(norm=batch)",)
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    class_ids: tuple[int, ...] | None = None
    priors: tuple[float, ...] | None = None
    tau: float = RECOVER_TAU
    voters: int = 2
    schedule: Schedule = "auto"
    pairs: tuple[tuple[int, int], ...] | None = None
    iterations: int = 1000
    lr: float = 0.25
    bn_weight: float = 0.01
    first_bn: float = 10.0
    bn_norm: StatisticsNorm = "sum"
    crop: bool = True
    shared_crop: bool = True
    jitter: int = 4
    curriculum: Curriculum = "none"
    curriculum_share: float = 1.0
    rounds: int = 1
    turns: bool = False
    init: Literal["noise", "real", "rded", "medium"] = "real"
    factor: int = 1
    mirror: bool = False
    storage: Storage = "fp32"
    candidates: int = 300
    crops: int = 5
    batch: int | None = None
    labels: Literal["hard", "static", "stored"] = "static"
    bn_mode: BNMode = "running"
    label_tau: float = LABEL_TAU
    label_epochs: int = 300
    shuffle: bool = False
    label_bytes: int | None = None
    mix: MixKind = "cutmix"
    scale: tuple[float, float] = (0.08, 1.0)
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        object.__setattr__(self, "committee", check_members(self.committee))
        for name in ("ipc", "voters", "label_epochs", "rounds"):
            check_whole(getattr(self, name), name)
        for name in ("tau", "label_tau"):
            if check_number(getattr(self, name), name, low=0.0) == 0:
                raise refuse(name, "positive", getattr(self, name))
        if self.batch is not None:
            check_whole(self.batch, "batch")
        Recovery.of(self)
        check_types(self)
        check_choices(self, _CHOICES)
        self._patches()
        check_priors(self.priors, self.committee)
        check_class_ids(self.class_ids)
        check_scale(self.scale)
        if self.pairs is not None:
            object.__setattr__(self, "pairs", check_pairs(self))
        check_label_recipe(self.labels, self.train)
        check_label_bytes(self.label_bytes, self.labels)
        self._check_layout()

    @property
    def layout(self) -> Layout:
        """What a stored image is; of stored labels the pictures, which are uint8 in the file."""
        given = Layout(mirror=self.mirror, storage=self.storage)
        return PLAIN if self.labels == "stored" else given

    def _check_layout(self) -> None:
        """Refuse what stored labels, which are of uint8 pictures in random views, cannot have."""
        stored, others = self.labels == "stored", 'labels="static", train={"loss": "ce"}'
        if stored and self.mirror:
            way_out = (
                'Their views are mirrored at random. Leave `mirror` out, or use labels="static", train={"loss": "ce"}.'
            )
            raise refuse("mirror", "False with stored labels", True, way_out)
        if stored and self.storage == "fp16":
            way_out = f"Leave `storage` out, or use {others}."
            raise refuse("storage", "`uint8` with stored labels, which are of uint8 pictures", "'fp16'", way_out)
        _ = self.layout  # refuses what is none

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields.update(teacher=self.teacher.to_json(), train=self.train.to_json())
        fields["committee"] = describe_members(self.committee)
        for name in ("priors", "class_ids", "scale"):
            fields[name] = None if fields[name] is None else list(fields[name])
        fields["pairs"] = None if self.pairs is None else [list(pair) for pair in self.pairs]
        said = {name: value for name, value in fields.items() if name not in self.unsaid or value != self.unsaid[name]}
        return {"class": "Recover", **told(said, ("mirror", "storage"))}

    def of_random_images(self) -> Self:
        """The same teachers, labels and students on random real images, which are whole: what the images are worth."""
        return dataclasses.replace(self, init="real", iterations=0, factor=1, name="random_labels")

    def check_fits(self, real: Images, device: torch.device) -> None:
        """Refuse data that the fields do not fit, before a teacher is trained.

        Raises:
            InputError: too few images of a class, a side that `factor` does not divide, a budget of labels below that
                of a batch, or a member without the batch norms that are asked for.
        """
        del device
        check_ipc(real, self.ipc)
        self.teacher.transform(real)
        if self.init in ("rded", "medium"):
            check_patches(real, self.ipc, self._patches())
        self._check_micro_batch(real.num_classes)
        if self.labels == "stored" and self.label_bytes is not None:
            check_label_room(self.label_bytes, self._lengths(real.num_classes), real.num_classes, self._strips)
        if self.iterations:
            check_norms(self.committee, real, "for recovery", NORMS)
        if self.bn_mode == "batch" and self.labels != "hard":
            check_norms(self.committee, real, "for bn_mode='batch'", "Label with `bn_mode='running'`.")

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """Train the teachers that are missing, then yield a step after each image of all classes.

        Raises:
            InputError: the data cannot give `ipc` images a class, or a teacher does not know it.
            DivergedError: a teacher or the recovery is not finite.
        """
        self.check_fits(real, run.device)
        transform = self.teacher.transform(real)
        panel = seat(self.committee, self.teacher, self.priors, self.class_ids, real, run)
        done = min(int(state["iteration"]), self.ipc - 1) if state else 0  # the last step makes the set
        pictures = torch.empty(real.num_classes, self.ipc, real.channels, *real.size, dtype=torch.uint8)
        for i in range(done):
            pictures[:, i] = (state or {})[f"{DONE}{i}"]
        members = ""
        for i, members, image in self._recovered(panel, real, transform, run, done):
            pictures[:, i] = image
            if i + 1 < self.ipc:
                yield self._step(i, members, pictures)
        small = self._set(pictures.flatten(0, 1), panel.all_votes(self.label_tau), real, transform, run)
        yield self._step(self.ipc - 1, members, pictures, (Candidate("last", self.ipc, small),))

    def parts_of(self, real: Images, seed: int) -> dict[str, int]:
        """How many parts of each kind several processes share, in the order in which they need each other."""
        count, blocks = real.num_classes, -(-real.num_classes // (self.batch or real.num_classes))
        found = {"patches": patch_parts(count)} if self.init in ("rded", "medium") else {}
        found |= {"image": self.ipc * blocks} if self.iterations else {}
        if self.labels != "stored":
            return found
        return {**found, "labels": label_parts(self._lengths(count), count, self._strips, self.label_bytes, seed)}

    def _lengths(self, classes: int) -> list[int]:
        """Images of each batch that has stored labels."""
        batch = min(self.train.batch_size, classes * self.ipc)
        least = -(-batch // self.train.accumulate) if self.bn_mode == "batch" else None
        return label_lengths(classes * self.ipc, batch, self.label_epochs, least)

    @property
    def _strips(self) -> int:
        """Patches along the side of an image that change places in a view, or 0."""
        return self.factor if self.shuffle and self.factor > 1 else 0

    def iterations_of(self, i: int) -> int:
        """T_i of image i of every class."""
        return iterations_of(i, self.ipc, self.iterations, min(self.rounds, self.ipc, self.iterations or 1))

    def _step(self, i: int, members: str, pictures: Tensor, candidates: tuple[Candidate, ...] = ()) -> Step:
        """The step after image i of every class, of pictures `[K, ipc, C, H, W]`."""
        state = {"iteration": torch.tensor(i + 1), **{f"{DONE}{j}": pictures[:, j] for j in range(i + 1)}}
        shown = candidates or not i & i + 1  # 1, 2, 4, 8, … images: one more of many shows little
        so_far = pictures[:, : i + 1] if shown else None
        return Step(i + 1, self.ipc, {"iteration": i + 1, "members": members}, state, candidates, so_far)

    def _recovered(
        self, panel: Panel, real: Images, transform: Normalise, run: Run, done: int
    ) -> Iterator[tuple[int, str, Tensor]]:
        """(i, who voted, image i of every class uint8 `[K, C, H, W]`) from image `done` on."""
        seats, first = self._parts(panel, run), lru_cache(1)(self._first(panel, real, transform, run))
        chosen = [panel.votes(members, self.tau) for members in seats]
        blocks = torch.arange(real.num_classes).split(self.batch or real.num_classes)

        def make(number: int) -> dict[str, Tensor]:
            i, place = divmod(number, len(blocks))
            block = (place, len(blocks), blocks[place])
            return {"levels": self._block(i, block, first(i), chosen[i], transform, run)}

        found = run.parts.each("image", range(done * len(blocks), self.ipc * len(blocks)), make, panel.hashes)
        for i in range(done, self.ipc):
            image = torch.cat([next(found)["levels"] for _ in blocks])
            yield i, "+".join(teacher.name for teacher, _ in chosen[i]), image

    def _parts(self, panel: Panel, run: Run) -> Sequence[tuple[int, ...]]:
        """Which members vote for image 0…ipc−1 of every class."""
        if self.pairs is not None:
            return [self.pairs[i % len(self.pairs)] for i in range(self.ipc)]
        drawn: dict[str, Any] = {"count": self.voters, "schedule": self.schedule, "priors": panel.priors}
        return voters(len(panel.teachers), self.ipc, **drawn, seed=run.seed)

    def _check_micro_batch(self, classes: int) -> None:
        """Refuse micro-batches of one picture, whose statistics would be its own, before a teacher is trained."""
        batch = min(self.train.batch_size, classes * self.ipc)
        if self.labels == "stored" and self.bn_mode == "batch" and -(-batch // self.train.accumulate) < 2:
            if batch < 2:
                raise refuse("train.batch_size", "at least 2, for bn_mode='batch'", batch, "Give 2.")
            expected = f"below {self.train.accumulate}, so that a micro-batch of {batch} pictures has two or more"
            way_out = "Give train={'accumulate': 1}, or a larger `ipc`."
            raise refuse("train.accumulate", expected, self.train.accumulate, way_out)

    def _patches(self) -> Patches:
        if self.factor != 1 and self.init not in ("rded", "medium"):
            way_out = 'It is of patches: give init="medium" (or "rded") too, or leave `factor` out.'
            raise refuse("factor", f'1 with init="{self.init}", whose images are whole', self.factor, way_out)
        rule: Literal["easy", "medium"] = "medium" if self.init == "medium" else "easy"
        return Patches(factor=self.factor, candidates=self.candidates, crops=self.crops, rule=rule)

    def _first(self, panel: Panel, real: Images, transform: Normalise, run: Run) -> Callable[[int], Tensor]:
        """What recovery of image i of every class starts from, in model space `[K, C, H, W]`."""
        if self.init == "noise":
            shape = (real.num_classes, real.channels, *real.size)
            return lambda i: torch.randn(shape, generator=child(run.seed, "init", i))
        if self.init == "real":
            rows = pick_real(real, self.ipc, run.seed).view(real.num_classes, self.ipc)
            return lambda i: transform.forward(real.train.pixels(rows[:, i]))
        score = lambda x: panel.score(x, self.label_tau, real.size)  # noqa: E731
        shared = run.parts, panel.hashes
        pixels = cut_patches(real, score, self.ipc, self._patches(), run.seed, run.progress, *shared)
        return lambda i: transform.forward(pixels[:, i])

    def _block(
        self,
        i: int,
        block: tuple[int, int, Tensor],
        start: Tensor,
        chosen: list[tuple[Teacher, float]],
        transform: Normalise,
        run: Run,
    ) -> Tensor:
        """Image i of a block of classes (its place, of how many, its classes), uint8 `[k, C, H, W]` on the CPU."""
        how = dataclasses.replace(Recovery.of(self), iterations=self.iterations_of(i))
        place, count, classes = block

        def tell(t: int, loss: float) -> None:
            done = (i * count + place) * self.iterations + t
            run.progress(done, self.ipc * count * self.iterations, f"recover, loss {loss:.3f}")

        x, y = start[classes].to(run.device), classes.to(run.device)
        return levels(recover_block(chosen, x, y, transform, how, run.seed, (i, place), tell).cpu())

    def _set(
        self, pictures: Tensor, committee: list[tuple[Teacher, float]], real: Images, transform: Normalise, run: Run
    ) -> SyntheticImages:
        """The set of pictures uint8 `[n, C, H, W]`, class by class, as the other methods' sets."""
        labels = torch.arange(real.num_classes).repeat_interleave(self.ipc)
        if self.labels == "static":
            members, weights = [t.as_module() for t, _ in committee], [weight for _, weight in committee]
            # Batch statistics are those of the whole set: of blocks they would be others, and so the labels.
            parts = pictures.split(_BATCH if self.bn_mode == "running" else len(pictures))
            found = [label(members, weights, (x.float() / 255).to(run.device), bn_mode=self.bn_mode) for x in parts]
            labels = torch.cat(found).float().softmax(1).cpu()
        return SyntheticImages(
            **self.layout.parts(from_levels(pictures, transform), labels, pixel_levels(transform)),
            classes=real.classes,
            recipe=self.train,
            transform=transform,
            method=self.describe(),
            store=self._store(pictures, committee, run) if self.labels == "stored" else None,
        )

    def _store(self, pictures: Tensor, committee: list[tuple[Teacher, float]], run: Run) -> LabelStore:
        batch = min(self.train.batch_size, len(pictures))
        return make_labels(
            pictures,
            committee,
            epochs=self.label_epochs,
            batch=batch,
            micro_batch=-(-batch // self.train.accumulate),
            bn_mode=self.bn_mode,
            mix=self.mix,
            scale=self.scale,
            shuffle=self.factor if self.shuffle else 1,
            nbytes=self.label_bytes,
            seed=run.seed,
            device=run.device,
            progress=run.progress,
            parts=run.parts,
        )


_BATCH = 500
_CHOICES = {
    "schedule": SCHEDULES,
    "init": ("noise", "real", "rded", "medium"),
    "labels": ("hard", "static", "stored"),
    "mix": MIX_KINDS,
    "bn_mode": BN_MODES,
}
