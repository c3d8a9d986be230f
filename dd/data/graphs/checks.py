"""Refusals for graphs, made before anything is distilled. Each says: argument, expected, got, way out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.base.texts import count
from dd.data.graphs.graphs import GraphSplit
from dd.data.images.checks import name_of, some
from dd.errors import refuse


def check_labels(labels: Tensor, classes: Sequence[str]) -> None:
    """Refuse fewer than two classes and labels that are not 0 … K−1.

    Raises:
        InputError: names the classes or the labels.
    """
    k = len(classes)
    if k < 2:
        got = f"only {', '.join(classes)}" if classes else "none"
        raise refuse("data", "graphs of at least two classes", got, "Name them all with `classes=`.")
    wrong = labels[(labels < 0) | (labels >= k)].unique().tolist()
    if wrong:
        way = "Renumber `y` from 0, as by `torch.unique(y, return_inverse=True)`, or give `classes=`."
        raise refuse("labels", f"0 … {k - 1} (there are {k} classes)", some(wrong), way)


def check_train(train: GraphSplit, classes: Sequence[str], way_out: str) -> None:
    """Refuse training graphs without edges, or without a class.

    Raises:
        InputError: names the class.
    """
    counts = torch.bincount(train.labels, minlength=len(classes)).tolist()
    empty = [name_of(k, classes) for k, n in enumerate(counts) if n == 0]
    if empty:
        raise refuse("data", "training graphs of every class", f"none of class {some(empty)}", way_out)
    if not train.num_edges:
        way = "A graph without edges is a bag of nodes; check `edge_index`."
        raise refuse("data", "training graphs with edges", f"{count(len(train), 'graph')} without any", way)


def orientation(parts: Sequence[GraphSplit], directed: bool | None) -> bool:
    """Whether graphs are directed.

    Args:
        parts: the splits.
        directed: `None`: undirected if every edge of every graph has its reverse (with the same features), directed if
            some edge of every graph with edges has none. `False` insists on the former, `True` on nothing.

    Raises:
        InputError: some graphs are symmetric and some are not; or not all are and `directed` is `False`.
    """
    if directed is not None and not isinstance(directed, bool):
        raise refuse("directed", "True, False or None", repr(directed))
    if directed:
        return True
    one_way, with_edges = 0, 0
    for part in parts:
        one_way += int(asymmetric(part).sum())
        with_edges += int((part.edge_ptr.diff() > 0).sum())
    if not one_way:
        return False
    if one_way < with_edges or directed is False:
        raise refuse(
            "data",
            "graphs that are all undirected (each edge in both directions, with the same features) or all directed",
            f"{one_way} of {with_edges} graphs with an edge whose reverse is not there",
            "Give `directed=True` to follow edges as they are, or make all undirected: "
            "`torch_geometric.transforms.ToUndirected()`.",
        )
    return True


def asymmetric(part: GraphSplit) -> Tensor:
    """Whether a graph has an edge whose reverse, with the same features, is not there; bool `[N]`."""
    source, target = part.edge_index
    code = _codes(part.edge_attr)
    forth, back = _key(target, source, code, part.num_nodes), _key(source, target, code, part.num_nodes)
    out = torch.zeros(len(part), dtype=torch.bool)
    # Edges are unique, so forth and back are equal as sets if no element of back is missing in forth.
    ordered = forth.sort().values
    if torch.equal(ordered, back.sort().values):
        return out
    found = torch.searchsorted(ordered, back).clamp(max=len(ordered) - 1)
    out[part.graph[target[ordered[found] != back]]] = True
    return out


def _key(a: Tensor, b: Tensor, code: Tensor, nodes: int) -> Tensor:
    return (a * nodes + b) * (int(code.max()) + 1 if len(code) else 1) + code


def _codes(attr: Tensor) -> Tensor:
    """One integer an edge, equal where all features are."""
    code = torch.zeros(len(attr), dtype=torch.int64)
    for column in attr.t():
        values, place = torch.unique(column, return_inverse=True)
        _, code = torch.unique(code * len(values) + place, return_inverse=True)
    return code
