"""The bench of nodes runs on a small graph; times and sizes are the machine's and not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_rows_of_a_small_graph() -> None:
    words = ["--nodes", "400", "--edges", "900", "--features", "20", "--trained", "60", "--budget", "800", "--json"]
    command = [sys.executable, str(ROOT / "scripts" / "bench" / "nodes.py"), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    found = json.loads(done.stdout[done.stdout.index("{") :])
    rows = found.get("results", found)
    for row in ("node_means", "bonsai"):
        assert 0 < rows[row]["counted"] <= 800 < rows[row]["graph_bytes"]
        assert rows[row]["peak_mb"] > 0
    assert "validation nodes" in rows["node_means"]["chosen"]
