"""Which sets of trees are kept: by thresholds of support, or best first up to a number of bytes for each class."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from dd.data.graphs.refine import Ints
from dd.errors import InputError, warn
from dd.methods.mirage.account import Account
from dd.methods.mirage.mine import Miner, TooManySets, pack
from dd.methods.mirage.transactions import Transactions

Trees = tuple[int, ...]

LADDER: Final = tuple(0.9 * 0.85**k for k in range(40))
"""Relative supports at which maximal sets are tried for a byte budget, the same whatever the budget is; the last
rung is the lowest threshold that mining reaches."""

VISITS: Final = 10_000
"""Sets looked at, best first, for the ladder: its rungs end where these end."""

ITEMS: Final = 500
"""Trees, by support, that maximal sets for a byte budget are made of."""

FIRST_ITEMS: Final = 256
"""Trees, by support, that other sets are first mined of; four times as many whenever these run out."""


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

    The rule is 2 · (nodes · F + 2 · edges), F the features of a node; B features of an edge add 2 · B · edges. Classes
    and supports of sets are not counted, as published.

    Args:
        found: the transactions, whose deepest trees are counted.
        fields, edge_fields: F and B.
        once: a tree of many sets, of whatever class, is stored once, and each set refers to it with two bytes; else it
            is repeated in every set, as published.
        counts: two bytes more for the multiplicity of a tree in a set.
        supports: two bytes more a class for the supports of a tree, however many sets hold it.
    """

    def __init__(
        self, found: Transactions, fields: int, edge_fields: int, once: bool, counts: bool, supports: bool
    ) -> None:
        nodes = np.ones(len(found.tables[0]))
        for table in found.tables[1:]:
            below = np.concatenate([[0.0], np.cumsum(table.count * nodes[table.child])])
            nodes = 1 + below[table.ptr[1:]] - below[table.ptr[:-1]]
        self.nodes = nodes
        self.tree = 2 * (nodes * fields + (nodes - 1) * (2 + edge_fields))
        self.counts = counts
        self._once, self._member, self._supports = once, 2 * once + 2 * counts, 2 * found.classes * supports

    def of(self, trees: Trees, stored: set[int]) -> int:
        """Bytes of one set more, where `stored` trees are there already."""
        new = [t for t in trees if t not in stored]
        written = self.tree[new if self._once else list(trees)].sum()
        return int(written) + self._supports * len(new) + self._member * len(trees)

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
    if len(trees) == 1:
        return found.graph[found.holders(trees[0])]
    places = np.concatenate([found.holders(tree) for tree in trees])
    return np.flatnonzero(np.bincount(found.graph[places], minlength=1) == len(trees))


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


