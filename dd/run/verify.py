"""Checking every checksum of what this library has written."""

from __future__ import annotations

from pathlib import Path

from dd.base.files import load_tensors, read_json, read_jsonl, read_meta
from dd.base.paths import as_path, is_folder, is_there, names_in, need_file
from dd.base.process import under_own_settings
from dd.experts.store import verify_folder
from dd.run.folder import MEASURES, REPORT, check_run
from dd.synthetic import AnySet, LabelStore, load_set
from dd.synthetic.file import SET, set_in

_SETS = ("images", "compensated", "trees", "nodes")
_TENSORS = ("expert", "teacher")
_NAMED = {"run.json": "run", REPORT: "report", "leaderboard.json": "leaderboard", "manifest.json": "labels"}
_NAMED |= {"recipe.json": "experts", **{f"{name}.json": "measures" for name in MEASURES}}
"""Kind of file by its name."""


@under_own_settings
def verify(path: str | Path) -> str:
    """Check every checksum of a file or a folder of this library; returns what it is.

    Args:
        path: a saved set, a teacher, an expert, any other file of tensors, a JSON file or log; the folder of a run, of
            a benchmark, of experts or of soft labels. Of a run, `run.json` must be of the set.

    Raises:
        MissingError, DamagedError: with the file and what is wrong.
    """
    path = as_path(path)
    told = _folder(path) if is_folder(path) else _file(need_file(path, "file or folder"))
    return f"{path}: {told}, every checksum matches"


def _folder(path: Path) -> str:
    if is_there(path / "recipe.json"):
        return f"{verify_folder(path)} expert(s)"
    if is_there(path / "manifest.json"):
        return f"{len(LabelStore.load(path))} record(s) of soft labels"
    if is_there(path / "leaderboard.json") or is_folder(path / "cells"):
        return _benchmark(path)
    return _run(path)


def _run(path: Path) -> str:
    small = load_set(set_in(path))
    check_run(path, small)
    for name in (REPORT, *(f"{name}.json" for name in MEASURES), "log.jsonl", "checkpoint.safetensors"):
        if is_there(path / name):
            _file(path / name)
    for part in names_in(path / "checkpoint", "*.safetensors"):
        _file(part)
    return _set(small)


def _benchmark(path: Path) -> str:
    cells, runs = names_in(path / "cells", "*.json"), sorted(path.rglob(SET))
    for file in (*cells, *names_in(path, "leaderboard.json")):
        _file(file)
    for file in runs:
        _run(file.parent)
    return f"{len(cells)} cell(s) and {len(runs)} run(s) of a benchmark"


def _file(path: Path) -> str:
    if path.suffix == ".json":
        read_json(path, "cell" if path.parent.name == "cells" else _NAMED.get(path.name, "any"))
        return "a JSON file"
    if path.suffix == ".jsonl":
        return f"{len(read_jsonl(path, 'log' if path.name == 'log.jsonl' else 'any'))} row(s) of a log"
    kind = read_meta(path, "set").get("kind")
    if kind in _SETS:
        return _set(load_set(path))
    form = kind if kind in _TENSORS else "checkpoint" if path.name == "checkpoint.safetensors" else "any"
    return f"{len(load_tensors(path, form)[0])} tensor(s)" + (f" of kind {kind}" if kind else "")


def _set(small: AnySet) -> str:
    what = {"graphs": "patterns of trees", "nodes": "nodes"}.get(small.kind, "images")
    return f"{len(small)} {what}, {len(small.classes)} classes, {small.nbytes.total:,} bytes"
