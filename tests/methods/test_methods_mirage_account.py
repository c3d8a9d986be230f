"""The one account of bytes of all classes: turns by hand, what is spent, what is counted, orders that do not matter."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.summaries import distil, graphs
from reference.trees import random_graphs, tree_of, tree_size

from dd.data.graphs.graphs import Graphs, GraphSplit, graph_split
from dd.data.graphs.load import load_graphs
from dd.errors import InputError
from dd.evaluation import NaiveBayesLearner
from dd.methods.mirage.account import Account, class_weights
from dd.synthetic import TreeSummary

SIX = tuple(f"enzyme {k}" for k in range(1, 7))


def six_classes() -> Graphs:
    """Six classes of graphs like ENZYMES: some 30 nodes of three kinds, four neighbours each, classes alike in most."""
    sizes = [20 + 3 * (i % 6) + i % 5 for i in range(90)]
    split = random_graphs(3, sizes, features=(3,), classes=6, probability=0.12)
    return Graphs(train=split, classes=SIX, name="six")


@pytest.fixture(scope="module")
def six() -> Graphs:
    return six_classes()


@pytest.fixture(scope="module")
def toy() -> Graphs:
    return graphs(classes=3)


def patterns_of(small: TreeSummary) -> list[tuple[int, frozenset[Any]]]:
    """(class, its trees written out) of every pattern, in the order of the summary."""
    return [
        (int(small.labels[p]), frozenset(tree_of(small.levels, t) for t in small.trees(p))) for p in range(len(small))
    ]


def counted(small: TreeSummary, *, counts: bool, supports: bool) -> int:
    """The published count of what a summary stores: each distinct tree once, its supports, two bytes a reference."""
    fields, edge_fields = small.codes.table.shape[1], small.codes.edge_table.shape[1]
    total = 0
    for t in range(len(small.levels[-1])):
        nodes = tree_size(tree_of(small.levels, t))
        total += 2 * (nodes * fields + (nodes - 1) * (2 + edge_fields)) + 2 * small.num_classes * supports
    return total + len(small.pattern_tree) * (2 + 2 * counts)


@pytest.mark.parametrize("share", ["equal", "graphs"])
@pytest.mark.parametrize("kind", ["all", "closed", "single"])
def test_turns_by_hand(toy: Graphs, kind: str, share: str) -> None:
    """Each class's patterns in their order, as a boundless budget has them, bought in turns by a slow loop."""
    fields = {"patterns": kind, "share": share, "depth": 1}
    every = patterns_of(distil(toy, budget_bytes=10**6, **fields))
    queues = {k: [trees for label, trees in every if label == k] for k in range(3)}
    graphs_of = toy.graphs_per_class.tolist()
    for budget in (150, 400, 900, 2500):
        bought: dict[int, list[frozenset[Any]]] = {0: [], 1: [], 2: []}
        spent, left, stored, open_ = Counter[int](), budget, set[Any](), {0, 1, 2}
        while open_:
            rates = {k: spent[k] / (1 if share == "equal" else graphs_of[k]) for k in open_}
            label = min(k for k in open_ if rates[k] == min(rates.values()))
            if len(bought[label]) == len(queues[label]):
                open_.remove(label)
                continue
            trees = queues[label][len(bought[label])]
            cost = 4 * len(trees)  # a reference and a multiplicity
            for tree in trees - stored:
                nodes = tree_size(tree)
                cost += 2 * (nodes + 3 * (nodes - 1)) + 2 * 3  # one feature of nodes and of edges, three supports
            if cost > left:
                open_.remove(label)
                continue
            spent[label], left = spent[label] + cost, left - cost
            bought[label].append(trees)
            stored |= trees
        small = distil(toy, budget_bytes=budget, **fields)
        assert patterns_of(small) == [(k, trees) for k in range(3) for trees in bought[k]]
        assert small.published == budget - left


@pytest.mark.parametrize("kind", ["all", "closed", "single"])
def test_most_of_a_budget_is_spent_whatever_classes_share(six: Graphs, kind: str) -> None:
    for depth, budget in ((None, 2048), (1, 2048), (2, 8192)):
        small = distil(six, patterns=kind, depth=depth, budget_bytes=budget)
        assert 0.9 * budget <= small.published <= budget, (depth, budget)
        assert min(small.figures["patterns_by_class"]) > 0


