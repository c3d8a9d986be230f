"""From patterns to a summary: only the trees that are needed, in an order that does not depend on that of graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.data.graphs.refine import Ints, Runs, Table, take_rows
from dd.methods.mirage.select import Pattern, holders
from dd.methods.mirage.transactions import Transactions
from dd.synthetic.trees import Level, TreeSummary


class Entry(NamedTuple):
    """A pattern as it is stored: trees `[k]`, their multiplicities `[k]`, its class and supports `[K]`."""

    trees: Sequence[int]
    counts: Sequence[float]
    label: int
    support: Sequence[int]


def entry(found: Transactions, pattern: Pattern, counts: bool = True) -> Entry:
    """A mined pattern with its supports, and the mean multiplicity of its trees in the graphs of its class.

    Without `counts` multiplicities are 1.
    """
    graphs = holders(found, pattern.trees)
    support = np.bincount(found.labels[graphs], minlength=found.classes)
    if not counts:
        return Entry(pattern.trees, [1.0] * len(pattern.trees), pattern.label, support.tolist())
    own = np.zeros(len(found), bool)
    own[graphs[found.labels[graphs] == pattern.label]] = True
    places = [found.holders(tree) for tree in pattern.trees]
    every = np.concatenate(places)
    starts = np.cumsum([0, *map(len, places[:-1])])
    times = np.add.reduceat(found.count[every] * own[found.graph[every]], starts, dtype=np.int64)
    return Entry(pattern.trees, (times / own.sum()).tolist(), pattern.label, support.tolist())


def whole_graph(found: Transactions, graph: int) -> Entry:
    """A training graph as a pattern: all its trees, as often as they occur. By sum pooling it is the graph."""
    inside = slice(int(found.ptr[graph]), int(found.ptr[graph + 1]))
    label = int(found.labels[graph])
    support = [int(k == label) for k in range(found.classes)]
    return Entry(found.tree[inside].tolist(), found.count[inside].astype(float).tolist(), label, support)


def build(
    found: Transactions,
    entries: Sequence[Entry],
    codes: Codes,
    leaves: Tensor,
    supports: bool = True,
    **rest: Any,
) -> TreeSummary:
    """A summary of these patterns.

    Args:
        found: the training graphs.
        entries: the patterns.
        codes: what labels mean.
        leaves: degree of a leaf, float32, one a tree of depth 0 of `found`.
        supports: store those of the trees.
        **rest: other fields of `TreeSummary`.
    """
    flat = np.array([t for e in entries for t in e.trees], np.int64)
    sizes = [len(e.trees) for e in entries]
    levels, kept = _closure(found.tables, np.unique(flat))
    place = np.full(len(found.tables[-1]), -1, np.int64)
    place[kept[-1]] = np.arange(len(kept[-1]))
    whole = torch.from_numpy
    return TreeSummary(
        levels=levels,
        leaf_degree=leaves[whole(kept[0])].float(),
        pattern_ptr=whole(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])),
        pattern_tree=whole(place[flat]),
        pattern_count=torch.tensor([c for e in entries for c in e.counts], dtype=torch.float32),
        support=torch.tensor([list(e.support) for e in entries], dtype=torch.int64).reshape(-1, found.classes),
        labels=torch.tensor([e.label for e in entries], dtype=torch.int64),
        tree_support=whole(found.support[kept[-1] if supports else kept[-1][:0]]),
        graphs=whole(found.graphs.astype(np.int64)),
        codes=codes,
        **rest,
    )


def _closure(tables: Sequence[Table], roots: Ints) -> tuple[tuple[Level, ...], list[Ints]]:
    """(levels with the roots and all that is under them, their ids in the tables), each in the order of its hash."""
    levels: list[Level] = []
    kept: list[Ints] = []
    for d in range(len(tables) - 1, -1, -1):
        table = tables[d]
        ids = roots[np.argsort(table.hash[roots], kind="stable")]
        kept.append(ids)
        at, ptr = take_rows(table.ptr, ids)
        runs = Runs(ptr, table.child[at], table.edge[at], table.count[at])
        trunc = table.trunc[ids]
        if d:
            roots = np.unique(np.concatenate([runs.child, trunc]))
            order = np.argsort(tables[d - 1].hash[roots], kind="stable")
            place = np.empty(len(roots), np.int64)
            place[order] = np.arange(len(roots))
            trunc = place[np.searchsorted(roots, trunc)]
            runs = runs._replace(child=place[np.searchsorted(roots, runs.child)])
        levels.append(_level(table.label[ids], trunc, runs))
    return tuple(levels[::-1]), kept[::-1]


def _level(label: Ints, trunc: Ints, runs: Runs) -> Level:
    """A level whose runs are in canonical order: by edge label, then by child."""
    parent = np.repeat(np.arange(len(label)), np.diff(runs.ptr))
    order = np.lexsort((runs.child, runs.edge, parent))
    whole = torch.from_numpy
    return Level(
        label=whole(label),
        trunc=whole(trunc),
        ptr=whole(runs.ptr),
        child=whole(runs.child[order]),
        edge=whole(runs.edge[order]),
        count=whole(runs.times[order]),
    )


def leaf_degrees(found: Transactions, codes: Codes, train: GraphSplit, exact: bool) -> Tensor:
    """Degree that a leaf stands for, float32, one a tree of depth 0.

    `exact`: leaves are told apart by it. Else the mean of each label, Σ deg² / Σ deg over its training nodes, as a node
    of degree n is a leaf n times.
    """
    if exact:
        return torch.from_numpy(found.tables[0].trunc).float()
    labels, degree = codes.nodes(train), train.degree.double()
    size = int(labels.max()) + 1 if len(labels) else 1
    once = torch.zeros(size, dtype=torch.float64).index_add_(0, labels, degree)
    twice = torch.zeros(size, dtype=torch.float64).index_add_(0, labels, degree**2)
    mean = torch.where(once > 0, twice / once.clamp(min=1), torch.zeros_like(once))
    return mean[torch.from_numpy(found.tables[0].label)].float()
