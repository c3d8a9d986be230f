"""The table of a benchmark: hand-worked differences and intervals, n/a rows, four formats that say the same."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from dd.base.files import read_json
from dd.errors import InputError
from dd.evaluation.entries import Difference, difference
from dd.evaluation.leaderboard import Benchmark


def cell(name: str, values: list[float], seed: int = 0, budget: int | None = 10, **more: Any) -> dict[str, Any]:
    fixed = {"set": name, "budget": budget, "seed": seed, "model": "convnet", "metric": "accuracy", "steps": 100}
    told = {"streams": [seed], "bytes": {"total": 9, "images": 5, "labels": 4}, "train_seconds": 2.0, "lr": 0.1}
    return {**fixed, **told, "values": values, **more}


def made(*cells: dict[str, Any], **more: Any) -> Benchmark:
    fixed: dict[str, Any] = {"dataset": "toy", "protocol": "clean", "unit": "ipc", "models": ("convnet",)}
    return Benchmark(**{**fixed, **more}, cells=cells)


def test_paired_difference_is_that_of_a_t_test() -> None:
    ours, theirs = [0.5, 0.6, 0.55], [0.4, 0.45, 0.5]
    found = difference(ours, theirs, paired=True)
    low, high = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.mean == pytest.approx(0.1)
    assert found.half == pytest.approx((high - low) / 2)
    assert str(Difference(0.1, 0.0312, 3, True)) == "+10.0 ± 3.1"


def test_welch_where_there_are_no_pairs() -> None:
    ours, theirs = [0.5, 0.6, 0.55], [0.4, 0.45, 0.5, 0.3]
    found = difference(ours, theirs, paired=False)
    low, high = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.half) == (pytest.approx((low + high) / 2), pytest.approx((high - low) / 2))
    assert difference([0.5], [0.25, 0.5], paired=False).half is None
    assert difference([0.5, 0.5], [0.5, 0.5], paired=False).half == 0.0


def test_several_seeds_count_as_sets_and_are_paired_by_seed() -> None:
    sets = {"random": [[0.2, 0.4], [0.5, 0.5]], "mtt": [[0.6, 0.6], [0.7, 0.9]]}
    table = made(*(cell(name, v, seed) for name, seeds in sets.items() for seed, v in enumerate(seeds)))
    entry = table.row("mtt")
    assert entry.values == (0.6, 0.8)
    gap = table.against(entry)
    assert gap is not None
    assert gap.paired
    assert (gap.mean, gap.n) == (pytest.approx(0.3), 2)
    assert gap.half == pytest.approx(0.0, abs=1e-12)  # both seeds differ by 0.3
    assert table.against(table.row("random")) is None
    assert "2 × 2" in str(table)


def test_one_set_is_paired_by_network_only_with_the_same_streams() -> None:
    same = made(cell("random", [0.2, 0.4]), cell("mtt", [0.5, 0.7]))
    other = made(cell("random", [0.2, 0.4], streams=["draws"]), cell("mtt", [0.5, 0.7]))
    assert [t.against(t.row("mtt")).paired for t in (same, other)] == [True, False]  # type: ignore[union-attr]
    assert "not over sets" in str(same)


def test_refusals_of_methods_are_rows() -> None:
    table = made(cell("random", [0.2, 0.4]), cell("infer", [], refused="`ipc` must be | at least 2", bytes=None))
    assert table.row("infer").refused
    assert table.against(table.row("infer")) is None
    text = str(table)
    assert "n/a: infer at 10: `ipc` must be | at least 2" in text
    assert "must be \\| at least 2" in table.to_markdown()
    assert next(r for r in table.to_json()["rows"] if r["set"] == "infer")["mean"] is None


def test_columns_of_other_models_and_what_has_no_budget(tmp_path: Path) -> None:
    cells = [cell(n, [0.5, 0.6], model=m) for n in ("random", "mtt") for m in ("convnet", "mlp")]
    table = made(*cells, cell("full", [0.9], budget=None), cell("mtt", [0.3], budget=1), models=("convnet", "mlp"))
    heads, rows = table.table()
    assert heads[2] == "accuracy % (convnet)"
    assert heads[4] == "accuracy % (mlp)"
    assert [(r[0], r[1]) for r in rows] == [("mtt", "1"), ("random", "10"), ("mtt", "10"), ("full", "all")]
    assert heads[-5:-2] == ["images B", "labels B", "total B"]
    table.save(tmp_path)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    told = read_json(tmp_path / "leaderboard.json")
    assert len(lines) == len(told["rows"]) == 6
    for line, row in zip(lines, told["rows"], strict=True):
        assert math.isclose(float(line["mean"]), row["mean"])
    assert (tmp_path / "leaderboard.txt").read_text() == f"{table}\n"
    assert (tmp_path / "leaderboard.md").read_text().count("| mtt |") == 2
    assert json.loads((tmp_path / "leaderboard.json").read_text())["unit"] == "ipc"


def test_the_difference_under_the_same_labels_is_a_column_of_its_own() -> None:
    sets = [cell("random", [0.2, 0.3]), cell("cvdd", [0.5, 0.7]), cell("mtt", [0.4, 0.4])]
    table = made(*sets, cell("random_labels of cvdd", [0.4, 0.7], beside="cvdd"))
    gap = table.against_labels(table.row("cvdd"))
    assert gap is not None
    assert gap.mean == pytest.approx(0.05)
    assert gap.paired
    assert table.against_labels(table.row("mtt")) is None
    heads, rows = table.table()
    assert heads[3:5] == ["minus random", "minus random, same labels"]
    assert {row[0]: row[4] for row in rows if row[4]} == {"cvdd": str(gap)}
    told = {row["set"]: row for row in table.to_json()["rows"]}
    assert told["cvdd"]["minus_random_labels"] == pytest.approx(0.05)
    assert told["random_labels of cvdd"]["beside"] == "cvdd"
    assert "what the images are worth" in str(table)
    plain = made(*sets)
    assert "same labels" not in str(plain)
    assert "minus_random_labels" not in plain.to_csv()


def test_where_it_was_measured_is_below_the_table_once() -> None:
    origin = {"machine": "Linux, cpu", "threads": 1, "commit": "abc", "versions": {"torch": "2"}}
    table = made(cell("random", [0.2], origin=origin), cell("mtt", [0.5], origin=origin))
    line = "Measured on Linux, cpu, 1 thread(s), commit abc, torch 2."
    assert str(table).count(line) == table.to_markdown().count(line) == 1


@pytest.mark.parametrize("unit", ["ipc", "bytes"])
def test_json_has_budgets_and_sizes_and_reads_back(unit: str) -> None:
    table = made(cell("random", [0.2], budget=512), cell("full", [0.9], budget=None), unit=unit, notes=("a note",))
    told = json.loads(json.dumps(table.to_json()))
    assert [(r["budget"], r["bytes"]["total"]) for r in told["rows"]] == [(512, 9), (None, 9)]
    assert [row["budget"] for row in csv.DictReader(io.StringIO(table.to_csv()))] == ["512", ""]
    again = Benchmark.from_json(told)
    assert again == table
    assert again.notes == ("a note",)
    with pytest.raises(InputError, match="`told` must be a leaderboard of format 1; got 7"):
        Benchmark.from_json({**told, "format": 7})


def test_names_are_no_markup() -> None:
    assert "&lt;script>" in made(cell("<script>", [0.5])).to_markdown()


def test_refusals() -> None:
    with pytest.raises(InputError, match="`theirs` must be as many scores as ours"):
        difference([0.5, 0.6], [0.5], paired=True)
    table = made(cell("mtt", [0.5]), cell("mtt", [0.5], budget=1))
    with pytest.raises(InputError, match="unknown row 'ftd'; known: mtt"):
        table.row("ftd")
    with pytest.raises(InputError, match="`budget` must be one of 1, 10"):
        table.row("mtt")
