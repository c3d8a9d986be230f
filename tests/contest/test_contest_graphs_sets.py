"""What summaries are compared with: whole graphs and trees within the budget, and readings without a network."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import pytest
import torch
from reference.summaries import FAST, distil, evaluate, graphs
from reference.trees import explicit_tree, tree_of, tree_size

from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs
from dd.contest.benchmark import benchmark
from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.errors import InputError
from dd.evaluation.scores import auroc
from dd.methods import Mirage
from dd.methods.mirage.baselines import herding, random_graphs
from dd.synthetic import TreeSummary


@pytest.fixture(scope="module")
def real() -> Graphs:
    return graphs()


@pytest.fixture(scope="module")
def small(real: Graphs) -> TreeSummary:
    return distil(real)


# ------------------------------------------------------------------------------------------------- training sets


def beside(small: TreeSummary, real: Graphs) -> BesideGraphs:
    return BesideGraphs(small, real, 1)


def made_of(label: str, small: TreeSummary, real: Graphs, draw: int = 0) -> Any:
    return GRAPH_BASELINES[label].drawn(beside(small, real), draw)


def bytes_of(split: GraphSplit, classes: int) -> list[int]:
    """2 · (nodes + (2 + 1) · undirected edges), one node and one edge feature; summed over the graphs of a class."""
    cost = [0] * classes
    for g in range(len(split)):
        nodes = int(split.ptr[g + 1] - split.ptr[g])
        edges = int((split.graph[split.edge_index[0]] == g).sum()) // 2
        cost[int(split.labels[g])] += 2 * (nodes + 3 * edges)
    return cost


@pytest.mark.parametrize("label", ["random", "herding"])
@pytest.mark.parametrize("budget", [200, 500])
def test_whole_graphs_fill_the_bytes_spent(real: Graphs, label: str, budget: int) -> None:
    small = distil(real, budget_bytes=budget)
    own = beside(small, real)
    cost = [sum(bytes_of(real.train.slice(g, g + 1), 2)) for g in range(24)]
    assert own.bytes.tolist() == cost
    if label == "random":
        rows = random_graphs(real.train.labels, own.bytes, own.account(), 1, 0).tolist()
    else:
        rows = herding(own.found, own.bytes, own.account()).tolist()
    made = made_of(label, small, real)
    assert isinstance(made, GraphSplit)
    assert torch.equal(made.edge_index, real.train.subset(torch.tensor(rows)).edge_index)
    left = small.published - sum(bytes_of(made, 2))
    assert small.published <= budget
    assert 0 <= left < small.published // 2
    assert all(c > left for g, c in enumerate(cost) if g not in rows)  # no other graph would fit
    assert torch.bincount(made.labels).min() > 0


def test_two_draws_are_two_draws(small: TreeSummary, real: Graphs) -> None:
    first, second = (made_of("random", small, real, draw) for draw in (0, 1))
    assert isinstance(first, GraphSplit)
    assert isinstance(second, GraphSplit)
    assert first.x.tolist() != second.x.tolist()
    assert len(evaluate(small, real, baselines=("random",), repeats=1).rows[1].values) == 2  # at least one a draw
    assert len(evaluate(small, real, baselines=("random",), repeats=3).rows[1].values) == 4


def test_random_trees_keep_to_the_budget(small: TreeSummary, real: Graphs) -> None:
    made = made_of("random_trees", small, real)
    assert isinstance(made, TreeSummary)
    assert (made.codes, made.recipe) == (small.codes, small.recipe)
    cost = [0, 0]
    for p, data in enumerate(made.to_pyg()):
        cost[int(made.labels[p])] += 2 * (data.num_nodes + 3 * data.num_edges) + 4  # multiplicity, reference
        assert int(data.root.sum()) == 1
    trees = len(made.levels[-1])
    twice = sum(2 * (tree_size(tree_of(made.levels, t)) * 4 - 3) for t in made.pattern_tree.tolist()) - sum(
        2 * (tree_size(tree_of(made.levels, t)) * 4 - 3) for t in range(trees)
    )  # what trees of both classes were counted too often
    spent = sum(cost) - twice + 2 * 2 * trees  # supports
    assert 0.8 * small.published < spent == made.published <= small.published
    assert min(cost) > 0


def test_all_trees_are_the_training_graphs(small: TreeSummary, real: Graphs) -> None:
    made = made_of("all_trees", small, real)
    assert isinstance(made, TreeSummary)
    codes = fit_codes(real.train)
    assert made.labels.tolist() == real.train.labels.tolist()
    for g in range(len(made)):
        own = range(int(real.train.ptr[g]), int(real.train.ptr[g + 1]))
        bag = Counter(explicit_tree(real.train, codes, v, 1) for v in own)
        inside = slice(int(made.pattern_ptr[g]), int(made.pattern_ptr[g + 1]))
        assert sorted(made.pattern_count[inside].tolist()) == sorted(bag.values())
    assert made_of("full", small, real) is real.train


def test_herding_takes_the_graph_nearest_to_the_class_first(real: Graphs) -> None:
    """By hand, for the first graph of each class: shares of its nodes by tree, as near the mean as may be."""
    small = distil(real, budget_bytes=100)
    split, codes = real.train, fit_codes(real.train)
    trees = [explicit_tree(split, codes, v, 1) for v in range(split.num_nodes)]
    kinds = sorted(set(trees))
    rows = torch.zeros(len(split), len(kinds), dtype=torch.float64)
    for v, tree in enumerate(trees):
        rows[split.graph[v], kinds.index(tree)] += 1
    rows /= split.ptr.diff()[:, None]
    made = made_of("herding", small, real)
    assert isinstance(made, GraphSplit)
    left = small.published
    for k in (0, 1):
        own = (split.labels == k).nonzero()[:, 0].tolist()
        able = [g for g in own if bytes_of(split.slice(g, g + 1), 2)[k] <= left]
        mean = rows[own].mean(0)
        best = min(able, key=lambda g: float(((rows[g] - mean) ** 2).sum()))
        first = made.subset((made.labels == k).nonzero()[:1, 0])
        kept = [split.slice(g, g + 1) for g in able if torch.equal(split.slice(g, g + 1).x, first.x)]
        assert any(torch.equal(k_.edge_index, first.edge_index) for k_ in kept)
        assert torch.equal(split.slice(best, best + 1).x, first.x)
        left -= sum(bytes_of(split.slice(best, best + 1), 2))


# ----------------------------------------------------------------------------------------------- without networks


def fitted(x: list[float], y: list[int], test: list[float]) -> torch.Tensor:
    """Logistic regression of one standardised number by Newton's method, ½ w² + Σ log loss; logits of `test`."""
    mean = sum(x) / len(x)
    std = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x))
    z = [(v - mean) / std for v in x]
    w = b = 0.0
    for _ in range(50):
        p = [1 / (1 + math.exp(-(w * v + b))) for v in z]
        gw, gb = w + sum((q - t) * v for q, t, v in zip(p, y, z, strict=True)), sum(p) - sum(y)
        h = [q * (1 - q) for q in p]
        hw = 1 + sum(a * v * v for a, v in zip(h, z, strict=True))
        hb, hm = sum(h), sum(a * v for a, v in zip(h, z, strict=True))
        det = hw * hb - hm * hm
        w, b = w - (hb * gw - hm * gb) / det, b - (hw * gb - hm * gw) / det
    return torch.tensor([w * (v - mean) / std + b for v in test], dtype=torch.float64)


