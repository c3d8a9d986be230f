"""Which sets of trees are kept: by thresholds of support, or best first up to a number of bytes for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from dd.data.refine import Ints
from dd.errors import InputError
from dd.methods.mirage.mine import Miner, TooManySets, pack
from dd.methods.mirage.transactions import Transactions

Trees = tuple[int, ...]

LADDER: Final = tuple(0.9 * 0.85**k for k in range(40))
"""Relative supports at which maximal sets are tried for a byte budget; the same whatever the budget is."""

VISITS: Final = 10_000
"""Sets looked at, best first, for the ladder: its rungs end where these end."""

ITEMS: Final = 500
"""Trees, by support, that maximal sets for a byte budget are made of."""


@final
@dataclass(frozen=True)
class Pattern:
    """A set of trees (ids, in canonical order), the class of which it was mined and its support there."""

    trees: Trees
    label: int
    support: int


@final
class Costs:
    """Bytes by the published count: two for each feature of a node and each end of an edge, of explicit trees.

    The rule is 2 · (nodes · F + 2 · edges), F the features of a node; B features of an edge add 2 · B · edges.

    Args:
        found: the transactions, whose deepest trees are counted.
        fields, edge_fields: F and B.
        once: a tree of many sets is stored once, and each set refers to it with two bytes; else it is repeated in
            every set, as published.
        counts: two bytes more for the multiplicity of a tree in a set.
    """

    def __init__(self, found: Transactions, fields: int, edge_fields: int, once: bool, counts: bool) -> None:
        nodes = np.ones(len(found.tables[0]))
        for table in found.tables[1:]:
            below = np.concatenate([[0.0], np.cumsum(table.count * nodes[table.child])])
            nodes = 1 + below[table.ptr[1:]] - below[table.ptr[:-1]]
        self.nodes = nodes
        self.tree = 2 * (nodes * fields + (nodes - 1) * (2 + edge_fields))
        self.once, self._member = once, 2 * once + 2 * counts

    def of(self, trees: Trees, stored: set[int]) -> int:
        """Bytes of one set more, where `stored` trees are there already (if they are stored once)."""
        new = [t for t in trees if not (self.once and t in stored)]
        return int(self.tree[new].sum()) + self._member * len(trees)

    def total(self, patterns: Iterable[Pattern]) -> int:
        """Bytes of all sets of all classes."""
        stored: set[int] = set()
        bytes_ = 0
        for pattern in patterns:
            bytes_ += self.of(pattern.trees, stored)
            stored.update(pattern.trees)
        return bytes_


@final
@dataclass(frozen=True)
class Items:
    """The trees of one class as items of a miner: by falling support, equal ones by their hash.

    Attributes:
        trees: ids.
        support: graphs of the class that hold each.
        label: the class.
        found: the transactions.
    """

    trees: Ints
    support: Ints
    label: int
    found: Transactions = field(repr=False)

    def rows(self, count: int) -> list[Ints]:
        """Transactions of the class that hold each of the first `count` items, numbered within the class."""
        own = np.cumsum(self.found.labels == self.label) - 1
        rows = []
        for tree in self.trees[:count]:
            graphs = self.found.graph[self.found.holders(int(tree))]
            rows.append(own[graphs[self.found.labels[graphs] == self.label]])
        return rows

    def mine(self, kind: str, least: int, limit: int | None = None) -> Iterator[Pattern]:
        """Frequent sets by falling support; see `Miner`."""
        return (pattern for pattern, _ in self.mine_beyond(kind, least, limit))

    def mine_beyond(self, kind: str, least: int, limit: int | None = None) -> Iterator[tuple[Pattern, int]]:
        """Likewise, with `Found.beyond`."""
        count = int(np.searchsorted(-self.support, -least, side="right"))
        bits = pack(self.rows(count), int(self.found.graphs[self.label]))
        for items, support, beyond in Miner(bits, least, kind, limit):
            yield Pattern(tuple(int(t) for t in self.trees[list(items)]), self.label, support), beyond


def items_of(found: Transactions, label: int) -> Items:
    """The trees that occur in a class."""
    support = found.support[:, label]
    trees = np.flatnonzero(support)
    order = np.lexsort((found.tables[-1].hash[trees], -support[trees]))
    return Items(trees[order], support[trees][order], label, found)


def gap(found: Transactions, label: int) -> NDArray[np.float64]:
    """Relative support of each tree in a class less the largest one in another class, `[trees]`."""
    share = found.support / np.maximum(found.graphs, 1)
    others = np.delete(share, label, axis=1)
    return np.asarray(share[:, label] - others.max(axis=1))


def single(found: Transactions, label: int, least: int, rank: str) -> Iterator[Pattern]:
    """Single trees with enough support, by falling support or by falling positive gap between classes."""
    support = found.support[:, label]
    trees = np.flatnonzero(support >= least)
    score = support[trees].astype(float) if rank == "support" else gap(found, label)[trees]
    kept = np.flatnonzero(score > 0)
    order = np.lexsort((found.tables[-1].hash[trees[kept]], -support[trees[kept]], -score[kept]))
    for at in kept[order]:
        yield Pattern((int(trees[at]),), label, int(support[trees[at]]))


def shared_with_others(found: Transactions, pattern: Pattern, least: Sequence[int]) -> bool:
    """Whether a set is frequent in another class too."""
    held = supports(found, pattern.trees)
    return any(held[k] >= least[k] for k in range(found.classes) if k != pattern.label)


def holders(found: Transactions, trees: Trees) -> Ints:
    """Graphs that hold all of the trees, rising."""
    graphs = found.graph[found.holders(trees[0])]
    for tree in trees[1:]:
        graphs = np.intersect1d(graphs, found.graph[found.holders(tree)], assume_unique=True)
    return graphs


def supports(found: Transactions, trees: Trees) -> Ints:
    """Graphs of each class that hold all of the trees, int64 `[K]`."""
    return np.bincount(found.labels[holders(found, trees)], minlength=found.classes)


def by_threshold(
    found: Transactions, least: Sequence[int], kind: str, rank: str, drop_shared: bool, limit: int
) -> list[Pattern]:
    """All patterns with at least `least[k]` graphs of class k.

    Raises:
        InputError: the miner would look at more than `limit` sets of a class.
    """
    kept: list[Pattern] = []
    for label in range(found.classes):
        if kind == "single":
            every = list(single(found, label, least[label], rank))
        else:
            try:
                every = list(items_of(found, label).mine(kind, least[label], limit))
            except TooManySets as error:
                raise InputError(
                    f"more than {limit:,} sets of trees have the support asked for (class {label}: {least[label]} "
                    "graphs). Raise `min_support`, give `budget_bytes`, or use patterns='closed'."
                ) from error
        kept += [p for p in every if not (drop_shared and shared_with_others(found, p, least))]
    return kept


def by_budget(
    found: Transactions, costs: Costs, shares: Sequence[int], kind: str, rank: str, drop_shared: bool
) -> list[Pattern]:
    """The first patterns of each class whose bytes fit its share; the first that does not fit ends the class.

    So the patterns of a smaller budget are those of a larger one, but for maximal sets, where the threshold of
    `LADDER` with the most bytes is taken.
    """
    kept = []
    for label in range(found.classes):
        if kind == "maximal":
            kept += _maximal(found, costs, shares[label], label, drop_shared)
        else:
            kept += _fill(found, costs, shares[label], label, _stream(found, label, kind, rank), drop_shared)
    return kept


def first_cost(found: Transactions, costs: Costs, label: int, kind: str, rank: str) -> int:
    """Bytes of the best pattern of a class: the least that its share of a budget must be."""
    least = 1 if kind == "single" else int(found.support[:, label].max())
    return costs.of(next(_stream(found, label, kind, rank)(max(least, 1))).trees, set())


def _stream(found: Transactions, label: int, kind: str, rank: str) -> Callable[[int], Iterator[Pattern]]:
    """Patterns of one class, best first, from a smallest support."""
    if kind == "single":
        return lambda least: single(found, label, least, rank)
    items = items_of(found, label)
    return lambda least: items.mine(kind, least)


def _half(found: Transactions, pattern: Pattern) -> bool:
    """Whether a set's relative support in another class is at least half of that in its own."""
    share = supports(found, pattern.trees) / np.maximum(found.graphs, 1)
    return bool((2 * np.delete(share, pattern.label) >= share[pattern.label]).any())


