"""The rehearsal of ImageNet-1K: what its records say, and the table of them."""

from __future__ import annotations

import math
from typing import Any

from scripts.records.make.rehearsal import growth
from scripts.records.tables.rehearsal import rehearsal_records, rehearsal_table


def made() -> dict[str, Any]:
    def row(classes: int, seconds: float) -> dict[str, Any]:
        ranks = [{"wall_seconds": seconds / 2, "peak_mb": 900 + rank} for rank in range(2)]
        return {
            "classes": classes,
            "each": 130,
            "ranks": ranks,
            "cpu_seconds": seconds,
            "predicted": {"seconds": seconds / 2},
        }

    rows = [row(250, 100.0), row(1000, 200.0)]
    whole = {"hours": 1234.0, "store_bytes": 2e9, "set_bytes": 3e9, "peak_bytes": 4e9, "rate": 5e10}
    origin = {"commit": "a" * 40, "machine": "M", "threads": 1, "versions": {"torch": "2"}}
    return {"method_name": "rded", "size": 32, "ranks": 2, "rows": rows, "growth": growth(rows), "imagenet": whole} | {
        "origin": origin
    }


def test_seconds_that_double_at_four_times_the_classes_grow_as_the_root() -> None:
    assert made()["growth"] == 0.5
    assert growth(made()["rows"][:1]) is None


def test_a_row_each_call_and_the_whole_beside_the_largest() -> None:
    lines = rehearsal_table([made()])
    assert lines[2] == "| `rded` | 250 | 32,500 | 100 | 50 | 901 | 50 |  |  |  |  |  |"
    assert lines[3] == "| `rded` | 1,000 | 130,000 | 200 | 100 | 901 | 100 | 0.50 | 1,234 | 2.0 GB | 3.0 GB | 4.0 GB |"
    assert "50 GFLOP/s assumed" in lines[-1]
    assert rehearsal_table([])[0].startswith("Not measured yet")


def test_the_rehearsal_stayed_within_its_bounds() -> None:
    """At most 2 GB a rank, and no faster than linearly in the number of classes."""
    for record in rehearsal_records():
        assert max(rank["peak_mb"] for row in record["rows"] for rank in row["ranks"]) <= 2000
        assert record["growth"] <= 1.0
        assert math.isclose(record["imagenet"]["measured_by_predicted"], _ratio(record), abs_tol=0.01)


def _ratio(record: dict[str, Any]) -> float:
    last = record["rows"][-1]
    return float(last["cpu_seconds"] / last["predicted"]["seconds"])