@pytest.mark.parametrize("label", ["node_count", "edges_per_node"])
def test_one_number_by_hand(small: TreeSummary, real: Graphs, label: str) -> None:
    def number(split: GraphSplit) -> list[float]:
        found = []
        for g in range(len(split)):
            nodes = int((split.graph == g).sum())
            edges = int((split.graph[split.edge_index[0]] == g).sum()) / 2
            found.append(nodes if label == "node_count" else edges / nodes)
        return found

    assert real.test is not None
    logits = fitted(number(real.train), real.train.labels.tolist(), number(real.test))
    torch.testing.assert_close(made_of(label, small, real).diff(dim=1)[:, 0], logits, rtol=0, atol=1e-3)
    report = evaluate(small, real, baselines=(label,))
    assert report.rows[1].values == (pytest.approx(auroc(logits, real.test.labels)),)
    assert report.rows[1].model == "one number"


def test_tree_counts_are_those_of_every_training_tree(small: TreeSummary, real: Graphs) -> None:
    from sklearn.linear_model import LogisticRegression

    assert real.test is not None
    codes = fit_codes(real.train)
    bags = []
    for split in (real.train, real.test):
        trees = [explicit_tree(split, codes, v, 1) for v in range(split.num_nodes)]
        bags.append(
            [Counter(t for t, g in zip(trees, split.graph.tolist(), strict=True) if g == i) for i in range(len(split))]
        )
    kinds = sorted({t for bag in bags[0] for t in bag})
    train, test = ([[math.log1p(bag[t]) for t in kinds] for bag in part] for part in bags)
    model = LogisticRegression(max_iter=1000, solver="liblinear").fit(train, real.train.labels.numpy())
    wanted = auroc(torch.from_numpy(model.decision_function(test)), real.test.labels)
    assert evaluate(small, real, baselines=("tree_counts",)).rows[1].mean == pytest.approx(wanted, abs=0.02)


