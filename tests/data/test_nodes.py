"""One graph whose nodes have classes: what is read, in which order, how it is split, and what is refused."""

from __future__ import annotations

import dataclasses
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
from dd.data.nodes.arrays import read_arrays, read_card
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


def test_a_mask_without_columns_goes_with_each_split_of_the_others() -> None:
    place = torch.arange(NODES)[:, None] % 3  # as in WikiCS
    apart = [(place == 0) & (torch.arange(NODES)[:, None] % 2 == torch.arange(2)), place == 1]
    with pytest.raises(InputError, match="training nodes of every class"):
        load_nodes(own(train_mask=apart[0], val_mask=apart[1].repeat(1, 2)), split=1)
    train = (place == 0) & (torch.arange(NODES)[:, None] // 6 % 2 == torch.arange(2))
    both = [load_nodes(own(train_mask=train, val_mask=apart[1].repeat(1, 2)), split=split) for split in (0, 1)]
    assert [real.split for real in both] == [0, 1]
    assert both[0].train.rows.tolist() != both[1].train.rows.tolist()
    first, second = (real.test for real in both)
    assert first is not None
    assert second is not None
    assert torch.equal(first.rows, second.rows)


def test_features_that_float16_blurs_are_said() -> None:
    x = own().x.clone()
    x[:, 2] = x[:, 2] * 1e-9
    with pytest.warns(UserWarning, match="1 of 8 features blurred by float16, which sets have"):
        real = load_nodes(own(x=x))
    assert "blurred by float16" in repr(real)
    x[:, 2] = 0.1  # it does not differ, so nothing is lost
    assert load_nodes(own(x=x)).said == ()


@pytest.mark.parametrize("classes", [3.0, True, [1, 2], ["a", "a"], "ab", []])
def test_what_is_no_names_of_classes_is_refused(classes: Any) -> None:
    with pytest.raises(InputError, match="`classes` must be different names in label order, or their number"):
        load_nodes(own(), classes=classes)


def test_graphs_of_other_forms_are_not_taken_for_images() -> None:
    networkx = pytest.importorskip("networkx")
    for data, way_out in (
        (own().to_dict(), "from_dict"),
        (networkx.path_graph(4), "from_networkx"),
        ([own(edge_index=None)], "to_edge_index"),
    ):
        for read in (dd.load_graphs, lambda data: dd.distill(data, "node_means")):
            with pytest.raises(InputError, match=way_out):
                read(data)


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
        (
            {"y": torch.zeros(NODES, dtype=torch.complex64)},
            r"`data.y` must be classes, whole numbers; got torch.complex64. Give `.real`",
        ),
        ({"edge_index": torch.zeros(2, 9, dtype=torch.complex64)}, r"`data.edge_index` must be whole numbers \[2, E\]"),
        (
            {"edge_index": None},
            r"`data.edge_index` must be whole numbers \[2, E\]; got none. Of a sparse matrix.*data.adj_t",
        ),
        (
            {"x": torch.rand(NODES, 2) - 1 + 3e4},
            r"`data.x` must be features that tell nodes apart.*got 2 features, none",
        ),
        (
            {"x": (torch.rand(NODES, 1) - 0.5) * 1e-9},
            r"`data.x` must be features that tell.*a feature that.*Scale its columns",
        ),
        (
            {"train_mask": torch.ones(NODES, 0).bool()},
            r"`masks` must be \[V\], or \[V, S\] of one number of columns; got tr",
        ),
        ({"edge_weight": np.random.default_rng(0).random(9)}, r"`data.edge_weight` must be left out"),
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
        (own(train_mask=None, val_mask=None, test_mask=None), {"split": "random"}),
        (own(), {"classes": ["left", "right"]}),
        (own(x=torch.rand(NODES, 3) < 0.5), {}),
        (own(x=torch.randint(0, 9, (NODES, 3)).to(torch.uint16)), {}),
        (own(train_mask=own().train_mask[:, None]), {}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*left out")
def test_the_ways_out_are_accepted(data: Any, changes: dict[str, Any]) -> None:
    assert load_nodes(data, **changes).num_classes == 2


def test_a_draw_for_want_of_masks_is_said() -> None:
    bare = own(train_mask=None, val_mask=None, test_mask=None)
    with pytest.warns(
        UserWarning, match="no masks, so training and validation nodes of each class are drawn; `split=`"
    ):
        assert load_nodes(bare).rule == "random"
    assert load_nodes(bare, split="random").rule == "random"
    assert load_nodes(own()).rule == "given"


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


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": np.full(1, np.nan)}, "features that are no numbers of at most 65,504"),
        ({"data": np.full(1, 1e9)}, "features that are no numbers of at most 65,504"),
        ({"edges": np.zeros(3)}, "no file of a graph"),
        ({"shape": np.array([4, 10**15])}, "no file of a graph"),
        ({"y": np.array([0, 1, 10**15, 0])}, "class 1000000000000000 of 4 nodes"),
    ],
)
def test_arrays_that_are_no_graph_are_refused(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    masks = dict.fromkeys(("train", "val", "test"), np.zeros(4))
    whole = {"indptr": np.array([0, 1, 1, 1, 1]), "indices": np.zeros(1), "shape": np.array([4, 2]), **masks}
    whole |= {"edges": np.zeros((0, 2)), "y": np.array([0, 1, 0, 1]), "data": np.ones(1)}
    np.savez(tmp_path / "a.npz", **whole)
    assert len(read_arrays(tmp_path / "a.npz").graph) == 4
    np.savez(tmp_path / "a.npz", **{**whole, **changes})
    with pytest.raises(DamagedError, match=text):
        read_arrays(tmp_path / "a.npz")


def test_a_card_whose_masks_have_nodes_without_a_class_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_nodes(own())
    card = load_node_card("Cora")
    counts = {"nodes": NODES, "edges": real.edge_index.shape[1] // 2, "features": 8}
    y = real.y.clone()
    y[2] = -1  # a test node
    card = dataclasses.replace(
        card, classes=("0", "1"), counts=counts, per_class=tuple(torch.bincount(y[y >= 0]).tolist())
    )
    dataclasses.replace(real, y=y).save(tmp_path / card.marker)
    with pytest.raises(DamagedError, match="has masks of nodes without a class"):
        read_card(card, str(tmp_path))


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


def test_a_graph_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    given = own()
    real = dd.load_graphs(given, classes=["a", "b"])
    place = real.save(tmp_path / "mine.npz")
    back = dd.load_graphs(f"nodes:{place}")
    assert back.fingerprint == real.fingerprint
    assert (back.name, back.classes, back.rule) == ("mine", ("a", "b"), "given")
    assert place.read_bytes() == back.save(tmp_path / "again.npz").read_bytes()
    assert about(f"nodes:{place}") == ("nodes", "mine", False)
    sets = [dd.distill(data, "node_means", budget_bytes=2000, progress=False) for data in (f"nodes:{place}", given)]
    for name in ("x", "edge_index", "y"):
        assert torch.equal(*(getattr(small.graph, name) for small in sets))
    assert dd.load_graphs(f"nodes:{place}", split="random:1").rule == "random"


def test_a_file_of_ones_own_that_does_not_do(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no file .*none.npz. `dd.load_graphs\(graph\).save\('.*none.npz'"):
        dd.load_graphs(f"nodes:{tmp_path / 'none.npz'}")
    with pytest.raises(InputError, match=r"`data` must be `nodes:PATH.npz`; got `nodes:`"):
        dd.load_graphs("nodes:")
    with pytest.raises(InputError, match=r"`root` must be left out unless"):
        dd.load_graphs("nodes:mine.npz", root=tmp_path)
    with pytest.raises(InputError, match=r"For a graph whose nodes have classes give `nodes:mine.npz`"):
        dd.distill("mine.npz", "node_means")
    arrays = dict(np.load(dd.load_graphs(own()).save(tmp_path / "mine.npz")))
    for name, value, told in (
        ("classes", np.array(["a"]), "class 1 of 1 that `classes` names"),
        ("y", np.full_like(arrays["y"], -1), "data.train_mask"),
    ):
        np.savez(tmp_path / "odd.npz", **{**arrays, name: value})
        with pytest.raises(InputError if name == "y" else DamagedError, match=re.escape(told)):
            dd.load_graphs(f"nodes:{tmp_path / 'odd.npz'}")


@pytest.mark.parametrize("read", [dd.load_images, dd.from_hf], ids=["load_images", "from_hf"])
def test_a_graph_is_no_picture(read: Any) -> None:
    for data in (own(), [own()]):
        with pytest.raises(InputError, match=r"`data` must be images; got a graph \(`Data`\). `dd.load_graphs`"):
            read(data)


def test_an_estimate_needs_no_file_of_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    for method in ("node_means", "bonsai"):
        found = dd.estimate("Cora", method, budget_bytes=6000)
        assert found.of.startswith(f"{method} on Cora")
        assert found.seconds > 0


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
