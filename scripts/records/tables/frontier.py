"""The frontier: accuracy against minutes of a processor at fixed bytes, beside real pictures of those bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dd.evaluation import mean_std
from dd.evaluation.report import interval95
from scripts.records import kept
from scripts.records.make.frontier import CELLS, MODEL
from scripts.records.tables.accuracy import origin_words, told_once
from scripts.records.tables.decoupled import percent

BESIDE: Final = {"random": "random, float32", "random_packed": "random, stored alike"}
"""Rows of real pictures of the set's bytes, and how the table calls them."""


def frontier_records() -> dict[str, list[dict[str, Any]]]:
    """Cell → its records, one a seed, in the order of the script."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CELLS}
    for record in kept.named("frontier-*").values():
        found.setdefault(record["cell"], []).append(record)
    return {name: records for name, records in found.items() if records}


def spread(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """One value a set where there are several sets, else the networks of the only one."""
    return [row["mean"] for row in rows] if len(rows) > 1 else list(rows[0]["values"])


def last(records: Sequence[Mapping[str, Any]], name: str, model: str) -> list[Mapping[str, Any]]:
    """Of each record: the row of a set under a network, among those of the last mark; left out where there is none."""
    return [row for r in records for row in r["last"] if row["model"] == model and _called(r, row) == name]


def curve(records: Sequence[Mapping[str, Any]]) -> dict[float, list[Mapping[str, Any]]]:
    """Minutes → the row of each set as it was then."""
    marks = sorted({point["minutes"] for record in records for point in record["points"]})
    return {
        mark: [point["rows"][0] for record in records for point in record["points"] if point["minutes"] == mark]
        for mark in marks
    }


def frontier_table(cells: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """The lines of both tables, minutes and networks, and how they were measured; none without records."""
    if not cells:
        return []
    marks = sorted({mark for records in cells.values() for mark in curve(records)})
    heads = ["bytes", *(f"{mark:g} min %" for mark in marks), *(f"{told} %" for told in BESIDE.values())]
    lines = ["", f"| cell | {' | '.join(heads)} | gain | sets × networks |", "|---" * (len(heads) + 3) + "|"]
    for name, records in cells.items():
        own, rows = last(records, "own", MODEL), curve(records)
        beside = [last(records, key, MODEL) for key in BESIDE]
        row = [
            f"{own[0]['bytes']:,}",
            *(percent(spread(rows[mark])) if rows.get(mark) else "" for mark in marks),
            *(percent(spread(found)) if found else "" for found in beside),
            gain(own, beside[1]),
            f"{len(own)} × {own[0]['n']}",
        ]
        lines.append(f"| {name} | {' | '.join(row)} |")
    models = list(dict.fromkeys(row["model"] for records in cells.values() for row in records[0]["last"]))
    lines += [
        "",
        f"| cell | set | {' | '.join(f'`{model}` %' for model in models)} |",
        "|---" * (len(models) + 2) + "|",
    ]
    for name, records in cells.items():
        for key, told in {"own": "distilled", "random_packed": BESIDE["random_packed"]}.items():
            each = [last(records, key, model) for model in models]
            values = [percent(spread(found)) if found else "" for found in each]
            lines.append(f"| {name} | {told} | {' | '.join(values)} |")
    return [*lines, "", *_notes([record for records in cells.values() for record in records])]


def gain(own: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]]) -> str:
    """Points over real pictures of the same bytes, factor and storage; with its 95 % interval, paired, of several."""
    if len(own) != len(beside) or not own:
        return ""
    apart = [a["mean"] - b["mean"] for a, b in zip(own, beside, strict=True)]
    half = interval95(apart) if len(apart) > 1 else None
    return f"{100 * mean_std(apart)[0]:+.1f}" + ("" if half is None else f" ± {100 * half:.1f}")


def _called(record: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """`own` of the set itself, else the name of the baseline."""
    return str(row["set"]) if row["set"] in BESIDE else "own"


def _notes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    machines = "; ".join(told_once([origin_words(record["origin"]) for record in records]))
    first = records[0]["last"][0]
    return [
        f"CIFAR-10, hard labels, `{MODEL}` unless another network is named, {first['steps']:,} steps for every set, "
        "by the step size of the distilled one. A set of so many minutes is the last iterate before them, experts "
        "among the minutes where the method has some, on one thread; nothing is chosen on test or held-out images. "
        "Bytes are of images and labels. ± is the sample standard deviation over sets where there are several, else "
        "over networks. *gain*: points over random real pictures of the same bytes, factor and storage under the same "
        f"steps. {machines}.",
    ]