@pytest.mark.parametrize("budget", [2048, 8192])
def test_most_of_a_budget_is_spent_on_the_digits(budget: int) -> None:
    small = distil(load_graphs("digits-graphs"), patterns="single", depth=2, budget_bytes=budget)
    assert 0.9 * budget <= small.published <= budget
    assert small.published == counted(small, counts=True, supports=True)


def test_what_a_class_cannot_spend_goes_to_the_others() -> None:
    """Class 0 is triangles, one tree; the others' trees take all that it leaves."""
    one, many = random_graphs(6, [3] * 6, features=(1,), probability=1.0, isolated=0), random_graphs(7, [12] * 6)
    x, shift = torch.cat([one.x, many.x]), one.num_nodes
    split = graph_split(
        x,
        torch.cat([one.edge_index, many.edge_index + shift], dim=1),
        torch.zeros(one.num_edges + many.num_edges, 0, dtype=torch.int64),
        torch.cat([one.ptr, many.ptr[1:] + shift]),
        torch.arange(12) // 6,
    )
    small = distil(Graphs(train=split, classes=("triangles", "others")), patterns="single", budget_bytes=600)
    assert small.figures["patterns_by_class"][0] == 1
    assert small.published > 500


@pytest.mark.parametrize("kind", ["all", "closed", "maximal", "single"])
def test_more_bytes_are_never_spent_less(toy: Graphs, kind: str) -> None:
    sizes = [distil(toy, patterns=kind, depth=1, budget_bytes=b).published for b in range(150, 1500, 75)]
    assert sizes == sorted(sizes)
    assert all(size <= b for size, b in zip(sizes, range(150, 1500, 75), strict=True))


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("supports", [True, False])
def test_the_bytes_counted_are_those_of_the_file(toy: Graphs, tmp_path: Path, counts: bool, supports: bool) -> None:
    fields = {"keep_counts": counts, "keep_supports": supports, "patterns": "single"}
    small = TreeSummary.load(distil(toy, budget_bytes=900, **fields).save(tmp_path / "small"))
    assert small.published == small.nbytes.published == counted(small, counts=counts, supports=supports)
    assert len(small.tree_support) == (len(small.levels[-1]) if supports else 0)
    assert counts or small.pattern_count.unique().tolist() == [1.0]


def test_supports_that_are_not_kept_are_not_read(toy: Graphs, tmp_path: Path) -> None:
    small = distil(toy, budget_bytes=900, keep_supports=False)
    with pytest.raises(InputError, match=r"`tree_support` must be kept, as naive Bayes reads .*keep_supports=True"):
        NaiveBayesLearner().fit(small)
    assert small.draw(tmp_path / "trees.png").startswith(b"\x89PNG")
    NaiveBayesLearner().fit(distil(toy, budget_bytes=900, keep_supports=True))


def renumbered(split: GraphSplit, seed: int) -> GraphSplit:
    """Graphs in another order, and the nodes of each in another."""
    generator = torch.Generator().manual_seed(seed)
    moved = split.subset(torch.randperm(len(split), generator=generator))
    parts = [torch.randperm(int(n), generator=generator) for n in moved.ptr.diff()]
    old = torch.cat([part + int(start) for part, start in zip(parts, moved.ptr[:-1], strict=True)])
    new = torch.empty_like(old)
    new[old] = torch.arange(len(old))
    return graph_split(moved.x[old], new[moved.edge_index], moved.edge_attr, moved.ptr, moved.labels)


@pytest.mark.parametrize("kind", ["all", "closed", "maximal", "single"])
def test_the_order_of_nodes_and_graphs_changes_no_byte(toy: Graphs, tmp_path: Path, kind: str) -> None:
    files = []
    for seed in range(3):
        data = Graphs(train=renumbered(toy.train, seed), classes=toy.classes)
        small = distil(data, patterns=kind, budget_bytes=700)
        made = small.content()
        files.append(({n: t.tolist() for n, t in made[0].items()}, made[1]["figures"], made[1]["published"]))
    assert files[0] == files[1] == files[2]


def test_who_has_spent_least_of_its_share_is_next() -> None:
    account = Account(100, class_weights("graphs", [1, 3]))
    seen = []
    for label in account.turns():
        seen.append((label, account.pay(label, 10)))
    assert [label for label, paid in seen if paid] == [0, 1, 1, 1, 0, 1, 1, 1, 0, 1]
    assert account.left == 0
    assert [paid for _, paid in seen[-2:]] == [False, False]
    assert class_weights("equal", [1, 3]) == [1.0, 1.0]
    assert len(list(itertools.islice(Account(5, [1.0]).turns(), 3))) == 3  # who does not pay stays
