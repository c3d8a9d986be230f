"""The second table: methods with labels of teachers, beside random images under the same labels, and hard labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from scipy import stats

from dd.evaluation import mean_std


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


def points(pair: tuple[float, float]) -> str:
    """`+1.2 ± 0.7` in points."""
    return f"{100 * pair[0]:+.1f}" + ("" if math.isnan(pair[1]) else f" ± {100 * pair[1]:.1f}")


def decoupled_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records. What a method refuses is a row of n/a."""
    cells: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    refused: dict[tuple[str, int, str], str] = {}
    for record in records:
        job = record["job"]
        cell = (job["dataset"], job["ipc"], job["method"])
        if "refused" in record:
            refused[cell] = record["refused"]
        elif "class" in record.get("method", {}):
            cells[cell].append(record)
    if not cells and not refused:
        return []
    lines = [
        "",
        "Methods with labels of teachers, each beside random real images under the same teachers, labels and steps:",
        "",
        "| data | ipc | set | test accuracy % | sets × networks | random, same labels % | difference | "
        "random, hard labels % | difference | own images, hard labels % | steps | image bytes | label bytes | "
        "distil s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in sorted({*cells, *refused}):
        row = _row(cells[cell]) if cell in cells else ["n/a"] * 11
        lines.append(f"| {' | '.join(map(str, cell))} | {' | '.join(row)} |")
    lines += [
        "",
        "Differences are in points with their 95 % interval (Welch's t over sets where there are several, else over "
        "networks; over draws × networks of random images). Bytes are those of stored tensors; teachers are shared.",
        *(f"n/a: {name} on {dataset}, {ipc} a class: {text}" for (dataset, ipc, name), text in sorted(refused.items())),
        *_ratios(cells),
        *_pair(cells),
    ]
    return lines


def _row(held: Sequence[dict[str, Any]]) -> list[str]:
    """The numbers of a method's sets."""
    rows = {row["set"]: row["values"] for record in held for row in record["report"]["rows"][1:]}
    own = [record["report"]["rows"][0] for record in held]
    values = [row["mean"] for row in own] if len(own) > 1 else own[0]["values"]
    cells = [percent(values), f"{len(own)} × {own[0]['n']}"]
    for name in ("random_labels", "random"):
        cells += [percent(rows[name]), points(interval(values, rows[name]))] if name in rows else ["", ""]
    cells.append(percent(rows["hard"]) if "hard" in rows else "")
    sizes = held[0]["report"]["bytes"]
    seconds = sum(record["distill_seconds"] for record in held) / len(held)
    return [*cells, str(own[0]["steps"]), f"{sizes['images']:,}", f"{sizes['labels']:,}", f"{seconds:.0f}"]


def _ratios(cells: dict[tuple[str, int, str], list[dict[str, Any]]]) -> list[str]:
    """What INFER's static labels take of those of the stored-label methods."""
    told = []
    for (dataset, ipc, name), held in sorted(cells.items()):
        if name != "infer":
            continue
        own = held[0]["report"]["bytes"]["labels"]
        others = {
            other: own / records[0]["report"]["bytes"]["labels"]
            for (data, count, other), records in sorted(cells.items())
            if (data, count) == (dataset, ipc) and other not in ("infer", "infer dynamic")
        }
        if others:
            each = ", ".join(f"{other} 1/{1 / ratio:.0f}" for other, ratio in others.items())
            told.append(f"Label bytes of INFER (static) at {ipc} images a class, as a share of the others': {each}.")
    return told


def _pair(cells: dict[tuple[str, int, str], list[dict[str, Any]]]) -> list[str]:
    """CV-DD against SRe2L++ from equal first images, seed by seed."""
    told = []
    for (dataset, ipc, name), held in sorted(cells.items()):
        other = cells.get((dataset, ipc, "sre2l++"))
        if name != "cvdd" or other is None:
            continue
        means = [{r["job"]["seed"]: r["report"]["rows"][0]["mean"] for r in group} for group in (held, other)]
        seeds = sorted(means[0].keys() & means[1].keys())
        gaps = [means[0][seed] - means[1][seed] for seed in seeds]
        mean, std = mean_std(gaps)
        half = math.nan if std is None else float(stats.t.ppf(0.975, len(gaps) - 1)) * std / math.sqrt(len(gaps))
        text = points((mean, half))
        told.append(f"CV-DD minus SRe2L++ at {ipc} images a class, {len(gaps)} seed(s), paired: {text} points.")
    return told
