"""The second table: methods with labels of teachers, beside random images under the same labels, and hard labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from scipy import stats

from dd.evaluation import mean_std
from dd.methods import METHODS, rebuild
from dd.methods.presets import preset
from scripts.records.kept import spent
from scripts.records.tables.values import beside, interval, percent, points, spread

Cells = dict[tuple[str, int, str], list[dict[str, Any]]]
EARLIER = " †"  # a row of its own for sets of an earlier preset


def decoupled_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records. What a method refuses is a row of n/a."""
    cells, refused = _gathered(records)
    if not cells and not refused:
        return []
    lines = [
        "",
        "Methods with labels of teachers, each beside random real images under the same teachers, labels and steps:",
        "",
        "| data | ipc | set | test accuracy % | sets × networks | random, same labels % | difference | "
        "outside the committees % | random there % | difference | "
        "random, hard labels % | difference | own images, hard labels % | steps | image bytes | label bytes | "
        "distil s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    changed: dict[str, str] = {}
    for cell in sorted({*cells, *refused}):
        row = _row(cells[cell]) if cell in cells else ["n/a"] * 14
        if cell in cells and (text := earlier(cells[cell][0])):
            changed.setdefault(text, "")
            changed[text] += f", {cell[2].removesuffix(EARLIER)} at {cell[1]}"
        lines.append(f"| {' | '.join(map(str, cell))} | {' | '.join(row)} |")
    lines += [
        "",
        "Differences are in points with their 95 % interval (Welch's t over sets where there are several, else over "
        "networks; over draws of random images, whose ± is over draws too). Bytes are those of stored tensors; "
        f"teachers are shared. Outside the committees: a student of a family that none of them has "
        f"({_students(cells)}), the same labels.",
        *(f"† An earlier `cpu` preset: {text} ({rows[2:]})." for text, rows in sorted(changed.items())),
        *(f"n/a: {name} on {dataset}, {ipc} a class: {text}" for (dataset, ipc, name), text in sorted(refused.items())),
        *_ratios(cells),
        *_pair(cells),
    ]
    return lines


def _gathered(records: Sequence[dict[str, Any]]) -> tuple[Cells, dict[tuple[str, int, str], str]]:
    """(cell → its records, cell → what the method said where it refused)."""
    cells: Cells = defaultdict(list)
    refused: dict[tuple[str, int, str], str] = {}
    for record in records:
        job = record["job"]
        cell = (job["dataset"], job["ipc"], job["method"])
        if "refused" in record:
            refused[cell] = record["refused"]
        elif "class" in record.get("method", {}):
            cells[(*cell[:2], cell[2] + (EARLIER if earlier(record) else ""))].append(record)
    return cells, refused


def pair_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """CV-DD against SRe2L++ in sentences, for a page."""
    return _pair(_gathered(records)[0])


def earlier(record: dict[str, Any]) -> str:
    """How the preset was when the record was measured, where it has changed since; empty where it has not."""
    job = record["job"]
    made = rebuild(record["method"]) if "method" in record else None
    if made is None or job["dataset"] not in ("cifar10", "digits"):
        return ""  # teachers or budgets of its own
    name = job["method"].partition(" ")[0]
    now = METHODS[name](**preset(name, job["dataset"], job["ipc"], "cpu").fields).describe()
    then, fields = made.describe(), ("iterations", "init", "compensators", "committee", "bn_weight", "lr")
    return ", ".join(
        f"{field} {then[field]}, now {now[field]}" for field in fields if then.get(field) != now.get(field)
    )


def _students(cells: Cells) -> str:
    reports = (r["report_outside"] for held in cells.values() for r in held if "report_outside" in r)
    names = sorted({row["model"] for report in reports for row in report["rows"]})
    return ", ".join(f"`{name}`" for name in names) or "not measured yet"


def _own(held: Sequence[dict[str, Any]], report: str) -> list[float]:
    """Scores of a method's sets: a mean a set where there are several, else those of the networks."""
    return spread([record[report]["rows"][0] for record in held if report in record])


def _row(held: Sequence[dict[str, Any]]) -> list[str]:
    """The numbers of a method's sets."""
    own = [record["report"]["rows"][0] for record in held]
    values, outside = _own(held, "report"), _own(held, "report_outside")
    cells = [percent(values), f"{len(own)} × {own[0]['n']}"]
    cells += _against(values, beside(held, "report", "random_labels"))
    cells += [percent(outside) if outside else "", *_against(outside, beside(held, "report_outside", "random_labels"))]
    cells += _against(values, beside(held, "report", "random"))
    hard = beside(held, "report", "hard")
    cells.append(percent(hard) if hard else "")
    sizes = held[0]["report"]["bytes"]
    seconds = sum(map(spent, held)) / len(held)
    return [*cells, str(own[0]["steps"]), f"{sizes['images']:,}", f"{sizes['labels']:,}", f"{seconds:.0f}"]


def _against(values: Sequence[float], others: Sequence[float]) -> list[str]:
    """Accuracy of a baseline, and the difference; empty where one is missing."""
    return [percent(others), points(interval(values, others))] if values and others else ["", ""]


def _ratios(cells: Cells) -> list[str]:
    """What INFER's static labels take of those of the stored-label methods."""
    told = []
    for (dataset, ipc, name), held in sorted(cells.items()):
        if name.removesuffix(EARLIER) != "infer":
            continue
        own = held[0]["report"]["bytes"]["labels"]
        others = {
            other.removesuffix(EARLIER): own / records[0]["report"]["bytes"]["labels"]
            for (data, count, other), records in sorted(cells.items())
            if (data, count) == (dataset, ipc) and not other.startswith("infer")
        }
        if others:
            each = ", ".join(f"{other} 1/{1 / ratio:.0f}" for other, ratio in others.items())
            told.append(f"Label bytes of INFER (static) at {ipc} images a class, as a share of the others': {each}.")
    return told


def committee(cells: Cells) -> list[tuple[int, str, str, int, tuple[float, float]]]:
    """CV-DD minus SRe2L++ seed by seed, where both started alike and had equal iterations.

    Returns:
        (images a class, start, student, seeds, (mean difference, half of its 95 % interval by Student's t)).
    """
    kept: dict[tuple[int, str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for (_, ipc, _), held in sorted(cells.items()):
        for record in held:
            made, job = record["method"], record["job"]
            if job["method"] in ("cvdd", "sre2l++"):
                start = f"{made['init']} images, {made['iterations']} iterations"
                for row in (record[key]["rows"][0] for key in ("report", "report_outside") if key in record):
                    kept[ipc, start, row["model"]][job["method"]][job["seed"]] = row["mean"]
    told = []
    for (ipc, start, student), means in kept.items():
        seeds = sorted(means["cvdd"].keys() & means["sre2l++"].keys())
        if seeds:
            gaps = [means["cvdd"][seed] - means["sre2l++"][seed] for seed in seeds]
            mean, std = mean_std(gaps)
            half = math.nan if std is None else float(stats.t.ppf(0.975, len(gaps) - 1)) * std / math.sqrt(len(gaps))
            told.append((ipc, start, student, len(seeds), (mean, half)))
    return told


def verdict(pair: tuple[float, float]) -> str:
    """Whether a committee pays, by the interval of its difference."""
    mean, half = pair
    if math.isnan(half) or abs(mean) <= half:
        return "no difference can be told"
    return "a committee pays" if mean > 0 else "a committee does not pay"


def _pair(cells: Cells) -> list[str]:
    """CV-DD against SRe2L++, a line a start and a student."""
    return [
        f"CV-DD minus SRe2L++ at {ipc} images a class, {start}, student `{student}`, {count} seed(s), paired: "
        f"{points(pair)} points: {verdict(pair)}."
        for ipc, start, student, count, pair in committee(cells)
    ]
