"""Frequent sets of items, best first: a small Eclat on packed bit columns with exact whole-number supports.

A set's support is the number of transactions that hold all of its items; it never grows when an item is added. Sets are
given in the order of falling support, so a byte budget may stop the search anywhere, and the search keeps two entries
of its queue for each set given, however low the threshold is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from dd.base.shapes import check_word
from dd.data.graphs.refine import Ints
from dd.errors import refuse

Bits = NDArray[np.uint64]
KINDS: Final = ("all", "closed", "maximal")


class TooManySets(Exception):
    """A search looked at more sets than it may; all those of more than `support` transactions were given before."""

    def __init__(self, support: int) -> None:
        super().__init__(support)
        self.support = support


class Found(NamedTuple):
    """A set of items (places, rising), its support, and the largest support of a closed or maximal set with one more.

    A closed set is maximal at every threshold above `beyond`, up to its support.
    """

    items: tuple[int, ...]
    support: int
    beyond: int = 0


def pack(rows: list[Ints], transactions: int) -> Bits:
    """Bit columns `[items, words]` of the transactions (`rows[i]`: those that hold item i), padded with zeros."""
    words = -(-max(transactions, 1) // 64)
    bits = np.zeros((len(rows), words * 8), np.uint8)
    for i, held in enumerate(rows):
        flags = np.zeros(words * 64, bool)
        flags[held] = True
        bits[i] = np.packbits(flags, bitorder="little")
    return bits.view(np.uint64)


_POPCOUNT: Final = np.array([bin(i).count("1") for i in range(256)], np.uint8)


def popcount(bits: Bits) -> Ints:
    """Ones in each row `[n]` of `[n, words]`."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return _POPCOUNT[bits.view(np.uint8)].sum(axis=1, dtype=np.int64)


@final
@dataclass(eq=False)
class _Branch:
    """A set with its transactions, the items in these, and the extensions by one later item still to be looked at."""

    items: tuple[int, ...]
    held: Bits
    near: Ints
    extensions: Ints
    supports: Ints
    at: int = 0


@final
class Miner:
    """Mines one class.

    Args:
        bits: transactions of each item, `[items, words]`, from `pack`. Among sets of equal support those with earlier
            items come first, so the caller's order of items makes the answer canonical.
        least: smallest support, at least 1.
        kind: `all` frequent sets; `closed`: those to which no item can be added without losing support (they give back
            all sets with their supports); `maximal`: those to which no item can be added and stay frequent.
        limit: sets to look at before the search is given up.

    Raises:
        InputError: a support below 1, another kind.
        TooManySets: while iterating, past `limit`.
    """

    def __init__(self, bits: Bits, least: int, kind: str = "all", limit: int | None = None) -> None:
        check_word(kind, "patterns", KINDS)
        if least < 1:
            raise refuse("min_support", "at least 1", least)
        self._bits, self._least, self._kind, self._limit = bits, least, kind, limit

    def __iter__(self) -> Iterator[Found]:
        everything = np.full(self._bits.shape[1], ~np.uint64(0), np.uint64)
        supports = popcount(self._bits)
        every = np.arange(len(self._bits))
        root = _Branch((), everything, every, every, supports)
        queue: list[tuple[int, int, tuple[int, ...], _Branch]] = []
        self._sort(root)
        self._push(queue, root)
        seen = 0
        while queue:
            seen += 1
            if self._limit is not None and seen > self._limit:
                raise TooManySets(-queue[0][0])
            negative, _, _, parent = heapq.heappop(queue)
            item = int(parent.extensions[parent.at])
            parent.at += 1
            self._push(queue, parent)
            held = parent.held & self._bits[item]
            found, branch = self._visit(parent, item, held, -negative)
            if branch is not None:
                self._push(queue, branch)
            if found is not None and (self._kind != "maximal" or found.beyond < self._least):
                yield found

    def _visit(self, parent: _Branch, item: int, held: Bits, support: int) -> tuple[Found | None, _Branch | None]:
        """(the set to be given, if any; its branch, if any) of the parent with `item` added."""
        if self._kind == "all":
            near = parent.near[parent.near > item]
            items = (*parent.items, item)
            return Found(items, support), self._branch(items, held, near, self._counts(near, held), item)
        counts = self._counts(parent.near, held)
        whole = counts == support
        items = tuple(parent.near[whole].tolist())
        if tuple(i for i in items if i < item) != tuple(i for i in parent.items if i < item):
            return None, None  # the same closed set is reached from an earlier item
        near, counts = parent.near[counts > 0], np.where(whole, 0, counts)[counts > 0]
        return Found(items, support, int(counts.max())), self._branch(items, held, near, counts, item)

    def _counts(self, near: Ints, held: Bits) -> Ints:
        """Transactions among those held that have each of some items."""
        return popcount(held & (self._bits if len(near) == len(self._bits) else self._bits[near]))

    def _branch(self, items: tuple[int, ...], held: Bits, near: Ints, counts: Ints, item: int) -> _Branch | None:
        """A set's branch, where it has extensions by items after `item`."""
        frequent = (counts >= self._least) & (near > item)
        branch = _Branch(items, held, near, near[frequent], counts[frequent])
        self._sort(branch)
        return branch if len(branch.extensions) else None

    @staticmethod
    def _sort(branch: _Branch) -> None:
        order = np.lexsort((branch.extensions, -branch.supports))
        branch.extensions, branch.supports = branch.extensions[order], branch.supports[order]

    def _push(self, queue: list[tuple[int, int, tuple[int, ...], _Branch]], branch: _Branch) -> None:
        """Queue the next extension of a branch. The key is unique: a set is an extension of one branch only."""
        if branch.at < len(branch.extensions) and int(branch.supports[branch.at]) >= self._least:
            key = (*branch.items, int(branch.extensions[branch.at]))
            heapq.heappush(queue, (-int(branch.supports[branch.at]), len(key), key, branch))
