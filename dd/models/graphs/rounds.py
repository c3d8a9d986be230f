"""What a graph network reads: rounds of messages, on plain graphs and on a DAG of computation trees alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from dd.errors import refuse


@final
@dataclass(frozen=True, eq=False)
class Round:
    """One round of messages: n targets receive M runs of equal messages from m sources.

    On a graph, targets and sources are its nodes and every edge is a run of one. On a DAG of trees, targets are the
    trees of depth k, sources those of depth k - 1, and a run is `count` equal children.

    Attributes:
        source: int64 `[M]`, places among the sources.
        target: int64 `[M]`, places among the targets.
        count: floating `[M]`, messages in each run; `None` where all are 1.
        degree: floating `[n]`, messages into each target.
        source_degree: floating `[m]`, messages into each source, were it a target.
        own: int64 `[n]`, the target itself among the sources; `None` where target i is source i.
        edge: int64 `[M]`, row of the run's features in the table of edge tuples.
    """

    source: Tensor
    target: Tensor
    count: Tensor | None
    degree: Tensor
    source_degree: Tensor
    own: Tensor | None
    edge: Tensor

    @property
    def targets(self) -> int:
        """n."""
        return len(self.degree)

    def themselves(self, x: Tensor) -> Tensor:
        """The targets' own rows of `x` `[m, …]`, `[n, …]`."""
        return x if self.own is None else x.index_select(0, self.own)

    def gather(self, x: Tensor) -> Tensor:
        """The sources' rows of `x` `[m, …]`, one a run, `[M, …]`."""
        return x.index_select(0, self.source)

    def weigh(self, messages: Tensor) -> Tensor:
        """`count` times the messages `[M, …]`."""
        if self.count is None:
            return messages
        return messages * self.count.view(-1, *[1] * (messages.ndim - 1))

    def sum(self, messages: Tensor) -> Tensor:
        """Σ count · message over the runs of each target: `[M, …]` to `[n, …]`; zero where there is none."""
        total = messages.new_zeros(self.targets, *messages.shape[1:])
        return total.index_add(0, self.target, self.weigh(messages))

    def mean(self, messages: Tensor) -> Tensor:
        """`sum` divided by the degree; zero where there is no message."""
        degree = self.degree.clamp(min=1).to(messages.dtype)
        return self.sum(messages) / degree.view(-1, *[1] * (messages.ndim - 1))

    def max(self, messages: Tensor, start: Tensor) -> Tensor:
        """Largest of `start` `[n, …]` and of the messages `[M, …]` into each target, `[n, …]`."""
        index = self.target.view(-1, *[1] * (messages.ndim - 1)).expand_as(messages)
        return start.scatter_reduce(0, index, messages, "amax")

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Round:
        """The same on a device, with counts and degrees of another floating type."""
        return _moved(self, device, dtype)


@final
@dataclass(frozen=True, eq=False)
class PlainGraphs:
    """Graphs end to end, V nodes and E edges, with each distinct tuple of features stored once.

    Attributes:
        tuples: distinct tuples of node features, int64 `[T, F]`; 0 is an unseen value.
        node: the tuple of each node, int64 `[V]`.
        edge_tuples: likewise for edges, int64 `[U, B]`; B = 0 without edge features.
        edges: messages along the edges; the V nodes are both targets and sources.
    """

    tuples: Tensor
    node: Tensor
    edge_tuples: Tensor
    edges: Round

    @property
    def x(self) -> Tensor:
        """Features of every node, int64 `[V, F]`."""
        return self.tuples[self.node]

    @property
    def edge_index(self) -> Tensor:
        """(source, target) of every edge, int64 `[2, E]`."""
        return torch.stack([self.edges.source, self.edges.target])

    @property
    def edge_attr(self) -> Tensor:
        """Features of every edge, int64 `[E, B]`."""
        return self.edge_tuples[self.edges.edge]

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> PlainGraphs:
        """The same on a device, with degrees of another floating type."""
        return _moved(self, device, dtype)


