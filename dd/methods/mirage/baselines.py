"""What a summary is compared with at equal bytes: random graphs, herded graphs, random trees, all trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.data.graphs import GraphSplit
from dd.data.refine import Ints
from dd.methods.mirage.build import Entry, entry
from dd.methods.mirage.select import Costs, Pattern
from dd.methods.mirage.transactions import Transactions
from dd.seeding import child

COLUMNS: Final = 256
"""Trees, by support, that herding compares graphs by."""


def graph_bytes(split: GraphSplit, fields: int, edge_fields: int, directed: bool) -> Tensor:
    """Bytes of each graph by the published count, int64 `[N]`: 2 · (nodes · F + (2 + B) · edges).

    An undirected edge counts once, which favours whole graphs: libraries store it twice.
    """
    edges = split.edge_ptr.diff()
    if not directed:
        edges = (edges + 1) // 2
    return 2 * (split.ptr.diff() * fields + (2 + edge_fields) * edges)


def random_graphs(labels: Tensor, bytes_: Tensor, shares: Sequence[int], seed: int, draw: int) -> Tensor:
    """Graphs of each class in a random order, each taken if it still fits the class's share; int64, rising."""
    kept: list[int] = []
    for label, share in enumerate(shares):
        rows = torch.nonzero(labels == label)[:, 0]
        order = rows[torch.randperm(len(rows), generator=child(seed, "random graphs", draw, label))]
        left = share
        for row in order.tolist():
            if int(bytes_[row]) <= left:
                left -= int(bytes_[row])
                kept.append(row)
    return torch.tensor(sorted(kept), dtype=torch.int64)


def tree_counts(found: Transactions, columns: Ints) -> NDArray[np.float64]:
    """How many nodes of each graph have each of some trees, float64 `[N, len(columns)]`."""
    place = np.full(len(found.tables[-1]), -1, np.int64)
    place[columns] = np.arange(len(columns))
    inside = place[found.tree] >= 0
    made = np.zeros((len(found), len(columns)))
    made[found.graph[inside], place[found.tree[inside]]] = found.count[inside]
    return made


def herding(found: Transactions, bytes_: Tensor, shares: Sequence[int]) -> Tensor:
    """Graphs of each class whose mean comes closest to the class's, one after the other, while they fit its share.

    Graphs are vectors of shares of their nodes by tree (Weisfeiler–Lehman features of depth L, the `COLUMNS` most
    frequent trees): no network is needed, where the published baseline takes a trained network's embeddings.
    """
    columns = np.argsort(-found.support.sum(1), kind="stable")[:COLUMNS]
    features = tree_counts(found, columns) / np.maximum(found.nodes, 1)[:, None]
    kept: list[int] = []
    for label, share in enumerate(shares):
        rows = np.flatnonzero(found.labels == label)
        own, cost = features[rows], bytes_.numpy()[rows]
        mean, total = own.mean(0), np.zeros(features.shape[1])
        free = np.ones(len(rows), bool)
        left, count = share, 0
        while (free & (cost <= left)).any():
            able = np.flatnonzero(free & (cost <= left))
            best = able[np.argmin(((mean - (total + own[able]) / (count + 1)) ** 2).sum(1))]
            total, count, left = total + own[best], count + 1, left - int(cost[best])
            free[best] = False
            kept.append(int(rows[best]))
    return torch.tensor(sorted(kept), dtype=torch.int64)


def random_trees(found: Transactions, costs: Costs, shares: Sequence[int], seed: int, draw: int) -> list[Entry]:
    """Single trees of each class, those of random nodes of its graphs, until the next does not fit its share."""
    made = []
    for label, share in enumerate(shares):
        own = np.flatnonzero(found.labels[found.graph] == label)
        if not len(own):
            continue
        weights = torch.from_numpy(found.count[own].astype(np.float64))
        generator = child(seed, "random trees", draw, label)
        stored: set[int] = set()
        left = share
        for at in torch.multinomial(weights, min(len(own), 4096), generator=generator).tolist():
            tree = int(found.tree[own[at]])
            if tree in stored:
                continue
            cost = costs.of((tree,), stored)
            if cost > left:
                break
            left -= cost
            stored.add(tree)
            made.append(entry(found, Pattern((tree,), label, int(found.support[tree, label]))))
    return made
