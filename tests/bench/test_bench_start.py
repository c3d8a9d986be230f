"""The bench of starts runs its rows; times are the machine's and not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "bench" / "start.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_one_object_with_the_rows_that_were_asked_for() -> None:
    rows = ["python", "dd", "help", "list", "method", "wrong"]
    done = bench("--repeats", "1", "--rows", ",".join(rows), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["repeats"] == 1
    assert [row["row"] for row in found["rows"]] == rows
    assert all(row["cpu"] > 0 and row["wall"] > 0 and row["ratio"] is None for row in found["rows"])


def test_seconds_are_told_by_those_of_torch() -> None:
    done = bench("--repeats", "1", "--rows", "torch,python")
    assert done.returncode == 0, done.stderr
    head, torch, python = done.stdout.splitlines()
    assert head.split() == ["row", "cpu", "s", "wall", "s", "by", "torch"]
    assert torch.split()[::3] == ["torch", "1.000"]
    assert 0 < float(python.split()[-1]) < 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--repeats", "0"], "--repeats must be at least 1; got 0"),
        (["--rows", "torch,jax"], "unknown row 'jax'; known: python, torch, dd"),
    ],
)
def test_refusals(arguments: list[str], text: str) -> None:
    refused = bench(*arguments)
    assert refused.returncode == 2
    assert text in refused.stderr