@final
@dataclass(frozen=True, eq=False)
class TreeDag:
    """Computation trees of depth L in which equal subtrees are one node.

    Attributes:
        tuples: node tuples, int64 `[T, F]`.
        node: the tuple of each tree of depth 0, int64 `[n_0]`.
        edge_tuples: edge tuples, int64 `[U, B]`.
        rounds: L of them; round k - 1 goes from the trees of depth k - 1 to those of depth k, the roots of which are
            the same nodes as their truncations, `own`.
    """

    tuples: Tensor
    node: Tensor
    edge_tuples: Tensor
    rounds: tuple[Round, ...]

    @property
    def depth(self) -> int:
        """L."""
        return len(self.rounds)

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> TreeDag:
        """The same on a device, with counts and degrees of another floating type."""
        return _moved(self, device, dtype)


def _moved(value: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """A tensor, or what is made of tensors, on a device and with floating numbers of `dtype`."""
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, tuple):
        return tuple(_moved(v, device, dtype) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _moved(getattr(value, f.name), device, dtype) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


class Level(Protocol):
    """The trees of one depth, n of them, with M runs of children: what a DAG is made of."""

    @property
    def label(self) -> Tensor:
        """Label of each root, int64 `[n]`."""
        ...

    @property
    def trunc(self) -> Tensor:
        """The same tree, one less deep, int64 `[n]`."""
        ...

    @property
    def parent(self) -> Tensor:
        """Tree of each run, int64 `[M]`."""
        ...

    @property
    def child(self) -> Tensor:
        """Tree of the children of each run, one less deep, int64 `[M]`."""
        ...

    @property
    def edge(self) -> Tensor:
        """Edge label of each run, int64 `[M]`."""
        ...

    @property
    def count(self) -> Tensor:
        """Children in each run, int64 `[M]`."""
        ...

    @property
    def degree(self) -> Tensor:
        """Children of each root, int64 `[n]`."""
        ...


def plain_graphs(x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> PlainGraphs:
    """Graphs as a network reads them; messages go from `edge_index[0]` to `edge_index[1]`.

    Args:
        x: node features as places, int64 `[V, F]`, at least 0.
        edge_index: int64 `[2, E]`.
        edge_attr: edge features as places, int64 `[E, B]`.
    """
    tuples, node = _distinct(x)
    edge_tuples, edge = _distinct(edge_attr)
    source, target = edge_index
    degree = torch.bincount(target, minlength=len(x)).float()
    return PlainGraphs(tuples, node, edge_tuples, Round(source, target, None, degree, degree, None, edge))


def tree_dag(levels: Sequence[Level], leaf_degree: Tensor, table: Tensor, edge_table: Tensor) -> TreeDag:
    """A DAG as a network reads it.

    Args:
        levels: depths 0 … L; of the first one only `label` is read.
        leaf_degree: degree of the node that each tree of depth 0 stands for, `[n_0]`. Only GCN asks for it.
        table: tuple of each node label, int64 `[T, F]`; the label T is a tuple of unseen values.
        edge_table: likewise for edges, `[U, B]`.

    Raises:
        InputError: no levels, or another number of leaves than degrees.
    """
    if not levels:
        raise refuse("levels", "at least that of depth 0", "none")
    if len(leaf_degree) != len(levels[0].label):
        raise refuse("leaf_degree", f"one number for each of {len(levels[0].label)} leaves", len(leaf_degree))
    degree = leaf_degree.float()
    rounds = []
    for level in levels[1:]:
        below, degree = degree, level.degree.float()
        count = level.count.float()
        rounds.append(Round(level.child, level.parent, count, degree, below, level.trunc, level.edge))
    unseen = (torch.cat([t, t.new_zeros(1, t.shape[1])]) for t in (table, edge_table))
    tuples, edge_tuples = unseen
    return TreeDag(tuples, levels[0].label, edge_tuples, tuple(rounds))


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(distinct rows, place of each row among them) of whole numbers ≥ 0 `[n, F]`."""
    if not len(rows) or not rows.shape[1]:
        return rows[:1], torch.zeros(len(rows), dtype=torch.int64)
    key, span = torch.zeros(len(rows), dtype=torch.int64), 1
    for column in rows.t():
        size = int(column.max()) + 1
        span *= size
        if span >= 2**62:  # no one number a row: the slow way
            distinct, place = torch.unique(rows, dim=0, return_inverse=True)
            return distinct, place
        key = key * size + column
    keys, place = torch.unique(key, return_inverse=True)
    first = torch.empty(len(keys), dtype=torch.int64)
    first[place] = torch.arange(len(rows))
    return rows[first], place
