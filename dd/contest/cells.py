"""The cells of a benchmark in its folder: made under a lock, found again, and refused where they are of another one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dd.base.files import dump_json, read_foreign_json, read_json, sweep, write_json
from dd.base.locks import locked
from dd.base.names import file_name
from dd.base.paths import is_there, names_in
from dd.base.schema import conform
from dd.contest.plan import Bench, Settings, Unit
from dd.errors import DamagedError, DDError, DivergedError, InputError, MissingError, refuse
from dd.evaluation import origin
from dd.evaluation.leaderboard import FORMAT, FORMATS
from dd.run.work import WorkUnit


@contextmanager
def claimed(unit: Unit, settings: Settings) -> Iterator[bool]:
    """Hold a unit; yields whether it was free."""
    if settings.out is None:
        yield True
        return
    with locked(lock_of(unit, settings)) as free:
        yield free


def lock_of(unit: Unit, settings: Settings) -> Path:
    """The file that who measures a unit holds."""
    return (settings.out or Path()) / "runs" / f".{unit.name}.lock"


def cells_of(bench: Bench, unit: Unit, settings: Settings) -> list[dict[str, Any]]:
    """A cell for each model: those that are in the folder, and the others measured."""
    found: dict[str, dict[str, Any]] = {}
    names = tuple(bench.models) if unit.networks else ("",)
    about: dict[str, Any] = {"format": FORMAT, "set": unit.set, "budget": unit.budget, "seed": unit.seed}
    try:
        about["request"] = bench.request(unit)
    except InputError as error:
        return [_refused(about, name, error, settings) for name in names]
    for name in names:
        if (there := kept(unit, name, about["request"], settings)) is not None:
            found[name] = there
    missing = [name for name in names if name not in found]
    stream = iter(bench.measure(unit, missing) if missing else ())
    for name in missing:
        try:
            cell = {**about, **next(stream), "model": name, "origin": origin(unit.seed, settings.device)}
        except (InputError, DivergedError, MissingError) as error:
            if str(error).startswith("`out`"):  # the folder's own message, nothing that the method says
                raise
            cell = _refused(about, name, error, settings)
            stream = iter(bench.measure(unit, missing[missing.index(name) + 1 :]))
        found[name] = cell
        if settings.out is not None:
            path = _path(unit, name, settings.out)
            sweep(path.parent, re.escape(path.name))
            write_json(path, cell)
    return [found[name] for name in names]


def _refused(about: Mapping[str, Any], model: str, error: Exception, settings: Settings) -> dict[str, Any]:
    told = {"refused": str(error), "values": [], "origin": origin(about["seed"], settings.device)}
    return {**about, **told, "model": model}


def _path(unit: Unit, model: str, out: Path) -> Path:
    return out / "cells" / (unit.name + (f"-{file_name(model)}" if model else "") + ".json")


def put_back(cell: Mapping[str, Any], out: Path) -> None:
    """Write a cell of a leaderboard into a folder, where the benchmark it is of finds it; one that is there stays."""
    unit = Unit(cell["set"], cell["budget"], cell["seed"])
    if not is_there(path := _path(unit, cell["model"], out)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, cell)


def _looks_like_a_cell(path: Path) -> bool:
    """Whether a damaged file may have been a cell: it is cut off, or has a cell's keys."""
    try:
        found = read_foreign_json(path, "json")
    except DamagedError:
        return True
    return isinstance(found, dict) and "request" in found


def kept(unit: Unit, model: str, request: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """The cell in the folder, or refuse one that was measured otherwise, and a file that is none."""
    if settings.out is None:
        return None
    path = _path(unit, model, settings.out)
    try:
        cell = read_json(path, "any")  # whose file it is, is told first
    except MissingError:
        return None
    except DamagedError:
        if not _looks_like_a_cell(path):
            raise _not_ours(settings.out, f"cells/{path.name} that is no cell") from None
        if settings.resume:
            raise
        return None
    if "request" not in cell:
        raise _not_ours(settings.out, f"cells/{path.name} that is no cell")
    if not settings.resume:
        return None
    if dump_json(cell.get("request")) != dump_json(request):
        there = cell["request"] if isinstance(cell["request"], dict) else {}
        names = dict.fromkeys([*request, *there])  # one of another recipe may have more of them
        differ = [k for k in names if dump_json(there.get(k)) != dump_json(request.get(k))]
        raise InputError(
            f"`out` = {settings.out} holds {path.name} of another benchmark (other {', '.join(differ)}). "
            "Name another folder, or give resume=False (`--restart`) to replace it."
        )
    conform(cell, "cell", path)
    wanted = {"set": unit.set, "budget": unit.budget, "seed": unit.seed, "model": model}
    if told := [f"{key} {cell[key]!r}" for key in wanted if cell[key] != wanted[key]]:
        raise DamagedError(f"{path} is the cell of another row ({', '.join(told)}). Remove it and run again.")
    return cell


def check_folder(out: Path) -> None:
    """Refuse a folder whose files a benchmark would replace and has not written.

    Raises:
        InputError: files named as a leaderboard, and no cells.
    """
    there = [name for name in (f"leaderboard.{kind}" for kind in FORMATS) if is_there(out / name)]
    if not there or names_in(out / "cells", "*.json"):
        return
    try:
        board = read_json(out / "leaderboard.json", "any")
    except DDError:
        board = None
    if not isinstance(board, dict) or "cells" not in board:
        raise _not_ours(out, f"{', '.join(there)} and no cells")


def _not_ours(out: Path, got: str) -> InputError:
    way_out = "Name another folder, or move these files away."
    return refuse("out", "a new folder, or one of a benchmark", f"{out}, which has {got}", way_out)


def work_units(bench: Bench, settings: Settings) -> list[WorkUnit]:
    """The units of a benchmark as those of a work list: all models of a set are one."""

    def made(unit: Unit) -> WorkUnit:
        def done() -> bool:
            names = tuple(bench.models) if unit.networks else ("",)
            try:
                request = bench.request(unit)
            except InputError:
                return True  # a row that says so; nothing is measured
            return all(kept(unit, name, request, settings) is not None for name in names)

        def make() -> None:
            with locked(lock_of(unit, settings), wait=True):
                cells_of(bench, unit, settings)

        return WorkUnit(unit.name, "cell", settings.run_folder(unit) or Path(), done, make)

    return [made(unit) for unit in bench.units()]
