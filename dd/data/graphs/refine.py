"""Colour refinement: the identity of every node's computation tree, without building a tree.

The tree T_d(v) has the label of v at its root and one child T_{d-1}(u), over an edge label, for every edge u → v, the
node it was reached from included. Two trees are equal if an isomorphism keeps roots and labels. By induction

    id_0(v) = intern(l(v)),    id_d(v) = intern(l(v), multiset {(z(u, v), id_{d-1}(u))})

are equal exactly where the trees are (Mirage, section 9 of its specification). Ids are shared by all graphs.

Nodes are grouped by a 64-bit hash of their tree that depends on labels alone, not on ids, so it also orders trees in
the same way whatever the order of graphs. A hash is never trusted: every member of a group is compared with one of it,
run by run, and on a collision all is done again with another salt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from dd.base.growing import Growing
from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import DDError, InputError

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]
SALTS: Final = 4
Made = TypeVar("Made")


class Collision(Exception):
    """Two different trees have one hash."""


def salted(make: Callable[[int], Made]) -> Made:
    """What `make` makes under the first salt without a collision.

    Raises:
        DDError: every salt of `SALTS` collides.
    """
    for salt in range(SALTS):
        try:
            return make(salt)
        except Collision:
            continue
    raise DDError(f"{SALTS} hashes of 64 bits collided one after the other; please report this data set.")


class Rows(NamedTuple):
    """What refinement reads of V nodes and E edges: edges by target with offsets `ptr` `[V + 1]`.

    `label` and `leaf` are `[V]`, `source` and `edge` (its label) `[E]`. Leaves with another `leaf` are told apart.
    """

    label: Ints
    leaf: Ints
    ptr: Ints
    source: Ints
    edge: Ints


def rows_of(split: GraphSplit, codes: Codes, leaf_degree: bool = False) -> Rows:
    """Labels and edges of a split; with `leaf_degree` leaves are told apart by the degree of their node."""
    degree = split.degree.numpy()
    leaf = degree if leaf_degree else np.zeros_like(degree)
    ptr = np.concatenate([[0], np.cumsum(degree)])
    return Rows(codes.nodes(split).numpy(), leaf, ptr, split.edge_index[0].numpy(), codes.edges(split).numpy())


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The distinct trees of one depth as numpy arrays; fields as in `dd.synthetic.trees.Level`, and their hash.

    At depth 0 `trunc` is what tells leaves of one label apart (`Rows.leaf`).
    """

    label: Ints
    trunc: Ints
    ptr: Ints
    child: Ints
    edge: Ints
    count: Ints
    hash: Hashes

    def __len__(self) -> int:
        return len(self.label)


def mix(x: Hashes) -> Hashes:
    """A bijection of 64-bit words that scatters them (the finaliser of splitmix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _word(values: Ints) -> Hashes:
    return values.astype(np.uint64)


def hash_nodes(rows: Rows, below: Hashes, salt: int) -> Hashes:
    """Hash of every node's tree, from the hashes `[V]` of the trees that are one less deep."""
    part = mix(below[rows.source] ^ mix(_word(rows.edge) + np.uint64(salt)))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(part, dtype=np.uint64)])
    return mix(hash_labels(rows.label, salt) + mix(total[rows.ptr[1:]] - total[rows.ptr[:-1]]))


def hash_labels(label: Ints, salt: int) -> Hashes:
    """Hash of node labels."""
    return mix(_word(label) ^ mix(np.full(1, salt + 1, np.uint64)))


def hash_leaves(label: Ints, leaf: Ints, salt: int) -> Hashes:
    """Hash of trees of depth 0."""
    return mix(hash_labels(label, salt) + mix(_word(leaf)))


class _Depth:
    """The distinct trees of one depth so far, and how to find one by its hash."""

    def __init__(self) -> None:
        self.columns = {n: Growing(np.int32) for n in ("label", "trunc", "child", "edge", "count")}
        self.ptr = Growing(np.int64)
        self.ptr.append(np.zeros(1, np.int64))
        self.hash = Growing(np.uint64)
        self._sorted: Hashes = np.empty(0, np.uint64)
        self._order: NDArray[np.int32] = np.empty(0, np.int32)

    def __len__(self) -> int:
        return self.hash.size

    def find(self, wanted: Hashes) -> NDArray[np.int32]:
        """Id of each hash, -1 where it is none of them."""
        if not len(self._sorted):
            return np.full(len(wanted), -1, np.int32)
        at = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[at] == wanted, self._order[at], np.int32(-1)).astype(np.int32)

    def append(self, hashes: Hashes, label: Ints, trunc: Ints, runs: Runs) -> None:
        """Add trees; hashes rise and are new."""
        first = np.arange(len(self), len(self) + len(hashes), dtype=np.int32)
        at = np.searchsorted(self._sorted, hashes)
        self._sorted = np.insert(self._sorted, at, hashes)
        self._order = np.insert(self._order, at, first)
        base = self.columns["child"].size
        self.hash.append(hashes)
        self.ptr.append(runs.ptr[1:] + base)
        for name, values in (("label", label), ("trunc", trunc), ("child", runs.child), ("edge", runs.edge)):
            self.columns[name].append(values)
        self.columns["count"].append(runs.times)

    def runs(self, ids: Ints) -> Runs:
        """The children of the trees `ids`."""
        ptr = self.ptr.view
        at, offsets = take_rows(ptr.astype(np.int64), ids)
        child, edge, count = (self.columns[n].view[at].astype(np.int64) for n in ("child", "edge", "count"))
        return Runs(offsets, child, edge, count)

    def table(self) -> Table:
        plain = {name: column.view.astype(np.int64) for name, column in self.columns.items()}
        return Table(ptr=self.ptr.view.astype(np.int64), hash=self.hash.view.astype(np.uint64), **plain)


