"""`docs/results.md`, the pages under `docs/results/`, and the tables of README and other pages, from the records.

    python -m scripts.records.tables [--check]

`--check` writes nothing and exits with 1 where a page is not what it would write. In a page, a table stands between
`<!-- records: NAME -->` and `<!-- records: end -->`; the text around it is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scripts.records.tables.accuracy import accuracy_table, records
from scripts.records.tables.boards import PREFIX, board_lines, boards
from scripts.records.tables.choices import choice_records, choices_table
from scripts.records.tables.decoupled import decoupled_table
from scripts.records.tables.federated import federated_records, federated_table
from scripts.records.tables.frontier import frontier_records, frontier_table
from scripts.records.tables.graphs import graph_records, short_table, whole_text
from scripts.records.tables.nodes import node_records, node_table
from scripts.records.tables.published import published_records, published_table
from scripts.records.tables.readings import DEFAULT, reading_records, readings_table
from scripts.records.tables.rehearsal import rehearsal_records, rehearsal_table
from scripts.records.tables.settings import found, settings_table
from scripts.records.tables.short import short_lines
from scripts.records.tables.storage import storage_records, storage_table

ROOT: Final = Path(__file__).resolve().parents[3]
DOCS: Final = ROOT / "docs"
TABLES: Final[Mapping[str, Callable[[], list[str]]]] = {
    "short": short_lines,
    "accuracy": accuracy_table,
    "decoupled": lambda: decoupled_table(records()),
    "settings": lambda: settings_table(found()),
    "choices": lambda: choices_table(choice_records()),
    "graphs": lambda: short_table(graph_records()),
    "readings": lambda: readings_table(reading_records(), DEFAULT),
    "published": lambda: published_table(published_records()),
    "leaderboards": board_lines,
    "frontier": lambda: frontier_table(frontier_records()),
    "federated": lambda: federated_table(federated_records()),
    "nodes": lambda: node_table(node_records()),
    "rehearsal": lambda: rehearsal_table(rehearsal_records()),
    "storage": lambda: storage_table(storage_records()),
}
"""Name between the marks: lines."""
PAGES: Final = (
    ROOT / "README.md",
    *(DOCS / f"{name}.md" for name in ("results", "federated", "storage", "nodes", "scale")),
)
"""Pages with tables between marks."""


def generated() -> dict[Path, str]:
    """Every text that is made of the records, by its path."""
    made = {path: filled(path.read_text(encoding="utf-8")) for path in PAGES}
    made[DOCS / "results" / "graphs.md"] = graphs_text()
    for name, board in boards().items():
        made[DOCS / "results" / f"{PREFIX}{name}.md"] = board.to_markdown()
    return made


def filled(text: str) -> str:
    """A page with the tables of today between its marks."""

    def table(mark: re.Match[str]) -> str:
        body = "\n".join(TABLES[mark[1]]()).strip("\n")
        return f"<!-- records: {mark[1]} -->\n{body}\n<!-- records: end -->"

    return re.sub(r"<!-- records: (\w+) -->\n.*?<!-- records: end -->", table, text, flags=re.DOTALL)


def graphs_text() -> str:
    """`docs/results/graphs.md`."""
    return whole_text(graph_records()) + "\n".join(["", "## Readings", *readings_table(reading_records())]) + "\n"


def main() -> int:
    """Write or check."""
    texts = generated()
    if "--check" in sys.argv:
        old = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        print("".join(f"{path.relative_to(ROOT)} is not current\n" for path in old), end="")
        return int(bool(old))
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
