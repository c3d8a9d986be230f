"""`Graphs`: a graph data set in memory, and `GraphSplit`, many graphs end to end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_names, plain
from dd.base.texts import a_class, clean_name, clean_names, count
from dd.data.graphs.bins import Bins
from dd.data.items import Twins, graph_items, twins
from dd.errors import refuse


@final
@dataclass(frozen=True, eq=False)
class GraphSplit:
    """N graphs end to end: V nodes, E directed edges, F node features, B edge features.

    An undirected edge is two directed ones. Messages go from `edge_index[0]` (source) to `edge_index[1]` (target).
    Make one with `graph_split`, which checks and sorts.

    Attributes:
        x: node features `[V, F]`, int64 (categories) or float32 (continuous); F = 0 where the data has none.
        edge_index: int64 `[2, E]`, numbers of nodes in the whole split, sorted by target, then source.
        edge_attr: edge features `[E, B]`, int64 or float32; B = 0 where the data has none.
        ptr: int64 `[N + 1]`; graph `i` has nodes `ptr[i]` … `ptr[i + 1] - 1`.
        labels: int64 `[N]`, classes.
    """

    x: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    ptr: Tensor
    labels: Tensor

    def __repr__(self) -> str:
        return (
            f"GraphSplit({count(len(self), 'graph')}, {count(self.num_nodes, 'node')}, {count(self.num_edges, 'edge')})"
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_nodes(self) -> int:
        """V."""
        return len(self.x)

    @property
    def num_edges(self) -> int:
        """E, directed ones."""
        return self.edge_index.shape[1]

    @cached_property
    @under_own_settings
    def graph(self) -> Tensor:
        """Graph of each node, int64 `[V]`."""
        return torch.repeat_interleave(torch.arange(len(self)), self.ptr.diff())

    @cached_property
    @under_own_settings
    def edge_ptr(self) -> Tensor:
        """Offsets of each graph's edges, int64 `[N + 1]`: they are contiguous because edges are sorted by target."""
        return torch.searchsorted(self.edge_index[1].contiguous(), self.ptr)

    @cached_property
    @under_own_settings
    def degree(self) -> Tensor:
        """Edges into each node, int64 `[V]`."""
        return torch.bincount(self.edge_index[1], minlength=self.num_nodes)

    @cached_property
    def items(self) -> Tensor:
        """A 64-bit hash of each graph, the same for isomorphic ones, int64 `[N]`; see `graph_items`."""
        return graph_items(self.x, self.edge_index, self.edge_attr, self.graph, len(self))

    @under_own_settings
    def subset(self, rows: Tensor) -> GraphSplit:
        """The graphs `rows` (int64 `[n]`), in that order."""
        sizes, edges = self.ptr.diff()[rows], self.edge_ptr.diff()[rows]
        nodes = _ranges(self.ptr[:-1][rows], sizes)
        picked = _ranges(self.edge_ptr[:-1][rows], edges)
        ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
        shift = torch.repeat_interleave(ptr[:-1] - self.ptr[:-1][rows], edges)
        return GraphSplit(
            x=self.x[nodes],
            edge_index=self.edge_index[:, picked] + shift,
            edge_attr=self.edge_attr[picked],
            ptr=ptr,
            labels=self.labels[rows],
        )

    @under_own_settings
    def slice(self, first: int, last: int) -> GraphSplit:
        """The graphs `first` … `last` - 1, without copying features."""
        a, b = int(self.ptr[first]), int(self.ptr[last])
        c, d = int(self.edge_ptr[first]), int(self.edge_ptr[last])
        return GraphSplit(
            x=self.x[a:b],
            edge_index=self.edge_index[:, c:d] - a,
            edge_attr=self.edge_attr[c:d],
            ptr=self.ptr[first : last + 1] - a,
            labels=self.labels[first:last],
        )


def _ranges(starts: Tensor, sizes: Tensor) -> Tensor:
    """`starts[0], starts[0] + 1, …` for `sizes[0]` numbers, then those of the next row."""
    before = sizes.cumsum(0) - sizes
    return torch.arange(int(sizes.sum())) + torch.repeat_interleave(starts - before, sizes)


