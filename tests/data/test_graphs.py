"""Graphs in memory: splits end to end against loops, what is refused, and lists of `Data` as data."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dd.data import Bins, Graphs, GraphSplit, graph_split, load_graphs
from dd.data.graph_bins import as_features, fit_columns
from dd.data.graph_checks import asymmetric
from dd.data.graph_splits import held_out_rows, published_rows, random_rows
from dd.errors import InputError


def graph(edges: list[tuple[int, int]], n: int, y: Any = 0, both: bool = True, **more: Any) -> SimpleNamespace:
    """A graph with the attributes of PyG's `Data`; every edge in both directions unless told otherwise."""
    rows = edges + [(b, a) for a, b in edges] if both else edges
    index = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).t()
    return SimpleNamespace(edge_index=index, num_nodes=n, y=torch.tensor([y]) if y is not None else None, **more)


def some_graphs(n: int = 30, seed: int = 0, features: bool = True) -> list[SimpleNamespace]:
    """Random undirected graphs of two classes, some of them without edges."""
    rng, out = random.Random(seed), []
    for i in range(n):
        nodes = rng.randint(1, 7)
        pairs = [(a, b) for a in range(nodes) for b in range(a) if rng.random() < 0.4]
        more = {}
        if features:
            attr = torch.tensor([rng.randint(0, 2) for _ in pairs], dtype=torch.int64)
            x = torch.tensor([[rng.randint(0, 3), rng.randint(5, 6)] for _ in range(nodes)])
            more = {"x": x, "edge_attr": attr.repeat(2)}
        out.append(graph(pairs, nodes, i % 2, **more))
    return out


def a_split(n: int = 12, seed: int = 1) -> GraphSplit:
    return load_graphs(some_graphs(n, seed), split=None, role="evaluate").test or pytest.fail("no test graphs")


def contents(split: GraphSplit) -> list[tuple[Any, ...]]:
    """Each graph by itself, by a loop: label, features, and edges as (source, target, features), sorted."""
    out = []
    for i, label in enumerate(split.labels.tolist()):
        a, b = int(split.ptr[i]), int(split.ptr[i + 1])
        edges = [
            (s - a, t - a, *split.edge_attr[e].tolist())
            for e, (s, t) in enumerate(split.edge_index.t().tolist())
            if a <= t < b
        ]
        out.append((label, split.x[a:b].tolist(), sorted(edges)))
    return out


def test_split_is_what_was_given() -> None:
    made = load_graphs(given := some_graphs(12, 1), split=None, role="evaluate").test
    assert made is not None
    for (label, x, edges), one in zip(contents(made), given, strict=True):
        assert label == int(one.y)
        assert x == one.x.tolist()
        assert edges == sorted(
            (*ends, z) for ends, z in zip(one.edge_index.t().tolist(), one.edge_attr.tolist(), strict=True)
        )
    assert made.num_nodes == sum(one.num_nodes for one in given)
    assert made.num_edges == sum(one.edge_index.shape[1] for one in given)


def test_offsets_degrees_and_owners_against_loops() -> None:
    split = a_split()
    degree, owner, ends = [0] * split.num_nodes, [], [0]
    for i in range(len(split)):
        owner += [i] * int(split.ptr[i + 1] - split.ptr[i])
    for _, t in split.edge_index.t().tolist():
        degree[t] += 1
    for i in range(len(split)):
        ends.append(ends[-1] + sum(owner[t] == i for t in split.edge_index[1].tolist()))
    assert split.degree.tolist() == degree
    assert split.graph.tolist() == owner
    assert split.edge_ptr.tolist() == ends


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 2], [11, 2, 2, 7], list(range(11, -1, -1))])
def test_subset_against_a_loop(rows: list[int]) -> None:
    split = a_split()
    whole, part = contents(split), split.subset(torch.tensor(rows, dtype=torch.int64))
    assert contents(part) == [whole[i] for i in rows]
    order = (part.edge_index[1] * max(part.num_nodes, 1) + part.edge_index[0]).tolist()
    assert order == sorted(order)


