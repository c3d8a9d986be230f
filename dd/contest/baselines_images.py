"""Baselines of images at the budget of a set: real images by chance or by choice, under classes or its teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, final

from dd.base.seeding import child_seed
from dd.contest.contest import BOTH, Baseline, table
from dd.data import Images, Ipc
from dd.errors import InputError
from dd.evaluation import RealImages
from dd.evaluation.subset import Equipped
from dd.methods import ClassMean, Herding, Infer, KCenter, Method, RandomReal, Recover, Run, of_teachers
from dd.methods.start import check_small
from dd.synthetic import ImageSet, Layout, Storage, SyntheticImages, TrainRecipe
from dd.synthetic.layout import LAYOUT, PLAIN, real_levels
from dd.teachers import TeacherRecipe
from dd.transforms.whiten import Transform, make_transform


@final
@dataclass(frozen=True, kw_only=True)
class BesideImages:
    """What baselines of images are made from.

    Attributes:
        real: the data.
        ipc: images a class, or of each class by its name.
        recipe: how networks are trained on images with classes for labels.
        lr: their step size where it is not that of the recipe: a number, or `tuned` by the validation split.
        whiten: ZCA in place of mean/std normalisation.
        small: the set that they stand beside, where it is given: they are in its model space.
        layout: what its stored images are. Where that is `whole`, baselines are stored alike, else in float32.
        stored: how many of them of a class; `ipc` is how many images of baselines their bytes hold.
        method: its method, where its labels are of teachers that can be found again.
        teacher: gives the one whose features choose coresets.
    """

    real: Images
    ipc: Ipc
    recipe: TrainRecipe
    lr: float | Literal["tuned"] | None = None
    whiten: bool = False
    small: ImageSet | None = None
    layout: Layout = PLAIN
    stored: Ipc = 1
    method: Recover | Infer | None = None
    teacher: Callable[[], TeacherRecipe] = TeacherRecipe

    @property
    def storage(self) -> Storage:
        """Of the images of baselines."""
        return self.layout.storage if self.layout.whole else PLAIN.storage

    @cached_property
    def transform(self) -> Transform:
        """Pixels in [0, 1] → model space, fitted on the training images."""
        return make_transform(self.real, self.whiten)

    def own_space(self, made: ImageSet, layout: Layout = PLAIN) -> ImageSet:
        """Whole real images, brought to the model space of the set that they stand beside, and stored there."""
        assert isinstance(made, SyntheticImages)
        assert self.small is not None
        transform = self.small.ready_transform()
        images = layout.mosaic(transform.forward(made.pixels()).float())
        parts = layout.parts(images, made.labels[:: layout.small], real_levels(layout, transform))
        return dataclasses.replace(made, **parts, transform=transform, transform_record={})


@final
@dataclass(frozen=True, kw_only=True)
class ImageEntrant:
    """What has a row with each model: a set, or a baseline that was made.

    Attributes:
        name: of its row.
        sets: what networks are trained on, one a draw.
        lr: a number, `tuned` by the validation split, or `None` for the recipe's.
        converged: whether networks are trained until the validation split gains nothing.
        stored: the first set as it is stored, where networks are trained on something else; its bytes are the row's.
    """

    name: str
    sets: Sequence[Equipped]
    lr: float | Literal["tuned"] | None = None
    converged: bool = False
    stored: Equipped | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ImageBaseline(Baseline):
    """A baseline of images: `make(beside)` gives the method that makes it, or the set itself.

    Attributes:
        ipc: the only number of images a class that it has; `None`: any.
        tuned: whether its step size is tuned, whatever that of the others is.
        converged: whether its networks are trained until the validation split gains nothing.
        labels: of one that is for sets with labels of teachers: whether it keeps them; `None` of all others.
        layout: of one that is for sets whose stored images are not `whole`: whether its own are like them; `None` of
            all others.
    """

    kind: ClassVar[str] = "images"
    make: Callable[[BesideImages], Method | Equipped]
    ipc: int | None = None
    tuned: bool = False
    converged: bool = False
    labels: Literal["kept", "dropped"] | None = None
    layout: Literal["kept", "dropped"] | None = None

    def stands(self, budget: Ipc | None) -> bool:
        """Whether there is one of so many images a class."""
        return super().stands(budget) and self.ipc in (None, budget)

    def lacks(self, beside: BesideImages) -> str:
        """Why there can be no such row, in words; empty where there can."""
        if not len(beside.real.train):
            return "the data has no training images to draw from"
        if not self.stands(beside.ipc):
            own, counts = "one image" if self.ipc == 1 else f"{self.ipc} images", beside.ipc
            has = f"{min(counts.values())} to {max(counts.values())}" if isinstance(counts, Mapping) else counts
            return f"it has {own} a class, the set has {has}"
        if self.layout and beside.layout.whole:
            return "the set's stored images are its pictures: it is `random`"
        if self.labels is None:
            try:
                ipc, layout = (beside.stored, beside.layout) if self.layout == "kept" else (beside.ipc, PLAIN)
                check_small(beside.real, ipc, layout)
            except InputError as error:
                return f"the data cannot give as many images: {error}"
        if self.labels == "kept" and beside.method is None:
            theirs = beside.small is None or of_teachers(beside.small.method)
            return "give the set's teachers as `committee=`" if theirs else "the set has no labels of teachers"
        return ""

    def sets(self, beside: BesideImages, run: Run) -> list[Equipped]:
        """Its draws, beside a set that is given."""
        made = self.make(beside)
        if not isinstance(made, Method):
            return [made]
        made, layout = _whole(made)
        runs = [dataclasses.replace(run, seed=child_seed(run.seed, "draw", draw)) for draw in range(self.draws)]
        found = [_distilled(made, beside.real, each) for each in runs]
        return list(found if self.labels else (beside.own_space(one, layout) for one in found))


def _whole(method: Method) -> tuple[Method, Layout]:
    """The method that gives the whole images of a layout that is left for later, and the layout."""
    if not isinstance(method, RandomReal | ClassMean) or method.layout.plain:
        return method, PLAIN
    small, ipc = method.layout.small, method.ipc
    count = ipc * small if isinstance(ipc, int) else {name: n * small for name, n in ipc.items()}
    plain: dict[str, Any] = {name: getattr(PLAIN, name) for name in LAYOUT if hasattr(method, name)}
    return dataclasses.replace(method, **{**plain, "ipc": count}), method.layout


def _distilled(method: Method, real: Images, run: Run) -> ImageSet:
    *_, last = method.distill(real, run)
    made = last.candidates[0].set
    assert isinstance(made, ImageSet)
    return made


def _random(beside: BesideImages) -> Method:
    return RandomReal(ipc=beside.ipc, train=beside.recipe, whiten=beside.whiten, storage=beside.storage)


def _packed(beside: BesideImages) -> Method:
    """Random images, stored like those of the set."""
    layout = {name: getattr(beside.layout, name) for name in LAYOUT}
    return RandomReal(ipc=beside.stored, train=beside.recipe, whiten=beside.whiten, **layout)


def _class_mean(beside: BesideImages) -> Method:
    return ClassMean(train=beside.recipe, whiten=beside.whiten, storage=beside.storage)


def _coreset(method: Callable[..., Method]) -> Callable[[BesideImages], Method]:
    """Training images chosen by the features of a network that was trained on all of them."""
    return lambda beside: method(
        ipc=beside.ipc,
        train=beside.recipe,
        whiten=beside.whiten,
        storage=beside.storage,
        teacher=beside.teacher(),
    )


def _same_labels(beside: BesideImages) -> Method:
    """Random images under the labels of the set's own teachers."""
    assert beside.method is not None
    return beside.method.of_random_images()