def graph_split(x: Tensor, edge_index: Tensor, edge_attr: Tensor, ptr: Tensor, labels: Tensor) -> GraphSplit:
    """A checked split: edges are sorted by target and source, exact duplicates of an edge are removed.

    Args:
        x, edge_index, edge_attr, ptr, labels: as the attributes of `GraphSplit`; edges in any order.

    Raises:
        InputError: shapes that do not fit together, or an edge between graphs.
    """
    nodes, graphs = len(x), len(labels)
    if ptr.shape != (graphs + 1,) or (graphs and (int(ptr[0]) != 0 or bool((ptr.diff() < 0).any()))):
        raise refuse("ptr", f"{graphs + 1} rising offsets from 0", f"shape {list(ptr.shape)}")
    if int(ptr[-1]) != nodes:
        raise refuse("ptr", f"to end with the {nodes} rows of `x`", int(ptr[-1]))
    if edge_index.ndim != 2 or len(edge_index) != 2 or edge_index.shape[1] != len(edge_attr):
        raise refuse("edge_index", f"[2, E] with E = {len(edge_attr)}, as `edge_attr`", list(edge_index.shape))
    if edge_index.numel() and (int(edge_index.min()) < 0 or int(edge_index.max()) >= nodes):
        raise refuse("edge_index", f"nodes 0 … {nodes - 1}", f"{int(edge_index.min())} … {int(edge_index.max())}")
    x, ptr, labels = plain(x), plain(ptr.long()), plain(labels.long())
    source, target = edge_index.long()
    order = torch.argsort(target * max(nodes, 1) + source, stable=True)
    source, target, attr = source[order], target[order], edge_attr[order]
    keep = torch.ones(len(source), dtype=torch.bool)
    same = (source[1:] == source[:-1]) & (target[1:] == target[:-1])
    if bool(same.any()):
        keep = _first_of_each(torch.stack([target, source]), attr)
    made = GraphSplit(x, torch.stack([source[keep], target[keep]]), attr[keep], ptr, labels)
    if bool((made.graph[made.edge_index[0]] != made.graph[made.edge_index[1]]).any()):
        raise refuse("edge_index", "edges within one graph", "an edge between two graphs")
    return made


def _first_of_each(pair: Tensor, attr: Tensor) -> Tensor:
    """Which edges are the first with their ends and features (bool `[E]`)."""
    rows = torch.cat([pair.t().double(), attr.double()], dim=1)
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(group), dtype=torch.int64)
    first.scatter_reduce_(0, group, torch.arange(len(group)), "amin")
    keep = torch.zeros(len(group), dtype=torch.bool)
    keep[first] = True
    return keep


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Graphs:
    """A graph data set: training, validation and test graphs, disjoint.

    Attributes:
        kind: `graphs`, of the class: which methods and which judge it is for.
        train, val, test: the splits; `None` where there is none.
        classes: class names in label order.
        name: of the data set.
        split: number of the split.
        rule: how it was drawn: `random` (80/10/10), `scaffold`, `published`, `given`.
        directed: whether messages go one way along an edge; else both directions are in `edge_index`.
        node_names, edge_names: names of the features, for people.
        bins: thresholds of features that were continuous; `None` where there were none or they were left alone.
    """

    kind: ClassVar[Literal["graphs"]] = "graphs"
    train: GraphSplit
    val: GraphSplit | None = None
    test: GraphSplit | None = None
    classes: tuple[str, ...]
    name: str = "graphs"
    split: int = 0
    rule: str = "given"
    directed: bool = False
    node_names: tuple[str, ...] = ()
    edge_names: tuple[str, ...] = ()
    bins: Bins | None = None

    @under_own_settings
    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        for field in ("node_names", "edge_names"):
            object.__setattr__(self, field, clean_names(getattr(self, field)))
        object.__setattr__(self, "name", clean_name(self.name))

    def __repr__(self) -> str:
        sizes = {"train": self.train, "val": self.val, "test": self.test}
        counts = ", ".join(f"{len(split)} {key}" for key, split in sizes.items() if split is not None)
        classes = f"{self.num_classes} classes, {a_class(self.graphs_per_class.tolist())}"
        nodes = f"{self.train.num_nodes / max(1, len(self.train)):.1f} nodes a graph"
        return f"Graphs({self.name!r}, {classes}, {counts}, {nodes}, split {self.split} ({self.rule}))"

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def drawn(self) -> dict[str, Any]:
        """What was chosen when it was read, as sets made of it remember: the split and its rule."""
        return {"split": self.split, "rule": self.rule}

    @property
    @under_own_settings
    def graphs_per_class(self) -> Tensor:
        """Training graphs of each class, int64 `[K]`."""
        return torch.bincount(self.train.labels, minlength=self.num_classes)

    @cached_property
    @under_own_settings
    def fingerprint(self) -> str:
        """SHA-256 of everything that a method or an evaluation reads."""
        sums = hashlib.sha256(f"{self.classes} {self.directed}".encode())
        for part in (self.train, self.val, self.test):
            if part is None:
                sums.update(b"none")
                continue
            for tensor in (part.x, part.edge_index, part.edge_attr, part.ptr, part.labels):
                sums.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
                sums.update(tensor.contiguous().numpy().tobytes())
        return sums.hexdigest()

    @cached_property
    @under_own_settings
    def twins(self) -> Twins | None:
        """How many graphs are there twice."""
        return twins(self.train, self.val, self.test)

    @under_own_settings
    def all_train(self) -> Graphs:
        """The same: a graph split is fixed by its rule, whatever the protocol."""
        return self