class Runs(NamedTuple):
    """Children as runs of equal (edge, child): offsets `[n + 1]`, then one entry a run, sorted by edge, then child."""

    ptr: Ints
    child: Ints
    edge: Ints
    times: Ints


def take_rows(ptr: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """(places of all entries of `rows` in a CSR array, offsets `[n + 1]`)."""
    sizes = ptr[rows + 1] - ptr[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(offsets[-1]) + np.repeat(ptr[rows] - offsets[:-1], sizes), offsets


@final
class Refiner:
    """Ids of the trees of depth 0 … `depth`, shared by all graphs that are added.

    Memory grows with the number of distinct trees, not with that of graphs; time is linear but for one sort of the
    edges a depth.

    Args:
        depth: L ≥ 0.
        max_distinct: trees of one depth above which refinement stops with a message; `None` for no limit.
        salt: of the hash.
    """

    def __init__(self, depth: int, max_distinct: int | None = None, salt: int = 0) -> None:
        self.depth, self._limit, self._salt = depth, max_distinct, salt
        self._depths = [_Depth() for _ in range(depth + 1)]

    @classmethod
    def of_tables(cls, tables: Sequence[Table], salt: int = 0) -> Refiner:
        """A refiner that knows these trees, for `find`. Ids are those of the tables.

        Raises:
            Collision: two of the trees have one hash under this salt.
        """
        made = cls(len(tables) - 1, salt=salt)
        below: Hashes = np.empty(0, np.uint64)
        for d, table in enumerate(tables):
            if d == 0:
                hashes = hash_leaves(table.label, table.trunc, salt)
            else:
                part = mix(below[table.child] ^ mix(_word(table.edge) + np.uint64(salt))) * _word(table.count)
                total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(part, dtype=np.uint64)])
                sums = total[table.ptr[1:]] - total[table.ptr[:-1]]
                hashes = mix(hash_labels(table.label, salt) + mix(sums))
            made._depths[d] = _filled(table, hashes)
            below = hashes
        return made

    def add(self, rows: Rows) -> list[NDArray[np.int32]]:
        """Ids `[V]` of every node's tree, for each depth; trees not seen before get new ids.

        Raises:
            Collision: two different trees have one hash; nothing that was returned before is wrong.
            InputError: more distinct trees than `max_distinct`.
        """
        return self._walk(rows, grow=True)

    def find(self, rows: Rows) -> list[NDArray[np.int32]]:
        """Likewise, but a tree that is not known has the id -1 and is not added."""
        return self._walk(rows, grow=False)

    def _walk(self, rows: Rows, grow: bool) -> list[NDArray[np.int32]]:
        answers: list[NDArray[np.int32]] = []
        hashes = hash_leaves(rows.label, rows.leaf, self._salt)
        for d in range(self.depth + 1):
            if d:
                hashes = hash_nodes(rows, hashes, self._salt)
            below = answers[-1] if d else rows.leaf
            answers.append(self._level(rows, d, hashes, below, grow))
        return answers

    def _level(
        self, rows: Rows, d: int, hashes: Hashes, below: NDArray[np.signedinteger], grow: bool
    ) -> NDArray[np.int32]:
        store = self._depths[d]
        distinct, first, group = np.unique(hashes, return_index=True, return_inverse=True)
        known = store.find(distinct)
        runs = sorted_children(rows, below, len(self._depths[d - 1])) if d else None
        same = _equal_to_first(rows, runs, first[group])
        if grow and not same.all():
            raise Collision
        fresh = known < 0
        good = self._verify(store, rows, runs, first, known)
        if grow and not (good | fresh).all():
            raise Collision
        if grow and fresh.any():
            self._append(store, distinct[fresh], rows, below, runs, first[fresh])
            known[fresh] = np.arange(len(store) - int(fresh.sum()), len(store), dtype=np.int32)
            good = good | fresh
        ids = np.where(good, known, np.int32(-1))[group].astype(np.int32)
        return np.where(same, ids, np.int32(-1)).astype(np.int32)

    @staticmethod
    def _verify(
        store: _Depth, rows: Rows, keys: Keys | None, first: Ints, known: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Which representatives equal, run by run, the known tree of the same hash."""
        good = np.zeros(len(first), bool)
        at = np.flatnonzero(known >= 0)
        if not len(at):
            return good
        ids = known[at].astype(np.int64)
        equal = store.columns["label"].view[ids] == rows.label[first[at]]
        if keys is None:
            equal &= store.columns["trunc"].view[ids] == rows.leaf[first[at]]
        else:
            equal &= _equal_runs(keys.runs(first[at]), store.runs(ids))
        good[at] = equal
        return good

    def _append(
        self,
        store: _Depth,
        hashes: Hashes,
        rows: Rows,
        below: NDArray[np.signedinteger],
        keys: Keys | None,
        first: Ints,
    ) -> None:
        if self._limit is not None and len(store) + len(hashes) > self._limit:
            raise InputError(
                f"`max_distinct` = {self._limit:,} trees of one depth are exceeded. Use a smaller `depth`, coarser "
                "node labels, or raise `max_distinct`."
            )
        none = np.zeros(0, np.int64)
        runs = Runs(np.zeros(len(first) + 1, np.int64), none, none, none) if keys is None else keys.runs(first)
        store.append(hashes, rows.label[first], below[first].astype(np.int64), runs)

    def tables(self) -> list[Table]:
        """The distinct trees of each depth so far; ids are places in them."""
        return [depth.table() for depth in self._depths]


def _filled(table: Table, hashes: Hashes) -> _Depth:
    made = _Depth()
    order = np.argsort(hashes, kind="stable")
    if len(hashes) > 1 and (np.diff(hashes[order].astype(np.uint64)) == 0).any():
        raise Collision
    made.hash.append(hashes)
    made.ptr.append(table.ptr[1:])
    for name in ("label", "trunc", "child", "edge", "count"):
        made.columns[name].append(getattr(table, name))
    made._sorted, made._order = hashes[order], order.astype(np.int32)
    return made


@final
@dataclass(frozen=True, eq=False)
class Keys:
    """The children of every node as one sorted number each: edge · (n + 1) + child + 1, `[E]` by node.

    A child that is not known (-1) is 0 in it, and equals no run of a known tree.
    """

    ptr: Ints
    key: Ints
    n: int

    def runs(self, nodes: Ints) -> Runs:
        """The children of some nodes as runs."""
        at, offsets = take_rows(self.ptr, nodes)
        key = self.key[at]
        start = np.ones(len(key), bool)
        start[1:] = key[1:] != key[:-1]
        start[offsets[:-1][np.diff(offsets) > 0]] = True
        begin = np.flatnonzero(start)
        count = np.diff(np.append(begin, len(key)))
        ptr = np.searchsorted(begin, offsets)
        return Runs(ptr, key[begin] % (self.n + 1) - 1, key[begin] // (self.n + 1), count)


def sorted_children(rows: Rows, below: NDArray[np.signedinteger], n: int) -> Keys:
    """The children of every node, sorted; `below` are the ids `[V]` of the trees one less deep, of n."""
    key = rows.edge * (n + 1) + below[rows.source] + 1
    span = int(key.max()) + 1 if len(key) else 1
    if len(rows.label) * span >= 2**63:
        raise DDError(f"{len(rows.label):,} nodes at once are too many for {n:,} trees; add fewer graphs at once.")
    node = np.repeat(np.arange(len(rows.label)), np.diff(rows.ptr))
    key = np.sort(node * span + key) - node * span
    return Keys(rows.ptr, key, n)


def _equal_to_first(rows: Rows, keys: Keys | None, first: Ints) -> NDArray[np.bool_]:
    """Which nodes have the label and the children of the node `first` `[V]`."""
    same = rows.label == rows.label[first]
    if keys is None:
        return same & (rows.leaf == rows.leaf[first])
    sizes = np.diff(rows.ptr)
    same &= sizes == sizes[first]
    node = np.repeat(np.arange(len(sizes)), sizes)
    other = np.arange(len(keys.key)) - rows.ptr[node] + rows.ptr[first[node]]
    differs = np.ones(len(node), bool)
    inside = same[node]
    differs[inside] = keys.key[inside.nonzero()[0]] != keys.key[other[inside]]
    bad = np.zeros(len(sizes), bool)
    bad[node[differs]] = True
    return same & ~bad


def _equal_runs(a: Runs, b: Runs) -> NDArray[np.bool_]:
    """Row by row: whether both have the same runs."""
    size_a, size_b = np.diff(a.ptr), np.diff(b.ptr)
    equal = size_a == size_b
    node = np.repeat(np.arange(len(size_a)), size_a)
    inside = equal[node]
    at = np.flatnonzero(inside)
    other = at - a.ptr[node[at]] + b.ptr[node[at]]
    wrong = (a.child[at] != b.child[other]) | (a.edge[at] != b.edge[other]) | (a.times[at] != b.times[other])
    bad = np.zeros(len(size_a), bool)
    bad[node[at[wrong]]] = True
    return equal & ~bad
