"""The records of graphs: a cell on small graphs, tables by hand, birth certificates of what is committed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference.trees import random_graphs

from dd.data.graphs.graphs import Graphs
from scripts.records import kept
from scripts.records.make import graphs
from scripts.records.make import readings as graph_readings
from scripts.records.tables import bars as graph_bars
from scripts.records.tables import graphs as graph_table
from scripts.records.tables.readings import readings_table

KEPT = kept.named("graphs-*-split*")


@pytest.mark.parametrize("name", KEPT)
def test_record_has_its_birth_certificate(name: str) -> None:
    record = KEPT[name]
    origin = record["origin"]
    assert origin["commit"]
    assert not origin["commit"].endswith("+")
    assert {"torch", "numpy", "python"} <= set(origin["versions"])
    assert origin["threads"] >= 1
    assert record["metric"] == "auroc"
    for row in record["rows"]:
        assert "refused" in row or 0 <= row["last"] <= 1
    for said in record["summaries"]:
        if "refused" not in said and said["size"] != "published":
            assert said["published_bytes"] <= int(said["size"])


@pytest.fixture
def real() -> Graphs:
    split = random_graphs(0, [5, 6, 7, 5, 6, 7] * 10, features=(2,), isolated=0)
    parts = [split.subset(torch.arange(a, b)) for a, b in ((0, 40), (40, 50), (50, 60))]
    return Graphs(train=parts[0], val=parts[1], test=parts[2], classes=("0", "1"), name="small")


def test_a_cell_has_every_row_of_the_list(real: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "FEW", {**graphs.FEW, "steps": 2})
    monkeypatch.setattr(graphs, "BUDGETS", (512,))
    source = graphs.Source("small", 1, thresholds=(3, 3), published={"drop_shared": False})
    assert source.network("gin") == "gin"
    assert graphs.Source("a", 1, embedding=1.0).network("gcn") == "gcn(embedding=1)"
    made = graphs.cell(source, 0, real)
    assert made["graphs"] == [40, 10, 10]
    assert {said["size"] for said in made["summaries"]} == {"published", "512"}
    rows = {(row["size"], row["set"], row["model"]) for row in made["rows"]}
    for name in graphs.VARIANTS:
        assert ("512", name, "gin") in rows
    for name in graphs.READ:
        assert ("512", name, "naive bayes") in rows
    wanted = [f"{kind}, {pool}" for kind in ("random graphs", "herding") for pool in ("sum", "mean")]
    assert {("512", name, "gin") for name in [*wanted, "random trees, mean"]} <= rows
    alone = ("node_count", "edges_per_node", "tree_counts")
    assert {("", name, "logistic regression") for name in alone} <= rows
    assert ("", "full data, sum", "gin") in rows
    apart = graphs.cell(graphs.Source("small-full-data", 1, full=True), 0, real)
    assert [row["set"] for row in apart["rows"]] == ["all trees, mean", "full data, sum", "full data, mean"]
    assert [row["last"] for row in apart["rows"]] == [row["last"] for row in made["rows"][-3:]]
    text = graph_table.whole_text({"small-full-data": [apart]})
    assert "* full data, sum (gin): " in text
    assert "\n| set |" not in text
    assert not any("small-full-data" in line for line in graph_table.short_table({"small-full-data": [apart]}))
    trained = [row for row in made["rows"] if "val" in row]
    assert all({"last", "early", "val", "seconds"} <= set(row) for row in trained)
    text = graph_table.whole_text({"small": [made]})
    assert "## small" in text
    assert graph_table.short_table({"small": [made]})[3].startswith("| data |")


def record(split: int, rule: str, rows: list[tuple[str, str, float]]) -> dict[str, Any]:
    return {
        "job": {"dataset": "d", "split": split, "rule": rule},
        "graphs": [80, 10, 10],
        "rows": [{"size": "512", "set": s, "model": m, "last": v} for s, m, v in rows],
        "summaries": [],
    }


def test_draws_are_averaged_and_differences_are_paired() -> None:
    held = [
        record(
            0, "random", [("a", "gin", 0.7), ("random graphs, sum", "gin", 0.5), ("random graphs, sum", "gin", 0.7)]
        ),
        record(
            1, "random", [("a", "gin", 0.8), ("random graphs, sum", "gin", 0.6), ("random graphs, sum", "gin", 0.6)]
        ),
    ]
    last = graph_table.values(held)
    rival = last["512", "random graphs, sum", "gin"]
    assert rival == {0: pytest.approx(0.6), 1: pytest.approx(0.6)}
    # differences 10 and 20 points: mean 15, s = 10 / √2, t(1; 97.5 %) = 12.706, √(1/2 + 10/80)
    half = 12.7062 * 10 / math.sqrt(2) * math.sqrt(0.5 + 0.125)
    own = last["512", "a", "gin"]
    assert graph_table.difference(held, own, rival) == f"+15.0 [{15 - half:+.1f}, {15 + half:+.1f}]"
    for one in held:
        one["job"]["rule"] = "scaffold"
    plain = 12.7062 * 10 / math.sqrt(2) * math.sqrt(0.5)
    assert graph_table.difference(held, own, rival) == f"+15.0 [{15 - plain:+.1f}, {15 + plain:+.1f}]"


def test_bars_say_no_where_they_do_not_hold() -> None:
    def nci1(split: int, own: float, bayes: float, rival: float) -> dict[str, Any]:
        rows = [("all sets, mean", "gin", own), ("support gap, mean", "naive bayes", bayes)]
        made = record(split, "random", [*rows, ("random graphs, mean", "gin", rival)])
        made["rows"].append({"size": "", "set": "node_count", "model": "logistic regression", "last": 0.6})
        for row in made["rows"][:2]:
            row["val"] = row["last"] - 0.01
        return made

    held = [nci1(0, 0.60, 0.66, 0.50), nci1(1, 0.62, 0.66, 0.50), nci1(2, 0.58, 0.66, 0.50)]
    lines = [line for line in graph_bars.bar_lines({"NCI1": held}) if line.startswith("| NCI1 ")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert [(c[1], c[2], c[4], c[7]) for c in cells] == [
        ("512", "all sets, mean", "≥ 59", "yes"),
        ("512", "all sets, mean", "above random graphs, mean gin, whole interval", "yes"),
        ("512", "support gap, mean", "≥ 67", "NO"),
    ]
    (line,) = graph_bars.chosen_lines({"NCI1": held}, size="512")
    assert "mean validation AUROC (65.0): support gap, mean, naive bayes. On test graphs 66.0 ± 0.0" in line
    assert "difference +6.0 [+6.0, +6.0]" in line


def test_of_two_starts_validation_graphs_choose_network_by_network() -> None:
    def with_val(split: int, figures: list[tuple[str, str, float, float]]) -> dict[str, Any]:
        made = record(split, "random", [(s, m, last) for s, m, last, _ in figures])
        for row, (*_, val) in zip(made["rows"], figures, strict=True):
            row["val"] = val
        return made

    small = [
        with_val(0, [("a", "gin", 0.7, 0.60), ("random graphs, sum", "gin", 0.5, 0.8)]),
        with_val(1, [("a", "gin", 0.8, 0.61), ("random graphs, sum", "gin", 0.6, 0.5)]),
        with_val(2, [("a", "gin", 0.9, 0.9)]),
    ]
    unit = [
        with_val(1, [("a", "gin", 0.1, 0.60), ("random graphs, sum", "gin", 0.4, 0.6)]),
        with_val(0, [("a", "gin", 0.3, 0.65), ("random graphs, sum", "gin", 0.9, 0.7)]),
    ]
    small[0]["rows"].append({"size": "512", "set": "a", "model": "naive bayes", "last": 0.2})
    unit[1]["rows"].append({"size": "512", "set": "a", "model": "naive bayes", "last": 0.9})
    chosen = graph_table.by_validation(small, unit)  # split 2 has one start only
    assert [r["job"]["split"] for r in chosen] == [0, 1]
    last = graph_table.values(chosen)
    assert last["512", "a", "gin"] == {0: 0.3, 1: 0.8}
    assert last["512", "random graphs, sum", "gin"] == {0: 0.5, 1: 0.4}
    assert last["512", "a", "naive bayes"] == {0: 0.2}
    assert small[0]["rows"][0]["last"] == 0.7


def test_records_of_two_rules_of_bytes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice by validation graphs is made among networks of one rule; a table says which rows are of the earlier."""
    plain = record(0, "random", [("a", "gin", 0.7)])
    held: dict[str, Any] = {}
    monkeypatch.setattr(kept, "named", lambda pattern: held)
    for name, more in (("d", {"bytes": "one"}), (f"d{graph_table.UNIT}", {})):
        held[f"graphs-{name}-split0"] = {**plain, **more, "job": {**plain["job"], "dataset": name}}
    found = graph_table.graph_records()
    assert set(found) == {"d", f"d{graph_table.UNIT}"}
    (line,) = graph_table._rules(found)
    assert line.startswith(f"d{graph_table.UNIT} measured under the earlier rule of bytes")
    held["graphs-d-split0"] = {**plain, "job": {**plain["job"], "dataset": "d"}}
    found = graph_table.graph_records()
    assert f"d{graph_table.CHOSEN}" in found
    assert graph_table._rules(found)[0].startswith("All measured under the earlier rule")
    assert graph_table._rules({"d": [{**plain, "bytes": "one"}]}) == []


