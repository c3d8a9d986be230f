"""What every measure starts from: a set beside its data, one learner, seeded networks, random real images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, Unpack

import torch

from dd.base.progress import Progress, reporter
from dd.base.seeding import child, child_seed
from dd.base.shapes import check_whole, filled
from dd.contest.contest import given_lr
from dd.contest.images import match_data
from dd.data import Images, Source, Split
from dd.errors import InputError, refuse, unknown
from dd.evaluation import NetworkLearner, NetworkPredictor, RealImages, enough_steps, model_name, origin, tune_lr
from dd.evaluation.subset import Equipped
from dd.methods.start import pick_real
from dd.models import AnyModel
from dd.run.keep import Out
from dd.run.load import load
from dd.run.resolve import load_real, protocol_of, resolve_device, source_like
from dd.synthetic import ImageSet, TrainRecipe, need_set

AnyImageSet = ImageSet | str | Path
MOST: Final = 8
"""Times the steps of a set that full data is trained at most, where nobody says how long."""


class Options(TypedDict, total=False):
    """What every measure takes by name.

    Keys:
        model: as in `dd.train`; the one the set was distilled for.
        repeats: fresh networks.
        steps: optimiser steps; the recipe's.
        lr: `recipe` (that of the set), `tuned` (best of a grid on the validation split, for every set alike), or a
            number.
        seed: of all networks and draws.
        device, threads, progress, root, download, size, aspect: as in `dd.evaluate`.
        out: where the answer is kept: a folder, which gets `NAME.json`, or a `.json` file; `None` and `False` as in
            `dd.evaluate`.
        networks: trained ones of `open_bench(…).networks()`, for measures that only ask what networks say (calibration,
            membership, adversarial); they replace `repeats`, and nothing is trained for them again.
    """

    model: AnyModel | None
    repeats: int
    steps: int | None
    lr: float | Literal["recipe", "tuned"]
    seed: int
    device: str | torch.device | None
    threads: int | None
    progress: bool | Progress | None
    root: str | Path | None
    download: bool
    size: int | tuple[int, int] | None
    aspect: Literal["crop", "squash"] | None
    out: Out
    networks: Sequence[NetworkPredictor]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A set beside its data, and how networks are trained on both.

    Attributes:
        small: the set, its transform ready.
        real: its data.
        learner: model, steps, step size and device.
        tuned: whether step sizes are tuned.
        repeats: fresh networks.
        seed: of all networks and draws.
        progress: called as (done, total, text).
        trained: networks that are there already.
    """

    small: ImageSet
    real: Images
    learner: NetworkLearner
    tuned: bool
    repeats: int
    seed: int
    progress: Callable[[int, int, str], None]
    trained: tuple[NetworkPredictor, ...] = ()

    @property
    def test(self) -> Split:
        """The test images."""
        if self.real.test is None:
            raise refuse("data", "with a test split", "none", "Give dd.Images(train=…, test=…).")
        return self.real.test

    @property
    def train(self) -> Split:
        """The training images, without those held out."""
        if not len(self.real.train):
            raise refuse("data", "with training images", "none", "Give dd.Images(train=…, test=…).")
        return self.real.train

    @property
    def about(self) -> dict[str, Any]:
        """Which set, data, model; where it was measured."""
        return {
            "dataset": self.real.name,
            "method": str(self.small.method.get("name", "imported")),
            "model": model_name(self.learner.model, self.small),
            "origin": origin(self.seed, self.learner.device),
        }

    def seeds(self) -> list[int]:
        """One a network, the same for every set: sets are compared on equal initialisations."""
        return [child_seed(self.seed, "network", i) for i in range(self.repeats)]

    def learner_for(self, train_on: Equipped, tuned: bool | None = None) -> NetworkLearner:
        """The learner, its step size tuned on the validation split where that is asked for.

        Raises:
            InputError: no validation split.
            DivergedError: with every step size.
        """
        if not (self.tuned if tuned is None else tuned):
            return self.learner
        if self.real.val is None:
            raise refuse("lr", "`recipe` or a number, since this data holds out no validation split", "tuned")
        return tune_lr(self.learner, train_on, self.real.val, child_seed(self.seed, "tune"))

    def networks(self) -> list[NetworkPredictor]:
        """Fresh networks trained on the set, or those that were given."""
        if self.trained:
            return list(self.trained)
        learner, made = self.learner_for(self.small), []
        for i, seed in enumerate(self.seeds()):
            made.append(learner.fit(self.small, seed))
            self.progress(i + 1, self.repeats, "networks")
        return made

    def real_images(self, split: Split, recipe: TrainRecipe | None = None) -> RealImages:
        """Real images in the set's model space, under its recipe for classes."""
        return RealImages(
            split=split,
            classes=self.real.classes,
            recipe=self.small.recipe.hard() if recipe is None else recipe,
            transform=self.small.ready_transform(),
        )

    def full(self, steps: int | None) -> tuple[RealImages, NetworkLearner, bool]:
        """All training images, a learner for them, and whether it is known to train long enough.

        Args:
            steps: optimiser steps; `None`: doubled until the validation split gains nothing, at most `MOST` times the
                set's; the set's own where there is no validation split.
        """
        real = self.real_images(self.train)
        learner, seen = self.learner_for(real), True
        if steps is None and self.real.val is not None:
            most = MOST * learner.recipe(real).steps
            steps, seen = enough_steps(learner, real, self.real.val, child_seed(self.seed, "enough"), most)
        return real, learner if steps is None else dataclasses.replace(learner, steps=steps), seen

    @property
    def budget(self) -> list[int]:
        """Real images of each class of the same budget, see `SyntheticImages.budget`, as far as the data goes."""
        there = torch.bincount(self.train.labels, minlength=self.real.num_classes).tolist()
        least = min(there) if self.small.canvas > 1 else max(there)
        wanted = [min(count, least) for count in self.small.budget]
        return [min(count, own) for count, own in zip(wanted, there, strict=True)]

    def random(self, draw: int, recipe: TrainRecipe | None = None) -> RealImages:
        """`budget` random training images."""
        rows = pick_real(self.real, self.budget, child_seed(self.seed, "draw", draw))
        return self.real_images(self.train.subset(rows), recipe)


