"""`docs/reliability.md`, from the campaigns and their records: `python scripts/docs/reliability.py [--check]`.

`--check` writes nothing and exits with 1 where the page is not what it would write.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dd.base.files import write_text  # noqa: E402
from scripts.campaigns.__main__ import NAMES, RECORDS  # noqa: E402
from scripts.campaigns.common import FAULTS  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"
OWN = {"campaign", "trials", "parts", "faults", "seed", "seconds", "origin", *FAULTS}
"""Keys of every record; the others are a campaign's own counts."""

PROMISES = """\
- A file is the old one or the whole new one, after a kill, a full disk or a power cut; a set and its stored labels are
  replaced as one.
- A run that was ended goes on where it stopped, by the same call, to the bytes of an unbroken one; so do buffers,
  teachers, benchmarks and several seeds.
- Every file that is read again has a checksum over all that is in it, which is compared wherever it is read. What does
  not match is refused.
- A folder is worked on by one process at a time; a second one is told which, and a dead process holds nothing.
- The user's own files are never replaced by a run's.
- Nothing in a file is run: there are no pickles, and tensors of others are read with `weights_only`.
- What goes wrong ends in one line with what was expected, what was there and the way out."""

LIMITS = """\
All of this was run on Linux x86-64 with Python 3.11 alone. That later versions of Python, macOS, Windows and other
processors do as well is stated by metadata (`python_requires`) and not measured. What they lack is imitated in the
tests: Python's `os` with the names it has on Windows, no `fcntl` (locks are those of the package `filelock`), no
renaming or removal of an open or mapped file (`tests/base/test_portable.py`), and workers that are spawned
(`tests/data/test_workers.py`).

A power cut is imitated too: what was not synced is taken back. A disk that says that it has synced and has not is
beyond what a library can see. Locks are of one machine, or of a network file system that passes `flock` on."""


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown."""
    parts = [
        "# Reliability",
        "<!-- Made by scripts/docs/reliability.py from scripts/records/campaigns/; change these. -->",
        "What the library promises, how that is attacked, and what came of it. `make campaigns` runs all of it, the "
        "tests a share.",
        "## What is promised",
        PROMISES,
        "## What came of it",
        _table(["campaign", "trials", *FAULTS, "seconds"], [_row(record) for record in records]),
        "\n".join(f"- *{name}*: {meaning}." for name, meaning in FAULTS.items()),
        "Only `hostile` tries to have code run. Each record is of the commit that it names; where that is not the "
        "present one, code has moved since, and the tests' share of the campaign is what was run on it.",
        "## How it is attacked",
        *(_campaign(record) for record in records),
        "## What is stated and not measured",
        LIMITS,
        "## Where it was run",
        _table(["campaign", "seed", "machine", "threads", "versions", "commit"], [_origin(r) for r in records]),
    ]
    return "\n\n".join(parts) + "\n"


def records() -> list[dict[str, Any]]:
    """Of every campaign that has one."""
    files = [RECORDS / f"{name}.json" for name in NAMES]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def _row(record: Mapping[str, Any]) -> list[str]:
    counts = [f"{record[fault]:,}" if fault in record else "not counted" for fault in FAULTS]
    return [record["campaign"], f"{record['trials']:,}", *counts, f"{record['seconds']:,.0f}"]


def _origin(record: Mapping[str, Any]) -> list[str]:
    origin = record["origin"]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(origin["versions"].items()))
    seed, threads = str(record["seed"]), str(origin["threads"])
    return [record["campaign"], seed, origin["machine"], threads, versions, str(origin["commit"])]


def _campaign(record: Mapping[str, Any]) -> str:
    """What its module says of it, its own counts, and its parts."""
    name = record["campaign"]
    source = ROOT / "scripts" / "campaigns" / f"{name}.py"
    told = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    paragraphs = [text for text in told.split("\n\n") if not text.startswith("    python -m")]
    own = ", ".join(f"{key} {_words(value)}" for key, value in sorted(record.items()) if key not in OWN)
    parts = ", ".join(f"{part} {count:,}" for part, count in sorted(record["parts"].items()))
    counts = [f"Own counts: {own}."] if own else []
    return "\n\n".join([f"### {name}", *paragraphs, *counts, f"Trials: {parts}."])


def _words(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (heads, ["---"] * len(heads), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Write the page, or say whether it is current."""
    text = page(records())
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text else 1
    write_text(PAGE, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
