"""Rows of reports as the numbers of tables: mean and spread over sets, draws or networks, and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from dd.contest.baselines_images import IMAGE_BASELINES
from dd.evaluation import mean_std
from dd.evaluation.spread import by_draw


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """(mean a - mean b, half of its 95 % interval by Welch's t)."""
    (mean_a, std_a), (mean_b, std_b) = mean_std(list(a)), mean_std(list(b))
    if std_a is None or std_b is None:
        return mean_a - mean_b, math.nan
    parts = std_a**2 / len(a), std_b**2 / len(b)
    error = math.sqrt(sum(parts))
    if error == 0:
        return mean_a - mean_b, 0.0
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    return mean_a - mean_b, float(stats.t.ppf(0.975, freedom)) * error


def percent(values: Sequence[float]) -> str:
    """`48.1 ± 0.7` in per cent, sample std."""
    mean, std = mean_std(list(values))
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def spread(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of rows of reports: one value a set where there are several sets, else the networks of the only one."""
    return [row["mean"] for row in rows] if len(rows) > 1 else [value for row in rows for value in row["values"]]


def drawn(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Of the row of a baseline: one value a draw where chance chooses it, else its networks."""
    return by_draw(row["values"], row.get("draws", IMAGE_BASELINES[row["set"]].draws))


def between(values: Sequence[float], form: str) -> str:
    """The smallest to the largest, or the only one."""
    return " to ".join(dict.fromkeys(f"{edge:{form}}" for edge in (min(values), max(values))))


def points(pair: tuple[float, float]) -> str:
    """`+1.2 ± 0.7` in points."""
    return f"{100 * pair[0]:+.1f}" + ("" if math.isnan(pair[1]) else f" ± {100 * pair[1]:.1f}")


def beside(held: Sequence[dict[str, Any]], report: str, name: str) -> list[float]:
    """Scores of a baseline: a mean a draw where chance chooses it, else those of the networks."""
    rows = [row for record in held if report in record for row in record[report]["rows"][1:] if row["set"] == name]
    return [value for row in rows for value in drawn(row)]
