"""The table of the choice of the `cpu` rows of distribution matching, on validation data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.make.choices import FACTORS, ROW, Choice
from scripts.records.tables.decoupled import percent


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
    for method, factors in FACTORS.items():
        means = {key: mean_std(_values(found))[0] for key, found in sets.items() if key[0] == method}
        best = max(means, key=lambda key: means[key], default=None)
        order = [(method, field, str(v)) for field, values in {ROW: (ROW,), **factors}.items() for v in values]
        for key in order:
            if key not in sets:
                continue
            found = sets[key]
            field, value = ("row", _of_the_row(method, factors)) if key[1] == ROW else (f"`{key[1]}`", f"{key[2]}")
            mark = "**" if key == best else ""
            seconds = mean_std([record["distill_seconds"] for record in found])[0]
            networks = len(found[0]["report"]["rows"][0]["values"])
            cells = [method, field, value, f"{mark}{percent(_values(found))}{mark}", f"{len(found)} × {networks}"]
            lines.append(f"| {' | '.join([*cells, f'{seconds:.0f}'])} |")
    return [
        *lines,
        "",
        "± is the sample standard deviation over sets where there are several, else over networks; the best of each "
        "method is bold, and as the largest of several it is likely to be lower on other data.",
    ]


def _values(found: Sequence[Mapping[str, Any]]) -> list[float]:
    """Mean of each set, or the networks of the only one."""
    each = [record["report"]["rows"][0]["values"] for record in found]
    return [mean_std(values)[0] for values in each] if len(each) > 1 else list(each[0])


def _of_the_row(method: str, factors: Mapping[str, Any]) -> str:
    """What the row has for the fields that are tried."""
    made = Choice(method, ROW, ROW, 0).made()
    return ", ".join(f"{field} {getattr(made, field)}" for field in factors)
