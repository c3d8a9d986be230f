"""The benchmark's cells of image methods: one training recipe for the baselines, the set's own for the methods."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple, final

from dd.api import distill
from dd.benchmark_plan import Settings, Unit, named, wanted_models
from dd.data import Images
from dd.errors import DDError, InputError, refuse, unknown
from dd.evaluation import NetworkLearner, RealImages, Scorer, enough_steps, tune_lr
from dd.files import read_json
from dd.methods import METHODS, Infer, Method, Recover, TrajectoryMatching, names_of
from dd.methods.cards import is_baseline
from dd.models import as_spec
from dd.presets import replace_fields
from dd.resolve import resolve_method
from dd.seeding import child_seed
from dd.shapes import as_list
from dd.synthetic import ImageSet, TrainRecipe, need_images
from dd.teachers import TeacherRecipe
from dd.whiten import Transform, make_transform

CORESETS: Final = ("herding", "k_center")
FULL: Final = ("full", "full_converged")
LABELS: Final = "random_labels"
IMAGE_BASELINES: Final = (*filter(is_baseline, METHODS), LABELS, *FULL)
DEFAULTS: Final = ("random", "herding", "k_center", LABELS, "full", "full_converged")
TINY, ALL = 1024, 1000
"""Numbers of a picture up to which all student steps keep what pass 1 computed: a quarter less time, little memory."""
MOST: Final = 16
"""Times the steps of the other rows that `full_converged` takes at most."""


@final
class _Base(NamedTuple):
    """How baselines are trained: by a preset's recipe, whitened or not, as published or not, beside its experts' lr."""

    recipe: TrainRecipe
    whiten: bool
    published: bool
    expert_lr: float


class ImageBench:
    """Measures image sets; see `dd.benchmark` for the arguments.

    Attributes:
        unit: what a budget counts.
        notes: what a reader should know.
    """

    unit = "ipc"

    def __init__(
        self,
        real: Images,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        models: Any,
        baselines: Sequence[str] | None,
        settings: Settings,
    ) -> None:
        self._real, self._budgets, self._settings = real, budgets, settings
        known = [m for m in names_of("images") if not is_baseline(m)]
        baselines = _defaults(budgets, real) if baselines is None else as_list(baselines)
        for name in baselines:
            if name not in IMAGE_BASELINES:
                raise unknown("baseline", name, IMAGE_BASELINES)
        self._methods = named(asked, known, "images")
        self._baselines = [name for name in baselines if name not in self._methods and name != LABELS]
        self._beside = {
            f"{LABELS} of {name}": name for name in self._methods if LABELS in baselines and self._soft(name)
        }
        chosen = wanted_models(models) or [self._base(budgets[0]).recipe.model]
        self._models = {str(as_spec(model)): model for model in chosen}
        self._made: tuple[Unit, ImageSet, float] | None = None
        self._failed: dict[Unit, DDError] = {}
        self.notes = [
            f"Baselines are trained by the recipe of the trajectory presets ({self._first_lr()}), methods by the "
            "recipe that their set carries; the number of optimiser steps is the same.",
            "Seconds of experts and teachers are those of the first set that needed them.",
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Models, as the table names them."""
        return tuple(self._models)

    def units(self) -> list[Unit]:
        """Baselines first, so that differences can be taken as soon as a method is measured."""
        sized = [name for name in self._baselines if name not in FULL]
        units = [
            Unit(name, ipc, seed)
            for ipc in self._budgets
            for name in (*sized, *self._methods, *self._beside)
            for seed in self._settings.seeds
            if name != "class_mean" or ipc == 1
        ]
        return units + [Unit(name, None, s) for name in self._baselines if name in FULL for s in self._settings.seeds]

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        base = self._base_of(unit)
        told = {
            **self._settings.request(),
            "data": {"name": self._real.name, "sha256": self._real.fingerprint},
            "steps": self._steps(unit),
        }
        if unit.set in FULL:
            return {**told, "method": {"name": unit.set, "train": base.recipe.to_json(), "whiten": base.whiten}}
        return {**told, "method": self._method(unit).describe()}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model: networks of the streams (seed, r) that all sets share."""
        if unit.set in FULL:
            yield from self._full(unit, models)
            return
        small, seconds = self._distilled(unit)
        for name in models:
            start = time.monotonic()
            learner = self._learner(name, unit, small)
            yield {
                **self._scored(learner, small, unit, start),
                "bytes": small.nbytes._asdict(),
                "beside": self._beside.get(unit.set),
                "distill_seconds": round(seconds, 3) if unit.set in self._methods else None,
                "selection": str(small.provenance.get("selection", "")),
            }

    def _learner(self, name: str, unit: Unit, small: ImageSet | RealImages) -> NetworkLearner:
        """What trains networks of a model on a unit's set.

        A published row's first step size is made for matching (0.001 with many), and leaves other images undertrained:
        there the step size of baselines is tuned, or that of the row's experts where no images are held out.
        """
        lr, val, base = self._settings.lr, self._real.val, self._base_of(unit)
        learner = NetworkLearner(
            model=self._models[name],
            steps=self._steps(unit),
            lr=None if isinstance(lr, str) else float(lr),
            device=self._settings.device,
        )
        alone = lr == "recipe" and base.published and unit.set in self._baselines
        if alone and val is None:
            return dataclasses.replace(learner, lr=base.expert_lr)
        if lr != "tuned" and not alone:
            return learner
        assert val is not None  # refused at the door
        return tune_lr(learner, small, val, child_seed(unit.seed, "tune"))

    def _scored(
        self, learner: NetworkLearner, small: ImageSet | RealImages, unit: Unit, start: float
    ) -> dict[str, Any]:
        count, recipe = self._settings.repeats, learner.recipe(small)
        values = learner.scores(small, [child_seed(unit.seed, "evaluate", 0, r) for r in range(count)], self._scorer)
        return {
            "metric": "accuracy",
            "values": values,
            "streams": [f"{unit.seed}/{r}" for r in range(count)],
            "steps": recipe.steps,
            "lr": recipe.lr,
            "train_seconds": round(time.monotonic() - start, 3),
        }

    def _full(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        recipe, whiten = self._base_of(unit)[:2]
        small = RealImages(
            split=self._real.train, classes=self._real.classes, recipe=recipe, transform=self._transform(whiten)
        )
        pixels = len(small) * small.channels * small.size[0] * small.size[1]
        size = {"images": pixels, "labels": 8 * len(small), "extras": 0, "total": pixels + 8 * len(small)}
        for name in models:
            start, note = time.monotonic(), "all training images"
            learner = self._learner(name, unit, small)
            if unit.set == "full_converged":
                if self._real.val is None:
                    raise refuse("full_converged", "left out where no validation split is held out", unit.set)
                most = MOST * (self._steps(unit) or recipe.steps)
                steps, flat = enough_steps(learner, small, self._real.val, child_seed(unit.seed, "enough"), most)
                learner = dataclasses.replace(learner, steps=steps)
                note += ", steps by the validation split" if flat else f", still gaining at {steps} steps"
            yield {
                **self._scored(learner, small, unit, start),
                "bytes": size,
                "distill_seconds": None,
                "selection": note,
            }

    def _distilled(self, unit: Unit) -> tuple[ImageSet, float]:
        """The set and the seconds that it took; the last one is kept, for models that are added."""
        if self._made is not None and self._made[0] == unit:
            return self._made[1:]
        if unit in self._failed:  # once is enough, however many models there are
            raise self._failed[unit]
        settings, start = self._settings, time.monotonic()
        out = settings.run_folder(unit) if unit.set in self._methods else None
        given: dict[str, Any] = {"seed": unit.seed, "out": out, "protocol": settings.protocol, "progress": False}
        given.update(device=settings.device, store=settings.store, resume=settings.resume, **settings.distilling)
        if self._real.channels * self._real.size[0] * self._real.size[1] <= TINY:
            given.setdefault("reuse", ALL)
        try:
            small = need_images(distill(self._real, self._method(unit), **given))
        except DDError as error:
            self._failed[unit] = error
            raise
        seconds = (
            time.monotonic() - start if out is None else float(read_json(out / "run.json", "finished run")["seconds"])
        )
        self._made = (unit, small, seconds)
        return small, seconds

    def _method(self, unit: Unit) -> Method:
        """The value of a unit at its budget."""
        assert unit.budget is not None
        if unit.set in METHODS and is_baseline(unit.set):
            recipe, whiten = self._base(unit.budget)[:2]
            chosen = {"teacher": self._teacher(unit.budget)} if unit.set in CORESETS else {}
            return METHODS[unit.set](ipc=unit.budget, train=recipe, whiten=whiten, **chosen)
        if unit.set in self._beside:
            value: Any = self._method(dataclasses.replace(unit, set=self._beside[unit.set]))
            return value.of_random_images()
        given = self._methods[unit.set]
        if isinstance(given, str):
            return self._named(given, unit.budget)
        return replace_fields(given, {"ipc": unit.budget})

    def _soft(self, name: str) -> bool:
        """Whether a method's labels are of teachers."""
        given = self._methods[name]
        try:
            value = self._named(given, max(self._budgets)) if isinstance(given, str) else given
        except InputError:  # no such preset: its own rows say so
            return False
        return isinstance(value, Recover | Infer) and value.labels != "hard"

    def _teacher(self, ipc: int) -> TeacherRecipe:
        """Whose features choose coresets: the first teacher of the decoupled presets, which the store then shares."""
        value: Any = self._named("rded", ipc)
        recipe: TeacherRecipe = value.teacher
        return dataclasses.replace(recipe, model=str(value.committee[0]))

    def _named(self, method: str, ipc: int) -> Method:
        """A method's preset for this data."""
        return resolve_method(method, self._real, self._settings.tier, self._settings.device, {"ipc": ipc})[0]

    def _steps(self, unit: Unit) -> int | None:
        if self._settings.steps is not None:
            return self._settings.steps
        budgets = self._budgets if unit.budget is None else (unit.budget,)
        return max(self._base(ipc).recipe.steps for ipc in budgets)

    @cached_property
    def _scorer(self) -> Scorer:
        assert self._real.test is not None
        return Scorer(self._real.test, self._settings.device)

    @lru_cache  # noqa: B019  # two values, as long as the bench
    def _transform(self, whiten: bool) -> Transform:
        return make_transform(self._real, whiten)

    def _first_lr(self) -> str:
        """Which step size baselines have, for the notes."""
        if self._settings.lr != "recipe":
            return f"step size: {self._settings.lr}"
        if not self._base(self._budgets[0]).published:
            return "its first step size"
        return "step size: " + ("that of its experts" if self._real.val is None else "tuned on held-out images")

    def _base_of(self, unit: Unit) -> _Base:
        """What baselines have at a unit's budget; all data has that of the budget with the most steps."""
        return self._base(unit.budget or max(self._budgets, key=lambda ipc: self._base(ipc).recipe.steps))

    @lru_cache  # noqa: B019  # one value a budget
    def _base(self, ipc: int) -> _Base:
        """How baselines are trained and whether they are whitened: as the trajectory preset's sets of this budget."""
        settings = self._settings
        try:
            value, row = resolve_method("mtt", self._real, settings.tier, settings.device, {"ipc": ipc})
        except InputError as error:
            raise InputError(f"Baselines, and the steps of every row, have the recipe of mtt. {error}") from error
        assert isinstance(value, TrajectoryMatching)
        expert = value.expert
        recipe = dataclasses.replace(
            value.train,
            model=str(as_spec(expert.model)),
            lr=value.lr_init,
            augment=expert.augment,
            augment_mode=expert.augment_mode,
        )
        return _Base(recipe, expert.whiten, row is not None and row.tier == "paper", expert.lr)


def _defaults(budgets: Sequence[int], real: Images) -> list[str]:
    names = [name for name in DEFAULTS if name != "full_converged" or real.val is not None]
    return ["class_mean", *names] if 1 in budgets else names
