"""Checking every checksum of what this library has written."""

from __future__ import annotations

from pathlib import Path

from dd.errors import MissingError
from dd.experts.store import verify_folder
from dd.files import load_tensors, read_json, read_jsonl, read_meta
from dd.process import under_own_settings
from dd.runs import MEASURES, REPORT, check_run
from dd.synthetic import AnySet, ImageSet, LabelStore, load_set
from dd.synthetic.file import SET

_SETS = ("images", "compensated", "trees")


@under_own_settings
def verify(path: str | Path) -> str:
    """Check every checksum of a file or a folder of this library; returns what it is.

    Args:
        path: a saved set, a teacher, an expert, any other file of tensors, a JSON file or log; the folder of a run, of
            a benchmark, of experts or of soft labels. Of a run, `run.json` must be of the set.

    Raises:
        MissingError, DamagedError: with the file and what is wrong.
    """
    path = Path(path)
    if not path.exists():
        raise MissingError(f"no file or folder {path}")
    told = _folder(path) if path.is_dir() else _file(path)
    return f"{path}: {told}, every checksum matches"


def _folder(path: Path) -> str:
    if (path / "recipe.json").exists():
        return f"{verify_folder(path)} expert(s)"
    if (path / "manifest.json").exists():
        return f"{len(LabelStore.load(path))} record(s) of soft labels"
    if (path / "leaderboard.json").exists() or (path / "cells").is_dir():
        return _benchmark(path)
    return _run(path)


def _run(path: Path) -> str:
    small = load_set(path / SET)
    check_run(path, small)
    for name in (REPORT, *(f"{name}.json" for name in MEASURES), "log.jsonl", "checkpoint.safetensors"):
        if (path / name).exists():
            _file(path / name)
    return _set(small)


def _benchmark(path: Path) -> str:
    cells, runs = sorted((path / "cells").glob("*.json")), sorted(path.rglob(SET))
    for file in (*cells, *path.glob("leaderboard.json")):
        read_json(file)
    for file in runs:
        _run(file.parent)
    return f"{len(cells)} cell(s) and {len(runs)} run(s) of a benchmark"


def _file(path: Path) -> str:
    if path.suffix == ".json":
        read_json(path)
        return "a JSON file"
    if path.suffix == ".jsonl":
        return f"{len(read_jsonl(path))} row(s) of a log"
    kind = read_meta(path).get("kind")
    if kind in _SETS:
        return _set(load_set(path))
    return f"{len(load_tensors(path)[0])} tensor(s)" + (f" of kind {kind}" if kind else "")


def _set(small: AnySet) -> str:
    what = "images" if isinstance(small, ImageSet) else "patterns of trees"
    return f"{len(small)} {what}, {len(small.classes)} classes, {small.nbytes.total:,} bytes"
