"""The bench of memory runs in all its rows; sizes are not asserted, for they are the machine's."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--images", "20,30", "--records", "4,8", "--classes", "5", "--threads", "1"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "bench" / "copies.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow  # a process a row and size
def test_one_object_with_all_rows() -> None:
    rows = ["recovery", "labels", "save", "load", "patches", "pruned", "count"]
    done = bench(*TINY, "--rows", ",".join(rows), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == rows
    for row, told in found.items():
        sizes = told["sizes"]
        assert [one["row"] for one in sizes] == [row] * 2
        assert all(math.isfinite(one[name]) for one in sizes for name in ("mb", "peak_mb", "ratio"))
        assert math.isfinite(told["exponent"])
    assert found["recovery"]["sizes"][1]["mb"] == round(4 * 30 * 3 * 128**2 / 1e6, 3)
    assert "exponent" in done.stderr


def test_the_exponent_is_the_slope_of_the_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))
    from copies import exponent

    for power in (0.5, 1.0, 2.0):
        assert exponent([{"mb": size, "peak_mb": 3 * size**power} for size in (1.0, 2.0, 5.0)]) == power
    assert exponent([{"mb": size, "peak_mb": -0.1} for size in (1.0, 2.0)]) == 0  # the heap's own


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--images", "20"], "--images must be two or more multiples of 10 from 20 on; got [20]"),
        (["--images", "20,25"], "--images must be two or more multiples of 10 from 20 on; got [20, 25]"),
        (["--records", "4,2"], "--records must be two or more numbers of at least 4; got [4, 2]"),
        (["--rows", "copying"], "unknown row 'copying'; known: recovery, labels, save"),
    ],
)
def test_refusals(arguments: list[str], text: str) -> None:
    refused = bench(*arguments)
    assert refused.returncode == 2
    assert text in refused.stderr
