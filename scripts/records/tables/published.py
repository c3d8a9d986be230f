"""The table of published rows that were run here as far as the hours went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.records import kept
from scripts.records.tables.values import percent


def published_records() -> list[dict[str, Any]]:
    """All of them."""
    return list(kept.named("published-*").values())


def published_table(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records."""
    if not records:
        return []
    lines = [
        "",
        "Published rows at their published settings, but for what the last column says, chosen on held-out images:",
        "",
        "| data | ipc | method | published % | here, chosen on validation % | networks | largest on the test set % | "
        "distil s | departures (published → here) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        row, own = record["row"], record["report"]["rows"][0]
        told = row["published"] or {}
        published = "" if not told else f"{100 * told['mean']:.1f}"
        published += f" ± {100 * told['std']:.1f}" if "std" in told else ""
        largest = record["maximum_on_test"]
        away = ", ".join(f"{name} {a} → {b}" for name, (a, b) in sorted(record["departures"].items()) if a != b)
        best = f"{100 * largest['mean']:.1f} at {largest['iteration']}"
        cells = [row["dataset"], row["ipc"], row["method"], published, percent(own["values"]), own["n"], best]
        cells += [f"{record['distill_seconds']:.0f}", away]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    note = "*Largest on the test set*: the best candidate there, as the papers report; it chooses nothing here."
    return [*lines, "", note]
