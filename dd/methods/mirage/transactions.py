"""Training graphs as transactions: the distinct trees of each, with their multiplicities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.data.graphs.refine import Ints, Refiner, Table, rows_of, salted

CHUNK: Final = 2_000_000
"""Nodes refined at once: bounds the memory beyond the tables."""


@final
@dataclass(frozen=True, eq=False)
class Transactions:
    """N graphs as sets of trees of depth L.

    Attributes:
        tables: the distinct trees of depths 0 … L.
        ptr: offsets `[N + 1]`.
        tree: ids in `tables[L]`, rising within a graph, int32.
        count: nodes of the graph that have this tree, int32, alike.
        labels: classes `[N]`.
        classes: K.

    Isolated nodes, whose tree is one node, are left out unless asked for, and counted in `nodes` (`[N]`) all the same.
    """

    tables: tuple[Table, ...]
    ptr: Ints
    tree: NDArray[np.int32]
    count: NDArray[np.int32]
    labels: Ints
    nodes: Ints
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def depth(self) -> int:
        """L."""
        return len(self.tables) - 1

    @cached_property
    def graph(self) -> Ints:
        """Graph of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.ptr))

    @cached_property
    def graphs(self) -> Ints:
        """Graphs of each class, int64 `[K]`."""
        return np.bincount(self.labels, minlength=self.classes)

    @cached_property
    def support(self) -> Ints:
        """Graphs of each class that hold each tree, int64 `[trees, K]`."""
        trees = len(self.tables[-1])
        keys = self.tree.astype(np.int64) * self.classes + self.labels[self.graph]
        return np.bincount(keys, minlength=trees * self.classes).reshape(trees, self.classes)

    @cached_property
    def _by_tree(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.tree, kind="stable")
        sizes = np.bincount(self.tree, minlength=len(self.tables[-1]))
        return order, np.concatenate([[0], np.cumsum(sizes)])

    def holders(self, tree: int) -> Ints:
        """Entries of one tree: their `graph` rises."""
        order, ptr = self._by_tree
        return order[ptr[tree] : ptr[tree + 1]]


@final
class _Parts:
    """What is kept of the graphs of one chunk, for one depth."""

    def __init__(self) -> None:
        self.sizes: list[Ints] = []
        self.trees: list[NDArray[np.int32]] = []
        self.counts: list[NDArray[np.int32]] = []

    def add(self, split: GraphSplit, ids: NDArray[np.int32], isolated: bool) -> None:
        inner = (split.degree.numpy() > 0) | isolated
        span = int(ids.max()) + 1 if len(ids) else 1
        keys = split.graph.numpy()[inner] * span + ids[inner]
        distinct, count = np.unique(keys, return_counts=True)
        self.sizes.append(np.bincount(distinct // span, minlength=len(split)))
        self.trees.append((distinct % span).astype(np.int32))
        self.counts.append(count.astype(np.int32))


def transactions(
    parts: Callable[[], Iterable[GraphSplit]],
    codes: Codes,
    depth: int,
    classes: int,
    *,
    leaf_degree: bool = False,
    isolated: bool = False,
    max_distinct: int | None = None,
) -> list[Transactions]:
    """Transactions at depths 1 … `depth`, from graphs that come in parts, each of which is forgotten at once.

    Args:
        parts: gives the parts from the first one on, whenever it is called.
        codes: labels of nodes and edges.
        depth: L ≥ 1.
        classes: K.
        leaf_degree: tell leaves apart by the degree of their node.
        isolated: keep the trees of isolated nodes.
        max_distinct: see `Refiner`.

    Raises:
        InputError: more distinct trees than `max_distinct`.
    """

    def attempt(salt: int) -> list[Transactions]:
        refiner = Refiner(depth, max_distinct, salt)
        return _transactions(parts(), codes, depth, classes, leaf_degree, isolated, refiner)

    return salted(attempt)


def _transactions(
    parts: Iterable[GraphSplit],
    codes: Codes,
    depth: int,
    classes: int,
    leaf_degree: bool,
    isolated: bool,
    refiner: Refiner,
) -> list[Transactions]:
    kept = [_Parts() for _ in range(depth)]
    labels, nodes = [], []
    for split in parts:
        ids = refiner.add(rows_of(split, codes, leaf_degree))
        for d in range(depth):
            kept[d].add(split, ids[d + 1], isolated)
        labels.append(split.labels.numpy())
        nodes.append(split.ptr.diff().numpy())
    tables = refiner.tables()
    return [
        Transactions(
            tables=tuple(tables[: d + 2]),
            ptr=np.concatenate([[0], np.cumsum(np.concatenate(kept[d].sizes))]),
            tree=np.concatenate(kept[d].trees),
            count=np.concatenate(kept[d].counts),
            labels=np.concatenate(labels),
            nodes=np.concatenate(nodes),
            classes=classes,
        )
        for d in range(depth)
    ]


def chunks(split: GraphSplit, nodes: int = CHUNK) -> Callable[[], Iterator[GraphSplit]]:
    """The graphs of a split in runs of about `nodes` nodes."""

    def parts() -> Iterator[GraphSplit]:
        first = 0
        while first < len(split):
            wanted = int(split.ptr[first]) + nodes
            last = max(first + 1, int(np.searchsorted(split.ptr.numpy(), wanted, side="right")) - 1)
            yield split.slice(first, min(last, len(split)))
            first = last

    return parts
