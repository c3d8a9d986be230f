"""The table of the readings of a summary: on validation graphs, by which the default is chosen, and on test graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.make.readings import PATTERNS, READINGS, SOURCES

DEFAULT: Final = ("closed sets",)


def reading_records() -> dict[str, list[Mapping[str, Any]]]:
    """Records by data set, in the order of the list."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for source in SOURCES:
        if records := list(kept.named(f"readings-{source.name}-split*").values()):
            found[source.name] = records
    return found


def readings_table(
    found: Mapping[str, Sequence[Mapping[str, Any]]], patterns: Sequence[str] = tuple(PATTERNS)
) -> list[str]:
    """Validation and test figures of each reading, by data set and kind of summary."""
    if not found:
        return []
    names = [*READINGS, "naive bayes"]
    head = [f"{name}: {part}" for name in names for part in ("validation", "test")]
    lines = [
        "",
        "The readings of a summary, at the default recipe of 500 steps, on the validation graphs, by which the default "
        "is chosen, and on the test graphs (AUROC × 100, accuracy in % of digits-graphs):",
        "",
        f"| data | summary | bytes | splits | {' | '.join(head)} | random graphs: test |",
        "|---|---|---|---|" + "---|" * (len(head) + 1),
    ]
    for dataset, records in found.items():
        for made_of in patterns:
            cells = []
            for name in names:
                for part in ("val", "test"):
                    cells.append(_cell(records, made_of, name, part))
            spent = sorted(record["summaries"][made_of]["published_bytes"] for record in records)
            cells.append(_cell(records, None, "random graphs", "test"))
            size = f"{spent[0]:,} to {spent[-1]:,}" if spent[0] != spent[-1] else f"{spent[0]:,}"
            lines.append(f"| {dataset} | {made_of} | {size} | {len(records)} | {' | '.join(cells)} |")
    commits = sorted({record["origin"]["commit"] for records in found.values() for record in records})
    return [
        *lines,
        "",
        "*sets*: the published reading, every set a pseudo-graph, test graphs pooled over all nodes; *filtered*: "
        "pooled over nodes whose tree is kept alone, as bags are. Budgets: 2,048 bytes, of digits-graphs 8,192; one "
        "account for all classes, supports of trees counted. ± is the sample standard deviation over splits (digits, "
        "BBBP and BACE: over seeds); random graphs have the bytes that the summary of single trees spent. "
        f"Commit {', '.join(commits)}.",
    ]


def _cell(records: Sequence[Mapping[str, Any]], made_of: str | None, reading: str, part: str) -> str:
    held = [
        row[part]
        for record in records
        for row in record["rows"]
        if row["reading"] == reading and made_of in (None, row["summary"])
    ]
    mean, std = mean_std(held)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")
