"""The small table of the README: a few rows of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from scripts.records.tables.accuracy import best_random, earlier_rule, gather, records
from scripts.records.tables.readings import reading_records
from scripts.records.tables.values import beside, percent, spread

MATCHED: Final = (("cifar10", 1, "mtt"), ("cifar10", 10, "ftd"), ("cifar10", 10, "datm"))
LABELLED: Final = (("cifar10", 10, "rded"), ("cifar10", 10, "sre2l++"), ("cifar10", 50, "rded"))
GRAPHS: Final = ("NCI1", "MUTAG")


def short_lines() -> list[str]:
    """The table; a row whose record is missing is left out."""
    rows = [*_matched(), *_labelled(), *_graphs()]
    heads = ("data", "budget", "method", "test %", "random data of this size %", "network, steps", "sets × networks")
    table = ["| " + " | ".join(line) + " |" for line in (heads, ("---",) * len(heads), *rows)]
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(name for *_, name in MATCHED))
    return [
        *table,
        *(line for text in [earlier_rule(records())] if text for line in ("", f"{names}: {text[0].lower()}{text[1:]}")),
    ]


def _matched() -> list[tuple[str, ...]]:
    """Beside the better of random images with the set's step size and with a tuned one."""
    cells, _ = gather()
    rows = []
    for dataset, ipc, name in MATCHED:
        sets = cells.get((dataset, ipc), {})
        if name in sets:
            held, others = sets[name], best_random(sets)
            own, told = percent(held.values), percent(others) if others else ""
            network = _network(held.rows[0])
            rows.append((dataset, f"{ipc} a class", f"`{name}`", own, told, network, held.counts))
    return rows


def _labelled() -> list[tuple[str, ...]]:
    """Beside random images under the same teachers and labels."""
    rows = []
    for dataset, ipc, name in LABELLED:
        job = {"dataset": dataset, "ipc": ipc, "method": name}
        held = [r for r in records() if job.items() <= r["job"].items() and "report" in r]
        if held:
            own = [record["report"]["rows"][0] for record in held]
            others = beside(held, "report", "random_labels")
            counts = f"{len(own)} × {own[0]['n']}"
            told = f"{percent(others)} (same labels)" if others else ""
            network = _network(own[0])
            rows.append(
                (dataset, f"{ipc} a class, soft labels", f"`{name}`", percent(spread(own)), told, network, counts)
            )
    return rows


def _network(row: Mapping[str, Any]) -> str:
    """What was trained, and for how long."""
    return f"`{row['model']}`, {row['steps']:,}"


def _graphs() -> list[tuple[str, ...]]:
    """AUROC of bags and of naive Bayes on closed sets."""
    rows = []
    for dataset in GRAPHS:
        held = reading_records().get(dataset, [])
        if held:
            cells: dict[str, list[Any]] = {"bags": [], "random graphs": []}
            for row in (row for record in held for row in record["rows"]):
                if row["reading"] in cells and row["summary"] != "single trees":
                    cells[row["reading"]].append(row["test"])
            own, beside = (percent(values) for values in cells.values())
            budget = f"{held[0]['budget']:,} bytes"
            network = _network({**held[0]["recipe"]})
            rows.append((dataset, budget, "`mirage`", f"{own} (AUROC)", beside, network, f"{len(held)} × 1"))
    return rows
