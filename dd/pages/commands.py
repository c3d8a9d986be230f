"""The shell commands that make a run again, from what its folder says of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dd.data import list_cards
from dd.methods import METHODS, class_of, kind_of
from dd.methods.presets import preset
from dd.models import GraphModel, ModelSpec, is_own_name

_HIDDEN = ("class", "name", "title", "source")


def distill_command(run: Mapping[str, Any], out: str) -> str | None:
    """`ddistill distill …` with every field that differs from the two-core preset; `None` where no shell can say it.

    A set to start from is told as `SET-` and the first digits of its hash: the reader knows where it lies.

    Args:
        run: the content of `run.json`.
        out: the run folder, as the command should name it.
    """
    request = run.get("request") or {}
    told, data = dict(request.get("method") or {}), str((request.get("data") or {}).get("name"))
    name = str(told.get("name"))
    read = dict((run.get("origin") or {}).get("data") or {})
    named = read.pop(
        "name", data if data in {c for kind in ("images", "graphs", "nodes") for c in list_cards(kind)} else None
    )
    members = told.get("committee") or ()
    sayable = isinstance(members, list | tuple) and all(isinstance(member, str) for member in members)
    if name not in METHODS or named is None or not sayable or (kind_of(name) == "images" and _own_networks(told)):
        return None
    if "aspect" in read or isinstance(read.get("size"), list):  # for which the shell has no word
        return None
    counted = class_of(name).budget == "ipc"
    if counted and type(told.get("ipc")) is not int:
        return None
    words = ["ddistill", "distill", named, name, "--preset", "cpu", "--seed", str(request.get("seed", 0))]
    plain = METHODS[name](**preset(name, data, told["ipc"] if counted else None, "cpu").fields)
    words += ["--ipc", str(told.pop("ipc"))] if counted else []
    words += _changes({}, read)
    if isinstance(start := told.get("init"), Mapping):  # a set, which its hash names, wherever it lies
        told["init"] = f"SET-{str(start.get('sha256'))[:12]}"
    words += _changes(plain.describe(), told)
    if request.get("protocol") == "paper":
        words += ["--protocol", "paper"]
    if request.get("precision", "fp32") != "fp32":
        words += ["--precision", str(request["precision"])]
    words += _changes({}, {"sieve": request["sieve"]} if "sieve" in request else {})
    return shlex.join([*words, "--out", out])


def _own_networks(told: Mapping[str, Any]) -> bool:
    """Whether a method was given a network of the user's own, for itself or in one of its recipes."""
    recipes = [told, *(value for value in told.values() if isinstance(value, Mapping))]
    return any(isinstance(model := one.get("model"), str) and is_own_name(model) for one in recipes)


def evaluate_command(
    run: str, data: object, models: Sequence[object], before: Mapping[str, Any], asked: Mapping[str, Any]
) -> str | None:
    """`ddistill evaluate …` with every argument that differs from its default; `None` where no shell can say it.

    Args:
        run: the run folder, as the command should name it.
        data: as it was given; a shell can say names.
        models: as they were given.
        before: the defaults of `dd.evaluate`.
        asked: its other arguments.
    """
    named = [model for model in models if model is not None]
    sayable = isinstance(data, str) and all(isinstance(model, str | ModelSpec | GraphModel) for model in named)
    if not sayable or isinstance(asked.get("size"), tuple) or asked.get("baselines") == ():
        return None
    words = ["ddistill", "evaluate", run, str(data), *(["--models", *map(str, named)] if named else [])]
    return shlex.join([*words, *_changes(before, asked)])


def benchmark_command(board: Mapping[str, Any], out: str) -> str | None:
    """`ddistill benchmark …` with what a leaderboard was asked for; `None` where no shell can say it.

    Args:
        board: the content of `leaderboard.json`.
        out: its folder, as the command should name it.
    """
    data, asked = str(board["dataset"]), board.get("asked")
    if asked is None or data not in {card for kind in ("images", "graphs", "nodes") for card in list_cards(kind)}:
        return None
    words = ["ddistill", "benchmark", data]
    for name, value in asked.items():
        words.append(f"--{name}".replace("_", "-"))
        if name in ("ipc", "budget_bytes"):
            words.append(",".join(map(str, value)))
        else:
            words += map(str, value) if isinstance(value, list) else [str(value)]
    return shlex.join([*words, "--out", out])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Words of the command line for what differs."""
    for key in sorted(after):
        old, new = before.get(key), after[key]
        if key in _HIDDEN or old == new or (isinstance(old, tuple) and list(old) == new):
            continue
        flag = f"--{prefix}{key}".replace("_", "-")
        if isinstance(new, Mapping):
            yield from _changes(old if isinstance(old, Mapping) else {}, new, f"{prefix}{key}.")
        elif isinstance(new, bool):
            yield flag if new else f"--{prefix}no-{key}".replace("_", "-")
        elif isinstance(new, list | tuple):
            yield from (flag, *map(str, new))
        else:
            yield from (flag, str(new))
