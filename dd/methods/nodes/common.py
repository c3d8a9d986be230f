"""What methods for nodes share: which data they take, what of it they see, and how features are scaled."""

from __future__ import annotations

import dataclasses
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
    """A recipe whose `scale` is no longer `auto`: rows are scaled where no feature is below 0."""
    if train.scale != "auto":
        return train
    return dataclasses.replace(train, scale="rows" if bool((graph.x >= 0).all()) else "none")


def no_edges() -> Tensor:
    """Those of a graph whose adjacency is the identity, int64 `[2, 0]`."""
    return torch.zeros(2, 0, dtype=torch.int64)


def too_little(budget_bytes: int, least: int, graph: NodeGraph, classes: int) -> InputError:
    """What is said of a budget below one node a class."""
    whole = stored_bytes(graph, classes)
    way_out = f"Raise it; the whole graph takes {whole:,} bytes so."
    return refuse("budget_bytes", f"enough for one node a class, {least:,} bytes here", f"{budget_bytes:,}", way_out)
