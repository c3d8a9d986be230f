"""The first table: trajectory matching beside random images and class means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.tables.values import between, drawn, percent, spread

BASELINES = ("random", "random_tuned", "class_mean")
Cell = tuple[str, int]
Origin = tuple[str, str]
"""(machine, threads and version, commit)."""


def records() -> list[dict[str, Any]]:
    """Those of images."""
    return list(kept.named("*-seed*").values())


def earlier_rule(records: Iterable[Mapping[str, Any]]) -> str:
    """A sentence where some were measured under the former rule of the step size; else empty."""
    if not any(record.get("method", {}).get("lr_mode") == "log" for record in records):
        return ""
    return (
        "Measured while the step size followed another rule, which was the present one to first order of its distance "
        "from `lr_init`."
    )


def origin_words(origin: Mapping[str, Any]) -> Origin:
    """Where and on which code a record was measured."""
    return f"{origin['machine']}, {origin['threads']} thread(s), torch {origin['versions']['torch']}", origin["commit"]


def told_once(origins: Iterable[Origin]) -> list[str]:
    """A text a machine, with all its commits."""
    commits: dict[str, list[str]] = defaultdict(list)
    for machine, commit in sorted(set(origins)):
        commits[machine].append(commit)
    return [f"{machine}, at commits {', '.join(held)}" for machine, held in commits.items()]


@dataclass(frozen=True)
class Held:
    """What was measured of a method or baseline at a budget: a row a set of it; of a baseline one row of all draws."""

    rows: list[dict[str, Any]]
    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    @property
    def values(self) -> Sequence[float]:
        """A mean a set or draw where there are several, else the networks of the only one."""
        return drawn(self.rows[0]) if self.rows[0]["set"] in BASELINES else spread(self.rows)

    @property
    def counts(self) -> str:
        """`3 × 2`: sets, networks a set."""
        networks = sum(row["n"] for row in self.rows)
        sets = max(len(self.rows), len(self.values) if len(self.values) < networks else 1)
        return f"{sets} × {networks // sets}"


def gather() -> tuple[dict[Cell, dict[str, Held]], set[Origin]]:
    """(cell → method or baseline → what was measured, origins)."""
    cells: dict[Cell, dict[str, Held]] = defaultdict(dict)
    origins: set[Origin] = set()
    for record in records():
        if "refused" in record:
            continue  # the second table's
        job, report = record["job"], record["report"]
        cell = (job["dataset"], job["ipc"])
        origins.add(origin_words(report["origin"]))
        if "class" in record.get("method", {}):
            continue  # the second table's
        cells[cell].update({row["set"]: Held([row]) for row in report["rows"] if row["set"] in BASELINES})
        if job["method"] in BASELINES or job["method"] == "baselines":
            continue
        for suffix, key in (("", "report"), (" (tuned lr)", "report_tuned")):
            if key in record:
                held = cells[cell].setdefault(job["method"] + suffix, Held([]))
                held.rows.append(record[key]["rows"][0])
                held.bytes.append(record[key]["bytes"]["total"])
                held.seconds.append(kept.spent(record))
    return cells, origins


def best_random(sets: Mapping[str, Held]) -> Sequence[float]:
    """The better of random pictures with the step size of a set and with a tuned one; empty without them."""
    named = [sets[name].values for name in ("random", "random_tuned") if name in sets]
    return max(named, key=lambda values: mean_std(values)[0], default=())


def accuracy_table() -> list[str]:
    """The lines of the table and its notes."""
    cells, origins = gather()
    lines = [
        "| data | ipc | set | test accuracy % | sets × networks | gain | steps | lr | bytes | distil s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, ipc), sets in sorted(cells.items()):
        beside = best_random(sets)
        for name, held in sorted(sets.items(), key=lambda item: (item[0] in BASELINES, item[0])):
            gain = size = seconds = ""
            if held.seconds:
                gain = f"{100 * (mean_std(held.values)[0] - mean_std(beside)[0]):+.1f}" if beside else ""
                size, seconds = between(held.bytes, ","), f"{sum(held.seconds) / len(held.seconds):.0f}"
            lines.append(
                f"| {dataset} | {ipc} | {name} | {percent(held.values)} | {held.counts} | {gain} | "
                f"{held.rows[0]['steps']} | {between([row['lr'] for row in held.rows], '.3g')} | {size} | {seconds} |"
            )
    notes = [
        "± is the sample standard deviation over sets where there are several, else over networks. *gain*: points over "
        "the better of `random` and `random_tuned` (same budget, same steps). Last iterate or chosen on the validation "
        "split, never on the test set; full test set. *tuned lr*: step size chosen on the validation split, as for "
        "`random_tuned`. Whole records with every value: `scripts/records/results/`.",
        "Two or three jobs ran side by side, one thread each, so seconds are those of a busy core. "
        + "".join(f"{r['job']['dataset']}: {r['note']}. " for r in records() if "note" in r),
        *(f"Trajectory matching: {text[0].lower()}{text[1:]}" for text in [earlier_rule(records())] if text),
        "Folders: Tiny-ImageNet-20 is 20 of its 200 classes at 64 px; most test pictures of Imagenette-128 are ILSVRC "
        "training pictures (nothing here is pretrained on them).",
        "Measured on: " + "; ".join(told_once(origins)) + ".",
    ]
    return [*lines, "", *notes]
