"""Bonsai: nearest neighbours, coverage and PageRank against slow twins, the budget, balance, equal bytes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from reference import nodes as slow
from reference.nodes import NODES, own, shuffled
from torch_geometric.data import Data

import dd
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.load import load_nodes
from dd.errors import InputError
from dd.methods import Run
from dd.methods.nodes import cover
from dd.methods.nodes.bonsai import Bonsai, seen_features
from dd.methods.nodes.common import ego_net, rows_in, that_fit
from dd.methods.nodes.cover import coverage_order, nearest, page_rank
from dd.synthetic import NodeSet, stored_bytes


def made(method: Any, data: Any = None, seed: int = 0) -> NodeSet:
    """The one set that a method offers."""
    (step,) = method.distill(load_nodes(own() if data is None else data), Run(seed=seed))
    found = step.candidates[0].set
    assert isinstance(found, NodeSet)
    return found


@pytest.mark.parametrize("block", [3, 512])
def test_nearest_rows_are_those_of_the_slow_way_ties_by_their_number(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cover, "BLOCK", block)
    x = torch.randint(0, 3, (20, 2), generator=torch.Generator().manual_seed(0)).double()  # many equal distances
    assert nearest(x, 4).tolist() == slow.nearest(x, 4)
    assert nearest(x[:2], 2).tolist() == [[0, 1], [1, 0]]
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(1)).double()
    assert nearest(x, 5).tolist() == slow.nearest(x, 5)


def test_the_order_is_that_of_the_greedy_cover() -> None:
    for seed in range(5):
        x = torch.randn(25, 2, generator=torch.Generator().manual_seed(seed)).double()
        found = nearest(x, 4)
        assert coverage_order(found) == slow.coverage_order(found.tolist())
    assert coverage_order(torch.tensor([[0], [1], [2]])) == [0, 1, 2]


@pytest.mark.parametrize("damping", [0.0, 0.5, 0.85])
def test_page_rank_solves_its_equation(damping: float) -> None:
    graph = load_nodes(own()).seen()
    bare = NodeGraph(torch.zeros(61, 1), graph.edge_index, torch.zeros(61))  # node 60 has no edge
    roots = torch.tensor([3, 60])
    found = page_rank(bare, roots, damping)
    torch.testing.assert_close(found, slow.page_rank(bare, roots, damping), rtol=1e-9, atol=1e-10)
    assert float(found.sum()) == pytest.approx(1)


def test_what_a_layer_sees_is_normalised_on_both_sides() -> None:
    graph = load_nodes(own()).seen()
    a = slow.adjacency(graph) + torch.eye(60, dtype=torch.float64)
    degree = torch.diag(1 / a.sum(1))
    step = degree @ a @ degree
    torch.testing.assert_close(seen_features(graph, 1), step @ graph.x.double())
    torch.testing.assert_close(seen_features(graph, 2), step @ step @ graph.x.double())
    alone = graph.subgraph(torch.tensor([0]))
    assert torch.equal(seen_features(alone, 1), alone.x.double())


def test_parts_that_fit_are_those_of_one_by_one() -> None:
    graph = load_nodes(own()).seen()
    parts = [ego_net(graph, row) for row in range(0, 60, 4)]
    for budget in (40, 150, 300, 10_000):
        kept: list[int] = []
        misses = 0
        for place, part in enumerate(parts):
            union = rows_in([*(parts[i] for i in kept), part])
            if stored_bytes(graph.subgraph(union), 2) <= budget:
                kept.append(place)
            elif (misses := misses + 1) == 3:
                break
        assert that_fit(graph, parts, budget, 2, 3) == kept


def test_an_ego_net_is_a_node_and_its_neighbours() -> None:
    graph = load_nodes(own()).seen()
    wanted = {7, *graph.edge_index[0, graph.edge_index[1] == 7].tolist()}
    assert set(ego_net(graph, 7).tolist()) == wanted


@pytest.mark.parametrize("budget", [40, 90, 200, 400, 100_000])
@pytest.mark.parametrize(
    "fields", [{}, {"prune": "none"}, {"balance": "none"}, {"over": 1.0}, {"setting": "inductive"}]
)
def test_a_budget_is_not_exceeded_and_every_class_is_there(budget: int, fields: dict[str, Any]) -> None:
    small = made(Bonsai(budget_bytes=budget, **fields))
    assert small.nbytes.counted <= budget
    assert set(small.labels.tolist()) == {0, 1}


def test_classes_have_their_shares_of_the_training_nodes() -> None:
    data = own()
    data.train_mask = torch.arange(60) < 24
    data.train_mask[1:16:2] = False  # 12 of class 0, 4 of class 1
    data.val_mask = data.test_mask = None
    whole = load_nodes(data).nodes_per_class
    assert whole.tolist() == [12, 4]
    for budget in (200, 300):
        counts = torch.bincount(made(Bonsai(budget_bytes=budget), data).labels, minlength=2)
        assert abs(float(counts[0] / counts.sum()) - 0.75) <= 0.5 / float(counts.sum()) + 0.01


def test_nodes_and_edges_are_real_ones() -> None:
    real, small = load_nodes(own()), made(Bonsai(budget_bytes=300))
    rows = {tuple(row) for row in real.x.tolist()}
    assert {tuple(row) for row in small.graph.x.tolist()} <= rows
    assert small.graph.num_edges
    everything = made(Bonsai(budget_bytes=100_000, balance="none"))
    assert stored_bytes(everything.graph, 2) <= stored_bytes(real.seen(), 2)


def test_the_same_bytes_whatever_the_order_of_nodes_and_edges() -> None:
    method = Bonsai(budget_bytes=250)
    assert made(method) == made(method, shuffled(own())) == made(method, seed=1)
    drawn = dataclasses.replace(method, order="random")
    assert made(drawn) == made(drawn, shuffled(own()))
    assert made(drawn) != made(drawn, seed=1)
    assert made(dataclasses.replace(method, order="degree")) != made(method)


def test_an_inductive_set_is_of_training_nodes_alone() -> None:
    small = made(Bonsai(budget_bytes=300, setting="inductive"))
    assert bool((small.graph.y >= 0).all())


def test_fields_and_budgets_that_do_not_do() -> None:
    with pytest.raises(InputError, match=r"must be enough for one node a class, (\d+) bytes here; got 9"):
        dd.distill(own(), "bonsai", budget_bytes=9)
    for fields, text in (
        ({"order": "best"}, "`order` must be `coverage` or `degree` or `random`"),
        ({"over": 0.5}, "`over` must be a finite number of at least 1"),
        ({"damping": 1.0}, "`damping` must be less than 1"),
        ({"k": 0}, "`k` must be a whole number of at least 1"),
    ):
        with pytest.raises(InputError, match=text):
            Bonsai(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("prune", ["ppr", "none"])
@pytest.mark.parametrize("heavy", [0, 1])
def test_where_one_large_node_leaves_no_room_each_class_has_its_first(heavy: int, prune: str) -> None:
    x = torch.zeros(14, 30)
    x[:, 0], x[2:, :20] = 1, 1
    ends = torch.tensor([(hub, v) for hub in (0, 1) for v in range(3, 13)]).t()  # two small nodes with large neighbours
    train = torch.arange(14) < 3  # and a large one without any, which alone fits the budget as a whole
    y = torch.tensor([0, 1, heavy, *[0] * 11])
    data = Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], 1), y=y, train_mask=train)
    small = made(Bonsai(budget_bytes=26, order="degree", prune=prune), data)
    assert sorted(small.labels.tolist()) == [0, 1]
    assert small.nbytes.counted <= 26


def test_the_least_budget_that_is_named_is_enough() -> None:
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        x = (torch.rand(NODES, 40, generator=generator) < torch.rand(NODES, 1, generator=generator)).float()
        data = own(x=x * torch.rand(NODES, 40, generator=generator))
        for order, setting in (("degree", "transductive"), ("random", "inductive"), ("coverage", "inductive")):
            told = {"order": order, "setting": setting}
            with pytest.raises(InputError, match="enough for one node a class") as refused:
                made(Bonsai(budget_bytes=3, **told), data)
            found = re.search(r"a class, ([\d,]+) bytes", str(refused.value))
            assert found is not None
            least = int(found[1].replace(",", ""))
            for more in (0, 1, 9):
                small = made(Bonsai(budget_bytes=least + more, **told), data)
                assert small.nbytes.counted <= least + more
                assert set(small.labels.tolist()) == {0, 1}
