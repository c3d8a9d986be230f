"""The bench of graph memory runs in all its rows; sizes are not asserted, for they are the machine's."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--width", "4", "--images", "4", "--micro-batch", "2", "--reuse", "1", "--threads", "1"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "bench" / "graph_memory.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow  # a process a row
@pytest.mark.parametrize(("engine", "steps"), [("fast", [2, 4]), ("generic", [2])])
def test_one_object_with_all_rows(engine: str, steps: list[int]) -> None:
    text = ",".join(map(str, steps))
    done = bench(*TINY, "--steps", text, "--engine", engine, "--no-compile", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = found["rows"]
    assert found["engine"] == engine
    assert [(row["steps"], row["reuse"]) for row in rows] == [*((n, 0) for n in steps), (2, 1)]
    assert all(math.isfinite(row["peak_mb"]) for row in rows)
    assert all(row["graph_mb"] == pytest.approx(row["peak_mb"] - row["stored_mb"], abs=0.11) for row in rows)
    assert [row["reuse_mb"] is None for row in rows] == [*(True for _ in steps), False]
    assert rows[0]["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-5)  # reuse changes no result
    assert "MB a kept step" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--steps", "0"], "--steps must be numbers of at least 1; got [0]"),
        (["--steps", "3,9", "--reuse", "4"], "--reuse must be in 1…3, the smallest of --steps; got [4]"),
        (["--micro-batch", "0"], "--micro-batch must be at least 1; got 0"),
    ],
)
def test_refusals(arguments: list[str], text: str) -> None:
    refused = bench(*arguments)
    assert refused.returncode == 2
    assert text in refused.stderr
