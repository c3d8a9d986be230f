"""Small graphs without training a network: means against slow ones, budgets, settings, equal bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from reference import nodes as slow
from reference.nodes import own, shuffled

import dd
from dd.data.nodes.load import load_nodes
from dd.data.nodes.propagate import operator, propagated
from dd.errors import InputError
from dd.methods import Run
from dd.methods.nodes.cluster import k_means
from dd.methods.nodes.means import NodeMeans
from dd.synthetic import NodeRecipe, NodeSet, stored_bytes

QUICK = NodeRecipe(model="gcn(width=4)", steps=4)


def only(method: Any, real: Any) -> list[NodeSet]:
    """The sets that a method offers."""
    return [candidate.set for step in method.distill(real, Run()) for candidate in step.candidates]


@pytest.mark.parametrize("norm", ["both", "mean", "sum"])
def test_operators_are_those_of_the_dense_matrices(norm: str) -> None:
    seen = load_nodes(own()).seen()
    matrix = operator(seen, norm, torch.float64)
    assert matrix is not None
    wanted = slow.operator(seen, norm)
    torch.testing.assert_close(matrix.matrix.to_dense(), wanted, rtol=1e-12, atol=1e-12)
    x = torch.rand(60, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(matrix @ x, wanted @ x)
    assert torch.autograd.gradcheck(lambda h: matrix @ h, x)


@pytest.mark.parametrize("scale", ["rows", "none"])
def test_features_go_along_edges_as_by_dense_matrices(scale: str) -> None:
    seen = load_nodes(own()).seen()
    for fast, wanted in zip(propagated(seen, 2, scale), slow.propagated(seen, 2, scale), strict=True):
        torch.testing.assert_close(fast, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fuzziness", [1.0, 1.3, 2.0])
def test_clusters_are_those_of_the_slow_rounds(fuzziness: float) -> None:
    x = torch.cat([torch.randn(9, 3, generator=torch.Generator().manual_seed(i)) + 5 * i for i in range(3)]).double()
    made = k_means(x, 3, torch.Generator().manual_seed(0), fuzziness=fuzziness)
    wanted = slow.lloyd(x, made, fuzziness)  # a round leaves them where they are
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)
    if fuzziness == 1:
        torch.testing.assert_close(made.sort(0).values, torch.stack([p.mean(0) for p in x.split(9)]).sort(0).values)


def test_equal_rows_are_clusters_too() -> None:
    x = torch.ones(5, 2, dtype=torch.float64)
    assert k_means(x, 3, torch.Generator().manual_seed(0)).tolist() == [[1, 1]] * 3


def test_one_node_a_class_is_the_mean_of_its_training_nodes() -> None:
    real = load_nodes(own())
    (small,) = only(NodeMeans(budget_bytes=None, nodes=1, train=NodeRecipe(scale="none")), real)
    seen = real.seen()
    wanted = slow.propagated(seen, 2, "none")[2]
    for k in range(2):
        mean = wanted[seen.y == k].mean(0)
        torch.testing.assert_close(small.graph.x[k].double(), mean, rtol=1e-3, atol=1e-4)  # float16
    assert small.graph.y.tolist() == [0, 1]
    assert small.graph.num_edges == 0


def test_weights_mix_the_powers() -> None:
    real = load_nodes(own())
    fields: dict[str, Any] = {"budget_bytes": None, "nodes": 1, "train": NodeRecipe(scale="none")}
    (small,) = only(NodeMeans(alpha=0.9, beta=0.5, gamma=-0.1, **fields), real)
    seen = real.seen()
    x, once, twice = slow.propagated(seen, 2, "none")
    mean = (-0.1 * x + 0.9 * once + 0.5 * twice)[seen.y == 0].mean(0)
    torch.testing.assert_close(small.graph.x[0].double(), mean, rtol=1e-3, atol=2e-4)


def test_the_largest_entries_are_kept_the_first_of_equal_ones() -> None:
    means = torch.tensor([[1.0, -4.0, 2.0, 2.0, 2.0], [0.0, 1.0, 1.0, 0.0, 0.0]])
    made = NodeMeans._graph(means, torch.arange(2), 2)
    assert made.x.tolist() == [[0, -4, 2, 0, 0], [0, 1, 1, 0, 0]]


@pytest.mark.parametrize("budget", [60, 100, 150, 300])
def test_a_budget_is_spent_in_several_ways_and_never_exceeded(budget: int) -> None:
    real = load_nodes(own())
    sets = only(NodeMeans(budget_bytes=budget), real)
    assert all(small.nbytes.counted <= budget for small in sets)
    assert [small.figures["nodes_per_class"] for small in sets] == sorted(
        {small.figures["nodes_per_class"] for small in sets}
    )
    assert sets[0].figures["graph_bytes"] == stored_bytes(real.seen(), 2)
    more = only(NodeMeans(budget_bytes=budget, entries=2), real)
    assert {small.figures["entries"] for small in more} <= {1, 2}


def test_without_validation_nodes_there_is_one_set() -> None:
    assert len(only(NodeMeans(budget_bytes=300), load_nodes(own(val_mask=None)))) == 1


def test_a_budget_below_one_node_a_class_says_what_is_needed() -> None:
    with pytest.raises(
        InputError, match=r"`budget_bytes` must be enough for one node a class, (\d+) bytes here; got 5"
    ):
        dd.distill(own(), "node_means", budget_bytes=5)
    assert len(dd.distill(own(), "node_means", budget_bytes=12, train=QUICK, progress=False)) == 2


def test_fields_are_checked() -> None:
    for fields, text in (
        ({"nodes": 1}, "`budget_bytes` must be given, or `nodes`, and not both"),
        ({"budget_bytes": None}, "got neither"),
        ({"beta": 0.0}, "`beta` must be other than 0"),
        ({"setting": "both"}, "`setting` must be `transductive` or `inductive`"),
        ({"fuzziness": 0.5}, "`fuzziness` must be a finite number of at least 1"),
    ):
        with pytest.raises(InputError, match=text):
            NodeMeans(**fields)  # type: ignore[arg-type]


def test_the_same_bytes_whatever_the_order_of_nodes_and_edges() -> None:
    method = NodeMeans(budget_bytes=None, nodes=3, train=QUICK)
    first, second = (only(method, load_nodes(data))[0] for data in (own(), shuffled(own())))
    assert first == second
    other = next(method.distill(load_nodes(own()), Run(seed=1))).candidates[0].set
    assert first.graph.x.tolist() != other.graph.x.tolist()


def test_an_inductive_set_is_of_training_nodes_alone() -> None:
    real = load_nodes(own())
    method = NodeMeans(budget_bytes=None, nodes=1, setting="inductive", train=QUICK)
    (small,) = only(method, real)
    x = real.x.clone()
    x[real.test.rows] += 1  # type: ignore[union-attr]
    assert only(method, dataclasses.replace(real, x=x))[0] == small
    assert only(dataclasses.replace(method, setting="transductive"), real)[0] != small


def test_scales_are_told_by_the_features() -> None:
    assert only(NodeMeans(budget_bytes=100), load_nodes(own()))[0].recipe.scale == "rows"
    assert only(NodeMeans(budget_bytes=100), load_nodes(own(x=torch.randn(60, 4))))[0].recipe.scale == "none"


def test_images_are_refused_by_a_value_too() -> None:
    with pytest.raises(InputError, match=r"`data` must be one graph of nodes for the method 'node_means'; got str"):
        next(NodeMeans().distill("digits", Run()))  # type: ignore[arg-type]


@pytest.mark.parametrize("features", [1, 3, 8])
def test_few_features_leave_nodes_a_class_to_choose(features: int) -> None:
    x = torch.rand(60, features, generator=torch.Generator().manual_seed(0))
    real = load_nodes(own(x=x))
    assert [len(small) for small in only(NodeMeans(budget_bytes=400, train=QUICK), real)] == [2, 4, 6, 10, 16]
    narrow = only(NodeMeans(budget_bytes=400, entries=1, train=QUICK), real)
    assert [len(small) for small in narrow] == [2, 4, 6, 10, 16]
    alone = only(NodeMeans(budget_bytes=400, train=QUICK), dataclasses.replace(real, val=None))
    assert [len(small) for small in alone] == [16]


def test_one_feature_alone_is_not_scaled_away() -> None:
    x = (torch.arange(60)[:, None] % 2 + 1.0) * 3
    for method in ("node_means", "bonsai"):
        small = dd.distill(own(x=x), method, budget_bytes=60, train=QUICK)
        assert small.recipe.scale == "none"
        assert len(set(small.graph.x[small.rows, 0].tolist())) > 1
