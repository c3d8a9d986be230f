"""The README's tables, `GRAPHS.md` and the leaderboards' Markdown, from the records.

python scripts/records/table.py [--write | --check]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from decoupled import decoupled_table, percent  # noqa: E402
from graph_readings import DEFAULT, reading_records, readings_table  # noqa: E402
from graph_table import graph_records, short_table, whole_text  # noqa: E402
from run import records  # noqa: E402
from settings import found, settings_table  # noqa: E402

from dd.evaluation import mean_std  # noqa: E402
from dd.files import read_foreign_json  # noqa: E402
from dd.leaderboard import Benchmark  # noqa: E402

README = HERE.parents[1] / "README.md"
GRAPHS = HERE / "GRAPHS.md"
BEGIN, END = "<!-- records: begin -->", "<!-- records: end -->"
BASELINES = ("random", "random_tuned", "class_mean")
Cell = tuple[str, int]


def gather() -> tuple[dict[Cell, dict[str, dict[str, Any]]], set[str]]:
    """(cell → set → its numbers, commits); a distilled row takes one mean a seed, a baseline row all its networks."""
    cells: dict[Cell, dict[str, dict[str, Any]]] = defaultdict(dict)
    origins: set[str] = set()
    for record in records():
        if "refused" in record:
            continue  # the second table's
        job, report = record["job"], record["report"]
        cell = (job["dataset"], job["ipc"])
        versions = report["origin"]["versions"]
        origins.add(
            f"{report['origin']['machine']}, {report['origin']['threads']} thread(s), torch {versions['torch']}, "
            f"commit {report['origin']['commit']}"
        )
        if "class" in record.get("method", {}):
            continue  # the second table's
        for row in report["rows"]:
            if row["set"] in BASELINES:
                cells[cell][row["set"]] = {"values": row["values"], "networks": row["n"], "row": row}
        if job["method"] in BASELINES or job["method"] == "baselines":
            continue
        for suffix, key in (("", "report"), (" (tuned lr)", "report_tuned")):
            if key not in record:
                continue
            row = record[key]["rows"][0]
            held = cells[cell].setdefault(
                job["method"] + suffix,
                {"values": [], "networks": 0, "row": row, "all": [], "seconds": [], "bytes": report["bytes"]["total"]},
            )
            held["values"].append(row["mean"])
            held["all"] += row["values"]
            held["networks"] += row["n"]
            held["seconds"].append(record["distill_seconds"])
    return cells, origins


def table() -> str:
    """The Markdown table."""
    cells, origins = gather()
    lines = [
        "| data | ipc | set | test accuracy % | sets × networks | gain | steps | lr | bytes | distil s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (dataset, ipc), sets in sorted(cells.items()):
        named = [sets[b]["values"] for b in ("random", "random_tuned") if b in sets]
        best = max((mean_std(v)[0] for v in named), default=None)
        for name, held in sorted(sets.items(), key=lambda item: (item[0] in BASELINES, item[0])):
            row, distilled = held["row"], "all" in held
            count = len(held["values"]) if distilled else {"class_mean": 1}.get(name, 3)
            values = held["values"] if distilled and count > 1 else held.get("all", held["values"])
            gain = "" if best is None or not distilled else f"{100 * (mean_std(values)[0] - best):+.1f}"
            seconds = f"{sum(held['seconds']) / len(held['seconds']):.0f}" if distilled else ""
            size = f"{held['bytes']:,}" if distilled else ""
            networks = held["networks"] // count
            lines.append(
                f"| {dataset} | {ipc} | {name} | {percent(values)} | {count} × {networks} | {gain} | {row['steps']} | "
                f"{row['lr']:.3g} | {size} | {seconds} |"
            )
    notes = [
        "± is the sample standard deviation over sets where there are several, else over networks. *gain*: points over "
        "the better of `random` and `random_tuned` (same budget, same steps). Last iterate or chosen on the validation "
        "split, never on the test set; full test set. *tuned lr*: step size chosen on the validation split, as for "
        "`random_tuned`. Whole records with every value: `scripts/records/`.",
        "Two or three jobs ran side by side, one thread each, so seconds are those of a busy core. "
        + "".join(f"{r['job']['dataset']}: {r['note']}. " for r in records() if "note" in r),
        "Folders: Tiny-ImageNet-20 is 20 of its 200 classes at 64 px; most test pictures of Imagenette-128 are ILSVRC "
        "training pictures (nothing here is pretrained on them).",
        "Measured on: " + "; ".join(sorted(origins)) + ".",
    ]
    parts = (
        decoupled_table(records()),
        settings_table(found()),
        short_table(graph_records()),
        readings_table(reading_records(), DEFAULT),
        leaderboards(),
    )
    return "\n".join([*lines, "", *notes, *(line for part in parts for line in part)])


WITHOUT = "keep_supports"
"""A field of graph methods whose leaderboards are of the present rule of bytes."""


def leaderboards(folder: Path = HERE) -> list[str]:
    """Where the leaderboards are: their Markdown beside this file."""
    paths = sorted(folder.glob("leaderboard-*.json"))
    if not paths:
        return []
    links = ", ".join(f"[{p.stem.removeprefix('leaderboard-')}](scripts/records/{p.stem}.md)" for p in paths)
    told = f"Leaderboards, every method under one protocol (`dd.benchmark`, one set a method): {links}."
    texts = {p: p.read_text(encoding="utf-8") for p in paths}
    before = [p.stem.removeprefix("leaderboard-") for p, t in texts.items() if "min_support" in t and WITHOUT not in t]
    if before:
        told += (
            f" {' and '.join(before)} were measured under the earlier rule of bytes (see above), networks read sets."
        )
    return ["", told]


def generated() -> dict[Path, str]:
    """Every text that is made of the records, by its path."""
    graphs = graph_records()
    made = {README: readme_with(table())}
    if graphs:
        made[GRAPHS] = graphs_text()
    for path in sorted(HERE.glob("leaderboard-*.json")):
        made[path.with_suffix(".md")] = Benchmark.from_json(read_foreign_json(path)).to_markdown()
    return made


def graphs_text() -> str:
    """`GRAPHS.md`."""
    return whole_text(graph_records()) + "\n".join(["", "## Readings", *readings_table(reading_records())]) + "\n"


def readme_with(text: str) -> str:
    """The README with the table between its marks."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    """Print, write or check."""
    if "--write" in sys.argv:
        for path, text in generated().items():
            path.write_text(text, encoding="utf-8")
    elif "--check" in sys.argv:
        return int(any(path.read_text(encoding="utf-8") != text for path, text in generated().items()))
    else:
        print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
