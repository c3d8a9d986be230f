"""The user's own graphs: PyG data sets and lists of `Data`, read by their attributes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from dd.base.texts import clean_names, shown
from dd.data.graphs.bins import as_features
from dd.data.graphs.graphs import GraphSplit, graph_split
from dd.data.images.checks import unread
from dd.data.labels import Encoding, one_kind, read_label
from dd.errors import InputError, refuse

GRAPH_FORMS: Final = (
    "a PyG dataset or list of `Data`, a tuple (train, test) or (train, val, test) of these, or `Graphs`"
)


MANY: Final = (
    "Graph classification needs many graphs with one class each, such as a list of `Data(…, y=torch.tensor([k]))`. "
    "Node classification takes one graph whose `y` has a class for each node."
)


def is_graph(item: object) -> bool:
    """Whether it is one graph: `edge_index` is a tensor, or it has nodes of several types; and it is no collection.

    A PyG `InMemoryDataset` and a `Batch` have an `edge_index` too, that of all their graphs.
    """
    if holds_graphs(item):
        return False
    return isinstance(getattr(item, "edge_index", None), Tensor) or is_hetero(item)


def is_hetero(item: object) -> bool:
    return all(isinstance(getattr(item, name, None), list) for name in ("node_types", "edge_types"))


def holds_graphs(data: Any) -> bool:
    """Whether it is a sequence, by `len` and `[i]`, whose first item is a graph."""
    if not _is_sequence(data) or not len(data):
        return False
    try:
        first = data[0]
    except Exception:  # a graph's keys are names; what else fails to be read says so when it is read
        return False
    return is_graph(first)


def are_graphs(data: Any) -> bool:
    """Whether a data argument is of graphs: one, many, or parts of which the first has some.

    One graph alone is, so that what reads it says what is missing.
    """
    if isinstance(data, Mapping) and data:
        return are_graphs(next(iter(data.values())))
    if is_graph(data) or holds_graphs(data):
        return True
    return isinstance(data, tuple | list) and bool(data) and holds_graphs(data[0])


def check_classified(data: Any, fewest: int = 1) -> None:
    """Refuse graphs that are not there to be classified: one by itself, those whose nodes have the classes.

    Args:
        data: a data argument for which `are_graphs`; of many graphs the first is looked at.
        fewest: graphs of a list.

    Raises:
        InputError: says what it is, and what is needed.
    """
    if isinstance(data, Mapping):
        data = tuple(data.values())
    part = data[0] if is_parts(data) else data
    first = data if is_graph(data) else part[0]
    nodes = getattr(first, "num_nodes", None)
    if is_hetero(first):
        way_out = "Give `.to_homogeneous()` of each, with one class in its `y`."
        raise refuse("data", "graphs of one type of nodes", type(first).__name__, way_out)
    of_nodes = are_of_nodes(getattr(first, "y", None), nodes)
    if is_graph(data) or (part is data and len(data) < (2 if of_nodes else fewest)):
        got = f"one graph of {shown(nodes)} nodes" + (", which have a label each" if of_nodes else "")
        raise refuse("data", "many graphs with a class each", got, MANY)
    if of_nodes:
        raise _labels_of_nodes(0, nodes)


def are_of_nodes(y: Any, nodes: object) -> bool:
    return isinstance(y, Tensor | np.ndarray | list) and bool(np.ndim(y)) and len(y) == nodes and len(y) > 1


def _labels_of_nodes(i: int, nodes: object) -> InputError:
    return refuse(f"data[{i}].y", "one class a graph", f"a label for each of its {nodes} nodes", MANY)


def is_parts(data: object) -> bool:
    """Whether `data` is (train, test) or (train, val, test), a tuple or list, rather than graphs."""
    return (
        isinstance(data, tuple | list)
        and len(data) in (2, 3)
        and all(_is_sequence(part) and not is_graph(part) for part in data)
    )


def graphs_of(
    lists: Sequence[Any],
    classes: Sequence[str] | int | None,
    every: bool = True,
    like: Sequence[str] | None = None,
) -> tuple[GraphSplit, list[int], tuple[str, ...]]:
    """All graphs of some lists end to end, the length of each list, and the classes, which are those of the first.

    Features are judged together: all whole numbers are categories (int64), one-hot columns one category, anything else
    is continuous (float32). Self-loops are kept, exact duplicates of an edge are removed.

    Args:
        lists: of graphs.
        classes: names in the order of the classes, or their number; `None`: the labels say it.
        every, like: see `Encoding.of`.

    Raises:
        InputError: another form, an empty list, graphs that do not fit together, labels that are no class, NaN.
    """
    items: list[Any] = []
    sizes = []
    for graphs in lists:
        if is_graph(graphs):
            check_classified(graphs)
        if not _is_sequence(graphs):
            raise refuse("data", GRAPH_FORMS, type(graphs).__name__, unread(graphs, "data"))
        items += [graphs[i] for i in range(len(graphs))]
        sizes.append(len(graphs))
    if not items or not sizes[0]:
        raise refuse("data", "a list with graphs", "an empty one")
    for i, item in enumerate(items):
        if not is_graph(item):
            got = type(item).__name__
            raise refuse(f"data[{i}]", "a graph with `edge_index` [2, E] and `y`", got, f"Give {GRAPH_FORMS}.")
        _check_dense(item, i)
    nodes = [_nodes(item, i) for i, item in enumerate(items)]
    for i, item in enumerate(items):
        if are_of_nodes(getattr(item, "y", None), nodes[i]):
            raise _labels_of_nodes(i, nodes[i])
    labels = [read_label(getattr(item, "y", None), f"data[{i}].y", "a graph") for i, item in enumerate(items)]
    labels = one_kind(labels, "data labels")
    encoding = Encoding.of(labels[: sizes[0]], classes, "data labels", every, like)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.tensor(nodes).cumsum(0)])
    edges = [_edges(item.edge_index, n, i) for i, (item, n) in enumerate(zip(items, nodes, strict=True))]
    edge_index = torch.cat([edge + start for edge, start in zip(edges, ptr.tolist(), strict=False)], dim=1)
    x = as_features(_features(items, "x", nodes), "x")
    edge_attr = as_features(_features(items, "edge_attr", [edge.shape[1] for edge in edges]), "edge_attr")
    y = encoding.classes_of(labels, "data labels")
    return graph_split(x, edge_index, edge_attr, ptr, y), sizes, clean_names(encoding.names)


def _is_sequence(data: object) -> bool:
    read = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    return read and not isinstance(data, str | bytes | Mapping | Tensor | np.ndarray)


def _check_dense(item: Any, i: int) -> None:
    for name in ("x", "edge_index", "edge_attr", "y"):
        value = getattr(item, name, None)
        if isinstance(value, Tensor) and (value.is_nested or value.is_meta or value.layout != torch.strided):
            kind = "nested" if value.is_nested else "without its numbers" if value.is_meta else str(value.layout)
            raise refuse(f"data[{i}].{name}", "a dense tensor", f"one that is {kind}", "Give `.to_dense()` of it.")


def _nodes(item: Any, i: int) -> int:
    if isinstance(x := getattr(item, "x", None), Tensor):
        return len(x)
    count = getattr(item, "num_nodes", None)
    if not isinstance(count, int):
        raise refuse(f"data[{i}]", "`x`, or `num_nodes`", "neither", "Set `num_nodes`: isolated nodes count.")
    return count


def _edges(edge_index: Tensor, nodes: int, i: int) -> Tensor:
    edge = edge_index.detach().cpu()
    if edge.ndim != 2 or len(edge) != 2 or edge.is_floating_point():
        raise refuse(f"data[{i}].edge_index", "integers [2, E]", f"{edge.dtype} {list(edge.shape)}")
    if edge.numel() and (int(edge.min()) < 0 or int(edge.max()) >= nodes):
        got = f"{int(edge.min())} … {int(edge.max())}"
        raise refuse(f"data[{i}].edge_index", f"nodes of the graph, 0 … {nodes - 1}", got)
    return edge.to(torch.int64)


def _features(items: list[Any], name: str, rows: list[int]) -> Tensor:
    """An attribute of all graphs end to end, `[sum of rows, F]`; F = 0 where no graph has it."""
    found = [getattr(item, name, None) for item in items]
    if all(value is None for value in found):
        return torch.zeros(sum(rows), 0, dtype=torch.int64)
    parts: list[Tensor] = []
    for i, (value, n) in enumerate(zip(found, rows, strict=True)):
        if not isinstance(value, Tensor):
            if value is None and n == 0:
                continue
            raise refuse(f"data[{i}].{name}", "a tensor, as other graphs have", type(value).__name__)
        part = value.detach().cpu()
        part = part[:, None] if part.ndim == 1 else part
        if part.ndim != 2 or len(part) != n:
            raise refuse(f"data[{i}].{name}", f"[{n}, F]", list(part.shape))
        if n:
            if parts and part.shape[1] != parts[0].shape[1]:
                raise refuse(f"data[{i}].{name}", f"of {parts[0].shape[1]} features, as other graphs", part.shape[1])
            parts.append(part)
    return torch.cat(parts) if parts else torch.zeros(0, 0, dtype=torch.int64)
