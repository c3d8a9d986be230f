"""The rows of Mirage against its specification, the row for two cores, and its description without images a class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.errors import InputError
from dd.methods import METHODS, Mirage
from dd.methods.presets import preset, rows
from dd.methods.telling import bibtex, cite, describe
from dd.run.resolve import resolve_method
from dd.synthetic import TreeRecipe
from scripts.records import kept

ROOT = Path(__file__).parents[2]
# Typed again from the tables, apart from the TOML file:
# depth, thresholds, shared sets dropped, label, model, pool, dropout, weight decay, steps, verified, (figure, read)
TABLE: dict[str, tuple[Any, ...]] = {
    "DD": (1, (15, 9), False, "auto", "gat", "sum", 0.1, 1e-2, 100, True, (76.08, False)),
    "NCI1": (2, (440, 570), True, "auto", "gcn(width=128)", "sum", 0.5, 1e2, 301, True, (68.20, False)),
    "IMDB-BINARY": (2, (13, 14), True, "degree", "gin", "sum", 0.2, 0.1, 1500, False, None),
    "BBBP": (2, (24, 109), True, "auto", "gin(norm=batch, width=128)", "mean", 0.3, 1e-3, 401, False, None),
    "BACE": (3, (150, 104), False, "auto", "gat(width=128)", "sum", 0.6, 1e-2, 30, False, (70.77, False)),
    "HIV": (3, (1800, 115), False, "auto", "gcn(norm=batch, width=128)", "sum", 0.1, 1e-2, 30, True, (64.2, True)),
}


@pytest.mark.parametrize("name", TABLE)
def test_rows_are_the_published_ones(name: str) -> None:
    depth, least, drop, label, model, pool, dropout, decay, steps, verified, figure = TABLE[name]
    found = preset("mirage", name, None, "paper")
    made = METHODS["mirage"](**found.fields)
    assert isinstance(made, Mirage)
    assert (found.dataset, found.ipc, found.tier, found.settings) == (name, None, "paper", verified)
    assert (made.depth, made.min_support, made.budget_bytes) == (depth, least, None)
    assert (made.drop_shared, made.node_label) == (drop, label)
    assert (made.patterns, made.storage, made.keep_counts, made.keep_supports) == ("all", "repeated", False, False)
    train = made.train
    assert (train.reading, train.filtered) == ("sets", False)
    assert (train.model, train.pool, train.dropout, train.weight_decay) == (model, pool, dropout, decay)
    assert (train.steps, train.lr, train.targets, train.balance, train.sampling) == (
        steps,
        1e-3,
        "hard",
        "uniform",
        "exact",
    )
    assert found.note
    assert found.source.startswith("Mirage repository at 3c579e1")
    if figure is None:
        assert found.published is None
    else:
        assert found.published is not None
        assert found.published["mean"] == pytest.approx(figure[0] / 100)
        assert found.published["verified"] is figure[1]


def test_no_row_is_missing_or_added_and_each_is_one_line() -> None:
    told = rows("mirage")
    assert sorted(row["dataset"] for row in told if row["tier"] == "paper") == sorted(TABLE)
    assert [row["dataset"] for row in told if row["tier"] == "cpu"] == ["default"]
    (measured,) = [row for row in told if row["tier"] == "cpu"]
    assert measured["run"] == "graphs-*"
    assert kept.named(measured["run"])
    known = {f.name for f in dataclasses.fields(Mirage)} | {"dataset", "tier", "settings", "run", "source", "note"}
    for row in told:
        assert row.keys() <= known | {"published"}
        assert row["train"].keys() <= {f.name for f in dataclasses.fields(TreeRecipe)}
    text = (ROOT / "dd/methods/_cards/mirage.toml").read_text(encoding="utf-8")
    assert sum(line.startswith("    {") for line in text.splitlines()) == len(told)


@pytest.mark.parametrize("name", [*TABLE, "MUTAG", "my own", None])
def test_two_cores_take_the_librarys_own_defaults(name: str | None) -> None:
    for tier in ("auto", "cpu"):
        found = preset("mirage", name, None, tier)  # type: ignore[arg-type]
        assert (found.dataset, found.tier) == ("default", "cpu")
        assert METHODS["mirage"](**found.fields) == Mirage()
    made = Mirage()
    assert (made.patterns, made.storage, made.share, made.budget_bytes, made.depth) == (
        "closed",
        "once",
        "equal",
        2048,
        None,
    )
    recipe = made.train
    assert (recipe.pool, recipe.balance, recipe.steps, recipe.lr) == ("msum", "class", 500, 5e-3)
    assert (recipe.reading, recipe.filtered, made.keep_supports) == ("auto", None, True)
    assert (recipe.dropout, recipe.weight_decay) == (0.2, 1e-3)


def real(name: str) -> dd.Graphs:
    """The least that has a name."""
    split = dd.data.GraphSplit(
        torch.zeros(1, 1), torch.zeros(2, 0).long(), torch.zeros(0, 0), torch.tensor([0, 1]), torch.zeros(1)
    )
    return dd.Graphs(train=split, classes=("a", "b"), name=name)


def test_a_budget_takes_the_place_of_published_thresholds_and_the_other_way_round() -> None:
    def made(name: str, tier: Any, **fields: Any) -> Mirage:
        value, _ = resolve_method("mirage", real(name), tier, torch.device("cpu"), fields)
        assert isinstance(value, Mirage)
        return value

    assert (made("NCI1", "paper").min_support, made("NCI1", "paper").budget_bytes) == ((440, 570), None)
    budget = made("NCI1", "paper", budget_bytes=512)
    assert (budget.min_support, budget.budget_bytes, budget.drop_shared) == (None, 512, True)
    assert made("NCI1", "cpu", min_support=0.1).budget_bytes is None
    assert made("NCI1", "paper", min_support=(420, 550)).min_support == (420, 550)
    assert made("NCI1", "paper", steps=7).train.steps == 7
    with pytest.raises(
        InputError, match=r"published row of mirage \(BACE, BBBP, DD, HIV, IMDB-BINARY, NCI1\); got MUTAG"
    ):
        made("MUTAG", "paper")


def test_describe_has_no_images_a_class() -> None:
    text = describe("mirage")
    assert text.startswith("Mirage: model-agnostic graph distillation for graph classification\nGupta, ")
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("data set"))
    assert head.split("  ")[0] == "data set"
    assert "ipc" not in head
    assert "AUROC × 100" in head
    assert "ipc: images a class" not in text
    for name in (*TABLE, "default"):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert line[head.index("tier") :].split()[0] == ("cpu" if name == "default" else "paper")
        assert ("run" if name == "default" else "settings" if TABLE[name][9] else "no") == line[
            head.index("verified") :
        ].split()[0]
    assert "76.1 ± 0.6?" in text
    assert "min_support=[440, 570]" in text
    assert "Every paper row, unless it says otherwise: patterns=all" in text
    assert "ipc: images a class" in describe("mtt")


def test_cite_and_list() -> None:
    assert bibtex("mirage").startswith("@inproceedings{gupta2024mirage,")
    assert bibtex("mirage").count("{") == bibtex("mirage").count("}")
    assert "ICLR 2024" in cite("mirage").splitlines()[0]
    assert "mirage" in dd.list_methods()


@pytest.mark.shared
def test_the_published_row_of_nci1_gives_its_bytes(shared_data: Callable[..., Path]) -> None:
    root = shared_data("NCI1")
    small = dd.distill("nci1", "mirage", preset="paper", split="published", root=root, progress=False)
    assert (len(small), small.published) == (6, 274)
    assert small.recipe.model == "gcn(width=128)"
    assert small.provenance["rule"] == "published"
    report = dd.evaluate(small, "NCI1", root=root, repeats=1, steps=2, baselines=("node_count",), progress=False)
    assert report.split == "test graphs of split 0, published"
    assert report.rows[1].mean == pytest.approx(0.69, abs=0.04)
