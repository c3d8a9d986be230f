"""The table of the page on federated distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.tables.accuracy import origin_words, told_once

_TOLD: Final = {
    "merged": "ten parties' sets, merged",
    "all data": "one set, of all data",
    "random": "random real images",
    "one party": "one party's set alone",
}
"""Sets by their names in the records, in the order of the table."""


def federated_records() -> list[dict[str, Any]]:
    """A record a deal."""
    return list(kept.named("federated-*").values())


def federated_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table, and how it was measured."""
    if not records:
        return []
    lines = ["| set | images | bytes of images | test accuracy % | deals × networks |", "|---|---|---|---|---|"]
    for name, told in _TOLD.items():
        rows = [record["rows"][name] for record in records]
        mean, std = mean_std([row["mean"] for row in rows])
        spread = "" if std is None else f" ± {100 * std:.1f}"
        size = f"{rows[0]['images']} | {rows[0]['bytes']['images']:,}"
        lines.append(f"| {told} | {size} | {100 * mean:.1f}{spread} | {len(rows)} × {rows[0]['n']} |")
    first = records[0]
    method, row = first["method"], first["rows"]["merged"]
    machines = "; ".join(told_once([origin_words(record["origin"]) for record in records]))
    minutes = sum(record["cpu_seconds"] for record in records) / 60
    return [
        *lines,
        "",
        f"Digits at 8 px, dealt evenly to {first['parties']} parties of {first['images_of_a_party']} training images. "
        f"A party's set is of `{method['name']}` with {method['expert']['experts']} experts and {method['iterations']} "
        "iterations; the set of all data sees as many synthetic pictures in its matching as all parties together. "
        f"Networks: `{row['model']}`, {row['steps']:,} steps. ± is the sample standard deviation over deals, each with "
        f"experts, draws and networks of its own. {machines}; {minutes:.0f} minutes of processor time, but for experts "
        "that were in the store.",
    ]
