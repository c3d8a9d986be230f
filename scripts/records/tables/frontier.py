"""The frontier: accuracy against minutes of a processor at fixed bytes, beside real pictures of those bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from scripts.records import kept
from scripts.records.make.frontier import CELLS, MODEL, WIDE, model_of
from scripts.records.tables.accuracy import origin_words, told_once
from scripts.records.tables.values import between, interval, percent, points, spread

REAL: Final = "random"
"""The cells of random real pictures: `SIZE-random`."""

Rows = list[Mapping[str, Any]]


def frontier_records() -> dict[str, list[dict[str, Any]]]:
    """Cell → its records, one a seed, in the order of the script."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CELLS}
    for record in kept.named("frontier-*").values():
        found[record["cell"]].append(record)
    return {name: records for name, records in found.items() if records}


def real_of(name: str) -> str:
    """The cell of random real pictures of the bytes, factor and storage of a cell."""
    return f"{name.rpartition('-')[0]}-{REAL}"


def curve(records: Sequence[Mapping[str, Any]]) -> dict[float, Rows]:
    """Minutes → the row of each set as it was then."""
    marks = sorted({point["minutes"] for record in records for point in record["points"]})
    return {
        mark: [point["rows"][0] for record in records for point in record["points"] if point["minutes"] == mark]
        for mark in marks
    }


def last(records: Sequence[Mapping[str, Any]]) -> Rows:
    """Of each record: the row of its last set."""
    return [record["points"][-1]["rows"][0] for record in records]


def strangers(records: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """Network or reader → the row of each last set under it."""
    found: dict[str, Rows] = {}
    for record in records:
        for row in record["strangers"]:
            found.setdefault(row["model"], []).append(row)
    return found


def frontier_table(cells: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """The lines of both tables, minutes and networks, and how they were measured; none without records."""
    if not cells:
        return []
    marks = sorted({mark for records in cells.values() for mark in curve(records)})
    heads = ["bytes", *(f"{mark:g} min %" for mark in marks), "gain", "sets × networks", "step size"]
    lines = ["", f"| cell | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, records in cells.items():
        own, rows = last(records), curve(records)
        sizes = [row["lr"] for row in own]
        row = [
            f"{own[0]['bytes']:,}",
            *(percent(spread(rows[mark])) if mark in rows else "" for mark in marks),
            gain(own, last(cells.get(real_of(name), ()))) if name != real_of(name) else "",
            f"{len(own)} × {own[0]['n']}",
            between(sizes, ".3g"),
        ]
        lines.append(f"| {name} | {' | '.join(row)} |")
    models = list(dict.fromkeys(model for records in cells.values() for model in strangers(records)))
    lines += ["", f"| cell | {' | '.join(f'`{model}` %' for model in models)} |", "|---" * (len(models) + 1) + "|"]
    for name, records in cells.items():
        each = strangers(records)
        lines.append(f"| {name} | {' | '.join(percent(spread(each[m])) if m in each else '' for m in models)} |")
    return [*lines, "", *_notes(cells)]


def gain(own: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]]) -> str:
    """Points over real pictures of the same bytes, factor and storage; 95 % interval of Welch's t over sets."""
    if not own or not beside:
        return ""
    return points(interval([row["mean"] for row in own], [row["mean"] for row in beside]))


def _notes(cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    records = [record for held in cells.values() for record in held]
    machines = "; ".join(told_once([origin_words(record["origin"]) for record in records]))
    first = last(records)[0]
    wide = " and ".join(f"`{name}`" for name in cells if model_of(name) != MODEL)
    but = f", `{WIDE}` for {wide}" if wide else ""
    networks = between([row["n"] for record in records for row in record["strangers"]] or [1], "")
    return [
        f"CIFAR-10, hard labels, `{MODEL}` above{but}, {first['steps']:,} steps for every set. A set of so many "
        "minutes is the last iterate before them, experts among the minutes where the method has some, on one thread; "
        "no iterate is chosen by its accuracy, on test or held-out images, and `scripts/records/make/frontier.py` says "
        "which settings were. The step size of a distilled set is its own, that of real pictures is tuned on the "
        "validation split for that network; others train with the same. *gain*: points of the last set over random "
        "real pictures of the same bytes, factor and storage, with a 95 % interval (Welch's t over sets) where there "
        "are several. Bytes are of images and labels. ± is the sample standard deviation over sets where there are "
        f"several, else over networks. In the second table, of the last sets, {networks} network(s) a set. "
        f"{machines}.",
    ]
