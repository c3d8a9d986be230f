"""Sets of nodes: their file, its bytes, what is refused, what is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import dd
from dd.base.files import save_tensors
from dd.data.nodes.blocks import block_model
from dd.data.nodes.graph import NodeGraph
from dd.errors import DamagedError, InputError
from dd.synthetic import NodeRecipe, NodeSet, stored_bytes
from dd.synthetic.node_store import pack_features, unpack_features

CLASSES = ("a", "b", "c")


def small(x: torch.Tensor | None = None) -> NodeSet:
    """Twelve nodes of three classes; two are not trained on."""
    graph = block_model(12, 3, 6, 14)
    y = graph.y.clone()
    y[-2:] = -1
    given = dataclasses.replace(graph, y=y, x=graph.x if x is None else x)
    return NodeSet(graph=given, classes=CLASSES, method={"name": "own"}, figures={"graph_bytes": 1000})


@pytest.mark.parametrize(
    "x",
    [None, torch.randn(12, 6), torch.eye(12, 300), 3 * torch.eye(12, 6), torch.zeros(12, 40), torch.ones(12, 6)],
    ids=["bags", "dense", "wide", "one value", "nothing", "full"],
)
def test_a_file_gives_the_set_and_its_size_is_told(x: torch.Tensor | None, tmp_path: Path) -> None:
    made, path = small(x), tmp_path / "set.safetensors"
    made.save(path)
    again = dd.load(path)
    assert again == made
    assert isinstance(again, NodeSet)
    assert torch.equal(again.graph.edge_index, made.graph.edge_index)
    assert again.graph.y.tolist() == made.graph.y.tolist()
    size = made.nbytes
    assert size.total == path.stat().st_size
    assert size.counted == size.features + size.edges + size.labels == stored_bytes(made.graph, 3)
    assert size.extras == size.total - size.counted
    assert size.labels == 12
    assert size.edges == made.graph.num_edges  # two numbers of a byte each, one way
    assert dd.verify(path).startswith(f"{path}: 12 nodes, 3 classes")


def test_the_smaller_form_is_stored() -> None:
    assert pack_features(torch.randn(5, 4)).keys() == {"x"}
    wide = pack_features(torch.eye(5, 300))
    assert {name: len(part) for name, part in wide.items()} == {"x.count": 5, "x.column": 5, "x.value": 1}
    different = torch.eye(5, 300) * torch.arange(1, 6)[:, None]
    assert len(pack_features(different)["x.value"]) == 5
    assert torch.equal(unpack_features(pack_features(different), 300), different)


def test_features_are_rounded_to_what_is_stored() -> None:
    made = small(torch.full((12, 6), 1 / 3))
    assert torch.equal(made.graph.x, torch.full((12, 6), 1 / 3).half().float())


def test_what_is_in_it() -> None:
    made = small()
    assert len(made) == 12
    assert made.rows.tolist() == list(range(10))
    assert made[0][1] == 0
    assert made[11][1] == -1
    data = made.to_pyg()
    assert data.train_mask.tolist() == [True] * 10 + [False] * 2
    assert data.validate()
    labels = torch.cat([y for _, y in made.batches(4, torch.Generator().manual_seed(0))])
    assert sorted(labels.tolist()) == sorted(made.labels.tolist())
    assert "12 nodes, " in repr(made)
    assert "labelled: a 4, b 3, c 3" in made.report()
    assert made.with_recipe(steps=7).recipe.steps == 7
    assert made.to("cpu") is made


def test_a_picture_has_equal_bytes(tmp_path: Path) -> None:
    made = small()
    assert made.draw() == made.draw(tmp_path / "graph.png") == (tmp_path / "graph.png").read_bytes()
    assert set(made.plot()) == {"graph"}
    assert "data:image/png" in made._repr_html_()
    made.plot(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").is_file()
    with pytest.raises(InputError, match=r"`path` must be a file NAME.png"):
        made.draw(tmp_path / "graph.jpg")
    bare = NodeGraph(torch.eye(1, 3), torch.zeros(2, 0).long(), torch.zeros(1).long())
    assert NodeSet(graph=bare, classes=CLASSES).draw()


def test_impossible_sets_are_refused() -> None:
    graph = small().graph
    with pytest.raises(InputError, match=r"`y` must be 0 … 1 of at least one node; got 2"):
        NodeSet(graph=graph, classes=("a", "b"))
    with pytest.raises(InputError, match=r"`y` must be .*; got none"):
        NodeSet(graph=dataclasses.replace(graph, y=-torch.ones(12).long()), classes=CLASSES)
    with pytest.raises(InputError, match=r"`x` must be finite.*Scale its columns"):
        small(torch.full((12, 6), 1e6))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("y", torch.full((12,), 9, dtype=torch.uint8)),
        ("y", torch.zeros(3, dtype=torch.uint8)),
        ("edges", torch.full((2, 1), 12, dtype=torch.uint8)),
        ("edges", torch.zeros(3, 1, dtype=torch.uint8)),
        ("x.count", torch.full((12,), 99, dtype=torch.uint8)),
        ("x.column", torch.zeros(1, dtype=torch.uint8)),
        ("more", torch.zeros(1)),
    ],
)
def test_a_file_with_other_contents_is_damaged(name: str, value: torch.Tensor, tmp_path: Path) -> None:
    tensors, meta = small().content()
    assert "x.count" in tensors
    save_tensors(tmp_path / "set.safetensors", {**tensors, name: value}, meta)
    with pytest.raises(DamagedError, match="is not a whole set of nodes"):
        dd.load(tmp_path / "set.safetensors")


def test_recipes_are_checked() -> None:
    assert NodeRecipe(model="gcn(width=64, layers=2)").model == "gcn"
    for fields, text in (
        ({"model": "convnet"}, "unknown network for nodes 'convnet'; known: gat, gcn, gin, mlp, sage, sgc"),
        ({"model": "gcn(dropout=0.1)"}, "without `dropout`"),
        ({"scale": "columns"}, "`scale` must be `auto` or `rows` or `none`"),
        ({"dropout": 1.0}, "`dropout` must be less than 1"),
        ({"stop": "test"}, "`stop` must be `validation` or `last`"),
    ):
        with pytest.raises(InputError, match=text.replace("(", r"\(")):
            NodeRecipe(**fields)  # type: ignore[arg-type]
