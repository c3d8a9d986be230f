"""`NodeGraph`: one graph in memory, with the labels that may be read; and its order, that of no file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.data.items import node_items

WIDTH: Final = 65504.0
"""The largest number in float16, in which features are stored."""


@final
@dataclass(frozen=True, eq=False)
class NodeGraph:
    """V nodes, E directed edges, F features. An undirected edge is two directed ones; there are no loops.

    Attributes:
        x: features, float32 `[V, F]`.
        edge_index: int64 `[2, E]`, sorted by target, then source; with each edge its reverse.
        y: int64 `[V]`, classes; -1 where the class is not known or may not be read.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @property
    def num_edges(self) -> int:
        """E, directed ones."""
        return self.edge_index.shape[1]

    @cached_property
    def degree(self) -> Tensor:
        """Neighbours of each node, int64 `[V]`."""
        return torch.bincount(self.edge_index[1], minlength=len(self))

    @cached_property
    def ptr(self) -> Tensor:
        """Offsets of the edges into each node, int64 `[V + 1]`."""
        return torch.cat([torch.zeros(1, dtype=torch.int64), self.degree.cumsum(0)])

    @cached_property
    def order(self) -> Tensor:
        """Nodes in an order that does not depend on how they are numbered, int64 `[V]`.

        They are sorted by a hash of what six rounds of messages see of them, and by their class where it is known. Of
        nodes that look alike so, either may be first.
        """
        nothing = torch.zeros(self.num_edges, 0, dtype=torch.int64)
        colours = node_items(self.x, self.edge_index, nothing)
        by_class = torch.argsort(self.y, stable=True)
        return by_class[torch.argsort(colours[by_class], stable=True)]

    @under_own_settings
    def subgraph(self, rows: Tensor) -> NodeGraph:
        """The nodes `rows` (int64 `[n]`, different), in that order, and the edges between them."""
        place = torch.full((len(self),), -1, dtype=torch.int64)
        place[rows] = torch.arange(len(rows))
        ends = place[self.edge_index]
        return NodeGraph(self.x[rows], sorted_edges(ends[:, (ends >= 0).all(0)], len(rows)), self.y[rows])

    def ordered(self) -> NodeGraph:
        """The same graph with its nodes in `order`."""
        return self.subgraph(self.order)


def sorted_edges(edge_index: Tensor, nodes: int) -> Tensor:
    """Edges sorted by target, then source, each once, int64 `[2, E]`."""
    keys = torch.unique(edge_index[1] * max(nodes, 1) + edge_index[0])
    return torch.stack([keys % max(nodes, 1), keys // max(nodes, 1)])


def both_ways(edge_index: Tensor, nodes: int) -> Tensor:
    """Edges with their reverses, without loops, sorted, each once."""
    kept = edge_index[:, edge_index[0] != edge_index[1]]
    return sorted_edges(torch.cat([kept, kept.flip(0)], 1), nodes)
