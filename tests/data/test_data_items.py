"""Hashes of items: equal where the items are, however they are stored, numbered or ordered."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import networkx
import pytest
import torch
from reference.graphs import a_split, graph, some_graphs
from torch import Tensor

from dd.data import GraphSplit, Images, TensorSplit, load_graphs, load_images
from dd.data.images.custom import as_split
from dd.data.images.splits import JoinedSplit, image_items
from dd.data.items import KEPT, ROUNDS, Sketch, twins

Colour = tuple[Any, ...]


def pictures(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, 4, 5), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_images_have_one_number_whatever_holds_them() -> None:
    x, y = pictures(30), torch.arange(30) % 3
    own = image_items(x)
    assert own.dtype == torch.int64
    assert len(own.unique()) == 30
    assert torch.equal(image_items(torch.cat([x, x.flip(0)])), torch.cat([own, own.flip(0)]))
    assert torch.equal(image_items(x.float() / 255), own)
    assert not bool((image_items(x.float() / 256) == own).any())
    assert not bool((image_items(x.transpose(2, 3)) == own).any())
    assert not bool((image_items(x.reshape(30, 3, 5, 4)) == own).any())  # the same bytes in another shape
    split, rows = TensorSplit(x, y), torch.tensor([7, 3, 3, 29])
    assert torch.equal(split.subset(rows).items, own[rows])
    assert torch.equal(split.subset(rows).subset(torch.tensor([1])).items, own[[3]])
    whole = split.items  # known by now, and so by subsets
    assert torch.equal(split.subset(rows).items, whole[rows])
    lazily = as_split([(image, int(label)) for image, label in zip(x, y, strict=True)], limit=1)
    assert not isinstance(lazily, TensorSplit)
    assert lazily.items is not None
    assert torch.equal(lazily.items, own)
    joined = JoinedSplit(split, lazily).subset(torch.tensor([2, 31])).items
    assert joined is not None
    assert torch.equal(joined, own[[2, 1]])


def split_of(*images: Tensor) -> TensorSplit:
    x = torch.cat(images)
    return TensorSplit(x, torch.zeros(len(x)).long())


@pytest.mark.parametrize("n", [40, 600])
def test_a_sketch_knows_a_fair_sample(n: int) -> None:
    x, other = pictures(n), pictures(n, seed=1)
    sketch = Sketch.of(split_of(x[: n // 2]), split_of(x[n // 2 :]))
    assert sketch is not None
    assert Sketch.from_json(json.loads(json.dumps(sketch.to_json()))) is not None
    assert sketch.to_json() == Sketch.of(split_of(x.flip(0), x[:3])).to_json()  # type: ignore[union-attr]
    assert len(json.dumps(sketch.to_json())) < 420
    inside = set(image_items(x).tolist())
    for given in (x, x[: n // 4], other, torch.cat([x[:20], other]), torch.cat([x, other])):
        items = sorted(set(image_items(given).tolist()))
        known = items if n <= KEPT else [item for item in items if item <= sorted(inside)[KEPT - 1]]
        shared = sum(item in inside for item in known)
        has_all = shared == min(n, KEPT)
        assert sketch.sample(image_items(given)) == (len(known), shared, has_all, n <= KEPT)


def test_sketches_of_nothing_known() -> None:
    assert Sketch.of(None) is None
    assert Sketch.of(split_of(pictures(2)[:0])) is None
    for told in (None, [], ["0123456789abcdef"], {}, {"low": "?", "limit": None}, {"low": "", "limit": None}, 3):
        assert Sketch.from_json(told) is None


def refined(split: GraphSplit, i: int) -> Colour:
    """Colour refinement by tuples, one graph at a time."""
    start, stop = int(split.ptr[i]), int(split.ptr[i + 1])
    edges = [
        (s, t, tuple(split.edge_attr[e].tolist()))
        for e, (s, t) in enumerate(split.edge_index.t().tolist())
        if start <= t < stop
    ]
    colour: dict[int, Colour] = {v: tuple(split.x[v].tolist()) for v in range(start, stop)}
    for _ in range(ROUNDS):
        colour = {
            v: (
                colour[v],
                tuple(sorted((colour[s], a) for s, t, a in edges if t == v)),
                tuple(sorted((colour[t], a) for s, t, a in edges if s == v)),
            )
            for v in colour
        }
    return tuple(sorted(colour.values()))


@pytest.mark.parametrize("features", [True, False])
def test_graphs_have_one_number_where_refinement_sees_one_graph(features: bool) -> None:
    split = load_graphs(some_graphs(60, seed=3, features=features), split=None, role="evaluate").test
    assert split is not None
    small = split.subset((split.ptr.diff() <= (7 if features else 5)).nonzero()[:, 0])
    slow = [refined(small, i) for i in range(len(small))]
    for i, j in itertools.combinations(range(len(small)), 2):
        assert (slow[i] == slow[j]) == bool(small.items[i] == small.items[j])
    assert features or len(small.items.unique()) < len(small)


def numbered(edges: list[tuple[int, int]], n: int, seed: int) -> SimpleNamespace:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return graph([(order[a], order[b]) for a, b in edges], n, seed % 2)


def test_isomorphic_graphs_are_one_and_others_are_not() -> None:
    known = [
        g for g in networkx.graph_atlas_g()[3:208] if networkx.is_connected(g) and g.number_of_edges()
    ]  # ≤ 6 nodes
    lists = [numbered(list(g.edges), g.number_of_nodes(), seed) for seed in (0, 1) for g in known]
    split = load_graphs(lists, split=None, role="evaluate").test
    assert split is not None
    first, second = split.items[: len(known)], split.items[len(known) :]
    assert torch.equal(first, second)
    groups: dict[int, list[Any]] = {}
    for number, g in zip(first.tolist(), known, strict=True):
        groups.setdefault(number, []).append(g)
    alike = [group for group in groups.values() if len(group) > 1]
    assert len(groups) > 0.9 * len(known)
    for group in alike:  # not isomorphic: regular graphs and their like, which no network of messages tells apart
        for g in group:
            networkx.set_node_attributes(g, "", "plain")
        assert len({networkx.weisfeiler_lehman_graph_hash(g, node_attr="plain", iterations=8) for g in group}) == 1


def test_directions_features_and_zeros_of_graphs() -> None:
    index = torch.tensor([[0, 1], [1, 2]])

    def number(edge_index: Tensor = index, x: Tensor | None = None, attr: Tensor | None = None) -> int:
        x = torch.zeros(3, 1) if x is None else x
        attr = torch.zeros(2, 1) if attr is None else attr
        order = torch.argsort(edge_index[1], stable=True)
        zero = torch.zeros(1, dtype=torch.int64)
        return int(GraphSplit(x, edge_index[:, order], attr[order], torch.tensor([0, 3]), zero).items)

    assert number(x=torch.tensor([[0.0], [-0.0], [0.0]])) == number()
    assert number(x=torch.tensor([[0.0], [0.5], [0.0]])) != number()
    assert number(x=torch.zeros(3, 2)) != number()
    assert number(attr=torch.tensor([[0.0], [1.0]])) != number()
    star = torch.tensor([[1, 1], [0, 2]])  # the same graph if edges had no direction
    assert number(edge_index=star) != number()
    assert number(edge_index=star) != number(edge_index=star.flip(0))


def test_twins_are_counted_as_a_loop_counts_them() -> None:
    x, y = pictures(40), torch.arange(40) % 4
    val = TensorSplit(x[[3, 5]], torch.tensor([3, 0]))  # 5 has another class than in train
    test = TensorSplit(torch.cat([x[30:], x[3:5], pictures(4, seed=9)]), torch.zeros(16).long())
    train = TensorSplit(x[:30], y[:30])
    found = twins(train, val, test)
    assert found is not None
    classes: dict[int, set[int]] = {}
    for part in (train, val, test):
        for number, label in zip(part.items.tolist(), part.labels.tolist(), strict=True):
            classes.setdefault(number, set()).add(label)
    assert (found.test, found.shared, found.all_train, found.trained) == (16, 2, False, False)
    assert found.ambiguous == sum(len(each) > 1 for each in classes.values()) == 2
    assert twins(train, None, None) == (0, 0, False, 0)
    part = twins(train, None, train.subset(torch.arange(10)))
    assert part is not None
    assert part.trained
    ends = twins(train, val, JoinedSplit(JoinedSplit(train, val), test))
    assert ends is not None
    assert ends.trained
    assert ends.shared < ends.test


def test_data_of_ones_own_warns_once_a_load(recwarn: pytest.WarningsRecorder) -> None:
    x, y = pictures(40), torch.arange(40) % 2
    cut = {"train": (x[:30], y[:30]), "test": (x[25:], y[25:])}
    with pytest.warns(UserWarning, match="5 of 15 test images are also among the training images") as seen:
        images = Images(**cut)
    assert len(seen) == 1
    assert load_images(load_images(images)).twins == images.twins  # told already
    with pytest.warns(UserWarning, match="images under more than one class: 1") as seen:
        load_images((torch.cat([x, x[:1]]), torch.cat([y, 1 - y[:1]])))
    assert len(seen) == 1
    graphs = some_graphs(30)
    with pytest.warns(UserWarning, match="30 of 30 test graphs are also .*, as 6 rounds of messages see them"):
        found = load_graphs((graphs, graphs))
    assert found.twins is not None
    assert found.twins.trained
    recwarn.clear()
    load_images("digits")
    load_graphs("digits-graphs")
    assert load_images("digits").twins == (360, 0, False, 0)
    assert not recwarn.list


def test_items_of_graphs_follow_a_subset() -> None:
    split = a_split()
    rows = torch.tensor([4, 0, 4])
    assert torch.equal(split.subset(rows).items, split.items[rows])
    assert torch.equal(split.slice(2, 5).items, split.items[2:5])
