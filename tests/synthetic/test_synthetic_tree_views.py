"""Summaries of trees for other libraries and for people: PyG graphs, counts of kept trees, a report, a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.trees import (
    expanded,
    explicit_tree,
    match_by_hand,
    random_graphs,
    summary_by_hand,
    tree_of,
    tree_size,
)
from torch import Tensor

from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import GraphSplit, graph_split
from dd.errors import InputError
from dd.methods.mirage.build import build, whole_graph
from dd.methods.mirage.transactions import chunks, transactions
from dd.synthetic import TreeSummary
from dd.synthetic.match import Matcher
from dd.synthetic.tree_views import _Palette, expand, telling, tree_sizes


def split(seed: int = 0, **options: Any) -> GraphSplit:
    given = {"features": (3, 2), "edge_features": (2,), "probability": 0.3} | options
    return random_graphs(seed, [5, 6, 7, 5, 6, 7, 5, 6], **given)


def summary(real: GraphSplit | None = None) -> TreeSummary:
    """Every graph as a pattern of trees of depth 2."""
    real = split() if real is None else real
    made = summary_by_hand(real, fit_codes(real), 2)
    return dataclasses.replace(made, classes=("no", "jä"), published=512)


# PyG


def sorted_tree(data: Any, node: int) -> tuple[Any, ...]:
    """The tree under a node of a PyG graph as a nested tuple of raw features."""
    children = [
        (tuple(data.edge_attr[e].tolist()), sorted_tree(data, int(data.edge_index[0, e])))
        for e in (data.edge_index[1] == node).nonzero()[:, 0].tolist()
    ]
    return tuple(data.x[node].tolist()), tuple(sorted(children))


def raw_tree(small: TreeSummary, tree: tuple[int, Any]) -> tuple[Any, ...]:
    """A tree of the twin with its labels turned into raw features."""

    def raw(table: Tensor, values: tuple[Tensor, ...], label: int) -> tuple[int, ...]:
        return tuple(int(v[c - 1]) for v, c in zip(values, table[label].tolist(), strict=True))

    label, children = tree
    kept = [] if isinstance(children, int) else children
    codes = small.codes
    below = [(raw(codes.edge_table, codes.edge_values, z), raw_tree(small, child_)) for z, child_ in kept]
    return raw(codes.table, codes.values, label), tuple(sorted(below))


@pytest.mark.parametrize("options", [{}, {"directed": True}, {"edge_features": ()}])
def test_pyg_graphs_are_the_twins_trees(options: dict[str, Any]) -> None:
    real = split(**options)
    real = dataclasses.replace(real, x=3 * real.x + 7)  # raw values that are no places
    small = summary(real)
    for p, data in enumerate(small.to_pyg()):
        data.validate(raise_on_error=True)
        roots = data.root.nonzero()[:, 0].tolist()
        wanted = [tree_of(small.levels, t) for t in small.trees(p)]
        assert [sorted_tree(data, r) for r in roots] == [raw_tree(small, t) for t in wanted]
        twin = expanded(wanted)
        assert data.num_nodes == len(twin.label)
        assert data.num_edges == twin.edge_index.shape[1] == data.num_nodes - len(roots)
        source, target = data.edge_index
        assert len(set(source.tolist())) == len(source)  # a child has one parent, a root none
        assert set(source.tolist()) == set(range(data.num_nodes)) - set(roots)
        assert bool((target < source).all())
        assert data.x.shape[1] == 2
        assert set(data.x.unique().tolist()) <= set(real.x.unique().tolist())
        assert data.edge_attr.shape == (data.num_edges, real.edge_attr.shape[1])
        inside = slice(int(small.pattern_ptr[p]), int(small.pattern_ptr[p + 1]))
        assert data.count[data.root].tolist() == small.pattern_count[inside].tolist()
        assert float(data.count.sum()) == float(small.pattern_count[inside].sum())
        assert (int(data.y), data.support) == (int(small.labels[p]), 1)
        # every node of the graph is a root as often as it says
        assert float(data.count.sum()) == float((real.graph == p).sum())


def test_a_huge_tree_is_not_written_out() -> None:
    """A star of 1,001 nodes: walks of length 2 from the centre are few, those of length 4 a million."""
    leaves = torch.arange(1, 1001)
    centre = torch.zeros(1000, dtype=torch.int64)
    ends = torch.stack([torch.cat([leaves, centre]), torch.cat([centre, leaves])])
    star = graph_split(
        torch.zeros(1001, 1, dtype=torch.int64), ends, torch.zeros(2000, 0), torch.tensor([0, 1001]), torch.tensor([0])
    )
    codes = fit_codes(star)
    found = transactions(chunks(star), codes, 4, 1)[-1]
    small = build(found, [whole_graph(found, 0)], codes, torch.zeros(1), classes=("only",))
    sizes = sorted(len(small.levels[-1].label) and int(small.levels[-1].degree[t]) for t in range(2))
    assert sizes == [1, 1000]
    centre_tree = int(small.levels[-1].degree.argmax())
    with pytest.raises(InputError, match=r"at most 1,000,000 nodes to be written out; got one of 2,002,001"):
        expand(small, centre_tree)
    with pytest.raises(InputError, match=r"at most 1,000,000 nodes"):
        small.to_pyg()
    assert small.draw(per_class=2).startswith(b"\x89PNG")


def test_sizes_of_trees_are_those_of_the_twin() -> None:
    small = summary()
    sizes = [tree_size(tree_of(small.levels, t)) for t in range(len(small.levels[-1]))]
    assert tree_sizes(small) == sizes
    assert [len(expand(small, t)[0]) for t in range(len(sizes))] == sizes


# Views


def test_the_report_says_what_is_covered() -> None:
    small = dataclasses.replace(
        summary(),
        figures={
            "coverage": 0.3217,
            "coverage_by_class": [0.25, 0.4],
            "uncovered_graphs": [3, 1],
            "distinct_trees": [4, 30, 1200],
            "thresholds": [7, None],
            "patterns_by_class": [8, 0],
        },
        graphs=torch.tensor([40, 50]),
    )
    lines = small.report().splitlines()
    trees = len(small.levels[-1])
    assert lines[0] == (
        f"8 patterns over {trees} trees of depth 2; 512 bytes by the published count, {small.nbytes.total:,} on disk"
    )
    assert lines[1:] == [
        "networks read it as bags, and test graphs by nodes with a kept tree",
        "nodes whose tree is kept: 32.2 % of the training nodes",
        "class no: 8 patterns, each in 7 or more of 40 graphs; 25.0 % of its nodes; 3 graphs without any kept tree",
        "class jä: 0 patterns; 40.0 % of its nodes; 1 graph without any kept tree",
        "distinct trees in training: 4 of depth 0, 30 of depth 1, 1,200 of depth 2",
    ]
    assert len(dataclasses.replace(small, figures={}).report().splitlines()) == 2


def test_a_picture_writes_raw_values() -> None:
    small = summary(split(features=(3,), edge_features=(2,)))
    values = dataclasses.replace(small.codes, values=(torch.tensor([10, 20, 30]),))
    palette = _Palette(dataclasses.replace(small, codes=values))
    assert [palette.node(label) for label in (2, 0, 2)] == [(0, "30"), (1, "10"), (0, "30")]
    assert [palette.edge(z) for z in (0, 1)] == ["0", "1"]
    assert palette.legend == []
    several = summary(split(edge_features=(2, 2)))
    many, codes = _Palette(several), several.codes
    assert [many.node(label)[1] for label in (3, 1, 3)] == ["1", "2", "1"]
    assert [many.edge(label) for label in (2, 2, 0)] == ["a", "a", "b"]
    rows = [codes.table[3], codes.table[1], codes.edge_table[2], codes.edge_table[0]]  # value 0 is at place 1
    wanted = [f" {name} = {a - 1} {b - 1}" for name, (a, b) in zip("12ab", rows, strict=True)]
    assert many.legend == wanted
    bare = _Palette(dataclasses.replace(small, codes=fit_codes(split(edge_features=()), "constant")))
    assert (bare.node(0), bare.edge(0)) == ((0, ""), "")


def test_trees_that_tell_a_class_come_first_and_shared_ones_are_left_out() -> None:
    """Supports by hand: 4 graphs of `no`, 5 of `jä`."""
    small = summary()
    count = len(small.levels[-1])
    assert count >= 4
    support = torch.zeros(count, 2, dtype=torch.int64)
    support[:4] = torch.tensor([[4, 5], [2, 0], [3, 1], [0, 4]])  # in all graphs of both; gaps 0.5, 0.55, −0.8
    made = dataclasses.replace(small, tree_support=support, graphs=torch.tensor([4, 5]))
    no, ja = telling(made, 2)
    assert [tree for tree, _, _ in no] == [2, 1]
    assert no[0][1:] == pytest.approx((0.75, 0.2))
    assert [tree for tree, _, _ in ja] == [3]
    assert telling(made, 1) == [no[:1], ja]


def test_a_picture_is_a_png_of_the_same_bytes(tmp_path: Path) -> None:
    small = summary()
    bytes_ = small.draw(tmp_path / "trees.png", per_class=2)
    assert bytes_ == (tmp_path / "trees.png").read_bytes() == small.draw(per_class=2)
    assert bytes_.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(small.draw(per_class=30)) > len(bytes_)  # more places than trees
    with pytest.raises(InputError, match="`per_class` must be at least 1; got 0"):
        small.draw(per_class=0)
    with pytest.raises(InputError, match=r"`path` must be a file NAME\.png; got .*For NAME\.svg give it to `plot`"):
        small.draw(tmp_path / "trees.svg")
    small.plot(tmp_path / "trees.svg")
    assert (tmp_path / "trees.svg").read_bytes().startswith(b"<svg")


# Kept trees in graphs


@pytest.mark.parametrize("options", [{}, {"directed": True}, {"features": ()}])
def test_counts_of_kept_trees_by_a_loop(options: dict[str, Any]) -> None:
    real, other = split(**options), split(4, **options)
    small = summary(real)
    for given in (real, other):
        trees = match_by_hand(small, given)
        counts = Matcher(small).counts(given)
        assert counts.shape == (len(given), len(small.levels[-1]))
        for g in range(len(given)):
            for t in range(counts.shape[1]):
                assert counts[g, t] == int(((given.graph == g) & (trees == t)).sum())
    # of training graphs, where every tree is kept, they are the supports and add up to the nodes
    own = Matcher(small).counts(real).toarray()
    assert own.sum(1).tolist() == real.ptr.diff().tolist()
    for k in range(2):
        assert ((own > 0)[real.labels.numpy() == k]).sum(0).tolist() == small.tree_support[:, k].tolist()


def test_an_explicit_tree_of_a_node_is_the_kept_one() -> None:
    real = split()
    small = summary(real)
    places = Matcher(small).trees(real)
    for v in range(real.num_nodes):
        wanted = explicit_tree(real, small.codes, v, 2)
        assert tree_of(small.levels, int(places[v])) == wanted
