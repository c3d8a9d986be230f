"""The bench of one outer iteration runs in all its rows; times and sizes are not asserted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ["adjoint_generic", "unroll", "plain", "plain_untuned"]  # the compiled rows take minutes; they are `slow`


def test_one_object_with_all_rows() -> None:
    script = ROOT / "scripts" / "bench" / "matching_step.py"
    tiny = ["--width", "4", "--images", "4", "--steps", "2", "--threads", "1", "--repeats", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), *tiny, "--json", "--rows", ",".join(ROWS)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == ROWS
    losses = [row["loss"] for row in results.values()]
    for row in results.values():
        assert row["seconds"] > 0
        assert math.isfinite(row["peak_mb"])
        assert row["stored_mb"] >= 0
        assert 0 < row["peak_share"] < 1
        assert row["gradient_error"] < 1e-3
        assert row["cosine"] > 0.999
    assert max(losses) - min(losses) < 1e-5  # all rows compute the same L
    assert "plain_untuned" in done.stderr
    refused = subprocess.run(
        [sys.executable, str(script), "--rows", "best"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "unknown row 'best'; known: adjoint" in refused.stderr