def open_bench(small: AnyImageSet, data: object, test: bool = True, **options: Unpack[Options]) -> Bench:
    """Read the arguments of a measure once.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`.
        test: whether test images are needed.
        **options: see `Options`.

    Raises:
        InputError: an argument by another name; graphs; classes or shape differ from the data's; no test split; another
            argument out of range.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise unknown("argument", name, Options.__annotations__)
    trained = tuple(options.get("networks", ()))
    repeats = len(trained) or check_whole(options.get("repeats", 5), "repeats")
    lr = given_lr(options.get("lr", "recipe"))
    loaded = load(small) if isinstance(small, str | Path) else need_set(small)
    if loaded.kind != "images":
        raise refuse("small", "a set of images", type(loaded).__name__, "Summaries of graphs have no such measure.")
    source = source_like(loaded, data, filled(Source, options))
    real = load_real(data, source, protocol_of(loaded), "evaluate" if test else "distill", loaded.classes)
    if real.kind != "images":
        raise refuse("data", "images", real.kind)
    where = resolve_device(options.get("device"))
    number = None if lr == "tuned" else lr
    learner = NetworkLearner(model=options.get("model"), steps=options.get("steps"), lr=number, device=where)
    ready = match_data(loaded, real, test)
    model_name(learner.model, ready)
    learner.recipe(ready)  # refuses steps and lr out of range before anything is trained
    return Bench(
        small=ready,
        real=real,
        learner=learner,
        tuned=lr == "tuned",
        repeats=repeats,
        seed=options.get("seed", 0),
        progress=reporter("measure", options.get("progress")),
        trained=trained,
    )


def some_rows(split: Split, most: int, seed: int, name: str) -> Split:
    """At most `most` random rows of a split, in their order."""
    if len(split) <= check_whole(most, "images"):
        return split
    rows = torch.randperm(len(split), generator=child(seed, "rows", name))[:most].sort().values
    return split.subset(rows)


def with_recipe(small: ImageSet, recipe: TrainRecipe) -> ImageSet:
    """The same set under another recipe.

    Raises:
        InputError: a set whose augmented batches are stored: only its own recipe fits them.
    """
    if small.store is not None:
        raise InputError("`recipe` of a set with stored labels cannot be replaced; use `small.hard()` first.")
    return dataclasses.replace(small, recipe=recipe)
