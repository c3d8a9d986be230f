"""What every kind of file that is read again must hold, and the one check of it: `conform`.

A checksum says that a file is what was written; this says that what was written can be used. Both are asked wherever a
file is read (`dd.base.files`), so that no reader meets a list for an object or a text for a number. Keys that no form
names are left alone: a user's own method, provenance and measures have whatever they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dd.base.forms import LARGEST, Also, ByKind, Many, Map, Maybe, Real, Text, Whole, Word, misfit
from dd.base.jsons import AGAIN
from dd.errors import DamagedError, refuse

SET_FORMAT: Final = 2
"""Version of the files of every set and of its label store. Version 1 left out fields that had their default."""
_SHA: Final = Text("[0-9a-f]{64}", "a sha256 of 64 hex digits")
_SHARE: Final = Real(0, 1)
_SECONDS: Final = Real(0, 1e15)
_ORIGIN: Final = {
    "seed?": int,
    "commit?": Maybe(str),
    "versions?": Map(str),
    "machine?": str,
    "threads?": Whole(0),
    "data?": {"name": str},
}
_REQUEST: Final = {
    "data?": {"name?": str, "sha256?": str},
    "method?": {"name?": str},
    "protocol?": str,
    "precision?": str,
    "sieve?": Whole(1),
    "seed?": int,
}
_RUN: Final = {"request": _REQUEST, "origin?": _ORIGIN, "finished": bool}
_BYTES: Final = Map(Whole(0))
_ROW: Final = {
    "set": str,
    "model": str,
    "metric": str,
    "mean": _SHARE,
    "std": Maybe(Real(0)),
    "n": Whole(1),
    "values": Many(_SHARE),
    "steps": Whole(0),
    "lr": Maybe(Real()),
    "seconds": _SECONDS,
    "interval95?": Maybe(Real(0)),
    "draws?": Whole(1),
    "other_metrics?": Map({"mean": _SHARE}),
    "recall?": [Maybe(_SHARE)],
    "bytes?": Maybe(Whole(0)),
}
_REPORT: Final = {
    "format": Word(1),
    "dataset": str,
    "split": str,
    "protocol": str,
    "selection": str,
    "method": str,
    "rows": Many(_ROW),
    "bytes": _BYTES,
    "origin": _ORIGIN,
    "notes?": [str],
    "support?": _BYTES,
    "command?": Maybe(str),
    "recipe?": str,
    "about?": Map(str),
}
_CELL: Final = Also(
    {
        "format": Word(1),
        "set": str,
        "budget": Maybe(Whole(1)),
        "seed": int,
        "model": str,
        "request": dict,
        "origin": _ORIGIN,
        "values": [_SHARE],
        "metric?": Maybe(str),
        "refused?": Maybe(str),
        "steps?": Maybe(Whole(0)),
        "lr?": Maybe(Real()),
        "bytes?": Maybe(_BYTES),
        "distill_seconds?": Maybe(_SECONDS),
        "train_seconds?": Maybe(_SECONDS),
        "selection?": Maybe(str),
        "beside?": Maybe(str),
    },
    lambda cell: cell.get("refused") or (cell["values"] and cell.get("metric")),
    "a cell with values and their metric, or with the reason why it has none",
)
_BOARD: Final = {
    "format": Word(1),
    "dataset": str,
    "protocol": str,
    "unit": str,
    "models": Many(str),
    "cells": Many(_CELL),
    "notes": [str],
    "asked?": Maybe({"ipc?": [Whole(1)], "budget_bytes?": [Whole(1)]}),
}
_SHARD: Final = Text(r"\d{5}-[0-9a-f]{16}\.safetensors", "a name of the form 00000-<16 digits>.safetensors")
_MANIFEST: Final = {
    "kind": Word("labels"),
    "format": Word(SET_FORMAT),
    "images": _SHA,
    "made": dict,
    "shards": Many(
        {
            "file": _SHARD,
            "records": Whole(1),
            "sha256": _SHA,
        }
    ),
}
_NORMALISE: Final = {"mean": Many(Real()), "std": Many(Real())}
_ZCA: Final = {"eps": Real(0), "shape": Many(Whole(1)), "hash": str, "fitted_on": str}
_SKETCH: Final = {"low": str, "limit": Maybe(Whole(-LARGEST - 1))}
_SET: Final = {
    "kind": str,
    "format": Word(SET_FORMAT),
    "classes": Many(str),
    "recipe": dict,
    "method": {"name?": str},
    "provenance": {"training_items?": Maybe(_SKETCH)},
}
_STORE: Final = {"sha256": _SHA}
_LABELLED: Final = {**_SET, "labels?": _STORE}
_IMAGES: Final = {
    **_LABELLED,
    "transform": ByKind("kind", {"normalise": _NORMALISE, "zca": _ZCA}),
    "canvas?": Whole(1),
    "canvas_samples?": Whole(1),
    "layout?": {"factor": Whole(1), "mirror": bool, "storage": Word("fp32", "fp16", "uint8")},
}
_FIGURES: Final = {
    "coverage": _SHARE,
    "coverage_by_class": [_SHARE],
    "uncovered_graphs": [Whole(0)],
    "distinct_trees": [Whole(0)],
    "thresholds": [Maybe(Whole(0))],
    "patterns_by_class": [Whole(0)],
}
_TREES: Final = {
    **_SET,
    "directed": bool,
    "published": Whole(0),
    "node_label": str,
    "figures": Also(
        {f"{name}?": form for name, form in _FIGURES.items()},
        lambda told: "coverage" not in told or told.keys() >= _FIGURES.keys(),
        f"an object with {', '.join(_FIGURES)}, or without `coverage`",
    ),
}
_NODES: Final = {**_SET, "features": Whole(1), "figures": dict}
_FOLDER: Final = Also(
    {
        "kind": Word("imagefolder"),
        "format": Word(1),
        "classes": Many(str),
        "folders": Many(str),
        "recipe": dict,
        "transform": ByKind("kind", {"normalise": _NORMALISE, "zca": _ZCA}),
        "method": {"name?": str},
        "provenance": {"training_items?": Maybe(_SKETCH)},
    },
    lambda told: len(told["classes"]) == len(told["folders"]),
    "a note with a folder for each class",
)
_COMPENSATED: Final = {**_LABELLED, "transform": ByKind("kind", {"normalise": _NORMALISE})}
_SCORES: Final = [Also(list, lambda told: len(told) == 3, "a list of name, iteration and score")]
_HELD: Final = {
    "set": ByKind("kind", {"images": _IMAGES, "compensated": _COMPENSATED, "trees": _TREES, "nodes": _NODES}),
    "store?": _MANIFEST,
}
_SELECTION: Final = {
    "record": {
        "score": Maybe(_SHARE),
        "name": str,
        "iteration": Whole(0),
        "scores": _SCORES,
        "sieved?": _SCORES,
    },
    "best": Maybe(_HELD),
    "sieved?": [{"score": _SHARE, "name": str, "iteration": Whole(0), "set": _HELD}],
}
_PAPER: Final = {
    "authors": str,
    "title": str,
    "venue": Text(r".+", "a text that is not empty"),
    "year": Whole(1900, 2100),
    "url": Text(r"https://\S+", "an address that begins with https://"),
    "note?": str,
}
_FIELDS: Final = {"expert?": str, "teacher?": dict, "train?": dict}
_SETTINGS: Final = {
    "dataset": str,
    "ipc?": Whole(1),
    "tier": Word("paper", "cpu"),
    "settings": bool,
    "run": str,
    "source": str,
    "note?": str,
    "published?": {"mean": _SHARE, "std?": _SHARE, "source": str, "verified?": bool},
    "expert_fields?": dict,
    "aspect?": Word("crop", "squash"),
    **_FIELDS,
}
_METHOD: Final = {
    "title": str,
    "paper?": _PAPER,
    "bibtex?": Text(r"\s*@\w+\{[\s\S]+\}\s*", "an entry of BibTeX"),
    "when": Text(r"Take this when .+\.", "a sentence of the form `Take this when ….`"),
    "cost": Word("nothing", "teachers", "experts"),
    "cost_note?": str,
    "role": Word("method", "baseline"),
    "kind?": Word("images", "graphs", "nodes"),
    "tiny": dict,
    "common?": {"paper?": _FIELDS, "cpu?": _FIELDS},
    "rows": Many(_SETTINGS),
}
_CARD: Final = Also(
    Also(
        Also(
            _METHOD,
            lambda card: any((row.get("dataset"), row.get("tier")) == ("default", "cpu") for row in card["rows"]),
            'a card whose `rows` have one for two cores and any data: dataset = "default", tier = "cpu"',
        ),
        lambda card: ("paper" in card) == ("bibtex" in card) and ("paper" in card or card["role"] == "baseline"),
        "a card with `paper` and `bibtex`; only a baseline may have neither",
    ),
    lambda card: {name.removesuffix("?") for name in _METHOD} >= card.keys(),
    f"a card with no other entries than {', '.join(name.removesuffix('?') for name in _METHOD)}",
)


class Kind(NamedTuple):
    """A kind of file: what people call it, its form, and the way out where it has another one."""

    what: str
    form: Any
    way_out: str = AGAIN


_ANEW: Final = "Restore it, or make it anew."
KINDS: Final[Mapping[str, Kind]] = {
    "any": Kind("file of this library", dict),
    "json": Kind("JSON", object),
    "run": Kind("run's", {**_RUN, "seconds?": _SECONDS}),
    "finished run": Kind("finished run's", {**_RUN, "seconds": _SECONDS}),
    "log": Kind("row of a log", {"iteration": Whole(0)}),
    "report": Kind("report of an evaluation", _REPORT, "Evaluate the run again."),
    "cell": Kind("cell of a benchmark", _CELL),
    "leaderboard": Kind("leaderboard", _BOARD, "Run the benchmark again; its cells are kept."),
    "measures": Kind("file of measures", {"format": Word(1), "measures": Map(dict)}, "Measure the set again."),
    "labels": Kind("label store's manifest", _MANIFEST, "Restore it, or label the set anew."),
    "part": Kind(
        "part of a set that is being made", {"kind": Word("part"), "about": [str]}, "Remove it; it is made anew."
    ),
    "shard": Kind("shard of a label store", {"kind": Word("labels"), "format": Word(SET_FORMAT)}),
    "images": Kind("synthetic image set", _IMAGES, _ANEW),
    "compensated": Kind("set of compensated images", _COMPENSATED, _ANEW),
    "folder of a set": Kind("note on a set", _FOLDER, "Remove it, and give `mean=`, `std=` and `lr=`."),
    "labelled": Kind("set", {"labels?": _STORE}, _ANEW),
    "set": Kind("set", {"kind?": str}, _ANEW),
    "trees": Kind("summary of trees", _TREES, _ANEW),
    "nodes": Kind("set of nodes", _NODES, _ANEW),
    "checkpoint": Kind(
        "checkpoint of a run",
        {
            "request": _REQUEST,
            "origin?": _ORIGIN,
            "iteration": Whole(0),
            "kept": dict,
            "parts": [{"file": _SHARD, "sha256": _SHA}],
        },
        "Remove it; the run begins anew.",
    ),
    "selection": Kind(
        "checkpoint of a run", {"selection": _SELECTION, "seconds": _SECONDS}, "Remove it; the run begins anew."
    ),
    "expert": Kind(
        "expert of a store",
        {
            "kind": Word("expert"),
            "format": int,
            "key": str,
            "seed": Whole(0),
            "model": str,
            "rows": Many(_SHA),
            "road?": Word("eager", "compiled", "mixed"),
        },
        "Move it away; it will be made anew.",
    ),
    "experts": Kind("store of experts", {"key": str, "data": str, "recipe": dict}),
    "teacher": Kind(
        "teacher",
        {
            "kind": Word("teacher"),
            "format": int,
            "key": str,
            **_NORMALISE,
            "accuracy": Maybe(_SHARE),
            "sha256": _SHA,
        },
        "Move it away; it will be made anew.",
    ),
    "plan": Kind(
        "plan of work",
        {"kind": Word("plan"), "format": Word(1), "version": str, "verb": str, "arguments": dict},
        "Write it anew: the same verb with `--plan`.",
    ),
    "note of work": Kind("note of work", {"state": str, "by": str, "tries": Whole(0), "error": str}, "Remove it."),
    "method": Kind("card of a method", _CARD, "CONTRIBUTING.md says what a card holds."),
    "split": Kind("split of a table", {"train": [Whole(0)], "valid": [Whole(0)], "test": [Whole(0)]}, "Remove it."),
}
"""By name, as `dd.base.files` and its callers say it."""


def check_form(value: Mapping[str, Any], kind: str) -> None:
    """Refuse to write what `conform` would refuse to read.

    Raises:
        InputError: names the first place.
    """
    wrong = misfit(value, KINDS[kind].form)
    if wrong is not None:
        raise refuse(f"{wrong.place} of the {KINDS[kind].what}", wrong.expected, wrong.got)


def conform(value: Any, kind: str, path: Path, where: str = "") -> Any:
    """`value`, where it has the form of its kind.

    Args:
        value: what was read.
        kind: a key of `KINDS`.
        path: the file, for the message.
        where: the place of the value in it, such as `line 3`.

    Raises:
        DamagedError: the first place that has another form, what is expected there and what is there.
    """
    about = KINDS[kind]
    wrong = misfit(value, about.form)
    if wrong is not None:
        place = f"`{wrong.place}`" if wrong.place else "it"
        raise DamagedError(
            f"{f'{where} of ' if where else ''}{path} is no {about.what}: {place} must be {wrong.expected}; got "
            f"{wrong.got}. {about.way_out}"
        )
    return value