@pytest.mark.parametrize(("first", "last"), [(0, 12), (3, 9), (5, 5), (0, 1), (11, 12)])
def test_slice_against_subset(first: int, last: int) -> None:
    split = a_split()
    assert contents(split.slice(first, last)) == contents(split.subset(torch.arange(first, last)))


def parts(split: GraphSplit) -> tuple[Tensor, ...]:
    return split.x, split.edge_index, split.edge_attr, split.ptr, split.labels


def test_order_and_duplicates_of_edges_do_not_matter() -> None:
    split = a_split()
    for seed in range(5):
        order = torch.tensor(random.Random(seed).choices(range(split.num_edges), k=40))
        rows = torch.cat([torch.arange(split.num_edges), order])
        rows = rows[torch.tensor(random.Random(seed).sample(range(len(rows)), len(rows)))]
        again = graph_split(split.x, split.edge_index[:, rows], split.edge_attr[rows], split.ptr, split.labels)
        assert all(torch.equal(a, b) for a, b in zip(parts(again), parts(split), strict=True))


def test_parallel_edges_with_other_features_are_kept() -> None:
    index = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 1]])
    attr = torch.tensor([[0], [0], [1], [0]])
    one = graph_split(torch.zeros(2, 0).long(), index, attr, torch.tensor([0, 2]), torch.tensor([0]))
    assert Counter(zip(*one.edge_index.tolist(), one.edge_attr[:, 0].tolist(), strict=True)) == Counter(
        [(0, 1, 0), (0, 1, 1), (1, 0, 0)]
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ptr": torch.tensor([0, 2])}, "`ptr`"),
        ({"ptr": torch.tensor([0, 3, 2])}, "`ptr`"),
        ({"ptr": torch.tensor([0, 2, 3])}, "`ptr` must be to end"),
        ({"edge_index": torch.tensor([[0], [3]])}, "edges within one graph"),
        ({"edge_index": torch.tensor([[0], [4]])}, "nodes 0 … 3"),
        ({"edge_index": torch.tensor([[0, 1], [1, 0]])}, "E = 1"),
    ],
)
def test_split_refuses(change: dict[str, Tensor], text: str) -> None:
    fine = {
        "x": torch.zeros(4, 1).long(),
        "edge_index": torch.tensor([[0], [1]]),
        "edge_attr": torch.zeros(1, 0).long(),
        "ptr": torch.tensor([0, 2, 4]),
        "labels": torch.tensor([0, 1]),
    }
    graph_split(**fine)
    with pytest.raises(InputError, match=text):
        graph_split(**{**fine, **change})


def test_fingerprint_is_of_the_content() -> None:
    a, b = load_graphs(some_graphs()), load_graphs(some_graphs())
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != load_graphs(some_graphs(), split=1).fingerprint
    assert a.fingerprint != load_graphs(some_graphs(), classes=["no", "yes"]).fingerprint
    assert a.fingerprint != load_graphs(some_graphs(seed=3)).fingerprint
    assert a.all_train() is a


# Splits


@pytest.mark.parametrize("n", [5, 20, 188, 1113, 1178, 4110])
def test_random_rows_are_those_of_numpy(n: int) -> None:
    rows, order = random_rows(n, 3), np.random.RandomState(3).permutation(n)
    a, b = int(0.8 * n), int(0.9 * n)
    for got, expected in zip(rows, (order[:a], order[a:b], order[b:]), strict=True):
        assert (got.tolist() if got is not None else []) == sorted(expected.tolist())


@pytest.mark.parametrize(("kind", "n", "sizes"), [("torch", 4110, (3288, 411, 411)), ("numpy", 1178, (942, 118, 118))])
def test_published_rows(kind: str, n: int, sizes: tuple[int, int, int]) -> None:
    rows = published_rows(kind, n)
    assert tuple(len(part) for part in rows if part is not None) == sizes
    assert sorted(torch.cat([part for part in rows if part is not None]).tolist()) == list(range(n))


def test_published_shuffle_is_that_of_a_seeded_global_stream() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        order = torch.randperm(50)
    _, val, test = published_rows("torch", 50)
    assert val is not None
    assert test is not None
    assert (test.tolist(), val.tolist()) == (sorted(order[:5].tolist()), sorted(order[5:10].tolist()))


