"""What methods for nodes share: which data they take, what of it they see, and how features are scaled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import Nodes
from dd.errors import InputError, refuse
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.node_store import stored_bytes


def seen_by(method: Any, real: Nodes) -> NodeGraph:
    """What a method may read, by its `setting`.

    Raises:
        InputError: no such data, or a class without training nodes.
    """
    if getattr(real, "kind", "") != "nodes":
        raise refuse("data", f"one graph of nodes for the method {method.name!r}", type(real).__name__)
    counts = real.nodes_per_class.tolist()
    if min(counts) == 0:
        raise refuse("data", "with training nodes of every class", counts, "Add some to `train_mask`.")
    return real.seen(method.setting)


def recipe_for(train: NodeRecipe, graph: NodeGraph) -> NodeRecipe:
    """A recipe whose `scale` is no longer `auto`: rows are scaled where there are several features and none is
    below 0: of one feature alone nothing but ones would be left.
    """
    if train.scale != "auto":
        return train
    bags = graph.x.shape[1] > 1 and bool((graph.x >= 0).all())
    return dataclasses.replace(train, scale="rows" if bags else "none")


def no_edges() -> Tensor:
    """Those of a graph whose adjacency is the identity, int64 `[2, 0]`."""
    return torch.zeros(2, 0, dtype=torch.int64)


def too_little(budget_bytes: int, least: int, graph: NodeGraph, classes: int) -> InputError:
    """What is said of a budget below one node a class."""
    whole = stored_bytes(graph, classes)
    way_out = f"Raise it; the whole graph takes {whole:,} bytes so."
    return refuse("budget_bytes", f"enough for one node a class, {least:,} bytes here", f"{budget_bytes:,}", way_out)


def union(seen: NodeGraph, parts: Sequence[Tensor]) -> NodeGraph:
    """The nodes of some parts, each once and in rising order, and the edges between them."""
    return seen.subgraph(rows_in(parts))


def rows_in(parts: Sequence[Tensor]) -> Tensor:
    """The nodes of some parts, each once and rising, int64."""
    return torch.cat([torch.zeros(0, dtype=torch.int64), *parts]).unique()


def that_fit(seen: NodeGraph, parts: Sequence[Tensor], budget_bytes: float, classes: int, misses: int) -> list[int]:
    """Places of the parts whose union fits a budget, taken in order; what does not fit is left out.

    The first that do not fit end a run that is found by halving, since more nodes take more bytes; after it, parts are
    tried one by one until `misses` of them did not fit.

    Args:
        seen: the graph.
        parts: nodes that each brings, best first.
        budget_bytes: of the union as a set stores it.
        classes: K.
        misses: parts that are tried in vain, at most.
    """

    def fits(chosen: Sequence[Tensor]) -> bool:
        return stored_bytes(union(seen, chosen), classes) <= budget_bytes

    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(parts[:middle]) else (low, middle - 1)
    kept, missed = list(range(low)), 0
    for place in range(low, len(parts)):
        if missed >= misses:
            break
        if fits([*(parts[i] for i in kept), parts[place]]):
            kept.append(place)
        else:
            missed += 1
    return kept


def ego_net(seen: NodeGraph, row: int) -> Tensor:
    """A node and its neighbours, int64."""
    ends = seen.ptr[row : row + 2].tolist()
    return torch.cat([torch.tensor([row]), seen.edge_index[0, ends[0] : ends[1]]])