def test_a_budget_without_any_graph_is_refused() -> None:
    dense = graphs(probability=1.0, isolated=0)
    small = distil(dense, patterns="single", budget_bytes=60)
    with pytest.raises(InputError, match=r"without random: no graph fits the \d+ bytes of the summary, \d+ at least"):
        evaluate(small, dense, baselines=("random",))


def test_a_summary_by_threshold_gives_its_own_bytes_to_the_others(real: Graphs) -> None:
    small = distil(real, budget_bytes=None, min_support=4)
    assert beside(small, real).account().left == small.published


def test_leaves_told_apart_are_told_apart_in_the_baselines(real: Graphs) -> None:
    small = distil(real, leaf_degree="exact")
    report = evaluate(small, real, models="gcn(width=8)", baselines=("random_trees", "all_trees", "tree_counts"))
    assert len(report.rows) == 4
    made = made_of("all_trees", small, real)
    assert isinstance(made, TreeSummary)
    assert made.leaf_degree.tolist() == made.levels[0].trunc.tolist()


def test_without_supports_naive_bayes_is_left_out_or_refused(real: Graphs) -> None:
    bare = distil(real, keep_supports=False)
    report = evaluate(bare, real, baselines=None)
    assert [row.set for row in report.rows] == ["mirage", "random", "node_count", "edges_per_node"]
    assert "no naive_bayes row: supports of trees are not kept (keep_supports)" in report.notes
    with pytest.raises(InputError, match=r"`tree_support` must be kept, as naive Bayes reads .*keep_supports=True"):
        evaluate(bare, real, baselines=("naive_bayes",))
    method = Mirage(depth=1, budget_bytes=500, train=FAST, keep_supports=False)
    given = {"budget_bytes": 500, "repeats": 1, "steps": 2, "progress": False}
    with pytest.raises(InputError, match="`baselines` must be without naive_bayes for a method with keep_supports=Fal"):
        benchmark(real, method, baselines=("naive_bayes",), **given)
    board = benchmark(real, method, **given)
    assert "naive_bayes" not in {cell["set"] for cell in board.cells}
    assert any("no naive_bayes row" in note for note in board.notes)
    random = next(cell for cell in board.cells if cell["set"] == "random")
    assert random["bytes"] == {"published": bare.published}
    assert bare.published < 500


def test_networks_on_all_trees_read_them_as_sets(real: Graphs) -> None:
    """A training graph is the set of its trees; trees at random are read as the summary is."""
    bags = distil(real, train=dataclasses.replace(FAST, reading="bags"))
    made = {label: made_of(label, bags, real) for label in ("all_trees", "random_trees")}
    assert {label: one.reading for label, one in made.items() if isinstance(one, TreeSummary)} == {
        "all_trees": "sets",
        "random_trees": "bags",
    }
