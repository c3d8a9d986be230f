"""Which nodes are for training, validation and test."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dd.base.seeding import child
from dd.data.graphs.splits import Rows
from dd.data.nodes.graph import NodeGraph
from dd.errors import refuse

TRAINED: Final = 20
"""Training nodes of a class in a random split, as in Planetoid's public one."""
HELD: Final = 30
"""Validation nodes of a class in a random split."""
SHARE: Final = 4
"""A random split takes at most one in `SHARE` nodes of a class for training, and as many for validation."""


def random_masks(graph: NodeGraph, split: int) -> Rows:
    """A random split of the nodes whose class is known: 20 of each class train, 30 validate, all others test.

    That is the split of Shchur et al. (2018). Of a class with few nodes at most a quarter, at least one, is for each
    of both. Which nodes these are depends on `split` and on the graph, not on how its nodes are numbered.
    """
    order, train, val = graph.order, [], []
    for k in range(int(graph.y.max()) + 1):
        rows = order[graph.y[order] == k]
        drawn = rows[torch.randperm(len(rows), generator=child(split, "nodes", k))]
        most = max(1, len(rows) // SHARE)
        first = min(TRAINED, most)
        train.append(drawn[:first])
        val.append(drawn[first : first + min(HELD, most)] if len(rows) > 2 else drawn[:0])
    taken = torch.cat([*train, *val])
    rest = torch.ones(len(graph), dtype=torch.bool)
    rest[taken] = False
    test = ((graph.y >= 0) & rest).nonzero()[:, 0]
    held = torch.cat(val).sort().values
    return Rows(torch.cat(train).sort().values, held if len(held) else None, test if len(test) else None)


def mask_rows(train: Tensor, val: Tensor | None, test: Tensor | None) -> Rows:
    """The rows of masks, bool `[V]`.

    Raises:
        InputError: masks that share a node, or no training node.
    """
    masks = {"train_mask": train, "val_mask": val, "test_mask": test}
    there = {name: mask for name, mask in masks.items() if mask is not None}
    names = list(there)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if shared := int((there[name] & there[other]).sum()):
                raise refuse(other, f"without the nodes of `{name}`", f"{shared} of them", "Give each node one mask.")
    if not bool(train.any()):
        raise refuse("train_mask", "true of some nodes", "none")
    train_rows, *rest = (None if mask is None else mask.nonzero()[:, 0] for mask in masks.values())
    assert train_rows is not None
    val_rows, test_rows = (rows if rows is not None and len(rows) else None for rows in rest)
    return Rows(train_rows, val_rows, test_rows)