def test_held_out_rows() -> None:
    labels = torch.tensor([0] * 40 + [1] * 5 + [2] + [0, 1])
    train, val, test = held_out_rows(labels, torch.arange(46), torch.tensor([46, 47]), 3)
    assert val is not None
    assert torch.bincount(labels[val], minlength=3).tolist() == [4, 1, 0]
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(46))
    assert test is not None
    assert test.tolist() == [46, 47]


def test_global_streams_are_left_alone() -> None:
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    load_graphs(some_graphs())
    published_rows("torch", 50)
    assert torch.equal(before, torch.get_rng_state())
    assert (state == np.random.get_state()[1]).all()  # type: ignore[union-attr]


# Lists


def test_a_list_is_drawn_and_the_same_for_both_roles() -> None:
    real = load_graphs(given := some_graphs(40), split=2)
    assert real.rule == "random"
    assert real.split == 2
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [32, 4, 4]
    assert real.fingerprint == load_graphs(given, split=2, role="evaluate").fingerprint
    whole = load_graphs(given, split=None, role="evaluate").test
    assert whole is not None
    rows = random_rows(40, 2)
    assert contents(real.train) == [contents(whole)[i] for i in rows.train.tolist()]


def test_all_of_a_list() -> None:
    train = load_graphs(some_graphs(40), split=None)
    assert (len(train.train), len(train.val or ()), train.test, train.rule) == (36, 4, None, "given")
    test = load_graphs(some_graphs(40), split=None, role="evaluate")
    assert (len(test.train), test.val, len(test.test or ())) == (0, None, 40)


def test_tuples_of_lists() -> None:
    a, b, c = some_graphs(30, 1), some_graphs(6, 2), some_graphs(8, 3)
    real = load_graphs((a, c))
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [26, 4, 8]
    real = load_graphs((a, b, c))
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [30, 6, 8]
    assert real.rule == "given"
    assert real.test is not None
    assert contents(real.test) == contents(load_graphs(c, split=None, role="evaluate").test or real.train)


def test_pyg_data_and_plain_attributes_are_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
        from torch_geometric.data import Data
    plain = some_graphs()
    real = load_graphs([Data(x=g.x, edge_index=g.edge_index, edge_attr=g.edge_attr, y=g.y) for g in plain])
    assert real.fingerprint == load_graphs(plain).fingerprint


def test_graphs_without_features() -> None:
    real = load_graphs(some_graphs(features=False))
    assert real.train.x.shape == (real.train.num_nodes, 0)
    assert real.train.edge_attr.shape == (real.train.num_edges, 0)
    assert real.node_names == ()


def test_one_hot_and_whole_floats_are_categories() -> None:
    plain = some_graphs()
    for one in plain:
        one.x, one.edge_attr = one.x[:, 0], one.edge_attr
    real = load_graphs(plain)
    for one in plain:
        one.x = torch.nn.functional.one_hot(one.x, 4).float()
        one.edge_attr = torch.nn.functional.one_hot(one.edge_attr, 3).double()
    again = load_graphs(plain)
    assert real.train.x.dtype == again.train.x.dtype == torch.int64
    assert real.fingerprint == again.fingerprint


