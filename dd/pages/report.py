"""The page of a run folder: pictures, neighbours, curves, comparisons and tables in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dd.base.curves import accuracy_by, heat_map, scores_of
from dd.base.files import read_json, read_jsonl
from dd.base.paths import is_there, kind_at
from dd.base.raster import as_png
from dd.data import Images
from dd.errors import InputError, MissingError
from dd.evaluation import EvalReport, origin_lines
from dd.pages.commands import distill_command
from dd.pages.page import Board, Picture, write_page
from dd.pages.page import size as size_text
from dd.run.folder import REPORT, read_run
from dd.synthetic import AnySet, ImageSet
from dd.synthetic.figures import figures, gallery
from dd.synthetic.file import SET
from dd.synthetic.sets import runs_in

_TREES: Final = (
    "A row a class: the trees around single nodes that many of its graphs have and few of any other class, with both "
    "shares. The root is on top; what is below are its neighbours, and theirs."
)
_GRAPH: Final = (
    "All nodes of the set, coloured by class: near each other where their features are alike, joined where they have "
    "an edge. A graph without edges is trained on as it is; the networks are tested on the whole graph."
)
_PYTHON: Final = "# made in Python: no shell command says these data, this network or this method"
_ALTS: Final = {
    "neighbours": (
        "Beside the nearest real images",
        "Each synthetic image with the nearest real training image of its class to its right",
        "Pairs: synthetic left, the nearest training image of its class (in pixels) right.",
    ),
    "models": ("Across architectures", "Scores of each set under each network, in per cent", ""),
}


def write_run_page(
    folder: Path,
    small: AnySet,
    report: EvalReport,
    real: Images | None = None,
) -> Path:
    """Write `report.json` and `index.html` into a run folder; returns the page.

    Args:
        folder: the run folder; its `log.jsonl` gives the curve.
        small: the set, with its transform ready.
        report: what `dd.evaluate` answered.
        real: its data, for the nearest real images.
    """
    report.save(folder / REPORT)
    told = report.to_json()
    return write_report(folder, small, told, folder / "index.html", commands=run_commands(folder, told), real=real)


def write_report(
    folder: Path,
    small: AnySet,
    report: Mapping[str, Any],
    path: Path,
    *,
    commands: Sequence[str] = (),
    real: Images | None = None,
    others: Sequence[Path] = (),
    board: Mapping[str, Any] | None = None,
    sets: Mapping[str, ImageSet] | None = None,
) -> Path:
    """Write one page on a run, with other runs or a leaderboard beside it.

    Args:
        folder: the run folder.
        small: its set, with its transform ready.
        report: the content of its `report.json`.
        path: the page.
        commands: what makes it again, a line each.
        real: its data, for the nearest real images.
        others: run folders with a `report.json`, compared by bytes and model.
        board: the content of a `leaderboard.json`.
        sets: those of the leaderboard by the name of their row, for one picture of all.
    """
    made = figures(small, real=real, log=read_jsonl(folder / "log.jsonl", "log"), report=report)
    reports = [report, *(read_report(other) for other in others)]
    rows, names = list((board or {}).get("rows") or ()), _names(reports, [folder, *others])
    if board is not None or others:
        compared = scores_of(_by_budget(rows) if rows else _side_by_side(reports, names))
        made.pop("models", None)
        if (picture := heat_map(compared)) is not None:
            made["models"] = picture
    pictures = [Picture(title, alt, made.get(name), caption) for name, (title, alt, caption) in _ALTS.items()]
    curve = accuracy_by(_points(reports, rows))
    pictures.append(Picture("Score against bytes", "Scores of sets over the bytes that they take on disk", curve))
    if sets:
        data = as_png(gallery(sets))
        pictures.append(Picture("Every method", "One image a class of each set of the leaderboard", data, wide=True))
    if small.kind == "graphs":
        shown = Picture("What tells the classes apart", "Trees of each class", made["trees"], _TREES, wide=True)
        pictures.insert(0, shown)
    elif small.kind == "nodes":
        shown = Picture("The small graph", "Nodes coloured by class", made["graph"], _GRAPH, wide=True)
        pictures.insert(0, shown)
    return write_page(
        path,
        report,
        made.get("grid"),
        made.get("loss"),
        f"{report['method']} on {report['dataset']}",
        "\n".join(commands),
        pictures,
        _board(reports, names, board),
        _lead(small, report),
    )


def _lead(small: AnySet, report: Mapping[str, Any]) -> str:
    """What a reader sees on the page."""
    size, names = size_text(report["bytes"]["total"]), len(small.classes)
    if small.kind == "graphs":
        what = f"{len(small):,} sets of computation trees, {size}, made from the training graphs of {names} classes"
    elif small.kind == "nodes":
        what = f"a graph of {len(small):,} nodes, {size}, made from the training nodes of {names} classes"
    else:
        what = f"{len(small):,} images of {names} classes, {size}, made from the training images"
    return f"This page shows {what}, and how well fresh networks do that were trained on nothing else."


def read_report(folder: Path) -> dict[str, Any]:
    """The `report.json` of a run folder.

    Raises:
        MissingError: it was not evaluated yet; the message says how.
        DamagedError: the file is no report.
    """
    try:
        return read_json(folder / REPORT, "report")
    except MissingError as error:
        if (there := kind_at(folder)) != "a folder":
            what = f"{there}: a run folder holds the set and its log" if there else "not there"
            way_out = 'Make one: `dd.distill(…, out="FOLDER")`, then `dd.evaluate("FOLDER", data)`.'
            raise MissingError(f"no run folder {folder}: it is {what}. {way_out}") from error
        if told := runs_in(folder) if not is_there(folder / SET) else "":
            raise MissingError(f"no {REPORT} in {folder}. {told}") from error
        way_out = f'Run `dd.evaluate("{folder}", data)`, or `ddistill evaluate {folder} DATA` in a shell, first.'
        raise MissingError(f"no {REPORT} in {folder}: the run was not evaluated. {way_out}") from error


def _own(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of the set itself, those beside it left out."""
    return [row for row in report["rows"] if row["set"] == report["rows"][0]["set"]]


