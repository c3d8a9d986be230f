"""`teach`: train the teachers that decoupled methods need, before they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.home import default_store
from dd.base.parallel import together
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.shapes import filled
from dd.data import Source
from dd.errors import refuse, unknown
from dd.evaluation.selection import Protocol
from dd.run.plans import Plan
from dd.run.resolve import load_real, only_images, resolve_device
from dd.run.work import WorkUnit, check_executor, make_named, spread
from dd.teachers import Teacher, TeacherRecipe, TeacherStore


@under_own_settings
@keeping_pages
def teach(
    data: object,
    models: str | Sequence[str] = ("convnet(norm=batch)",),
    *,
    recipe: TeacherRecipe | None = None,
    protocol: Protocol = "clean",
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    executor: Any = None,
    **fields: Any,
) -> list[Teacher]:
    """Train the teachers that are missing in the store, and none twice; `distill` finds them there.

    Args:
        data: as in `dd.distill`.
        models: names of networks with batch norms.
        recipe: how they are trained (its `model` is not read); a `dd.TeacherRecipe` by default. A method finds a
            teacher only under the recipe that it asks for itself.
        protocol, store, device, threads, progress, root, download, size, aspect: as in `dd.distill`.
        executor: has `submit`, as of `concurrent.futures`: its workers train the teachers; data is then given by name,
            and how they are trained as fields.
        **fields: fields of the recipe, such as `epochs=20`.

    Returns:
        The teachers in the order of `models`, each with its accuracy on held-out training images.

    Raises:
        InputError: an unknown model or field, or a teacher that learns nothing.
        DivergedError: training diverged.
    """
    given = locals()
    if executor is not None:
        check_executor(executor)
    target = resolve_device(device)
    teachers, recipes = _opened(given)
    report = reporter(f"teachers on {teachers.real.name}", progress)
    if executor is not None:
        place = {"store": teachers.root.parent}
        plan = plan_of_teachers({**{k: v for k, v in given.items() if k != "fields"}, **fields, **place})
        units = teacher_units(teachers, recipes, target)
        spread(executor, make_teacher, plan, teachers.root.parent / "plans", units, report, progress)
    if recipes[0].ranks > 1:
        with together({**given, "verb": "teach"}) as (rank, _):
            teachers.make_together(recipes, device=target, progress=report if rank == 0 else reporter("", False))
    else:
        teachers.make_missing(recipes, device=target, progress=report)
    return [teachers.get(one, device=target, progress=report) for one in recipes]


def _opened(given: Mapping[str, Any]) -> tuple[TeacherStore, list[TeacherRecipe]]:
    """The store and the recipes of the arguments of `teach`."""
    names, fields = _names(given["models"]), given.get("fields", {})
    known = [field.name for field in dataclasses.fields(TeacherRecipe) if field.name != "model"]
    for name in fields:
        if name not in known:
            raise unknown("field of TeacherRecipe", name, known)
    real = only_images(load_real(given["data"], filled(Source, given), given["protocol"]), "`teach`")
    recipe = given["recipe"]  # as JSON in a plan
    whole = TeacherRecipe(**recipe) if isinstance(recipe, Mapping) else recipe or TeacherRecipe()
    made = dataclasses.replace(whole, **fields)
    store = TeacherStore(default_store(given["store"], given["progress"]) / "teachers", real)
    return store, [dataclasses.replace(made, model=name) for name in names]


def teacher_units(store: TeacherStore, recipes: Sequence[TeacherRecipe], device: torch.device) -> list[WorkUnit]:
    """Teachers as units of work."""

    def made(recipe: TeacherRecipe) -> WorkUnit:
        path = store.path(recipe)
        return WorkUnit(
            f"teacher-{path.stem}",
            "teacher",
            path.parent,
            lambda: store.has(recipe),
            lambda: store.get(recipe, device=device),
        )

    return [made(recipe) for recipe in recipes]


def plan_of_teachers(given: Mapping[str, Any]) -> Plan:
    """The plan of a call; see `Plan.of`."""
    recipe = given.get("recipe")
    told = {**given, "recipe": recipe.to_json() if isinstance(recipe, TeacherRecipe) else recipe}
    plan = Plan.of("teach", told)
    plan.bound(teach)
    return plan


def teach_units(plan: Plan) -> list[WorkUnit]:
    """The teachers of a plan."""
    given = plan.bound(teach)
    return teacher_units(*_opened(given), resolve_device(given["device"]))


def make_teacher(plan: str, unit: str) -> str:
    """A teacher in a worker: `dd.run.work.make_named`."""
    return make_named(plan, unit, teach_units)


def _names(models: object) -> tuple[str, ...]:
    """The names of networks to train, or refuse what is none: a module is a teacher already."""
    names = (models,) if isinstance(models, str) else models
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        wrong = names if not isinstance(names, list | tuple) else next(n for n in names if not isinstance(n, str))
        way_out = "A trained module teaches as it is: `dd.distill(…, committee=[module])`."
        raise refuse("models", "names of networks", f"a {type(wrong).__name__}", way_out)
    if not names:
        raise refuse("models", "at least one name", "none")
    return tuple(names)
