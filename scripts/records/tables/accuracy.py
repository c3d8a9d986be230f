"""The first table: trajectory matching beside random images and class means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.tables.decoupled import between, drawn, percent

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


def gather() -> tuple[dict[Cell, dict[str, dict[str, Any]]], set[Origin]]:
    """(cell → set → its numbers, origins); `values` are a mean a set or draw, of a baseline of one set its networks."""
    cells: dict[Cell, dict[str, dict[str, Any]]] = defaultdict(dict)
    origins: set[Origin] = set()
    for record in records():
        if "refused" in record:
            continue  # the second table's
        job, report = record["job"], record["report"]
        cell = (job["dataset"], job["ipc"])
        origins.add(origin_words(report["origin"]))
        if "class" in record.get("method", {}):
            continue  # the second table's
        for row in report["rows"]:
            if row["set"] in BASELINES:
                values = drawn(row)
                count = len(values) if len(values) < row["n"] else 1
                cells[cell][row["set"]] = {"values": values, "sets": count, "networks": row["n"], "rows": [row]}
        if job["method"] in BASELINES or job["method"] == "baselines":
            continue
        for suffix, key in (("", "report"), (" (tuned lr)", "report_tuned")):
            if key not in record:
                continue
            row = record[key]["rows"][0]
            held = cells[cell].setdefault(
                job["method"] + suffix,
                {"values": [], "networks": 0, "rows": [], "all": [], "seconds": [], "bytes": []},
            )
            held["rows"].append(row)
            held["bytes"].append(record[key]["bytes"]["total"])
            held["values"].append(row["mean"])
            held["all"] += row["values"]
            held["networks"] += row["n"]
            held["seconds"].append(kept.spent(record))
    return cells, origins


def accuracy_table() -> list[str]:
    """The lines of the table and its notes."""
    cells, origins = gather()
    lines = [
        "| data | ipc | set | test accuracy % | sets × networks | gain | steps | lr | bytes | distil s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, ipc), sets in sorted(cells.items()):
        named = [sets[b]["values"] for b in ("random", "random_tuned") if b in sets]
        best = max((mean_std(v)[0] for v in named), default=None)
        for name, held in sorted(sets.items(), key=lambda item: (item[0] in BASELINES, item[0])):
            rows, distilled = held["rows"], "all" in held
            count = len(held["values"]) if distilled else held["sets"]
            values = held["values"] if distilled and count > 1 else held.get("all", held["values"])
            gain = "" if best is None or not distilled else f"{100 * (mean_std(values)[0] - best):+.1f}"
            seconds = f"{sum(held['seconds']) / len(held['seconds']):.0f}" if distilled else ""
            size = between(held["bytes"], ",") if distilled else ""
            networks, sizes = held["networks"] // count, between([row["lr"] for row in rows], ".3g")
            lines.append(
                f"| {dataset} | {ipc} | {name} | {percent(values)} | {count} × {networks} | {gain} | "
                f"{rows[0]['steps']} | {sizes} | {size} | {seconds} |"
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
