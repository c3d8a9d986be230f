"""Where the leaderboards are: a page each under `docs/results/`."""

from __future__ import annotations

from dd.evaluation.leaderboard import Benchmark
from scripts.records import kept

WITHOUT = "keep_supports"
"""A field of graph methods whose leaderboards are of the present rule of bytes."""
PREFIX = "leaderboard-"


def boards() -> dict[str, Benchmark]:
    """Leaderboards by the name of their data."""
    return {name.removeprefix(PREFIX): Benchmark.from_json(r) for name, r in kept.named(f"{PREFIX}*").items()}


def board_lines() -> list[str]:
    """Links to them; none without records."""
    records = {name.removeprefix(PREFIX): str(record) for name, record in kept.named(f"{PREFIX}*").items()}
    if not records:
        return []
    links = ", ".join(f"[{name}](results/{PREFIX}{name}.md)" for name in records)
    told = (
        "Leaderboards, every method under one protocol (`dd.benchmark`; one set a method, but where the name says sets)"
    )
    told += f": {links}."
    before = [name for name, text in records.items() if "min_support" in text and WITHOUT not in text]
    if before:
        told += f" Measured under the earlier rule of bytes (see above), where networks read sets: {', '.join(before)}."
    return ["", told]
