"""How features are stored: dense or by their entries, in float16, whichever is smaller; and what is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from dd.data.nodes.graph import NodeGraph, both_ways
from dd.errors import DamagedError
from dd.synthetic.common import narrow

DENSE: Final = ("x",)
SPARSE: Final = ("x.count", "x.column", "x.value")
REST: Final = ("edges", "y")


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


def pack_features(x: Tensor) -> dict[str, Tensor]:
    """Features `[n, F]` as tensors of a file, in float16.

    By their entries: how many a row has, their columns, and their values, or one value where all are the same.
    """
    rows, columns = x.nonzero(as_tuple=True)
    values = x[rows, columns].half()
    same = len(values) and bool((values == values[0]).all())
    count = torch.bincount(rows, minlength=len(x))
    parts = (narrow(count), narrow(columns), values[:1] if same else values)
    sparse = {name: part.contiguous() for name, part in zip(SPARSE, parts, strict=True)}
    dense = 2 * x.numel()
    return sparse if size_of(sparse) < dense else {"x": x.half().contiguous()}


def unpack_features(tensors: Mapping[str, Tensor], features: int) -> Tensor:
    """What `pack_features` was given, float32 `[n, F]`.

    Raises:
        DamagedError: tensors that do not fit together.
    """
    if "x" in tensors:
        return tensors["x"].float()
    count, columns, values = (tensors[name] for name in SPARSE)
    count, columns, values = count.long(), columns.long(), values.float()
    total = len(columns)
    inside = not total or (int(columns.min()) >= 0 and int(columns.max()) < features)
    if (
        (len(count) and int(count.min()) < 0)
        or int(count.sum()) != total
        or len(values) not in (1, total)
        or not inside
    ):
        raise DamagedError("its entries do not fit together")
    x = torch.zeros(len(count), features)
    x[torch.repeat_interleave(torch.arange(len(count)), count), columns] = values
    return x


def pack_graph(graph: NodeGraph, classes: int) -> dict[str, Tensor]:
    """A graph as tensors of a file: features, each undirected edge once, and classes, K of a node without."""
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    y = torch.where(graph.y < 0, classes, graph.y)
    return {**pack_features(graph.x), "edges": narrow(once), "y": narrow(y)}


def unpack_graph(tensors: Mapping[str, Tensor], features: int, classes: int) -> NodeGraph:
    """What `pack_graph` was given.

    Raises:
        DamagedError: tensors that do not fit together.
    """
    x, y, once = unpack_features(tensors, features), tensors["y"].long(), tensors["edges"].long()
    joined = once.ndim == 2 and len(once) == 2
    if not joined or (once.numel() and (int(once.min()) < 0 or int(once.max()) >= len(x))):
        raise DamagedError("its edges are not of its nodes")
    if y.shape != (len(x),) or x.shape[1] != features or bool(((y < 0) | (y > classes)).any()):
        raise DamagedError("its classes and features do not fit together")
    return NodeGraph(x, both_ways(once, len(x)), torch.where(y == classes, -1, y))


def stored_bytes(graph: NodeGraph, classes: int) -> int:
    """Bytes of the tensors that a set with this graph has in its file: what `budget_bytes` bounds."""
    return size_of(pack_graph(graph, classes))
