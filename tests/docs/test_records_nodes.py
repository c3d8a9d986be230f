"""The records of node classification: a cell on a small graph, the table, birth certificates of what is committed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from reference.nodes import own

from dd.data.nodes.load import load_nodes
from scripts.records import kept
from scripts.records.make import nodes
from scripts.records.tables.nodes import node_table

KEPT = kept.named("nodes-*")
LESS: dict[str, Any] = {"networks": ["gcn", "sage"], "shares": [0.05, 0.15], "steps": 3}


@pytest.mark.parametrize("name", KEPT)
def test_record_has_its_birth_certificate(name: str) -> None:
    record = KEPT[name]
    assert record["origin"]["commit"]
    assert not record["origin"]["commit"].endswith("+")
    assert record["origin"]["threads"] >= 1
    for row in record["rows"]:
        assert all(0 <= score <= 1 for score in row["test"])
        if row["set"] in nodes.METHODS:
            assert row["counted"] <= row["budget"] == int(row["share"] * record["graph_bytes"])


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return nodes.cell("Cora", "published", load_nodes(own()), **{**LESS, "many": 2, "few": 1})


def test_a_cell_has_every_row(record: dict[str, Any]) -> None:
    json.dumps(record)
    rows = [(row["set"], row.get("share"), row["model"]) for row in record["rows"]]
    assert len(set(rows)) == len(rows) == 2 + 2 * 6 * 2 + 2 + 1 + 2
    assert {len(row["test"]) for row in record["rows"] if row["set"] in nodes.METHODS} == {2}
    assert {len(row["test"]) for row in record["rows"] if row["set"] in nodes.BESIDE} == {1}
    assert all(row["counted"] <= row["budget"] for row in record["rows"] if row["set"] in nodes.METHODS)
    said = {row["set"]: row["selection"] for row in record["rows"] if row["set"] in (*nodes.METHODS, nodes.MEANS)}
    assert "on the validation nodes" in said["node_means"]
    assert said["bonsai"] == said[nodes.MEANS] == "the only candidate"
    assert (record["recipe"]["stop"], record["recipe"]["steps"]) == ("validation", 3)
    assert (
        nodes.cell("Cora", "published", load_nodes(own()), **{**LESS, "many": 2, "few": 1})["rows"][0]["test"]
        == (record["rows"][0]["test"])
    )


def test_the_table_has_means_over_networks_and_over_splits(record: dict[str, Any]) -> None:
    made = copy.deepcopy(record)
    for row in made["rows"]:
        row["test"] = [0.5, 0.6] if row["set"] == "node_means" else [0.55 if row["set"] == "class_means" else 0.2]
    others = []
    for k, score in enumerate((0.4, 0.8)):
        other = copy.deepcopy(made)
        other["job"]["split"] = f"random:{k}"
        for row in other["rows"]:
            row["test"] = [score]
        others.append(other)
    shares = nodes.SHARES
    lines = node_table({"Cora": [made, *others]}) if set(shares) >= {0.05, 0.15} else []
    (line,) = (line for line in lines if line.startswith("| Cora | 5 % | node_means |"))
    assert "| 55.0 ± 7.1 | 60.0 ± 28.3 |" in line
    assert line.endswith("| an MLP (random); label propagation (random); class means (public, random) |")
    assert any(line.startswith("| Cora | | full | | 20.0 |") for line in lines)
    assert "random splits (Cora 2)" in lines[-1]
    assert node_table({})[-1].startswith("Not measured yet")