def _fill(
    found: Transactions,
    costs: Costs,
    budget: int,
    label: int,
    stream: Callable[[int], Iterator[Pattern]],
    drop_shared: bool,
) -> list[Pattern]:
    ranked = np.sort(found.support[:, label])[::-1]
    ranked = ranked[ranked > 0]
    count = 64 + budget // 8  # a tree of two nodes takes at least 8 bytes
    while len(ranked):
        least = int(ranked[min(count, len(ranked)) - 1])
        kept: list[Pattern] = []
        stored: set[int] = set()
        left = budget
        for pattern in stream(least):
            if drop_shared and _half(found, pattern):
                continue
            cost = costs.of(pattern.trees, stored)
            if cost > left:
                return kept
            left -= cost
            kept.append(pattern)
            stored.update(pattern.trees)
        if count >= len(ranked):
            return kept
        count *= 4
    return []


def _maximal(found: Transactions, costs: Costs, budget: int, label: int, drop_shared: bool) -> list[Pattern]:
    items = items_of(found, label)
    closed: list[tuple[Pattern, int]] = []
    lowest = max(2, int(items.support[min(ITEMS, len(items.support)) - 1])) if len(items.support) else 2
    try:
        for pattern, beyond in items.mine_beyond("closed", lowest, VISITS):
            closed.append((pattern, beyond))
    except TooManySets:
        lowest = closed[-1][0].support + 1 if closed else found.graphs[label]
    best: list[Pattern] = []
    most = 0
    for share in LADDER:
        least = int(np.ceil(share * found.graphs[label]))
        if least < lowest:
            break
        kept = [p for p, beyond in closed if p.support >= least > beyond]
        if drop_shared:
            kept = [p for p in kept if not _half(found, p)]
        size = costs.total(kept)
        if most < size <= budget:
            best, most = kept, size
    return best
