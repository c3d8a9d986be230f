"""The README's table is the one that the records give, and every record has its birth certificate."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dd.files import read_json

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "records"))

import decoupled  # noqa: E402
import run  # noqa: E402

RECORDS = sorted((ROOT / "scripts" / "records").glob("*-seed*.json"))


def test_readme_table_comes_from_the_records() -> None:
    words = [sys.executable, str(ROOT / "scripts" / "records" / "table.py"), "--check"]
    assert subprocess.run(words, check=False).returncode == 0, "run scripts/records/table.py --write"


def check_origin(origin: dict[str, Any]) -> None:
    assert origin["commit"]
    assert not origin["commit"].endswith("+")  # measured on committed code
    assert {"seed", "versions", "machine", "threads"} <= set(origin)


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_record_has_its_birth_certificate(path: Path) -> None:
    record = read_json(path)
    if "refused" in record:
        check_origin(record["origin"])
        assert record["refused"].startswith("`")  # the library's own words
        return
    report = record["report"]
    assert report["split"] == "test"
    assert report["protocol"] == "clean"
    check_origin(report["origin"])
    for row in report["rows"]:
        assert row["n"] == len(row["values"]) >= 3
        assert row["std"] is not None
        assert row["seconds"] > 0
    assert "/" not in str(record.get("method", {}).get("store", ""))


def test_a_refusal_is_a_record_and_a_row_of_na(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = run.Job("digits", "infer", 1)
    monkeypatch.setattr(run, "HERE", tmp_path / "records")
    monkeypatch.setattr(run, "RUNS", tmp_path / "runs")
    run.do(job, tmp_path)
    (record,) = run.records()
    assert record["refused"].startswith("`ipc` must be at least 2 for 3 compensators over 10 classes; got 1")
    assert record["job"] == {"dataset": "digits", "method": "infer", "ipc": 1, "seed": 0}
    assert not (tmp_path / "runs" / job.name / "synthetic.safetensors").exists()
    made = (run.HERE / f"{job.name}.json").read_bytes()
    run.do(job, tmp_path)  # what has its record is not tried again
    assert (run.HERE / f"{job.name}.json").read_bytes() == made
    lines = decoupled.decoupled_table([record])
    (row,) = [line for line in lines if line.startswith("| digits")]
    head = next(line for line in lines if line.startswith("| data"))
    assert row.count("|") == head.count("|")
    assert row.split("|")[3:5] == [" infer ", " n/a "]
    assert f"n/a: infer on digits, 1 a class: {record['refused']}" in lines
    assert any(job == run.Job("cifar10", "infer", 1) for job in run.JOBS)
    assert dataclasses.replace(job, dataset="cifar10").name == "cifar10-ipc1-infer-seed0"
