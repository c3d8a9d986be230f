"""The picture of the frontier: accuracy against minutes of a processor, a line a cell, from the records.

    python scripts/docs/frontier.py [--out docs/frontier.png]

Real pictures are level lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dd.base.curves import accuracy_by
from dd.base.files import write_bytes
from dd.evaluation import mean_std
from scripts.records.make.frontier import MODEL, WIDE, model_of
from scripts.records.tables.frontier import curve, frontier_records, last, real_of
from scripts.records.tables.values import spread

ROOT = Path(__file__).resolve().parents[2]


def points(cells: Mapping[str, Sequence[dict[str, Any]]]) -> list[tuple[str, float, float, float | None]]:
    """(set, minutes, mean, sample std) of every mark; real pictures are level, over the minutes of all."""
    found: list[tuple[str, float, float, float | None]] = []
    marks = sorted({mark for records in cells.values() for mark in curve(records)})
    for name, records in cells.items():
        rows, own = curve(records), last(records)
        label = f"{name.rpartition('-')[2]}, {own[0]['bytes']:,} bytes"
        label += "" if model_of(name) == MODEL else f", {WIDE}"
        level = dict.fromkeys((marks[0], marks[-1]), own) if name == real_of(name) else rows
        found += [(label, mark, *mean_std(spread(each))) for mark, each in level.items()]
    return found


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "frontier.png")
    given = parser.parse_args()
    made = accuracy_by(points(frontier_records()), cost="minutes of one core, experts among them")
    if made is None:
        raise SystemExit("There are no records of the frontier: python -m scripts.records.make.frontier makes them.")
    write_bytes(given.out, made)


if __name__ == "__main__":
    main()