def _names(reports: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> list[str]:
    """What runs beside each other are called: their sets, or where these share a name with their size, or folder."""
    for choice in ([str(told["rows"][0]["set"]) for told in reports], [str(told["method"]) for told in reports]):
        if len(set(choice)) == len(choice):
            return choice
    return [f"{told['method']} ({folder.name or folder})" for told, folder in zip(reports, folders, strict=True)]


def _side_by_side(reports: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The own rows of several reports, each under the name of its run."""
    return [{**row, "set": name} for told, name in zip(reports, names, strict=True) for row in _own(told)]


def _by_budget(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of a leaderboard whose sets are told apart by their budget, where there are several."""
    if len({row["budget"] for row in rows} - {None}) < 2:
        return list(rows)
    return [row if row["budget"] is None else {**row, "set": f"{row['set']}, {row['budget']:,}"} for row in rows]


def _points(
    reports: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, int, float, float | None]]:
    """Sets of the leaderboard with their bytes, or else those of the reports."""
    if rows:
        first = rows[0]["model"]
        return [
            (str(r["set"]), int(r["bytes"]["total"]), float(r["mean"]), r["std"])
            for r in rows
            if r["mean"] is not None and r["model"] == first and not r["beside"] and (r["bytes"] or {}).get("total")
        ]
    own = [(told["rows"][0], told["bytes"].get("total")) for told in reports]
    return [(str(r["set"]), int(size), float(r["mean"]), r["std"]) for r, size in own if size]


def _board(reports: Sequence[Mapping[str, Any]], names: Sequence[str], board: Mapping[str, Any] | None) -> Board | None:
    if board is not None:
        from dd.evaluation.leaderboard import Benchmark

        table = Benchmark.from_json(board)
        return Board("Leaderboard", *table.table(), table.legend)
    if len(reports) < 2:
        return None
    titles = [str(told["method"]) for told in reports]
    if len(set(titles)) < len(titles):
        titles = list(names)
    heads = ["run", "model", "score %", "n", "steps", "bytes"]
    rows = []
    for told, title in zip(reports, titles, strict=True):
        for row in _own(told):
            spread = "" if row["std"] is None else f" ± {100 * row['std']:.1f}"
            text = f"{100 * row['mean']:.1f}{spread}"
            size = f"{told['bytes'].get('total', 0):,}"
            rows.append(
                [title, str(row["model"]), text, str(row["n"]), f"{row['steps']:,}" if row["steps"] else "–", size]
            )
    return Board("Runs side by side", heads, rows, origin_lines(reports))


def run_commands(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """How the set was made and how it was evaluated, where a shell can say it; that none can say how it was made."""
    try:
        made = distill_command(read_run(folder), str(folder)) or _PYTHON
    except (MissingError, InputError):
        made = None
    return [command for command in (made, report.get("command")) if command]
