"""One graph whose nodes have classes: what is read, in which order, how it is split, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.nodes import NODES, own, shuffled
from torch import Tensor

import dd
from dd.data import Graphs, Nodes, about
from dd.data.nodes.arrays import read_arrays
from dd.data.nodes.card import load_node_card
from dd.data.nodes.graph import NodeGraph, both_ways
from dd.data.nodes.load import load_nodes, made
from dd.errors import DamagedError, InputError, MissingError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


class OfOne:
    """A data set of one graph, as Planetoid is."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def __len__(self) -> int:
        return 1

    def __getitem__(self, i: int) -> Any:
        return [self.graph][i]


def test_one_graph_is_told_from_many(capsys: pytest.CaptureFixture[str]) -> None:
    for data in (own(), OfOne(own()), [own()]):
        assert about(data).kind == "nodes"
        assert isinstance(dd.load_graphs(data), Nodes)
        assert "node classification: Nodes('nodes', one graph of 60 nodes" in capsys.readouterr().err
    assert isinstance(dd.load_graphs("digits-graphs"), Graphs)
    assert about("Blocks") == ("nodes", "blocks", False)
    assert capsys.readouterr().err == ""


def test_masks_are_the_splits() -> None:
    real = load_nodes(own())
    assert real.rule == "given"
    assert real.val is not None
    assert real.test is not None
    assert real.train.rows.tolist() == list(range(0, NODES, 3))
    assert real.test.labels.tolist() == [i % 2 for i in range(2, NODES, 3)]
    assert real.nodes_per_class.tolist() == [10, 10]
    back = load_nodes(real.to_pyg())
    assert back.fingerprint == real.fingerprint


def test_masks_of_several_columns_are_splits_by_number() -> None:
    place = torch.arange(NODES)[:, None] + torch.arange(3)
    masks = {name: place % 3 == i for i, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    real = load_nodes(own(**masks), split=1)
    assert (real.split, real.train.rows.tolist()) == (1, list(range(2, NODES, 3)))
    with pytest.raises(InputError, match=r"`split` must be 0 … 2, the columns of the masks; got 3"):
        load_nodes(own(**masks), split=3)


def test_a_number_draws_no_other_split_where_there_is_one_set_of_masks() -> None:
    with pytest.raises(
        InputError, match=r"`split` must be 0, since there is one set of masks; got 3. 'random:3' draws"
    ):
        load_nodes(own(), split=3)
    assert load_nodes(own(), split="random:3").split == 3


def test_random_splits_have_twenty_a_class_and_do_not_overlap() -> None:
    real = load_nodes("blocks", split=3)
    assert (real.rule, real.split) == ("random", 3)
    assert real.nodes_per_class.tolist() == [20] * 4
    assert real.val is not None
    assert real.test is not None
    assert torch.bincount(real.val.labels).tolist() == [30] * 4
    rows = torch.cat([real.train.rows, real.val.rows, real.test.rows])
    assert rows.sort().values.tolist() == list(range(1200))
    assert load_nodes("blocks", split=4).train.rows.tolist() != real.train.rows.tolist()
    assert load_nodes("blocks", split="random:3").fingerprint == real.fingerprint
    few = load_nodes(own(), split="random")
    assert few.nodes_per_class.tolist() == [7, 7]  # a quarter of thirty


def test_the_order_of_nodes_and_edges_does_not_matter() -> None:
    first, second = load_nodes(own()).seen(), load_nodes(shuffled(own())).seen()
    for name in ("x", "edge_index", "y"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    drawn = [load_nodes(data, split="random:2") for data in (own(), shuffled(own(), 5))]
    assert torch.equal(drawn[0].seen().y, drawn[1].seen().y)


def test_a_method_sees_the_classes_of_training_nodes_alone() -> None:
    real = load_nodes(own())
    seen = real.seen()
    assert sorted(seen.y.tolist()) == [-1] * 40 + [0] * 10 + [1] * 10
    inside = real.seen("inductive")
    assert len(inside) == 20
    assert bool((inside.y >= 0).all())
    kept = torch.isin(real.edge_index, real.train.rows).all(0)
    assert inside.num_edges == int(kept.sum())


def test_edges_are_made_undirected_and_it_is_said() -> None:
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 0, 3, 3, 4]])
    with pytest.warns(UserWarning, match=r"1 loops left out, edges made undirected \(2 had no reverse\)"):
        real = load_nodes(own(edge_index=edges))
    assert real.edge_index.t().tolist() == [[1, 0], [0, 1], [3, 2], [2, 3], [4, 3], [3, 4]]
    assert "edges made undirected" in repr(real)


