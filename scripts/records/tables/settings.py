"""The table of the settings search, on validation data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.make.settings import PRESET, SETTINGS
from scripts.records.tables.values import percent, points


def found() -> list[dict[str, Any]]:
    """All records of settings that are there."""
    return list(kept.named("settings-*").values())


def pooled(records: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """(sample standard deviation of one network, its degrees of freedom), pooled over all settings."""
    each = [record["report"]["rows"][0]["values"] for record in records]
    freedom = sum(len(values) - 1 for values in each)
    squares = sum((len(values) - 1) * (mean_std(values)[1] or 0.0) ** 2 for values in each)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def settings_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records."""
    kept = {(r["setting"]["factor"], r["setting"]["value"], r["setting"]["images"]): r for r in records}
    rows = [(key[:2], record) for key, record in kept.items() if key[2] == "recovered"]
    if not rows:
        return []
    values = {key: record["report"]["rows"][0]["values"] for key, record in kept.items()}
    std, freedom = pooled(records)
    best, best_mean = max(((name, mean_std(values[*name, "recovered"])[0]) for name, _ in rows), key=lambda x: x[1])
    about = rows[0][1]
    lines = [
        "",
        f"SRe2L++ on {about['setting']['dataset']}, {about['setting']['ipc']} images a class, one factor at a time "
        "around its former `cpu` preset (200 iterations from medium patches), on **validation** data; one set, "
        f"{about['report']['rows'][0]['n']} networks each:",
        "",
        "| factor | value | recovered images % | random images, same labels % | difference | distil s |",
        "|---|---|---|---|---|---|",
    ]
    order = [(s.factor, s.value) for s in SETTINGS]
    for name, record in sorted(rows, key=lambda row: order.index(row[0]) if row[0] in order else len(order)):
        own = values[*name, "recovered"]
        beside = values.get((*name, "random")) or values.get((*PRESET, "random"))
        cells = [percent(own), *_beside(own, beside, std, freedom), f"{record['distill_seconds']:.0f}"]
        mark = "**" if name == best else ""
        lines.append(f"| {mark}{name[0]}{mark} | {mark}{name[1]}{mark} | {' | '.join(cells)} |")
    sizes = about["report"]["bytes"]
    return [
        *lines,
        "",
        f"Best setting on validation data: {best[0]} {best[1]}, {100 * best_mean:.1f} %; as the largest of {len(rows)} "
        "it is likely to be lower on other data. Differences are in points with their 95 % interval, from a "
        f"standard deviation of one network of {100 * std:.1f} points, pooled over all rows ({freedom} degrees of "
        f"freedom). All have {about['report']['rows'][0]['steps']} steps, {sizes['images']:,} bytes of images and "
        f"{sizes['labels']:,} of labels. Teachers were trained before the clock.",
    ]


def _beside(own: Sequence[float], random: Sequence[float] | None, std: float, freedom: int) -> list[str]:
    """Accuracy of random images, and the difference with its interval; empty where they are not measured yet."""
    if random is None:
        return ["", ""]
    half = math.nan
    if freedom:
        half = float(stats.t.ppf(0.975, freedom)) * std * math.sqrt(1 / len(own) + 1 / len(random))
    return [percent(random), points((mean_std(own)[0] - mean_std(random)[0], half))]
