"""The table of the rehearsal of ImageNet-1K."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.records import kept
from scripts.records.tables.accuracy import origin_words, told_once


def rehearsal_records() -> list[dict[str, Any]]:
    """A record a method."""
    return list(kept.named("rehearsal-*").values())


def rehearsal_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table, and how it was measured."""
    if not records:
        return ["Not measured yet: `python -m scripts.records.make.rehearsal --out DIR`."]
    head = (
        "| method | classes | pictures | CPU s | by the clock s | MB a rank | CPU s predicted | grows as classes to "
        "the power | ImageNet-1K: CPU hours | store | set | peak |"
    )
    lines = [head, f"|{'---|' * 12}"]
    for record in records:
        for row in record["rows"]:
            last, whole = row is record["rows"][-1], record["imagenet"]
            ends = ["", "", "", "", ""]
            if last:
                sizes = (_size(whole[name]) for name in ("store_bytes", "set_bytes", "peak_bytes"))
                ends = [f"{record['growth']:.2f}", f"{whole['hours']:,.0f}", *sizes]
            cells = [
                f"`{record['method_name']}`",
                f"{row['classes']:,}",
                f"{row['classes'] * row['each']:,}",
                f"{row['cpu_seconds']:,.0f}",
                f"{max(rank['wall_seconds'] for rank in row['ranks']):,.0f}",
                f"{max(rank['peak_mb'] for rank in row['ranks']):,}",
                f"{row['predicted']['seconds']:,.0f}",
                *ends,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    first = records[0]
    machines = "; ".join(told_once([origin_words(record["origin"]) for record in records]))
    rates = ", ".join(sorted({f"{record['imagenet']['rate'] / 1e9:.0f} GFLOP/s assumed" for record in records}))
    return [
        *lines,
        "",
        f"Ten images a class of generated pictures of {first['size']} px, {first['ranks']} ranks of one thread, "
        "teachers of one epoch and width 16, at most 20 iterations of recovery, 3 epochs of labels. CPU seconds are "
        "those of all ranks. For ImageNet-1K `dd.estimate` was asked, by the published settings and on this CPU "
        f"({rates}), and its hours multiplied by measured over predicted of the row. {machines}.",
    ]


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
