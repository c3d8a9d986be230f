"""Evaluation of summaries: every baseline by what it must be, budgets, refusals, early stopping, models, metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from reference.summaries import FAST, distil, evaluate, graphs
from torch import nn

from dd.base.seeding import child_seed
from dd.contest.baselines_graphs import GRAPH_BASELINES
from dd.contest.benchmark import benchmark
from dd.contest.graphs import check_same_data
from dd.data import load_images
from dd.data.graphs.graphs import Graphs
from dd.errors import InputError
from dd.evaluation import EvalReport, GraphLearner, NaiveBayesLearner, TreeLearner
from dd.evaluation.scores import METRICS
from dd.evaluation.trees import LR_GRID
from dd.methods import Mirage, Run
from dd.models import GraphModel, GraphNet
from dd.synthetic import TreeSummary


@pytest.fixture(scope="module")
def real() -> Graphs:
    return graphs()


@pytest.fixture(scope="module")
def small(real: Graphs) -> TreeSummary:
    return distil(real)


def values(report: EvalReport) -> dict[str, tuple[float, ...]]:
    return {row.set: row.values for row in report.rows}


def test_every_baseline_gives_a_row(small: TreeSummary, real: Graphs) -> None:
    report = evaluate(small, real, baselines=tuple(GRAPH_BASELINES))
    assert [row.set for row in report.rows] == ["mirage", *GRAPH_BASELINES]
    assert all(0 <= v <= 1 for row in report.rows for v in row.values)
    assert {row.metric for row in report.rows} == {"auroc"}
    networks = report.rows[: 1 + list(GRAPH_BASELINES).index("full") + 1]
    assert {len(row.values) for row in networks} == {2}
    assert {(row.steps, row.lr) for row in networks} == {(4, 0.01)}
    assert {(len(row.values), row.steps) for row in report.rows[len(networks) :]} == {(1, 0)}
    pooled = {row.set: row.model for row in report.rows if row.set.startswith("random_")}
    assert pooled["random_sum"] == "gin(width=8), sum pooling"
    assert pooled["random_mean"] == "gin(width=8), mean pooling"
    assert pooled["random_trees"] == "gin(width=8)"
    assert report.to_json()["rows"][0]["metric"] == "auroc"
    assert report.bytes == small.nbytes._asdict()
    spent = {row.set: row.bytes for row in report.rows}
    assert spent["mirage"] == small.published
    assert all(0 < (spent[name] or 0) <= small.published for name in ("random", "herding", "random_trees"))
    assert {spent[name] for name in ("all_trees", "full", "naive_bayes", "node_count")} == {None}
    assert list(report.about) == list(GRAPH_BASELINES)


def test_the_defaults_stand_beside_the_summary(small: TreeSummary, real: Graphs) -> None:
    defaults = ["random", "naive_bayes", "node_count", "edges_per_node"]
    assert [row.set for row in evaluate(small, real, baselines=None).rows] == ["mirage", *defaults]
    assert [name for name, one in GRAPH_BASELINES.items() if "evaluate" in one.default] == defaults


def test_equal_seeds_give_equal_rows(small: TreeSummary, real: Graphs) -> None:
    names = ("random", "random_trees", "herding", "full")
    first, again, other = (values(evaluate(small, real, baselines=names, run=Run(seed=s))) for s in (3, 3, 4))
    assert first == again
    assert first["mirage"] != other["mirage"]
    assert first["random"] != other["random"]


def test_values_are_those_of_the_learners(small: TreeSummary, real: Graphs) -> None:
    test = real.test
    assert test is not None
    found = values(evaluate(small, real, baselines=("full", "naive_bayes"), run=Run(seed=5)))
    seeds = [child_seed(5, "evaluate", 0, r) for r in range(2)]
    assert found["mirage"] == tuple(TreeLearner().fit(small, s).score(test) for s in seeds)
    whole = GraphLearner(recipe=dataclasses.replace(FAST), depth=1)
    assert found["full"] == tuple(whole.fit(real.train, small.codes, 2, s).score(test) for s in seeds)
    assert found["naive_bayes"] == (NaiveBayesLearner().fit(small).score(test),)


def test_more_classes_are_read_by_accuracy_and_by_auroc() -> None:
    real = graphs(classes=3)
    small = distil(real, budget_bytes=900)
    names = ("random", "naive_bayes", "tree_counts", "node_count")
    for metric, expected in ((None, "accuracy"), ("auroc", "auroc"), ("accuracy", "accuracy")):
        report = evaluate(small, real, baselines=names, metric=metric)
        assert {row.metric for row in report.rows} == {expected}
        assert [row.set for row in report.rows] == ["mirage", *names]
    test = real.test
    assert test is not None
    scores = NaiveBayesLearner().fit(small).scores(test)
    found = values(evaluate(small, real, baselines=("naive_bayes",), metric="auroc"))
    assert found["naive_bayes"] == (METRICS["auroc"](scores, test.labels),)


# ----------------------------------------------------------------------------------------------------- the options


def test_early_stopping_stands_beside_the_last_step(small: TreeSummary, real: Graphs) -> None:
    report = evaluate(small, real, baselines=("random", "node_count"), early_stop=True, steps=25)
    names = ["mirage", "mirage, early stop", "random", "random, early stop", "node_count"]
    assert [row.set for row in report.rows] == names
    plain = values(evaluate(small, real, baselines=("random",), steps=25))
    assert {name: values(report)[name] for name in plain} == plain
    seeds = [child_seed(0, "evaluate", 0, r) for r in range(2)]
    best = [TreeLearner(steps=25).fit(small, s, real.val).best for s in seeds]
    assert real.test is not None
    assert values(report)["mirage, early stop"] == tuple(b.score(real.test) for b in best if b is not None)
    with pytest.raises(InputError, match="`early_stop` must be False for data without validation graphs; got True"):
        evaluate(small, dataclasses.replace(real, val=None), early_stop=True)


def test_many_models_are_rows_of_their_own(small: TreeSummary, real: Graphs) -> None:
    def mine(node_sizes: Any, edge_sizes: Any, classes: int, layers: int) -> nn.Module:
        return GraphNet(node_sizes, edge_sizes, classes, kind="sage", layers=layers, width=4)

    names = ["gcn(width=8)", "gat(width=8)", "sage(width=8)", GraphModel(mine, "mine")]
    report = evaluate(small, real, models=names, baselines=("random", "naive_bayes"))
    told = [(row.set, row.model) for row in report.rows]
    texts = ["gcn(width=8)", "gat(width=8)", "sage(width=8)", "mine"]
    assert told[:8] == [(name, text) for name in ("mirage", "random") for text in texts]
    assert told[8:] == [("naive_bayes", "supports of the summary")]
    assert [row.model for row in evaluate(small, real, models="gcn(width=8)").rows] == ["gcn(width=8)"]


def test_steps_and_lr_replace_those_of_the_recipe(small: TreeSummary, real: Graphs) -> None:
    report = evaluate(small, real, steps=2, lr=0.5, baselines=("random", "full"))
    assert {(row.steps, row.lr) for row in report.rows} == {(2, 0.5)}


def test_notes_say_what_is_covered(small: TreeSummary, real: Graphs) -> None:
    report = evaluate(small, real)
    assert real.twins is not None
    covered = f"{100 * small.figures['coverage']:.1f} % of the training nodes have a kept tree"
    assert report.notes == (*real.twins.told("graphs"), covered)
    bare = {**small.figures, "patterns_by_class": [len(small), 0]}
    assert "no pattern of class c1" in evaluate(dataclasses.replace(small, figures=bare), real).notes
    assert report.method == f"mirage, {len(small)} patterns of depth 1"


def test_the_table_is_aligned_and_names_the_metric(small: TreeSummary, real: Graphs) -> None:
    long = "gin(jk=sum, norm=batch, width=8)"
    report = evaluate(small, real, models=long, baselines=("random_mean", "naive_bayes"), early_stop=True)
    lines = str(report).splitlines()
    where = "test graphs of split 0, random, protocol clean: last iterate, last step of training"
    assert lines[0] == f"{report.method} on toy ({where})"
    table = lines[1:7]
    ends = {line.index(word) + len(word) for line, word in zip(table[:1], ["AUROC × 100"], strict=True)}
    for line, row in zip(table[1:], report.rows, strict=True):
        assert line.startswith(row.set + " ")
        assert table[0].index("model") == line.index(row.model)
        spread = "" if row.std is None else f" ± {100 * row.std:.1f}"
        text = f"{100 * row.mean:.1f}{spread}"
        assert {line.index(f" {text} ") + 1 + len(text)} == ends
    assert len({len(line) for line in table}) == 1
    accuracy = evaluate(small, real, metric="accuracy")
    assert "accuracy %" in str(accuracy)


# ------------------------------------------------------------------------------------------------------- refusals


def test_other_splits_of_the_same_data_are_refused(small: TreeSummary, real: Graphs) -> None:
    text = r"`split` must be that of the summary, split 0 \(random\); got split 1 \(random\)\. Other splits hold its"
    with pytest.raises(InputError, match=text):
        evaluate(small, dataclasses.replace(real, split=1))
    with pytest.raises(InputError, match=r"got split 0 \(published\)"):
        evaluate(small, dataclasses.replace(real, rule="published"))
    assert check_same_data(small, real) == []
    other = dataclasses.replace(graphs(seed=7), name="other", split=3)
    (note,) = check_same_data(small, other)
    assert note.startswith("these are not the graphs that the summary was distilled from")
    assert note in evaluate(small, other).notes


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"classes": 3}, r"`data` must be of 2 classes, like the summary; got 3 \(toy\)"),
        ({"features": (2, 2)}, "`data` must be of 1 node features, like the summary; got 2"),
        ({"features": ()}, "`data` must be of 1 node features, like the summary; got 0"),
        ({"edge_features": ()}, "`data` must be of 1 edge features, like the summary; got 0"),
        ({"edge_features": (2, 2)}, "`data` must be of 1 edge features, like the summary; got 2"),
    ],
)
def test_other_data_is_refused(small: TreeSummary, data: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        evaluate(small, dataclasses.replace(graphs(**data), split=0), baselines=None)


def test_continuous_features_are_refused_by_a_summary_of_categories(small: TreeSummary, real: Graphs) -> None:
    assert real.test is not None
    for name in ("x", "edge_attr"):
        given = dataclasses.replace(real.test, **{name: getattr(real.test, name).float() + 0.5})
        kind = "node" if name == "x" else "edge"
        text = f"`data` must be of categorical {kind} features, like the summary; got continuous ones. .*bins"
        with pytest.raises(InputError, match=text):
            evaluate(small, dataclasses.replace(real, test=given))


def test_directed_graphs_are_refused_by_an_undirected_summary(small: TreeSummary, real: Graphs) -> None:
    with pytest.raises(InputError, match="`data` must be undirected, like the summary; got directed graphs"):
        evaluate(small, dataclasses.replace(real, directed=True))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"baselines": ("random", "herd")}, "unknown baseline for graphs 'herd'; known: all_trees, edges_per_node"),
        ({"baselines": ("class_mean",)}, "unknown baseline for graphs 'class_mean'"),
        ({"metric": "f1"}, "unknown metric 'f1'; known: accuracy, auroc"),
        ({"lr": "best"}, "`lr` must be `recipe`, `tuned` or a number; got 'best'"),
        ({"models": "gin(layers=2)"}, "`layers` must be at most 1, the depth of the trees; got 2"),
        ({"models": "resnet18"}, "unknown graph network 'resnet18'"),
    ],
)
def test_options_are_checked(small: TreeSummary, real: Graphs, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        evaluate(small, real, **options)


def test_a_tuned_step_size_is_the_best_of_the_grid_on_validation_graphs(small: TreeSummary, real: Graphs) -> None:
    report = evaluate(small, real, lr="tuned", baselines=("random", "full"))
    assert real.val is not None

    def scored(lr: float) -> float:
        learner = TreeLearner(steps=4, lr=lr)
        found = learner.fit(small, child_seed(0, "tune", 0, 0), real.val).val
        assert found is not None
        return found

    own = report.rows[0]
    assert own.lr == max(LR_GRID, key=scored)
    assert own.values == evaluate(small, real, lr=own.lr, baselines=()).rows[0].values
    assert {row.lr for row in report.rows} <= set(LR_GRID)
    with pytest.raises(InputError, match="`lr` must be `recipe` or a number, since this data has no validation graphs"):
        evaluate(small, dataclasses.replace(real, val=None), lr="tuned")


def test_no_test_graphs_and_no_graphs_at_all(small: TreeSummary, real: Graphs) -> None:
    with pytest.raises(InputError, match="`data` must be with test graphs; got none"):
        evaluate(small, dataclasses.replace(real, test=None))
    with pytest.raises(InputError, match="`data` must be graphs for a summary of trees; got Images"):
        evaluate(small, load_images("digits"))  # type: ignore[arg-type]


def test_without_training_graphs_there_are_no_rows_of_them(small: TreeSummary, real: Graphs) -> None:
    bare = dataclasses.replace(real, name="mine", train=real.train.slice(0, 0), val=None)
    report = evaluate(small, bare, baselines=None)
    assert [row.set for row in report.rows] == ["mirage", "naive_bayes"]
    for name in ("random", "node_count", "edges_per_node"):
        assert f"no {name} row: the data has no training graphs" in report.notes


BOARD: dict[str, Any] = {"repeats": 1, "steps": 2, "progress": False}


def test_a_values_own_budget_is_that_of_its_row_unless_one_is_given(real: Graphs) -> None:
    value, other = (Mirage(name=name, depth=1, budget_bytes=n, train=FAST) for name, n in (("a", 400), ("b", 500)))
    one = {**BOARD, "baselines": ("node_count",)}
    alike = dataclasses.replace(other, budget_bytes=400)
    assert {cell["budget"] for cell in benchmark(real, [value, alike], **one).cells} == {400, None}
    with pytest.raises(InputError) as told:
        benchmark(real, [value, other], **one)
    text = "`budget_bytes` must be given, where methods have different ones; got 400 (a), 500 (b). It takes"
    assert text in str(told.value)
    assert {cell["budget"] for cell in benchmark(real, [value, other], budget_bytes=450, **one).cells} == {450, None}


@pytest.mark.parametrize("budgets", [17, (17, 500)])
def test_rows_without_a_budget_are_there_where_a_budget_holds_no_pattern(
    real: Graphs, budgets: Any, tmp_path: Path
) -> None:
    asked = {**BOARD, "budget_bytes": budgets, "baselines": ("random", "full", "node_count"), "out": tmp_path}
    board = benchmark(real, Mirage(depth=1, train=FAST), **asked)
    refused = {(cell["set"], cell["budget"]) for cell in board.cells if cell.get("refused")}
    assert refused == {("random", 17), ("mirage", 17)}
    assert {cell["set"] for cell in board.cells if cell["values"]} >= {"full", "node_count"}
    assert benchmark(real, Mirage(depth=1, train=FAST), **asked).cells == board.cells
