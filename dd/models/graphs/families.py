"""The graph networks by their kind of layer: `f(node_sizes, edge_sizes, classes, depth, dropout, **options)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dd.models.graphs.gnn import EMBEDDING, GraphNet

Sizes = Sequence[int]


def _family(kind: str) -> Callable[..., GraphNet]:
    """The factory of one kind of layer; `layers=0` are as many as the trees are deep."""

    def make(
        node_sizes: Sizes,
        edge_sizes: Sizes,
        classes: int,
        depth: int,
        dropout: float = 0.2,
        *,
        layers: int = 0,
        width: int = 64,
        norm: str = "none",
        jk: str = "last",
        embedding: float = EMBEDDING,
    ) -> GraphNet:
        own: dict[str, Any] = {"kind": kind, "layers": layers or depth, "norm": norm, "jk": jk, "embedding": embedding}
        return GraphNet(node_sizes, edge_sizes, classes, width=width, dropout=dropout, **own)

    return make


def gat(
    node_sizes: Sizes,
    edge_sizes: Sizes,
    classes: int,
    depth: int,
    dropout: float = 0.2,
    *,
    layers: int = 0,
    width: int = 64,
    norm: str = "none",
    jk: str = "last",
    heads: int = 1,
    embedding: float = EMBEDDING,
) -> GraphNet:
    """GAT, which has `heads` beside the options of the others."""
    own: dict[str, Any] = {"kind": "gat", "layers": layers or depth, "norm": norm, "jk": jk, "embedding": embedding}
    own["heads"] = heads
    return GraphNet(node_sizes, edge_sizes, classes, width=width, dropout=dropout, **own)


gin, gcn, sage = _family("gin"), _family("gcn"), _family("sage")
