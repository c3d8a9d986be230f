"""Mirage on small graphs: patterns by hand, budgets, order, warnings, refusals."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.trees import explicit_tree, random_graphs, tree_of, tree_size

from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.errors import InputError
from dd.methods import Run
from dd.methods.mirage import CoverageWarning, Mirage
from dd.methods.mirage.transactions import chunks, transactions
from dd.synthetic import TreeSummary

CLASSES = ("no", "yes")
BY_ONE = {"budget_bytes": None, "min_support": 1}


def distil(data: GraphSplit | Graphs, **fields: Any) -> TreeSummary:
    real = data if isinstance(data, Graphs) else Graphs(train=data, classes=CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        (step,) = Mirage(**{"depth": 2, **fields}).distill(real, Run())
    made = step.candidates[0].set
    assert isinstance(made, TreeSummary)
    return made


@pytest.fixture(scope="module")
def split() -> GraphSplit:
    return random_graphs(0, [4, 5, 6, 5, 4, 6, 5, 5, 4, 6, 5, 4], features=(2,), edge_features=(2,))


def bags(split: GraphSplit, depth: int) -> list[Counter[Any]]:
    """Trees with children of every graph, with multiplicities."""
    codes = fit_codes(split)
    trees = [explicit_tree(split, codes, v, depth) for v in range(split.num_nodes)]
    return [
        Counter(trees[v] for v in range(int(split.ptr[g]), int(split.ptr[g + 1])) if trees[v][1])
        for g in range(len(split))
    ]


@pytest.mark.parametrize("kind", ["all", "closed", "single"])
def test_patterns_supports_and_multiplicities_equal_a_count_by_hand(split: GraphSplit, kind: str) -> None:
    small = distil(split, patterns=kind, budget_bytes=None, min_support=2, depth=1)
    held = bags(split, 1)
    for p in range(len(small)):
        trees = [tree_of(small.levels, t) for t in small.trees(p)]
        own = int(small.labels[p])
        for k in range(2):
            graphs = [
                b for b, y in zip(held, split.labels.tolist(), strict=True) if y == k and all(t in b for t in trees)
            ]
            assert small.support[p, k] == len(graphs)
            if k == own:
                assert len(graphs) >= 2
                means = [sum(b[t] for b in graphs) / len(graphs) for t in trees]
                inside = slice(int(small.pattern_ptr[p]), int(small.pattern_ptr[p + 1]))
                assert small.pattern_count[inside].tolist() == pytest.approx(means)
    for t in range(len(small.levels[-1])):
        tree = tree_of(small.levels, t)
        counted = [
            sum(tree in b and y == k for b, y in zip(held, split.labels.tolist(), strict=True)) for k in range(2)
        ]
        assert small.tree_support[t].tolist() == counted
    if kind == "single":
        wanted = {
            (t, k)
            for k in range(2)
            for b in held
            for t in b
            if sum(t in b and y == k for b, y in zip(held, split.labels.tolist(), strict=True)) >= 2
        }
        assert {(tree_of(small.levels, small.trees(p)[0]), int(small.labels[p])) for p in range(len(small))} == wanted


@pytest.mark.parametrize("store", ["once", "repeated"])
@pytest.mark.parametrize("counts", [True, False])
def test_the_published_count_is_of_explicit_trees(split: GraphSplit, store: str, counts: bool) -> None:
    small = distil(split, storage=store, keep_counts=counts, budget_bytes=600)
    total, seen = 0, set()
    for p in range(len(small)):
        for t in small.trees(p):
            nodes = tree_size(tree_of(small.levels, t))
            if store == "repeated" or t not in seen:
                total += 2 * (nodes * 1 + 2 * (nodes - 1) + (nodes - 1) * 1)  # one node feature, one edge feature
            seen.add(t)
            total += 2 * counts + 2 * (store == "once")
    total += 2 * 2 * len(small.levels[-1])  # supports of each tree in two classes
    assert small.published == small.nbytes.published == total <= 600


@pytest.mark.parametrize("kind", ["all", "closed", "maximal", "single"])
def test_a_budget_is_kept_and_more_bytes_hold_no_less(split: GraphSplit, kind: str) -> None:
    sizes = []
    for budget in (60, 100, 200, 400, 800, 1600, 10**6):
        try:
            small = distil(split, patterns=kind, budget_bytes=budget)
        except InputError:
            assert not sizes
            continue
        assert small.published <= budget
        sizes.append(small.published)
    assert len(sizes) > 3
    assert sizes == sorted(sizes)


def test_maximal_sets_for_a_boundless_budget_are_those_of_the_lowest_threshold(split: GraphSplit) -> None:
    bought, wanted = (distil(split, patterns="maximal", **f) for f in ({"budget_bytes": 10**6}, BY_ONE))
    kept = [
        Counter((int(s.labels[p]), frozenset(tree_of(s.levels, t) for t in s.trees(p))) for p in range(len(s)))
        for s in (bought, wanted)
    ]
    assert kept[0] == kept[1]
    assert bought.figures["thresholds"] == [1, 1]


@pytest.mark.parametrize("kind", ["all", "closed"])
def test_a_boundless_budget_ends_with_the_sets_that_mining_looks_at(split: GraphSplit, kind: str) -> None:
    real, made = Graphs(train=split, classes=CLASSES), []
    for fields in ({"max_patterns": 4}, {}):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            (step,) = Mirage(depth=1, patterns=kind, budget_bytes=10**9, **fields).distill(real, Run())
        texts = [str(w.message) for w in told]
        text = "mining ends after `max_patterns` = 4 sets looked at. Raise `max_patterns` to spend more of the budget."
        assert sorted(texts) == ([f"class {k}: {text}" for k in range(2)] if fields else [])
        made.append(step.candidates[0].set.figures["patterns_by_class"])
    assert max(made[0]) <= 4 < min(made[1])


def test_a_higher_threshold_keeps_fewer(split: GraphSplit) -> None:
    fields = {"depth": 1, "patterns": "all", "storage": "repeated", "budget_bytes": None}
    found = [distil(split, **fields, min_support=n) for n in (2, 3, 4)]
    for low, high in itertools.pairwise(found):
        assert {frozenset(tree_of(high.levels, t) for t in high.trees(p)) for p in range(len(high))} <= {
            frozenset(tree_of(low.levels, t) for t in low.trees(p)) for p in range(len(low))
        }
        assert high.published < low.published


def shuffled(split: GraphSplit, seed: int) -> GraphSplit:
    return split.subset(torch.randperm(len(split), generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    "fields", [{}, {"patterns": "all"}, {"patterns": "single", "rank": "gap"}, {"leaf_degree": "exact"}]
)
def test_the_order_of_graphs_does_not_change_a_byte(split: GraphSplit, tmp_path: Path, fields: dict[str, Any]) -> None:
    files = []
    for seed in range(3):
        distil(shuffled(split, seed), budget_bytes=700, **fields).save(tmp_path / f"{seed}")
        files.append((tmp_path / f"{seed}").read_bytes())
    assert files[0] == files[1] == files[2]


def test_graphs_in_parts_give_the_same_transactions(split: GraphSplit) -> None:
    codes = fit_codes(split)
    whole = transactions(chunks(split), codes, 3, 2)
    parts = transactions(chunks(split, nodes=7), codes, 3, 2)
    for a, b in zip(whole, parts, strict=True):
        for g in range(len(split)):
            rows = [slice(int(t.ptr[g]), int(t.ptr[g + 1])) for t in (a, b)]
            of_a = sorted(zip(a.tables[-1].hash[a.tree[rows[0]]], a.count[rows[0]], strict=True))
            assert of_a == sorted(zip(b.tables[-1].hash[b.tree[rows[1]]], b.count[rows[1]], strict=True))


def test_shared_sets_are_dropped() -> None:
    plain = random_graphs(1, [4, 5, 6, 5, 4, 6, 5, 5, 4, 6, 5, 4], features=(2,))
    every = distil(plain, depth=1, budget_bytes=None, min_support=2)
    own = distil(plain, depth=1, budget_bytes=None, min_support=2, drop_shared=True)
    wanted = sum(int(every.support[p, 1 - every.labels[p]]) < 2 for p in range(len(every)))
    assert 0 < len(own) == wanted < len(every)


def test_a_fraction_is_relative_to_the_class(split: GraphSplit) -> None:
    assert torch.bincount(split.labels).tolist() == [6, 6]
    a, b = (distil(split, depth=1, budget_bytes=None, min_support=n) for n in (0.5, 3))
    assert a.figures == b.figures
    each = distil(split, depth=1, budget_bytes=None, min_support=(3, 2))
    assert each.figures["patterns_by_class"][1] > b.figures["patterns_by_class"][1]
    assert each.figures["patterns_by_class"][0] == b.figures["patterns_by_class"][0]


def test_coverage_and_depth(split: GraphSplit) -> None:
    small = distil(split, budget_bytes=400)
    held = bags(split, 2)
    kept = {tree_of(small.levels, t) for t in range(len(small.levels[-1]))}
    nodes = sum(n for b in held for t, n in b.items() if t in kept)
    assert small.figures["coverage"] == pytest.approx(nodes / split.num_nodes, abs=1e-6)
    assert sum(small.figures["uncovered_graphs"]) == sum(not kept & set(b) for b in held)
    covers = {d: distil(split, depth=d, budget_bytes=400).figures["coverage"] for d in (1, 2, 3)}
    chosen = distil(split, depth=None, budget_bytes=400).depth
    enough = [d for d, c in covers.items() if c >= 0.2]
    assert chosen == (max(enough) if enough else max(covers, key=lambda d: covers[d]))


def test_poor_coverage_and_an_empty_class_are_said() -> None:
    many = random_graphs(5, [12] * 40, features=(4,), probability=0.3)
    with pytest.warns(CoverageWarning, match=r"VERY POOR COVERAGE: only .* % of the training nodes"):
        list(Mirage(depth=2, patterns="single", budget_bytes=200).distill(Graphs(train=many, classes=CLASSES), Run()))
    small, large = random_graphs(6, [3] * 6, probability=1.0), random_graphs(7, [12] * 6, probability=0.9)
    both = graphs_of(small, large)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CoverageWarning)
        list(Mirage(depth=2, budget_bytes=400).distill(both, Run()))
    assert any("no pattern of class yes is kept: a network cannot learn it" in str(w.message) for w in told)


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({}, "Use a smaller `depth`, or a larger budget, or coarser labels (node_label='constant')."),
        ({"depth": 1, "budget_bytes": 40}, "Use a larger budget, or coarser labels (node_label='constant')."),
        ({"node_label": "constant", "depth": 3}, "Use a smaller `depth`, or a larger budget."),
        ({"node_label": "constant", "depth": 1, "budget_bytes": 40}, "Use a larger budget."),
        ({**BY_ONE, "min_support": (2, 12)}, "Use a smaller `depth`, or a lower `min_support`, or coarser labels"),
    ],
)
def test_a_warning_advises_what_can_be_done(fields: dict[str, Any], advice: str) -> None:
    many = random_graphs(5, [12] * 40, features=(2,), probability=0.3)
    real = Graphs(train=many, classes=CLASSES)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CoverageWarning)
        list(Mirage(**{"depth": 2, "patterns": "single", "budget_bytes": 150, **fields}).distill(real, Run()))
    assert told
    assert all(advice in str(w.message) for w in told)


def graphs_of(a: GraphSplit, b: GraphSplit) -> Graphs:
    """Class 0 from `a`, class 1 from `b`."""
    shift = a.num_nodes
    joined = GraphSplit(
        torch.cat([a.x, b.x]),
        torch.cat([a.edge_index, b.edge_index + shift], dim=1),
        torch.cat([a.edge_attr, b.edge_attr]),
        torch.cat([a.ptr, b.ptr[1:] + shift]),
        torch.cat([torch.zeros(len(a), dtype=torch.int64), torch.ones(len(b), dtype=torch.int64)]),
    )
    return Graphs(train=joined, classes=CLASSES)


def test_exact_leaves_carry_their_degree(split: GraphSplit) -> None:
    small = distil(split, leaf_degree="exact", budget_bytes=600)
    assert small.leaf_degree.tolist() == small.levels[0].trunc.tolist()
    mean = distil(split, budget_bytes=600)
    codes = fit_codes(split)
    labels, degree = codes.nodes(split), split.degree.double()
    for i, label in enumerate(mean.levels[0].label.tolist()):
        own = degree[labels == label]
        assert float(mean.leaf_degree[i]) == pytest.approx(float((own**2).sum() / own.sum()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 0}, r"`depth` must be a whole number of at least 1; got 0"),
        ({"budget_bytes": 0}, r"`budget_bytes` must be a whole number of at least 1; got 0"),
        ({"min_support": 3}, r"`budget_bytes` must be given, or `min_support`, and not both; got both \(2048, 3\)"),
        ({"budget_bytes": None}, r"and not both; got neither"),
        ({"rank": "gap"}, r"`rank` must be `support` for sets of trees; got 'gap'. Use patterns='single'"),
        ({"budget_bytes": None, "min_support": -1}, r"`min_support` must be positive numbers"),
        (
            {"budget_bytes": None, "min_support": 2.5},
            r"`min_support` must be whole numbers of graphs, or fractions below 1",
        ),
        ({"patterns": "open"}, r"`patterns` must be `all` or `closed`"),
    ],
)
def test_fields_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mirage(**fields)


def test_data_is_checked(split: GraphSplit) -> None:
    def run(data: Any, **fields: Any) -> None:
        list(Mirage(**{"depth": 2, **fields}).distill(data, Run()))

    real = Graphs(train=split, classes=CLASSES)
    with pytest.raises(InputError, match=r"`data` must be graphs for the method `mirage`; got str"):
        run("digits")
    bare = dataclasses.replace(split, edge_index=split.edge_index[:, :0], edge_attr=split.edge_attr[:0])
    with pytest.raises(InputError, match=r"`data` must be of graphs with edges"):
        run(dataclasses.replace(real, train=bare))
    with pytest.raises(InputError, match=r"two or more classes with training graphs in each; got \[6, 6, 0\]"):
        run(dataclasses.replace(real, classes=(*CLASSES, "maybe")))
    with pytest.raises(
        InputError,
        match=r"`budget_bytes` must be enough for the first pattern of a class, \d+ bytes",
    ):
        run(real, budget_bytes=10)
    with pytest.raises(InputError, match=r"more than 3 sets of trees have the support asked for"):
        run(real, budget_bytes=None, min_support=1, max_patterns=3)
    with pytest.raises(InputError, match=r"`min_support` must be one number or 2, one a class"):
        run(real, budget_bytes=None, min_support=(1, 2, 3))
    with pytest.raises(
        InputError, match=r"`min_support` must be at most \[\d, \d\], the best supports of a tree; got 7"
    ):
        run(real, budget_bytes=None, min_support=7)