def _hard(beside: BesideImages) -> ImageSet:
    """The set itself under its classes."""
    assert beside.small is not None
    return beside.small.hard()


def _full(beside: BesideImages) -> RealImages:
    """All training images."""
    real = beside.real
    return RealImages(split=real.train, classes=real.classes, recipe=beside.recipe, transform=beside.transform)


IMAGE_BASELINES: Final = table(
    ImageBaseline(
        name="class_mean",
        says="the mean of the training images of each class",
        make=_class_mean,
        ipc=1,
        default=("benchmark",),
    ),
    ImageBaseline(
        name="random",
        says="random training images with their classes, as many as the set's or as its bytes hold in float32",
        make=_random,
        draws=3,
        default=BOTH,
    ),
    ImageBaseline(
        name="random_packed",
        says="random training images stored like the set's",
        make=_packed,
        layout="kept",
        draws=3,
        default=BOTH,
    ),
    ImageBaseline(
        name="random_bytes",
        says="random training images in float32, as many as the bytes of the set beside them hold",
        make=_random,
        layout="dropped",
        offered=("benchmark",),
        default=("benchmark",),
    ),
    ImageBaseline(
        name="random_tuned",
        says="those of `random`, the step size tuned on the validation split",
        make=_random,
        draws=3,
        tuned=True,
        offered=("evaluate",),
    ),
    ImageBaseline(
        name="herding",
        says="training images whose mean features are those of their class",
        make=_coreset(Herding),
        offered=("benchmark",),
        default=("benchmark",),
    ),
    ImageBaseline(
        name="k_center",
        says="training images that cover their class by features",
        make=_coreset(KCenter),
        offered=("benchmark",),
        default=("benchmark",),
    ),
    ImageBaseline(
        name="random_labels",
        says="random training images under the labels of the set's teachers",
        make=_same_labels,
        labels="kept",
        draws=3,
        default=BOTH,
    ),
    ImageBaseline(
        name="hard",
        says="the set itself with its classes for labels",
        make=_hard,
        labels="dropped",
        offered=("evaluate",),
        default=("evaluate",),
    ),
    ImageBaseline(
        name="full",
        says="all training images, for as many steps",
        make=_full,
        budget=False,
        offered=("benchmark",),
        default=("benchmark",),
    ),
    ImageBaseline(
        name="full_converged",
        says="all training images, until the validation split gains nothing",
        make=_full,
        converged=True,
        budget=False,
        offered=("benchmark",),
        default=("benchmark",),
    ),
)
"""Draws are of `evaluate`; in a benchmark a seed is a draw."""
