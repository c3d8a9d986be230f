"""Published settings and two-core budgets as data: `preset("ftd", "cifar10", 10).fields` go into the method.

The rows are in the cards of the methods (`dd.methods.cards`), one line of TOML each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from dd.base.texts import shown
from dd.errors import InputError, find_name, near, refuse, unknown
from dd.experts import ExpertRecipe, load_recipe
from dd.methods import METHODS, Method, class_of, kind_of, one_of
from dd.methods.cards import ABOUT, NEVER, card
from dd.synthetic import NodeRecipe, TrainRecipe, TreeRecipe
from dd.synthetic.layout import LAYOUT, PLAIN, STORAGE
from dd.teachers import TeacherRecipe

Tier = Literal["paper", "cpu"]
Choice = Literal["auto", "paper", "cpu"]

DEFAULT: Final = "default"
_RECIPES: Final = {"images": TrainRecipe, "graphs": TreeRecipe, "nodes": NodeRecipe}
"""How networks are trained on the sets of a kind."""


@final
@dataclass(frozen=True, kw_only=True)
class Preset:
    """The fields of one row, ready for the method's factory.

    Attributes:
        method: key of `METHODS`.
        dataset: of the row; `default` where it serves data that has none.
        ipc: images a class that was asked for.
        tier: `paper` (as published) or `cpu` (two cores).
        source: where the settings were read.
        settings: `paper`: whether they were transcribed from sources that agree; `cpu`: true, since they are this
            library's own.
        run: the record that shows the row, a name in `scripts/records/results/`; `None` where it was never run.
        note: what a user should know before a run; may be empty.
        published: `mean` and perhaps `std` (fractions), their `source`, and `verified`; `None` where none was seen.
        aspect: how the published run brought pictures to one size (`load_images`); `None` where it had no need to.
        fields: keywords of `METHODS[method]`, with `ExpertRecipe` and `TrainRecipe` values.
    """

    method: str
    dataset: str
    ipc: int | None
    tier: Tier
    source: str = ""
    settings: bool = False
    run: str | None = None
    note: str = ""
    published: Mapping[str, Any] | None = None
    aspect: Literal["crop", "squash"] | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def preset(method: str, dataset: str | None, ipc: int | None, tier: Choice = "auto", gpu: bool = False) -> Preset:
    """The settings of `method` for `ipc` images a class of a data set.

    The published row must match exactly. On two cores the first of these serves: the row of (data set, ipc),
    the data set's row for any ipc, the default row of this ipc, the default row for any ipc.

    Args:
        method: key of `METHODS`.
        dataset: name of a card; `None` or an unknown name is custom data.
        ipc: images a class, at least 1; `None` for a method for graphs.
        tier: `paper`, `cpu`, or `auto`: the published row where there is one and a GPU, else `cpu`.
        gpu: whether a GPU is present.

    Raises:
        InputError: unknown method or tier, no such published row (the message lists those there are, or the methods
            that have some), or an `ipc` that the method cannot give.
    """
    method = find_name("method", method, METHODS)
    found = rows(method)
    if tier not in ("auto", "paper", "cpu"):
        raise refuse("preset", "`auto`, `paper` or `cpu`", repr(tier), near(tier, ("auto", "paper", "cpu")))
    if (ipc is not None) != (class_of(method).budget == "ipc"):
        raise refuse("ipc", "given for images, and left out for a method for graphs", repr(ipc))
    if ipc is not None and (isinstance(ipc, bool) or not isinstance(ipc, int) or ipc < 1):
        raise refuse("ipc", "a whole number of at least 1", repr(ipc))
    if tier == "paper" or (tier == "auto" and gpu):
        row = _exact(found, "paper", dataset, ipc)
        if row is not None:
            return _built(method, row, ipc)
        if tier == "paper":
            raise _no_published_row(method, found, dataset, ipc)
    for name, images in ((dataset, ipc), (dataset, None), (DEFAULT, ipc), (DEFAULT, None)):
        row = _exact(found, "cpu", name, images)
        if row is not None:
            return _built(method, row, ipc)
    served = sorted({row["ipc"] for row in found if row["dataset"] == DEFAULT})
    raise refuse("ipc", f"{' or '.join(map(str, served))} for {method}", ipc)


def _exact(found: Iterable[dict[str, Any]], tier: str, dataset: str | None, ipc: int | None) -> dict[str, Any] | None:
    where = (tier, dataset, ipc)
    return next((row for row in found if (row["tier"], row["dataset"], row.get("ipc")) == where), None)


def _no_rows(method: str) -> InputError:
    known = ", ".join(name for name in METHODS if _published(rows(name)))
    way_out = "Leave `preset` out: this method's fields have one set of defaults."
    asked = f"asked for a method with published rows ({known})"
    return refuse("preset='paper'", asked, f"{method}, which has none", way_out)


def _published(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["tier"] == "paper"]


def _no_published_row(method: str, found: Iterable[dict[str, Any]], dataset: str | None, ipc: int | None) -> InputError:
    known: dict[str, list[Any]] = {}
    for row in _published(found):
        known.setdefault(row["dataset"], []).append(row.get("ipc"))
    if not known:
        return _no_rows(method)
    if ipc is None:
        listed, got, way_out = ", ".join(sorted(known)), "custom data" if dataset is None else dataset, ""
    else:
        listed = "; ".join(f"{name} at {', '.join(map(str, sorted(ipcs)))}" for name, ipcs in sorted(known.items()))
        got, way_out = f"{'custom data' if dataset is None else dataset} at {ipc}", ", or another ipc"
    asked = "asked for a data set" + ("" if ipc is None else " and ipc")
    way_out = f"Use preset='cpu'{way_out}."
    return refuse("preset='paper'", f"{asked} with a published row of {method} ({listed})", got, way_out)


def _built(method: str, row: Mapping[str, Any], ipc: int | None) -> Preset:
    """A row with its recipe read and its nested tables made into values."""
    fields = {key: value for key, value in row.items() if key not in ABOUT}
    if "expert" in row:
        fields["expert"] = dataclasses.replace(load_recipe(row["expert"]), **row.get("expert_fields", {}))
    if "teacher" in row:
        fields["teacher"] = TeacherRecipe(**row["teacher"])
    fields.update({key: tuple(value) for key, value in fields.items() if isinstance(value, list)})
    if "train" in row:
        fields["train"] = _RECIPES[kind_of(method)](**row["train"])
    if row["tier"] == "paper" and getattr(class_of(method), "storage", None) == STORAGE:
        fields.setdefault("storage", PLAIN.storage)  # as published
    if ipc is not None:
        fields["ipc"] = ipc
    return Preset(
        method=method,
        dataset=row["dataset"],
        ipc=ipc,
        tier=row["tier"],
        source=row["source"],
        settings=row["settings"],
        run=None if row["run"] == NEVER else row["run"],
        note=row.get("note", ""),
        published=row.get("published"),
        aspect=row.get("aspect"),
        fields=one_of(method, fields),
    )


def rows(method: str) -> list[dict[str, Any]]:
    """The rows of a method, each with what its tier has in common.

    A row has `dataset, tier, settings, run, source`, perhaps `ipc, note, published`, `expert` (name of a recipe) and
    `expert_fields`, `teacher`, `train`, and fields of the method; what it leaves out is as the method has it.

    Raises:
        InputError: unknown method.
    """
    known = card(method)
    merged = []
    for row in map(deepcopy, known.rows):
        common = deepcopy(dict(known.common.get(row["tier"], {})))
        nested = {name: {**common.get(name, {}), **row.get(name, {})} for name in ("train", "teacher")}
        if "published" in row:
            row["published"].setdefault("verified", True)
        merged.append({**common, **row, **{name: value for name, value in nested.items() if value}})
    return merged


def replace_fields(method: Method, fields: Mapping[str, Any]) -> Method:
    """The method with some fields replaced; also those of its nested recipes, without naming them.

    A name that the method has is its own. Otherwise it belongs to the `expert` recipe (`model`, `whiten`,
    `augment`, `rho`, …), or to `train` where the method has no `expert`. A dict for `expert` or `train`
    changes some of its fields; a text for `expert` names a shipped recipe or the path of a TOML file.

    Args:
        method: a frozen dataclass.
        fields: new values by name.

    Raises:
        InputError: a name that neither has, one given twice, or a value that the method refuses.
    """
    own = _names(method)
    if not own:
        raise refuse("method", "a frozen dataclass, where its fields are to be replaced", repr(method))
    nest = "expert" if "expert" in own else "train"
    inside = _names(getattr(method, nest, None))
    changes: dict[str, Any] = {}
    routed: dict[str, Any] = {}
    for name, value in fields.items():
        if name in own:
            changes[name] = _nested(name, getattr(method, name), value)
        elif name in inside:
            routed[name] = value
        else:
            raise _no_such_field(method, name, value, own, nest, inside)
    if routed:
        given = fields.get(nest)
        if isinstance(given, Mapping) and (twice := sorted(routed.keys() & given.keys())):
            raise refuse(twice[0], f"given once, by itself or inside `{nest}`", "both")
        changes[nest] = _nested(nest, changes.get(nest, getattr(method, nest)), routed)
    return dataclasses.replace(method, **changes)  # type: ignore[type-var]  # it has fields, so it is one


def _nested(name: str, old: object, value: object) -> object:
    """A dict merges into a recipe; a text names an expert recipe; all else is taken as it is."""
    if isinstance(old, ExpertRecipe) and isinstance(value, str):
        return load_recipe(value)
    if not dataclasses.is_dataclass(old) or isinstance(old, type):
        return value
    if isinstance(value, type(old)):
        return value
    if not isinstance(value, Mapping):
        plain = isinstance(value, str | int | float | list | tuple | None)
        way_out = (
            "Methods with a `committee` take a trained network there: committee=[network]." if name == "teacher" else ""
        )
        got = repr(value) if plain else f"a {type(value).__name__}"
        raise refuse(name, f"a {type(old).__name__} or a dict of its fields", got, way_out)
    for field in value:
        if field not in _names(old):
            raise unknown(f"field of {name}", field, _names(old))
    return dataclasses.replace(old, **value)


def _no_such_field(
    method: Method, name: str, value: object, own: Iterable[str], nest: str, inside: Iterable[str]
) -> InputError:
    if name in LAYOUT:
        have = ", ".join(one for one in METHODS if name in class_of(one).__annotations__)
        expected = f"left out for {method.name}, whose sets have a form of their own"
        return refuse(name, expected, shown(value), f"Methods that have it: {have}.")
    text = f"unknown field {name!r} of {method.name}; known: {', '.join(sorted(own))}."
    if inside:
        text += f" Of its {nest}: {', '.join(sorted(inside))}."
    if nest == "expert" and "train" in own:
        text += ' Fields of `train` are given as train={"steps": 500}.'
    return InputError(f"{text} {near(name, [*own, *inside])}".rstrip())


def _names(value: object) -> tuple[str, ...]:
    """Names of a dataclass's fields; none for anything else."""
    return tuple(field.name for field in dataclasses.fields(value)) if dataclasses.is_dataclass(value) else ()
