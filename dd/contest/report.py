"""`dd.report`: one self-contained page on a run, on several, or on a benchmark."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dd.base.files import read_json
from dd.base.paths import as_path, is_there, kind_at, reading
from dd.base.process import under_own_settings
from dd.base.shapes import as_list
from dd.contest.plan import Unit
from dd.data import Images, Source, about
from dd.errors import DDError, MissingError, refuse, unknown
from dd.evaluation.leaderboard import Benchmark
from dd.pages.commands import benchmark_command
from dd.pages.report import read_report, run_commands, write_report
from dd.run.load import load
from dd.run.resolve import load_real, only_images, source_like
from dd.synthetic import AnySet, ImageSet
from dd.synthetic.file import SET


@under_own_settings
def report(
    runs: str | Path | Sequence[str | Path],
    data: object = None,
    out: str | Path | None = None,
    **source: Any,
) -> Path:
    """Write one self-contained HTML page on a run folder, with others or a benchmark beside it; returns its path.

    Args:
        runs: run folders that were evaluated (`report.json`), and at most one folder of a benchmark
            (`leaderboard.json`), whose best set is the page's own where no run is given.
        data: the real data, for the nearest real images; `None`: the card that the set names, where its files are.
        out: the page; by default `index.html` in the first folder.
        **source: `root`, `download`, `size`, `aspect` of the data.

    Raises:
        InputError: no folder, several benchmarks, or a file at `out` that is no page.
        MissingError: a run that was not evaluated.
    """
    known = inspect.signature(Source).parameters
    if wrong := [name for name in source if name not in known]:
        raise unknown("option of `report`", wrong[0], known)
    given = [as_path(run, "runs") for run in as_list(runs)]
    boards = [folder for folder in given if is_there(folder / "leaderboard.json")]
    folders = [folder for folder in given if folder not in boards]
    if not given or len(boards) > 1:
        raise refuse("runs", "run folders, one of a benchmark at most", ", ".join(map(str, given)) or "none")
    path = _page(as_path(out, "out") if out is not None else given[0] / "index.html")
    board = Benchmark.from_json(read_json(boards[0] / "leaderboard.json", "leaderboard")).to_json() if boards else None
    told = read_report(folders[0]) if folders else None
    commands = run_commands(folders[0], told) if told is not None else []
    if board is not None and told is None:
        folder, told = _best(boards[0], board)
        folders = [folder]
    assert told is not None
    small = load(folders[0])
    real = _real(small, data, Source(**source))
    if real is not None:
        small = small.attach(real.train)
    sets = None
    if board is not None and small.kind == "images":
        sets = sets_of(boards[0], board, small.ipc, real, {folders[0]: small})
    if board is not None and (again := benchmark_command(board, str(boards[0]))) is not None:
        commands.append(again)
    beside: dict[str, Any] = {"others": folders[1:], "board": board, "sets": sets}
    return write_report(folders[0], small, told, path, commands=commands, real=real, **beside)


def _page(path: Path) -> Path:
    """Where the page goes, or refuse what it would replace."""
    kind = kind_at(path)
    if kind == "a folder":
        raise refuse("out", "a file", f"{path}, which is a folder", f"Give {path / 'index.html'}.")
    if kind == "a file" and (head := reading(path, _head)) and not head.lower().startswith(b"<!doctype html"):
        raise refuse("out", "a new file or an HTML page", f"{path}, which is neither", "Name another one.")
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(100).lstrip()


def sets_of(
    folder: Path, board: dict[str, Any], ipc: int, real: Images | None, known: Mapping[Path, AnySet] | None = None
) -> dict[str, ImageSet]:
    """The sets of `ipc` images a class that a benchmark's folder keeps, by name and score, for one picture of all.

    Args:
        folder: of the benchmark.
        board: the content of its `leaderboard.json`.
        ipc: images a class.
        real: the data, for the transform of whitened sets, which are left out without it.
        known: run folder → its set, where it was loaded before.
    """
    found = {}
    for row in board["rows"]:
        run = folder / "runs" / _run_name(board, row)
        if row["budget"] != ipc or row["model"] != board["models"][0] or not is_there(run / SET):
            continue
        small = (known or {}).get(run) or load(run)
        if small.kind == "images" and small.canvas == 1 and row["mean"] is not None:
            ready = small if real is None else small.attach(real.train)
            if ready.transform is not None:
                found[f"{row['set']} {100 * row['mean']:.1f} %"] = ready
    return found


def _best(folder: Path, board: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The run of the best method of a leaderboard and a report of its row."""
    kept = [r for r in board["rows"] if r["mean"] is not None and r["model"] == board["models"][0]]
    rows = [r for r in kept if is_there(folder / "runs" / _run_name(board, r) / SET)]
    if not rows:
        raise MissingError(
            f"no set in {folder / 'runs'}: the page shows the images of a method. Name a run folder too."
        )
    best = max(rows, key=lambda r: float(r["mean"]))
    beside = [r for r in kept if r is not best and r["budget"] == best["budget"]]
    cell = next(c for c in board["cells"] if c["set"] == best["set"])
    told = {
        "dataset": board["dataset"],
        "split": "test",
        "protocol": board["protocol"],
        "selection": best["selection"],
        "method": f"{best['set']}, {_budget(best['budget'], board['unit'])}",
        "rows": [_row(r) for r in (best, *beside)],
        "bytes": best["bytes"],
        "origin": cell["origin"],
        "notes": ["The set shown is the one with the highest test score of the leaderboard: a choice of what to show."],
    }
    return folder / "runs" / _run_name(board, best), told


def _budget(count: int, unit: str) -> str:
    return f"{count:,} bytes" if unit == "bytes" else f"{count:,} image{'s' if count > 1 else ''} a class"


def _run_name(board: dict[str, Any], row: dict[str, Any]) -> str:
    seed = min(c["seed"] for c in board["cells"])
    return Unit(row["set"], row["budget"], seed).name


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the leaderboard as one of a report."""
    kept = {k: row[k] for k in ("set", "model", "metric", "mean", "std", "values", "lr")}
    return {**kept, "n": row["networks"], "steps": row["steps"] or 0, "seconds": row["train_seconds"]}


def _real(small: AnySet, data: object, source: Source) -> Images | None:
    """The data for neighbours, or `None` where it is not asked for and not there."""
    if small.kind != "images":
        return None
    if data is not None:
        return only_images(load_real(data, source_like(small, data, source)), "a set of images")
    try:
        name = str(small.provenance.get("dataset"))
        if about(name, source.root).kind != "images":
            return None
        real = load_real(name, replace(source, aspect=source.aspect or small.provenance.get("aspect")))
    except DDError:
        return None
    return only_images(real, "a set of images") if real.fingerprint == small.provenance.get("data_sha256") else None
