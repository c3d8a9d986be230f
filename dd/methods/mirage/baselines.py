"""What a summary is compared with at equal bytes: random graphs, herded graphs, random trees, all trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.base.seeding import child
from dd.data.graphs.graphs import GraphSplit
from dd.data.graphs.refine import Ints
from dd.methods.mirage.account import Account
from dd.methods.mirage.build import Entry, entry
from dd.methods.mirage.select import Costs, Pattern, in_turns
from dd.methods.mirage.transactions import Transactions

COLUMNS: Final = 256
"""Trees, by support, that herding compares graphs by."""

DRAWN: Final = 4096
"""Nodes of a class that random trees are taken of at most, each node of one tree and graph once."""


def graph_bytes(split: GraphSplit, fields: int, edge_fields: int, directed: bool) -> Tensor:
    """Bytes of each graph by the published count, int64 `[N]`: 2 · (nodes · F + (2 + B) · edges).

    An undirected edge counts once, which favours whole graphs: libraries store it twice.
    """
    edges = split.edge_ptr.diff()
    if not directed:
        edges = (edges + 1) // 2
    return 2 * (split.ptr.diff() * fields + (2 + edge_fields) * edges)


def random_graphs(labels: Tensor, bytes_: Tensor, account: Account, seed: int, draw: int) -> Tensor:
    """Graphs of each class in a random order, in turns, each taken if it still fits the account; int64, rising."""
    orders = []
    for label in range(account.classes):
        rows = torch.nonzero(labels == label)[:, 0]
        orders.append(
            iter(rows[torch.randperm(len(rows), generator=child(seed, "random graphs", draw, label))].tolist())
        )
    kept: list[int] = []
    for label in account.turns():
        row = next((row for row in orders[label] if int(bytes_[row]) <= account.left), None)
        if row is None:
            account.close(label)
        elif account.pay(label, int(bytes_[row])):
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


def herding(found: Transactions, bytes_: Tensor, account: Account) -> Tensor:
    """Graphs of each class, in turns, whose mean comes closest to the class's, while they fit the account.

    Graphs are vectors of shares of their nodes by tree (Weisfeiler–Lehman features of depth L, the `COLUMNS` most
    frequent trees): no network is needed, where the published baseline takes a trained network's embeddings.
    """
    columns = np.argsort(-found.support.sum(1), kind="stable")[:COLUMNS]
    features = tree_counts(found, columns) / np.maximum(found.nodes, 1)[:, None]
    cost, free = bytes_.numpy(), np.ones(len(found), bool)
    means = [features[found.labels == label].mean(0) for label in range(found.classes)]
    totals = np.zeros((found.classes, features.shape[1]))
    kept: list[list[int]] = [[] for _ in means]
    for label in account.turns():
        able = np.flatnonzero((found.labels == label) & free & (cost <= account.left))
        if not len(able):
            account.close(label)
            continue
        away = ((means[label] - (totals[label] + features[able]) / (len(kept[label]) + 1)) ** 2).sum(1)
        best = int(able[np.argmin(away)])
        account.pay(label, int(cost[best]))
        totals[label] += features[best]
        free[best] = False
        kept[label].append(best)
    return torch.tensor(sorted(row for rows in kept for row in rows), dtype=torch.int64)


def random_trees(found: Transactions, costs: Costs, account: Account, seed: int, draw: int) -> list[Entry]:
    """Single trees of each class, those of random nodes of its graphs, in turns, until the next does not fit."""
    draws = [child(seed, "random trees", draw, label) for label in range(found.classes)]
    kept = in_turns(costs, account, [_node_trees(found, label, draws[label]) for label in range(found.classes)])
    return [entry(found, pattern, costs.counts) for patterns in kept for pattern in patterns]


def _node_trees(found: Transactions, label: int, generator: torch.Generator) -> Iterator[Pattern]:
    """Single trees of random nodes of a class's graphs, each tree once."""
    own = np.flatnonzero(found.labels[found.graph] == label)
    if not len(own):
        return
    weights = torch.from_numpy(found.count[own].astype(np.float64))
    given: set[int] = set()
    for at in torch.multinomial(weights, min(len(own), DRAWN), generator=generator).tolist():
        tree = int(found.tree[own[at]])
        if tree not in given:
            given.add(tree)
            yield Pattern((tree,), label, int(found.support[tree, label]))