def hot(y: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(y, 2).float()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"x": None, "num_nodes": NODES}, r"`data.x` must be features of the nodes.*got none. Without features give"),
        ({"x": torch.full((NODES, 2), torch.nan)}, r"`data.x` must be finite; got 120 NaN.*Fill them in"),
        ({"x": torch.full((NODES, 2), 1e5)}, r"`data.x` must be at most 65,504 in size.*got 100000. Scale its columns"),
        ({"y": None}, r"`data.y` must be a class for each of the 60 nodes; got none. Give a PyG `Data`"),
        (
            {"y": hot(torch.arange(NODES) % 2)},
            r"`data.y` must be one class a node; got 2 targets each. Of one-hot rows",
        ),
        ({"y": torch.rand(NODES)}, r"`data.y` must be classes, whole numbers.*`torch.bucketize"),
        ({"y": torch.zeros(NODES).long()}, r"`data.y` must be of at least two classes, 0 … K−1; got 0"),
        ({"y": torch.arange(NODES) % 2 + 99}, r"`data.y` must be 0 … K−1 with every class present; got class 100"),
        ({"y": torch.arange(NODES) % 2 * 2}, r"`data` must be training nodes of every class; got none of class 1"),
        ({"y": -torch.ones(NODES).long()}, r"`data.y` must be of at least two classes"),
        ({"y": torch.arange(NODES) % 2 * 2 - 1}, r"nodes without \(y < 0\). Leave them out|at least two classes"),
        (
            {"edge_index": torch.tensor([[0], [60]])},
            r"`data.edge_index` must be nodes of the graph, 0 … 59; got 0 … 60",
        ),
        ({"edge_index": torch.zeros(9, 2).long()}, r"`data.edge_index` must be whole numbers \[2, E\].*Give `.t\(\)`"),
        ({"edge_weight": torch.rand(9)}, r"`data.edge_weight` must be left out.*`del data.edge_weight`"),
        ({"train_mask": torch.arange(20)}, r"`data.train_mask` must be true or false.*index_to_mask"),
        ({"train_mask": None}, r"`data.train_mask` must be given beside val_mask, test_mask; got none"),
        ({"test_mask": torch.arange(NODES) % 3 == 0}, r"`test_mask` must be without the nodes of `train_mask`; got 20"),
        ({"train_mask": torch.zeros(NODES).bool()}, r"`train_mask` must be true of some nodes; got none"),
    ],
)
def test_bad_graphs_are_refused_with_the_way_out(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        dd.distill(own(**changes), "node_means")


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (own(y=hot(torch.arange(NODES) % 2).argmax(1)), {}),
        (own(edge_index=torch.zeros(9, 2).long().t()), {}),
        (own(edge_weight=torch.ones(300)), {}),
        (own(y=torch.arange(NODES)[:, None] % 2), {}),
        (own(train_mask=None, val_mask=None, test_mask=None), {}),
        (own(), {"classes": ["left", "right"]}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_ways_out_are_accepted(data: Any, changes: dict[str, Any]) -> None:
    assert load_nodes(data, **changes).num_classes == 2


def test_what_is_for_many_graphs_is_refused() -> None:
    with pytest.raises(InputError, match=r"`bins` must be left out for one graph whose nodes have classes; got 4"):
        dd.load_graphs(own(), bins=4)
    with pytest.raises(InputError, match=r"`split` must be .*'published'"):
        load_nodes(own(), split="scaffold")
    with pytest.raises(InputError, match=r"`data` must be with test nodes; got 'nodes' without"):
        load_nodes(own(test_mask=None), role="evaluate")


def test_a_method_for_other_data_is_refused_by_kind() -> None:
    wanted = (
        r"`data` must be {} for the method '{}'; got 'nodes', which is one graph whose.* there are: node_means, bonsai"
    )
    for method, kind in (("mirage", "graphs"), ("random", "images")):
        with pytest.raises(InputError, match=wanted.format(kind, method)):
            dd.distill(own(), method)
    with pytest.raises(
        InputError, match=r"one graph whose nodes have classes for the method 'node_means'; got 'digits"
    ):
        dd.distill("digits-graphs", "node_means")


def test_a_graph_is_written_and_read_as_arrays(tmp_path: Path) -> None:
    real = load_nodes(own(x=torch.rand(NODES, 4)))
    first, second = (real.save(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert first.read_bytes() == second.read_bytes()
    found = read_arrays(first)
    again = made(
        found.graph, dict(zip(("train_mask", "val_mask", "test_mask"), found.masks, strict=True)), real.classes
    )
    assert again.fingerprint == real.fingerprint
    first.write_bytes(first.read_bytes()[:200])
    with pytest.raises(DamagedError, match="is no file of a graph"):
        read_arrays(first)
    np.savez(second, **{"y": np.zeros(3)})
    with pytest.raises(DamagedError, match="has no array indptr, indices"):
        read_arrays(second)


def test_pickles_of_planetoid_are_named_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "ind.cora.x").write_bytes(b"\x80\x04.")
    told = r"(?s)Expected layout.*`ind.cora.\*` are pickles, which may run code, and are not read.*\.save\("
    with pytest.raises(MissingError, match=told):
        load_nodes("Cora", root=tmp_path)
    with pytest.raises(MissingError) as refused:
        load_nodes("CiteSeer", root=tmp_path)
    assert "pickles, which may" not in str(refused.value)
    assert "It is not fetched by this library: PyG does that, as the last line of that layout says" in str(
        refused.value
    )


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "nodes").is_dir(), reason="the real data is not beside the checkout")
@pytest.mark.parametrize(("name", "trained"), [("Cora", 140), ("CiteSeer", 120)])
def test_cards_count_their_files(name: str, trained: int, tmp_path: Path) -> None:
    real, card = load_nodes(name, root=SHARED), load_node_card(name)
    assert real.test is not None
    assert (len(real.train), len(real.test)) == (trained, 1000)
    assert real.classes == card.classes
    place = tmp_path / card.marker
    real.save(place)
    assert load_nodes(name, root=tmp_path).fingerprint == real.fingerprint
    place.write_bytes((SHARED / "nodes" / ("citeseer.npz" if name == "Cora" else "cora.npz")).read_bytes())
    with pytest.raises(DamagedError, match=re.escape(f"is not {name} as its card counts it")):
        load_nodes(name, root=tmp_path)


def test_blocks_are_as_their_card_counts_them() -> None:
    card, real = load_node_card("blocks"), load_nodes("blocks")
    assert (len(real.x), real.x.shape[1]) == (card.counts["nodes"], card.counts["features"])
    assert real.edge_index.shape[1] // 2 == card.counts["edges"]
    assert torch.bincount(real.y).tolist() == list(card.per_class)


def test_an_order_needs_no_edges_and_no_nodes() -> None:
    alone = NodeGraph(torch.eye(3), both_ways(torch.zeros(2, 0).long(), 3), torch.arange(3))
    assert sorted(alone.order.tolist()) == [0, 1, 2]
    assert alone.subgraph(torch.tensor([2, 0])).x.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert alone.degree.tolist() == [0, 0, 0]
