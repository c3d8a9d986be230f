"""The README's table is the one that the records give, and every record has its birth certificate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dd.files import read_json

ROOT = Path(__file__).resolve().parents[1]
RECORDS = sorted((ROOT / "scripts" / "records").glob("*-seed*.json"))


def test_readme_table_comes_from_the_records() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "records" / "table.py"), "--check"]
    assert subprocess.run(words, check=False).returncode == 0, "run scripts/records/table.py --write"


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_record_has_its_birth_certificate(path: Path) -> None:
    record = read_json(path)
    report = record["report"]
    assert report["split"] == "test"
    assert report["protocol"] == "clean"
    origin = report["origin"]
    assert origin["commit"]
    assert not origin["commit"].endswith("+")  # measured on committed code
    assert {"seed", "versions", "machine", "threads"} <= set(origin)
    for row in report["rows"]:
        assert row["n"] == len(row["values"]) >= 3
        assert row["std"] is not None
        assert row["seconds"] > 0
    assert "/" not in str(record.get("method", {}).get("store", ""))