# ------------------------------------------------------------------------------------------------------ readings

READINGS = kept.named("readings-*-split*")


@pytest.mark.parametrize("name", READINGS)
def test_a_record_of_readings_has_its_birth_certificate(name: str) -> None:
    record = READINGS[name]
    assert record["origin"]["commit"]
    assert not record["origin"]["commit"].endswith("+")
    assert all(0 <= row["val"] <= 1 and 0 <= row["test"] <= 1 for row in record["rows"])
    assert all(said["published_bytes"] <= record["budget"] for said in record["summaries"].values())


def test_a_cell_of_readings_and_its_table(real: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: {**fields, "steps": 2} for name, fields in graph_readings.READINGS.items()}
    monkeypatch.setattr(graph_readings, "READINGS", short)
    made = graph_readings.cell(graph_readings.Source("small", 1, 600), 0, real)
    names = [(row["summary"], row["reading"]) for row in made["rows"][:-1]]
    assert names == [(kind, name) for kind in ("closed sets", "single trees") for name in (*short, "naive bayes")]
    assert made["rows"][-1]["reading"] == "random graphs"
    again = graph_readings.cell(graph_readings.Source("small", 1, 600), 0, real)
    figures = [[(row["val"], row["test"]) for row in one["rows"]] for one in (made, again)]
    assert figures[0] == figures[1]
    held = [{**made, "rows": [{**row, "val": v, "test": v / 2} for row in made["rows"]]} for v in (0.5, 0.7)]
    lines = readings_table({"small": held})
    (line,) = [text for text in lines if text.startswith("| small | closed sets |")]
    assert line.split("|")[5:7] == [" 60.0 ± 14.1 ", " 30.0 ± 7.1 "]
    assert readings_table({}) == []
