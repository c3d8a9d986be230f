"""`teach`: train the teachers that decoupled methods need, before they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.home import default_store
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.shapes import filled
from dd.data import Source
from dd.errors import refuse, unknown
from dd.evaluation.selection import Protocol
from dd.run.resolve import load_real, only_images, resolve_device
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
    **fields: Any,
) -> list[Teacher]:
    """Train the teachers that are missing in the store, and none twice; `distill` finds them there.

    Args:
        data: as in `dd.distill`.
        models: names of networks with batch norms.
        recipe: how they are trained (its `model` is not read); a `dd.TeacherRecipe` by default. A method finds a
            teacher only under the recipe that it asks for itself.
        protocol, store, device, threads, progress, root, download, size, aspect: as in `dd.distill`.
        **fields: fields of the recipe, such as `epochs=20`.

    Returns:
        The teachers in the order of `models`, each with its accuracy on held-out training images.

    Raises:
        InputError: an unknown model or field, or a teacher that learns nothing.
        DivergedError: training diverged.
    """
    given, names = locals(), _names(models)
    known = [field.name for field in dataclasses.fields(TeacherRecipe) if field.name != "model"]
    for name in fields:
        if name not in known:
            raise unknown("field of TeacherRecipe", name, known)
    target = resolve_device(device)
    real = only_images(load_real(data, filled(Source, given), protocol), "`teach`")
    made = dataclasses.replace(recipe or TeacherRecipe(), **fields)
    teachers = TeacherStore(default_store(store, progress) / "teachers", real)
    report = reporter(f"teachers on {real.name}", progress)
    recipes = [dataclasses.replace(made, model=name) for name in names]
    return [teachers.get(one, device=target, progress=report) for one in recipes]


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
