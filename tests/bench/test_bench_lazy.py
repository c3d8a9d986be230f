"""The bench of reading runs in its rows, and all ways give the same pictures; speeds are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dd.data.images import reading

ROOT = Path(__file__).resolve().parents[2]


def test_all_ways_read_the_same_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    monkeypatch.setattr(reading, "FEW", 4)
    import lazy as bench

    bench.make_folder(tmp_path, 12, 40)
    split = bench.open_split(tmp_path, 8, 2)
    assert (len(split), split.labels.sum()) == (12, 6)
    assert split.kept() is not split
    sums = [bench.epoch(split.kept() if way == "kept" else split, way, 5, 1)[0] for way in bench.WAYS]
    assert len(set(sums[0])) == 3
    assert all(other == sums[0] for other in sums)


@pytest.mark.slow  # a process a row
def test_one_object_with_the_rows() -> None:
    script = ROOT / "scripts" / "bench" / "lazy.py"
    tiny = ["--pictures", "12", "--side", "40", "--size", "8", "--batches", "4,9", "--repeats", "1"]
    words = [sys.executable, str(script), *tiny, "--rows", "thread,stream", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"thread,4", "stream,4", "thread,9", "stream,9"}
    assert "a CPU s" in done.stderr
