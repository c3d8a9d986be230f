"""The benchmark's cells of image methods: one training recipe for the baselines, the set's own for the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, Literal, NamedTuple, final

from dd.baselines_images import IMAGE_BASELINES, BesideImages, ImageEntrant
from dd.benchmark_plan import Bench, Settings, Unit, cell, wanted_models
from dd.contest import chosen, given_lr
from dd.contest_images import ImageContest
from dd.data import Images
from dd.errors import InputError
from dd.evaluation import Scorer
from dd.evaluation.subset import Equipped
from dd.methods import METHODS, Infer, Method, Recover, TrajectoryMatching, names_of
from dd.methods.cards import is_baseline
from dd.models import as_spec
from dd.resolve import resolve_method
from dd.synthetic import ImageSet
from dd.teachers import TeacherRecipe

TINY, ALL = 1024, 1000
"""Numbers of a picture up to which all student steps keep what pass 1 computed: a quarter less time, little memory."""


@final
class _Base(NamedTuple):
    """What baselines are made from at a budget, whether that is as published, and the step size of its experts."""

    beside: BesideImages
    published: bool
    expert_lr: float


@final
class ImageBench(Bench):
    """Measures image sets; see `dd.benchmark` for the arguments."""

    counted: ClassVar[str] = "ipc"
    unit: ClassVar[str] = "ipc"

    def __init__(
        self,
        real: Images,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        models: Any,
        baselines: str | Sequence[str] | None,
        settings: Settings,
    ) -> None:
        picked = chosen(IMAGE_BASELINES, "benchmark", baselines)
        if baselines is None and real.val is None:
            picked = [one for one in picked if not one.converged]
        super().__init__(real, asked, [name for name in names_of("images") if not is_baseline(name)], settings)
        self._real, self._budgets = real, budgets
        plain = {one.name: one for one in picked if not one.labels and one.name not in self._methods}
        kept = [one for one in picked if one.labels]
        self._beside = {f"{one.name} of {name}": name for name in self._methods for one in kept if self._soft(name)}
        own = [name for name in self._methods if name in METHODS and name in IMAGE_BASELINES]
        self._plain = plain
        self._rows = {name: IMAGE_BASELINES[name] for name in own} | plain
        self._rows |= {name: one for one in kept for name in self._beside}
        chosen_models = wanted_models(models) or [self._base(budgets[0]).beside.recipe.model]
        self.models = {str(as_spec(model)): model for model in chosen_models}
        self.notes = [
            f"Baselines are trained by the recipe of the trajectory presets ({self._first_lr()}), methods by the "
            "recipe that their set carries; the number of optimiser steps is the same.",
            "Seconds of experts and teachers are those of the first set that needed them.",
        ]

    def units(self) -> list[Unit]:
        """Baselines first, so that differences can be taken as soon as a method is measured."""
        seeds, sized = self._settings.seeds, [one.name for one in self._plain.values() if one.budget]
        pairs: list[tuple[str, int | None]] = [
            (name, ipc)
            for ipc in self._budgets
            for name in (*sized, *self._methods, *self._beside)
            if name not in self._rows or self._rows[name].ipc in (None, ipc)
        ]
        pairs += [(one.name, None) for one in self._plain.values() if not one.budget]
        return [Unit(name, ipc, seed) for name, ipc in pairs for seed in seeds]

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told: dict[str, Any] = {"name": self._real.name, "sha256": self._real.fingerprint}
        told = {**self._settings.request(), "data": told, "steps": self._steps(unit)}
        if unit.budget is None:
            beside = self._base_of(unit).beside
            return {**told, "method": {"name": unit.set, "train": beside.recipe.to_json(), "whiten": beside.whiten}}
        return {**told, "method": self.method(unit).describe()}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model: networks of the streams (seed, r) that all sets share."""
        small, told = self._whole(unit) if unit.budget is None else self._sized(unit)
        baseline = self._rows.get(unit.set)
        converged = baseline is not None and baseline.converged
        entrant = ImageEntrant(name=unit.set, sets=[small], lr=self._lr(unit), converged=converged)
        rules = self._settings.rules(unit, self._steps(unit))
        contest = ImageContest(entrants=[entrant], real=self._real, rules=rules, scorer=self._scorer)
        for row in contest.rows([self.models[name] for name in models]):
            streams = [f"{unit.seed}/{r}" for r in range(rules.repeats)]
            selection = ", ".join(text for text in (told["selection"], row.note) if text)
            yield {**cell(row, streams), **told, "selection": selection}

    def _lr(self, unit: Unit) -> float | Literal["tuned"] | None:
        """The step size of a unit's networks.

        A published row's first step size is made for matching (0.001 with many), and leaves other images undertrained:
        there the step size of baselines is tuned, or that of the row's experts where no images are held out.
        """
        base = self._base_of(unit)
        if self._settings.lr != "recipe" or not base.published or unit.set not in self._plain:
            return given_lr(self._settings.lr)
        return base.expert_lr if self._real.val is None else "tuned"

    def _whole(self, unit: Unit) -> tuple[Equipped, dict[str, Any]]:
        """All training images, and what their cells say of them."""
        small: Any = self._rows[unit.set].make(self._base_of(unit).beside)
        pixels = len(small) * small.channels * small.size[0] * small.size[1]
        size = {"images": pixels, "labels": 8 * len(small), "extras": 0, "total": pixels + 8 * len(small)}
        return small, {"bytes": size, "distill_seconds": None, "selection": "all training images"}

    def _sized(self, unit: Unit) -> tuple[ImageSet, dict[str, Any]]:
        """The set of a unit, and what its cells say of it; the last one is kept, for models that are added."""
        own, numbers = unit.set in self._methods, self._real.channels * self._real.size[0] * self._real.size[1]
        given: dict[str, Any] = {"protocol": self._settings.protocol, **({"reuse": ALL} if numbers <= TINY else {})}
        if unit not in self._made:
            self._made.clear()
        small, seconds = self._distilled(unit, self._settings.run_folder(unit) if own else None, **given)
        return small, {
            "bytes": small.nbytes._asdict(),
            "beside": self._beside.get(unit.set),
            "distill_seconds": round(seconds, 3) if own else None,
            "selection": str(small.provenance.get("selection", "")),
        }

    def method(self, unit: Unit) -> Method:
        """What makes the set of a unit at its budget."""
        assert unit.budget is not None
        baseline = self._rows.get(unit.set)
        if baseline is None:
            return self._own(unit)
        beside = self._base(unit.budget).beside
        if baseline.labels:
            other: Any = self.method(dataclasses.replace(unit, set=self._beside[unit.set]))
            beside = dataclasses.replace(beside, method=other)
        made = baseline.make(beside)
        assert isinstance(made, Method)
        return made

    def _soft(self, name: str) -> bool:
        """Whether a method's labels are of teachers."""
        given = self._methods[name]
        try:
            value = self._preset(given, max(self._budgets)) if isinstance(given, str) else given
        except InputError:  # no such preset: its own rows say so
            return False
        return isinstance(value, Recover | Infer) and value.labels != "hard"

    def _teacher(self, ipc: int) -> TeacherRecipe:
        """Whose features choose coresets: the first teacher of the decoupled presets, which the store then shares."""
        value: Any = self._preset("rded", ipc)
        recipe: TeacherRecipe = value.teacher
        return dataclasses.replace(recipe, model=str(value.committee[0]))

    def _steps(self, unit: Unit) -> int | None:
        if self._settings.steps is not None:
            return self._settings.steps
        budgets = self._budgets if unit.budget is None else (unit.budget,)
        return max(self._base(ipc).beside.recipe.steps for ipc in budgets)

    @cached_property
    def _scorer(self) -> Scorer:
        assert self._real.test is not None
        return Scorer(self._real.test, self._settings.device)

    def _first_lr(self) -> str:
        """Which step size baselines have, for the notes."""
        if self._settings.lr != "recipe":
            return f"step size: {self._settings.lr}"
        if not self._base(self._budgets[0]).published:
            return "its first step size"
        return "step size: " + ("that of its experts" if self._real.val is None else "tuned on held-out images")

    def _base_of(self, unit: Unit) -> _Base:
        """What baselines have at a unit's budget; all data has that of the budget with the most steps."""
        return self._base(unit.budget or max(self._budgets, key=lambda ipc: self._base(ipc).beside.recipe.steps))

    @lru_cache  # noqa: B019  # one value a budget
    def _base(self, ipc: int) -> _Base:
        """What baselines are made from: recipe and whitening are those of the trajectory preset at this budget."""
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
        beside = BesideImages(
            real=self._real,
            ipc=ipc,
            recipe=recipe,
            whiten=expert.whiten,
            teacher=partial(self._teacher, ipc),
        )
        return _Base(beside, row is not None and row.tier == "paper", expert.lr)
