"""The benchmark's cells of image methods: one training recipe for the baselines, the set's own for the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, ClassVar, Literal, final

from dd.contest.baselines_images import IMAGE_BASELINES, BesideImages, ImageBaseline, ImageEntrant
from dd.contest.contest import chosen, given_lr
from dd.contest.images import ImageContest
from dd.contest.plan import Bench, Settings, Unit, cell, wanted_models
from dd.contest.readings import called, expanded
from dd.contest.recipes import NOTES, RD3, Under, suited, under
from dd.data import Images
from dd.errors import InputError
from dd.evaluation import Scorer, reader_of
from dd.evaluation.readers import with_net
from dd.evaluation.subset import Equipped
from dd.methods import Infer, Method, Recover, Run, TrajectoryMatching
from dd.models import as_spec
from dd.run.resolve import resolve_method
from dd.synthetic import ImageSet, Layout
from dd.synthetic.layout import PLAIN
from dd.teachers import TeacherRecipe

TINY, ALL = 1024, 1000
"""Numbers of a picture up to which all student steps keep what pass 1 computed: a quarter less time, little memory."""


@final
class ImageBench(Bench):
    """Measures image sets; see `dd.benchmark` for the arguments."""

    counted: ClassVar[str] = "ipc"
    beside: ClassVar[Mapping[str, ImageBaseline]] = IMAGE_BASELINES
    unit: ClassVar[str] = "ipc"
    _real: Images

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
        picked = suited(settings.recipe, picked, baselines is not None)
        self._recipes: dict[int, Under] = {}
        super().__init__(real, asked, budgets, [one for one in picked if not (one.labels or one.layout)], settings)
        pairs = [(one, name) for name in self._methods for one in picked if self._has_own(one, name)]
        self._own = {f"{one.name} of {name}": one for one, name in pairs}
        self._beside = {f"{one.name} of {name}": name for one, name in pairs}
        own = RD3.model if settings.recipe == "rd3" else self._at(budgets[0]).recipe.model
        chosen_models = expanded(wanted_models(models) or [own], own, real.size)
        first = next((model for model in chosen_models if reader_of(model) is None), own)
        usual = called(first) == called(own)  # else a reader is named with its network: cells are of a name
        shown = [model if usual else with_net(model, first) for model in chosen_models]
        self.models = {called(one): with_net(model, first) for one, model in zip(shown, chosen_models, strict=True)}
        self.notes = [
            *self._ways(),
            "Seconds of experts and teachers are those of the first set that needed them.",
        ]

    def _ways(self) -> list[str]:
        """How networks are trained, for the notes."""
        told = (
            f"Baselines are trained by the recipe of the trajectory presets ({self._first_lr()}), methods by the "
            "recipe that their set carries; the number of optimiser steps is the same."
        )
        recipe = self._settings.recipe
        return [*([] if recipe == "rd3" else [told]), *NOTES[recipe]]

    def baseline(self, name: str) -> ImageBaseline | None:
        """The baseline of a row."""
        return self._own.get(name) or super().baseline(name)

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told: dict[str, Any] = {"name": self._real.name, "sha256": self._real.fingerprint}
        told = {**self._settings.request(), "data": told, "steps": self._steps(unit)}
        if unit.budget is None:
            beside = self._beside_of(unit)
            return {**told, "method": {"name": unit.set, "train": beside.recipe.to_json(), "whiten": beside.whiten}}
        return {**told, "method": self.method(unit).describe()}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model: networks of the streams (seed, r) that all sets share."""
        small, told = self._whole(unit) if unit.budget is None else self._sized(unit)
        baseline = self.baseline(unit.set)
        converged = baseline is not None and baseline.converged
        trained = self._as_trained(unit)(small)
        entrant = ImageEntrant(name=unit.set, sets=[trained], lr=self._lr(unit), converged=converged)
        rules = self._settings.rules(unit, self._steps(unit))
        contest = ImageContest(entrants=[entrant], real=self._real, rules=rules, scorer=self._scorer)
        for row in contest.rows([self.models[name] for name in models]):
            streams = [f"{unit.seed}/{r}" for r in range(rules.repeats)]
            selection = ", ".join(text for text in (told["selection"], row.note) if text)
            yield {**cell(row, streams), **told, "selection": selection}

    def _as_trained(self, unit: Unit) -> Under:
        """What a unit's set is trained as; a teacher is sat down once."""
        settings, seed = self._settings, unit.seed
        if seed not in self._recipes:
            run = Run(seed=seed, device=settings.device, store=settings.store)
            teacher = partial(self._teacher_recipe, self.budgets[0])
            self._recipes[seed] = under(settings.recipe, self._real, teacher, run, settings.steps, settings.committee)
        return self._recipes[seed]

    def _lr(self, unit: Unit) -> float | Literal["tuned"] | None:
        """The step size of a unit's networks.

        A published row's first step size is made for matching (0.001 with many), and leaves other images undertrained:
        there the step size of baselines is tuned, or that of the row's experts where no images are held out.
        """
        baseline = self.baseline(unit.set)
        own = None if baseline is None or baseline.labels else self._beside_of(unit).lr
        return own if self._settings.lr == "recipe" else given_lr(self._settings.lr)

    def _whole(self, unit: Unit) -> tuple[Equipped, dict[str, Any]]:
        """All training images, and what their cells say of them."""
        small: Any = self._baselines[unit.set].make(self._beside_of(unit))
        pixels = len(small) * small.channels * small.size[0] * small.size[1]
        size = {"images": pixels, "labels": 8 * len(small), "extras": 0, "total": pixels + 8 * len(small)}
        return small, {"bytes": size, "distill_seconds": None, "selection": "all training images"}

    def _sized(self, unit: Unit) -> tuple[ImageSet, dict[str, Any]]:
        """The set of a unit, and what its cells say of it; the last one is kept, for models that are added."""
        baseline = self.baseline(unit.set)
        own, numbers = unit.set in self._methods, self._real.channels * self._real.size[0] * self._real.size[1]
        given: dict[str, Any] = {"protocol": self._settings.protocol, **({"reuse": ALL} if numbers <= TINY else {})}
        if unit not in self._made:
            self._made.clear()
        small, seconds = self._distilled(unit, self._settings.run_folder(unit) if own else None, **given)
        return small, {
            "bytes": small.nbytes._asdict(),
            "beside": self._beside.get(unit.set) if baseline is not None and baseline.labels else None,
            "distill_seconds": round(seconds, 3) if own else None,
            "selection": str(small.provenance.get("selection", "")),
        }

    def method(self, unit: Unit) -> Method:
        """What makes the set of a unit at its budget."""
        baseline = self.baseline(unit.set)
        if baseline is None:
            return super().method(unit)
        beside = self._beside_of(unit)
        if unit.set in self._beside:
            other: Any = self.method(dataclasses.replace(unit, set=self._beside[unit.set]))
            if baseline.labels:
                beside = dataclasses.replace(beside, method=other)
            else:
                assert unit.budget is not None
                layout: Layout = other.layout
                stored = unit.budget * getattr(other, "canvas", 1) ** 2  # a canvas has the bytes of so many images
                beside = dataclasses.replace(beside, layout=layout, ipc=layout.plain_count(stored), stored=stored)
        made = baseline.make(beside)
        assert isinstance(made, Method)
        return made

    def _has_own(self, baseline: ImageBaseline, name: str) -> bool:
        """Whether a method has a row of that baseline for itself: for its labels of teachers, or for its layout."""
        if not (baseline.labels or baseline.layout):
            return False
        given = self._methods[name]
        try:
            value = self._preset(given, max(self.budgets)) if isinstance(given, str) else given
        except InputError:  # no such preset: its own rows say so
            return False
        if baseline.labels:
            return isinstance(value, Recover | Infer) and value.labels != "hard"
        layout: Layout = getattr(value, "layout", PLAIN)
        if baseline.layout == "kept":
            return not layout.whole or getattr(value, "canvas", 1) > 1
        return not layout.whole and layout.itemsize < PLAIN.itemsize

    def _teacher(self, ipc: int) -> TeacherRecipe:
        """Whose features choose coresets: the first teacher of the decoupled presets, which the store then shares."""
        value: Any = self._preset("rded", ipc)
        return dataclasses.replace(self._teacher_recipe(ipc), model=str(value.committee[0]))

    def _teacher_recipe(self, ipc: int) -> TeacherRecipe:
        """How the teachers of the decoupled presets are trained."""
        value: Any = self._preset("rded", ipc)
        recipe: TeacherRecipe = value.teacher
        return recipe

    def _steps(self, unit: Unit) -> int | None:
        if self._settings.steps is not None or self._settings.recipe == "rd3":
            return self._settings.steps
        budgets = self.budgets if unit.budget is None else (unit.budget,)
        return max(self._at(ipc).recipe.steps for ipc in budgets)

    @cached_property
    def _scorer(self) -> Scorer:
        assert self._real.test is not None
        return Scorer(self._real.test, self._settings.device)

    def _first_lr(self) -> str:
        """Which step size baselines have, for the notes."""
        if self._settings.lr != "recipe":
            return f"step size: {self._settings.lr}"
        if (lr := self._at(self.budgets[0]).lr) is None:
            return "its first step size"
        return "step size: " + ("tuned on held-out images" if lr == "tuned" else "that of its experts")

    def _beside_of(self, unit: Unit) -> BesideImages:
        """What baselines are made from at a unit's budget; all data as at the budget with the most steps."""
        return self._at(unit.budget or max(self.budgets, key=lambda ipc: self._at(ipc).recipe.steps))

    @lru_cache  # noqa: B019  # one value a budget
    def _at(self, ipc: int) -> BesideImages:
        """What baselines are made from at a budget, with recipe and whitening of the trajectory preset."""
        settings = self._settings
        try:
            value, row = resolve_method("mtt", self._real, settings.tier, settings.device, {"ipc": ipc})
        except InputError as error:
            raise InputError(f"Baselines, and the steps of every row, have the recipe of mtt. {error}") from error
        assert isinstance(value, TrajectoryMatching)
        expert = value.expert
        own: dict[str, Any] = {name: getattr(expert, name) for name in ("augment", "augment_mode")}
        published = row is not None and row.tier == "paper"
        return BesideImages(
            real=self._real,
            ipc=ipc,
            recipe=dataclasses.replace(value.train, model=str(as_spec(expert.model)), lr=value.lr_init, **own),
            lr=None if not published else expert.lr if self._real.val is None else "tuned",
            whiten=expert.whiten,
            layout=Layout(storage=value.storage),
            teacher=partial(self._teacher, ipc),
        )