def test_features_that_are_not_one_hot_stay() -> None:
    two_hot = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert torch.equal(as_features(two_hot, "x"), two_hot)
    assert as_features(torch.tensor([[0.5, 1.0]]), "x").dtype == torch.float32
    assert torch.equal(as_features(torch.ones(3, 1), "x"), torch.ones(3, 1).long())
    assert torch.equal(as_features(torch.tensor([[True, False]]), "x"), torch.tensor([[0]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused(bad: float) -> None:
    given = some_graphs()
    given[3].x = given[3].x.float() + torch.tensor([bad, 0.0])
    with pytest.raises(InputError, match="`x` must be finite"):
        load_graphs(given)


# Directions


def test_asymmetric_against_a_loop() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        pairs = [(rng.randint(0, 3), rng.randint(0, 3)) for _ in range(rng.randint(0, 6))]
        pairs += [(b, a) for a, b in pairs if rng.random() < 0.8]
        kinds = torch.tensor([rng.randint(0, 1) * (seed % 2) for _ in pairs], dtype=torch.int64)
        one = load_graphs(
            [graph(pairs, 4, 0, both=False, edge_attr=kinds)], split=None, role="evaluate", classes=2, directed=True
        ).test
        assert one is not None
        edges = {(s, t, *z) for (s, t), z in zip(one.edge_index.t().tolist(), one.edge_attr.tolist(), strict=True)}
        assert bool(asymmetric(one)[0]) == any((t, s, *z) not in edges for s, t, *z in edges)


def test_directions_are_found() -> None:
    assert not load_graphs(some_graphs()).directed
    assert load_graphs(some_graphs(), directed=True).directed
    one_way = [graph([(0, 1), (1, 2)], 3, i % 2, both=False) for i in range(20)]
    assert load_graphs(one_way).directed
    loops = [graph([(0, 0), (0, 1)], 2, i % 2) for i in range(20)]
    assert not load_graphs(loops).directed
    assert load_graphs(loops).train.num_edges == 3 * 16  # a self-loop of a user's graph stays, once
    one_way[4] = graph([(0, 1)], 2, 0)
    with pytest.raises(InputError, match=r"19 of 20 graphs.*directed=True.*ToUndirected"):
        load_graphs(one_way)
    assert load_graphs(one_way, directed=True).directed
    with pytest.raises(InputError, match="whose reverse is not there"):
        load_graphs(one_way[:4] + one_way[5:], directed=False)


def test_edges_with_another_feature_each_way_are_directed() -> None:
    given = [graph([(0, 1)], 2, i % 2, edge_attr=torch.tensor([0, 1])) for i in range(20)]
    assert load_graphs(given).directed


# Bins


def continuous(n: int = 40, seed: int = 0) -> list[SimpleNamespace]:
    generator, given = torch.Generator().manual_seed(seed), some_graphs(n, seed)
    for one in given:
        noise = torch.rand(len(one.x), 1, generator=generator)
        one.x = torch.cat([one.x[:, :1].float(), noise, torch.full((len(one.x), 1), 0.5)], dim=1)
    return given


def test_bins_are_quantiles_of_the_training_nodes() -> None:
    real, plain = load_graphs(continuous(), bins=4), load_graphs(continuous())
    assert plain.train.x.is_floating_point()
    assert plain.bins is None
    assert isinstance(real.bins, Bins)
    assert real.bins.nodes[0] is None
    cuts = np.quantile(plain.train.x[:, 1].double().numpy(), [0.25, 0.5, 0.75])
    assert real.bins.nodes[1] is not None
    np.testing.assert_allclose(real.bins.nodes[1].numpy(), cuts)
    assert real.test is not None
    assert plain.test is not None
    for part, raw in ((real.train, plain.train), (real.test, plain.test)):
        assert part.x.dtype == torch.int64
        assert part.x[:, 0].tolist() == raw.x[:, 0].long().tolist()
        expected = [sum(value >= cut for cut in cuts) for value in raw.x[:, 1].double().tolist()]
        assert part.x[:, 1].tolist() == expected
        assert len(part.x[:, 2].unique()) == 1  # a constant column is one category
    counts = torch.bincount(real.train.x[:, 1])
    assert int(counts.max() - counts.min()) <= 1


def test_bins_of_other_graphs_and_a_second_time() -> None:
    real = load_graphs(continuous(), bins=4)
    assert load_graphs(real, bins=4).fingerprint == real.fingerprint
    other = load_graphs(continuous(seed=5), split=None, role="evaluate", bins=real.bins).test
    raw = load_graphs(continuous(seed=5), split=None, role="evaluate").test
    assert other is not None
    assert raw is not None
    assert real.bins is not None
    assert torch.equal(other.x, real.bins.node_values(raw.x))


def test_bins_refuse() -> None:
    with pytest.raises(InputError, match="`bins` must be left out"):
        load_graphs(some_graphs(), bins=4)
    for wrong in (1, 0, True, 2.5, "4"):
        with pytest.raises(InputError, match="`bins` must be a whole number"):
            load_graphs(continuous(), bins=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`bins` of the training graphs"):
        load_graphs(continuous(), bins=4, split=None, role="evaluate")
    with pytest.raises(InputError, match="of 1 node features, as in training"):
        Bins((None,), ()).node_values(torch.zeros(2, 2))
    with pytest.raises(InputError, match="whole numbers in node feature 0"):
        Bins((None,), ()).node_values(torch.tensor([[0.5]]))
    assert fit_columns(torch.zeros(3, 2).long(), [], 4) == (None, None)


# Refusals


def with_y(values: list[Any]) -> list[SimpleNamespace]:
    return [graph([(0, 1)], 2, y) for y in values]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "an empty one"),
        (([], []), "an empty one"),
        (with_y([0] * 20), "at least two classes"),
        (with_y([1, 2] * 10), "none of class 0"),
        (with_y([-1, 1] * 10), r"0 … K−1 with every class present.*torch.unique"),
        (with_y([0, 900] * 10), "0 … K−1 with every class present"),
        (with_y([0.5, 1.0] * 10), r"`data\[0\].y` must be one class"),
        (with_y([None] * 10), r"`data\[0\].y` must be one class 0 … K−1; got none"),
        (with_y([float("nan")] * 10), "must be one class"),
        ([graph([], 2, i % 2) for i in range(20)], "without any"),
        ([graph([(0, 5)], 2, i % 2) for i in range(20)], r"`data\[0\].edge_index` must be nodes of the graph, 0 … 1"),
        ([SimpleNamespace(edge_index=torch.zeros(2, 0).long(), y=0)] * 9, "`x`, or `num_nodes`"),
        ([graph([(0, 1)], 2, 0, x=torch.zeros(3, 1))] * 9, "nodes of the graph|must be"),
        ([graph([(0, 1)], 2, 0, edge_attr=torch.zeros(5))] * 9, r"`data\[0\].edge_attr` must be \[2, F\]"),
        ([graph([(0, 1)], 2, 0, x=torch.zeros(2, 1)), graph([(0, 1)], 2, 1)] * 9, "a tensor, as other graphs have"),
        (
            [graph([(0, 1)], 2, 0, x=torch.zeros(2, 1)), graph([(0, 1)], 2, 1, x=torch.zeros(2, 3))] * 9,
            "of 1 features, as other graphs",
        ),
        (["a", "b"], r"`data\[0\]` must be a graph"),
        (7, "`data` must be a PyG dataset"),
        ("nci2", r"unknown graph data set 'nci2'; known: .*NCI1"),
    ],
)
def test_data_is_refused(data: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_graphs(data)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"split": "paper"}, "`split`"),
        ({"split": -1}, "`split`"),
        ({"split": True}, "`split`"),
        ({"split": "published"}, "for graphs of your own"),
        ({"role": "train"}, "`role`"),
        ({"root": "/tmp"}, "`root`"),
        ({"directed": "yes"}, "`directed`"),
        ({"classes": ["a"]}, "at least two classes"),
        ({"classes": ["a", "a"]}, "`classes`"),
        ({"classes": 3}, "none of class 2"),
    ],
)
def test_arguments_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_graphs(some_graphs(), **arguments)


def test_graphs_are_checked() -> None:
    real = load_graphs(some_graphs())
    assert load_graphs(real).fingerprint == real.fingerprint
    with pytest.raises(InputError, match="graphs with test graphs"):
        load_graphs(replace(real, test=None), role="evaluate")
    with pytest.raises(InputError, match="none of class 1"):
        load_graphs(replace(real, train=real.train.subset((real.train.labels == 0).nonzero().flatten())))
    with pytest.raises(InputError, match=r"0 … 1 \(there are 2 classes\)"):
        load_graphs(replace(real, val=replace(real.train, labels=real.train.labels + 1)))
    with pytest.raises(InputError, match="`classes` must be left out"):
        load_graphs(real, classes=2)
    assert isinstance(real, Graphs)
    assert int(real.graphs_per_class.sum()) == len(real.train)
