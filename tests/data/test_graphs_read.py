"""Lists of `Data` as data: directions, bins of continuous features, and what is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reference.graphs import graph, some_graphs

import dd
from dd.data import Bins, Graphs, load_graphs
from dd.data.graphs.bins import fit_columns
from dd.data.graphs.checks import asymmetric
from dd.errors import InputError

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

TEST = int(np.random.RandomState(0).permutation(20)[-1])  # of 20 graphs one that is no training graph


def with_y(values: list[Any]) -> list[SimpleNamespace]:
    return [graph([(0, 1)], 2, y) for y in values]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "an empty one"),
        (([], []), "an empty one"),
        (with_y([0] * 20), "at least two classes"),
        (with_y([5 if i == TEST else 0 for i in range(20)]), "training graphs of every class; got none of class 1"),
        ((with_y([0, 1] * 10), with_y([2])), r"`labels` must be 0 … 1 \(there are 2 classes\); got 2"),
        (with_y([0.5, 1.0] * 10), r"`data\[0\].y` must be one class a graph, .*; got 0\.5 .* no quantity"),
        (with_y([[0, 1, 1]] * 10), r"`data\[0\].y` must be one class a graph, .* shape \[1, 3\].*`labels\[:, 0\]`"),
        (with_y([None] * 10), r"`data\[0\].y` must be one class a graph, a whole number or a name; got None"),
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


@pytest.mark.parametrize("name", ["x", "edge_index", "edge_attr", "y"])
def test_sparse_tensors_and_those_without_numbers_are_refused(name: str) -> None:
    from torch_geometric.data import Data

    for change, got in ((torch.Tensor.to_sparse, "torch.sparse_coo"), (lambda t: t.to("meta"), "without its numbers")):
        graphs = []
        for i in range(4):
            own = {"x": torch.eye(4), "edge_index": torch.tensor([[0, 1], [1, 0]]), "edge_attr": torch.eye(2)}
            own["y"] = torch.tensor([i % 2])
            graphs.append(Data(**{**own, name: change(own[name])}))
        with pytest.raises(InputError, match=rf"`data\[0\]\.{name}` must be a dense tensor; got one that is {got}"):
            load_graphs(graphs)


def of_nodes(n: int) -> SimpleNamespace:
    """A graph whose nodes have the classes."""
    made = graph([(0, 1), (1, 2)], n)
    made.y = torch.arange(n) % 2
    return made


class Planetoid:
    """A data set of one graph whose nodes have the classes."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> SimpleNamespace:
        return of_nodes(5)


@pytest.mark.parametrize("method", ["mirage", "ftd"])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (graph([(0, 1)], 2, 1), "got one graph of 2 nodes. "),
        ([of_nodes(n) for n in (4, 5, 6)], r"`data\[0\].y` must be one class a graph; got a label for each of its 4"),
        ((of_nodes(4), of_nodes(5)), r"`data\[0\].y` must be one class a graph"),
        (([of_nodes(4)], [of_nodes(5)]), r"`data\[0\].y` must be one class a graph"),
    ],
)
def test_graphs_whose_nodes_have_the_classes_are_told_from_those_that_have_one(
    data: Any, text: str, method: str
) -> None:
    """Whatever the method: that it is for images would be no help."""
    with pytest.raises(InputError, match=f"{text}.*list of `Data.*Node classification takes one graph"):
        dd.distill(data, method)


def test_a_later_graph_whose_nodes_have_the_classes_is_named() -> None:
    with pytest.raises(InputError, match=r"`data\[19\].y` must be one class a graph; got a label for each of its 3"):
        load_graphs([*with_y([0, 1] * 9), graph([(0, 1)], 2, 0), of_nodes(3)])


def test_one_graph_of_a_list_is_too_few_to_distil_and_enough_to_test() -> None:
    with pytest.raises(InputError, match="many graphs with a class each; got one graph of 2 nodes"):
        load_graphs(with_y([1]))
    real = load_graphs(with_y([1]), split=None, role="evaluate", classes=2)
    assert real.test is not None
    assert real.test.labels.tolist() == [1]


def test_the_way_out_of_one_graph_is_accepted() -> None:
    from torch_geometric.data import Data

    edges = torch.tensor([[0, 1], [1, 0]])
    data = [Data(edge_index=edges, num_nodes=2, y=torch.tensor([k])) for k in (0, 1) * 10]
    assert load_graphs(data).num_classes == 2


def test_graphs_of_several_types_of_nodes_are_refused() -> None:
    from torch_geometric.data import HeteroData

    mixed = HeteroData()
    mixed["a"].x, mixed["b"].x = torch.zeros(3, 1), torch.zeros(2, 1)
    mixed["a", "to", "b"].edge_index = torch.tensor([[0, 1], [1, 0]])
    for data in (mixed, [mixed, mixed]):
        for method in ("mirage", "ftd"):
            with pytest.raises(InputError, match=r"one type of nodes; got HeteroData. Give `.to_homogeneous\(\)`"):
                dd.distill(data, method)
    assert isinstance(mixed.to_homogeneous().edge_index, torch.Tensor)


@pytest.mark.parametrize("method", ["mirage", "ftd"])
def test_nothing_is_neither_images_nor_graphs(method: str) -> None:
    for data in ([], ()):
        with pytest.raises(InputError, match="`data` must be a set with images or graphs; got an empty one"):
            dd.distill(data, method)
