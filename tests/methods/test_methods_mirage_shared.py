"""Mirage on real data: the counts that its specification has from the published code and from two other programs."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.data.graphs.codes import fit_codes
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.data.graphs.load import load_graphs
from dd.methods.mirage import CoverageWarning
from dd.methods.mirage.transactions import Transactions, chunks, transactions
from dd.synthetic import TreeSummary

pytestmark = pytest.mark.shared
PUBLISHED: dict[str, Any] = {"patterns": "all", "storage": "repeated", "keep_counts": False, "keep_supports": False}
PUBLISHED["max_patterns"] = 10**6


def distil(real: Graphs, **fields: Any) -> TreeSummary:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        made = dd.distill(real, "mirage", progress=False, **PUBLISHED, **fields)
    assert isinstance(made, TreeSummary)
    return made


def sizes(small: TreeSummary) -> tuple[int, int]:
    """(nodes, edges) of all trees of all sets written out."""
    graphs = small.to_pyg()
    return sum(g.num_nodes for g in graphs), sum(g.num_edges for g in graphs)


def whole(real: Graphs) -> Callable[[], list[GraphSplit]]:
    """All graphs, as for a count over a data set."""
    parts = [part for part in (real.train, real.val, real.test) if part is not None]
    return lambda: parts


def distinct(real: Graphs, depth: int, node_label: str = "auto") -> list[int]:
    """Distinct trees at depths 1 … `depth` over all graphs, isolated nodes included."""
    parts = whole(real)
    columns = [torch.cat([getattr(p, name) for p in parts()]) for name in ("x", "edge_attr")]
    ends, ptr, nodes = [], [torch.zeros(1, dtype=torch.int64)], 0
    for part in parts():
        ends.append(part.edge_index + nodes)
        ptr.append(part.ptr[1:] + nodes)
        nodes += part.num_nodes
    labels = torch.cat([p.labels for p in parts()])
    joined = GraphSplit(columns[0], torch.cat(ends, dim=1), columns[1], torch.cat(ptr), labels)
    codes = fit_codes(joined, node_label)
    found = transactions(chunks(joined), codes, depth, real.num_classes, isolated=True)
    return [len(one.tables[-1]) for one in found]


@pytest.mark.parametrize(
    ("name", "node_label", "trees"),
    [
        ("NCI1", "auto", [292, 4_058, 22_948]),
        ("MUTAG", "auto", [64, 277, 796]),
        ("PROTEINS", "auto", [297, 20_962, 35_676]),
        ("IMDB-BINARY", "constant", [65, 2_931, 3_595]),
        ("IMDB-BINARY", "degree", [2_931, 3_595, 3_595]),
        ("DD", "auto", [253_149, 333_017, 334_090]),
    ],
)
def test_distinct_trees(shared_data: Callable[..., Path], name: str, node_label: str, trees: list[int]) -> None:
    """Regression value 20."""
    assert distinct(load_graphs(name, root=shared_data(name)), 3, node_label) == trees


def test_nci1_at_the_published_thresholds(shared_data: Callable[..., Path]) -> None:
    """Regression value 21: 274 bytes; the published 318 are those of a miner that is wrong."""
    real = load_graphs("NCI1", split="published", root=shared_data("NCI1"))
    assert real.graphs_per_class.tolist() == [1_627, 1_661]
    every = distil(real, depth=2, min_support=(440, 570))
    assert torch.bincount(every.labels).tolist() == [9, 11]
    own = distil(real, depth=2, min_support=(440, 570), drop_shared=True)
    assert torch.bincount(own.labels).tolist() == [2, 4]
    assert sizes(own) == (51, 43)
    assert own.published == 2 * (51 + 2 * 43) == 274
    assert own.figures["thresholds"] >= [440, 570]


def kept_labels(real: Graphs, count: int) -> Graphs:
    """The data with the `count` commonest node labels of the training graphs and one label for all others.

    The published code has a list of 16 residues that the specification does not give. The 16 commonest ones give its
    count of trees and of sets exactly, and no other choice of a rule that was tried does.
    """
    values, times = real.train.x.unique(return_counts=True)
    common = values[times.argsort(descending=True, stable=True)[:count]]

    def cut(part: GraphSplit | None) -> GraphSplit | None:
        if part is None:
            return None
        return dataclasses.replace(part, x=torch.where(torch.isin(part.x, common), part.x, int(values.max()) + 1))

    train = cut(real.train)
    assert train is not None
    return dataclasses.replace(real, train=train, val=cut(real.val), test=cut(real.test))


def test_dd_at_the_published_thresholds(shared_data: Callable[..., Path]) -> None:
    """Regression value 22."""
    real = kept_labels(load_graphs("DD", split="published", root=shared_data("DD")), 16)
    assert len(real.train) == 942
    assert len(real.train.x.unique()) == 17
    assert distinct(real, 1) == [237_306]
    small = distil(real, depth=1, min_support=(15, 9))
    assert torch.bincount(small.labels).tolist() == [28, 4]
    assert small.pattern_ptr.diff().tolist() == [1] * 32
    assert sizes(small) == (96, 64)
    assert small.published == 448


def test_poor_coverage_of_dd_is_said(shared_data: Callable[..., Path]) -> None:
    real = load_graphs("DD", root=shared_data("DD"))
    with pytest.warns(CoverageWarning, match="VERY POOR COVERAGE: only"):
        dd.distill(real, "mirage", depth=2, progress=False)


def test_transactions_of_nci1_have_19_trees_each(shared_data: Callable[..., Path]) -> None:
    real = load_graphs("NCI1", root=shared_data("NCI1"))
    found: Transactions = transactions(whole(real), fit_codes(real.train), 2, 2, isolated=True)[-1]
    assert len(found) == 4_110
    assert len(found.tree) / len(found) == pytest.approx(19.4, abs=0.05)


@pytest.mark.slow
def test_hiv_at_the_published_thresholds(shared_data: Callable[..., Path]) -> None:
    """Regression value 23, and the bytes of the summary that the published code has committed, with bond features."""
    pytest.importorskip("rdkit")
    with pytest.warns(UserWarning, match="rdkit does not read 7 of 41127 molecules"):
        real = load_graphs("HIV", root=shared_data("mol"))
    small = distil(real, depth=3, min_support=(1_800, 115))
    assert torch.bincount(small.labels).tolist() == [4, 5]
    nodes, edges = sizes(small)
    assert (nodes, edges) == (121, 111)
    assert small.published == 2 * (9 * nodes + (2 + 3) * edges) == 3_288


def test_bace_at_the_published_thresholds(shared_data: Callable[..., Path]) -> None:
    """What a current rdkit gives: 9 sets of class 1, as in the published log, 4 of class 0 where it has 8."""
    pytest.importorskip("rdkit")
    small = distil(load_graphs("BACE", root=shared_data("mol")), depth=3, min_support=(150, 104))
    assert torch.bincount(small.labels).tolist() == [4, 9]
