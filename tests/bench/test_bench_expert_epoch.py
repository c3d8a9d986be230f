"""The bench of expert training runs in its rows; speeds are not asserted, and nothing is compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow  # a process a row
def test_one_object_with_the_rows() -> None:
    script = ROOT / "scripts" / "bench" / "expert_epoch.py"
    tiny = ["--width", "4", "--batch", "8", "--steps", "1", "--repeats", "1", "--rows", "eager,plain,convolutions"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), *tiny, "--json"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == ["eager", "plain", "convolutions"]
    for row in results.values():
        assert row["images_per_s"] > 0
        assert row["warm_seconds"] > 0
        assert len(row["all"]) == 1
    assert results["eager"]["road"] == "eager"
    assert "ratio" in done.stderr
    assert "share of the plain loop's CPU seconds: convolutions" in done.stderr
    refused = subprocess.run(
        [sys.executable, str(script), "--rows", "best"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert (
        "unknown row 'best'; known: compiled, side_by_side, eager, plain, convolutions, convolutions_last"
        in refused.stderr
    )
