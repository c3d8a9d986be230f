"""The table of the choice of the `cpu` rows of distribution matching, on validation data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.make.choices import CHOICES, FACTORS, ROW, Choice
from scripts.records.tables.values import percent, spread


def choice_records() -> list[dict[str, Any]]:
    """All records of choices that are there."""
    return list(kept.named("choices-*").values())


def choices_table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records."""
    sets = defaultdict[tuple[str, str, str], list[Mapping[str, Any]]](list)
    for record in records:
        told = record["choice"]
        sets[told["method"], told["field"], str(told["value"])].append(record)
    if not sets:
        return []
    lines = [
        "",
        "The `cpu` rows of distribution matching for CIFAR-10, 10 images a class: the row as it was when the search "
        "began with one field changed, on **validation** data; no test image is read:",
        "",
        "| method | field | value | validation accuracy % | sets × networks | distil s |",
        "|---|---|---|---|---|---|",
    ]
    rows = {key: [record["report"]["rows"][0] for record in found] for key, found in sets.items()}
    means = {key: mean_std(spread(own))[0] for key, own in rows.items()}
    best = [
        max((key for key in rows if key[0] == method), key=means.__getitem__) for method in {key[0] for key in rows}
    ]
    for key in dict.fromkeys((choice.method, choice.field, str(choice.value)) for choice in CHOICES):
        if key not in rows:
            continue
        method, field, value = key
        told = ["row", _of_the_row(method)] if field == ROW else [f"`{field}`", value]
        mark = "**" if key in best else ""
        seconds, _ = mean_std([kept.spent(record) for record in sets[key]])
        counts = f"{len(rows[key])} × {len(rows[key][0]['values'])}"
        cells = [method, *told, f"{mark}{percent(spread(rows[key]))}{mark}", counts, f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "± is the sample standard deviation over sets where there are several, else over networks; the best of each "
        "method is bold, and as the largest of several it is likely to be lower on other data. Seconds are of a "
        "processor where they were recorded, else of the clock of a busy machine.",
    ]


def _of_the_row(method: str) -> str:
    """What the row has for the fields that are tried."""
    made = Choice(method, ROW, ROW, 0).made()
    return ", ".join(f"{field} {getattr(made, field)}" for field in FACTORS[method])