@final
@dataclass(frozen=True)
class Shop:
    """What a byte budget may buy of each class: fields of `Mirage`, and the transactions.

    Attributes:
        found: the transactions.
        kind: of patterns.
        rank: of single trees.
        drop_shared: leave out what is at least half as frequent in another class.
        limit: sets of a class that mining looks at.
    """

    found: Transactions = field(repr=False)
    kind: str
    rank: str
    drop_shared: bool
    limit: int

    def buy(self, costs: Costs, budget: int, weights: Sequence[float]) -> list[Pattern]:
        """The best patterns of each class, from one account of `budget` bytes that they draw on in turns: `Account`.

        A tree that several classes have is paid once, by the first. A class ends with the first pattern that the
        account cannot pay. Of maximal sets a class buys those of a whole threshold of `LADDER`, in place of those it
        had.

        Warns:
            UserWarning: mining ended at `limit` with bytes left.
        """
        account = Account(budget, weights)
        classes = range(self.found.classes)
        if self.kind == "maximal":
            kept = _maximal(costs, account, [self._rungs(label) for label in classes])
        else:
            kept = in_turns(costs, account, [self._stream(label) for label in classes])
        return [pattern for patterns in kept for pattern in patterns]

    def first_cost(self, costs: Costs) -> int | None:
        """The least budget that buys something: bytes of the best pattern of a class, of maximal sets of the first
        rung that has any; `None` where no class has a pattern to sell."""
        each = []
        for label in range(self.found.classes):
            if self.kind == "maximal":
                first = next(filter(None, self._rungs(label)), [])
            else:
                first = list(itertools.islice(self._stream(label), 1))
            if first:
                each.append(costs.total(first))
        return min(each, default=None)

    def _stream(self, label: int) -> Iterator[Pattern]:
        """Patterns of one class, best first, whatever their support."""
        if self.kind == "single":
            every = single(self.found, label, 1, self.rank)
        else:
            every = _sets(items_of(self.found, label), self.kind, self.limit)
        return (p for p in every if not (self.drop_shared and _half(self.found, p)))

    def _rungs(self, label: int) -> Iterator[list[Pattern]]:
        """Maximal sets of a class at every threshold of `LADDER` that mining reaches, few first, and at the lowest."""
        items, graphs = items_of(self.found, label), int(self.found.graphs[label])
        lowest = int(items.support[min(ITEMS, len(items.support)) - 1]) if len(items.support) else 1
        wanted = [int(np.ceil(share * graphs)) for share in LADDER]
        closed: list[tuple[Pattern, int]] = []

        def rung(least: int) -> list[Pattern]:
            return [p for p, beyond in closed if p.support >= least > beyond]

        try:
            for pattern, beyond in items.mine_beyond("closed", lowest, VISITS):
                while wanted and pattern.support < wanted[0]:
                    yield rung(wanted.pop(0))
                if not (self.drop_shared and _half(self.found, pattern)):
                    closed.append((pattern, beyond))
        except TooManySets as error:
            lowest = error.support + 1
        yield from (rung(least) for least in wanted if least > lowest)
        yield rung(lowest)


def in_turns(costs: Costs, account: Account, streams: Sequence[Iterator[Pattern]]) -> list[list[Pattern]]:
    """Patterns of each class's stream, in the account's turns, until the next does not fit; a tree is paid once."""
    kept: list[list[Pattern]] = [[] for _ in streams]
    stored: set[int] = set()
    for label in account.turns():
        pattern = next(streams[label], None)
        if pattern is None:
            account.close(label)
        elif account.pay(label, costs.of(pattern.trees, stored)):
            kept[label].append(pattern)
            stored.update(pattern.trees)
    return kept


def _sets(items: Items, kind: str, limit: int) -> Iterator[Pattern]:
    """Frequent sets by falling support, mined at ever smaller thresholds: those given before come first again.

    Warns:
        UserWarning: more than `limit` were looked at, where they end.
    """
    given, count = 0, FIRST_ITEMS
    while len(items.support):
        least = int(items.support[min(count, len(items.support)) - 1])
        try:
            for pattern in itertools.islice(items.mine(kind, least, limit), given, None):
                given += 1
                yield pattern
        except TooManySets:
            way_out = "Raise `max_patterns` to spend more of the budget."
            warn(f"class {items.label}: mining ends after `max_patterns` = {limit:,} sets looked at. {way_out}")
            return
        if count >= len(items.support):
            return
        count *= 4


def _half(found: Transactions, pattern: Pattern) -> bool:
    """Whether a set's relative support in another class is at least half of that in its own."""
    share = supports(found, pattern.trees) / np.maximum(found.graphs, 1)
    return bool((2 * np.delete(share, pattern.label) >= share[pattern.label]).any())


def _maximal(costs: Costs, account: Account, rungs: Sequence[Iterator[list[Pattern]]]) -> list[list[Pattern]]:
    """Maximal sets: whole rungs of each class's ladder, each of more bytes in all than the ones before."""
    kept: list[list[Pattern]] = [[] for _ in rungs]
    spent = 0
    for label in account.turns():
        for rung in rungs[label]:
            size = costs.total([p for k, own in enumerate(kept) for p in (rung if k == label else own)])
            if size > spent:
                if account.pay(label, size - spent):
                    kept[label], spent = rung, size
                break
        else:
            account.close(label)
    return kept
