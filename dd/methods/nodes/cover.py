"""What Bonsai chooses nodes by: exact nearest neighbours, greedy maximum coverage, personalised PageRank."""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dd.data.nodes.graph import NodeGraph
from dd.methods.nodes.cluster import distances

BLOCK: Final = 512
"""Rows whose distances to all others are in memory at once."""
EQUAL: Final = 1e-9
"""Distances that differ by less than this share of the largest squared norm are equal."""
ROUNDS, CLOSE = 200, 1e-12
"""Rounds of PageRank at most, and the change of its sum at which it ends."""


def nearest(x: Tensor, k: int) -> Tensor:
    """The k nearest rows of each row, itself among them, int64 `[N, k]`, nearest first; of equal ones the first.

    Args:
        x: float64 `[N, F]`.
        k: at most N.
    """
    unit = EQUAL * max(float((x**2).sum(1).max()), 1e-300)
    made = []
    for first in range(0, len(x), BLOCK):
        away = (distances(x[first : first + BLOCK], x) / unit).round()
        own = torch.arange(first, min(first + BLOCK, len(x)))
        away[torch.arange(len(own)), own] = -1  # a node is the nearest to itself
        bound = away.topk(k, dim=1, largest=False).values[:, -1:]
        row, column = (away <= bound).nonzero(as_tuple=True)
        order = np.lexsort((column.numpy(), away[row, column].numpy(), row.numpy()))
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row).cumsum(0)[:-1]])
        made.append(column[torch.from_numpy(order)][starts[:, None] + torch.arange(k)])
    return torch.cat(made)


def coverage_order(neighbours: Tensor) -> list[int]:
    """All rows in the order in which each covers most of what is not covered yet; of equal ones the first.

    Row q covers v where q is among the nearest of v. Gains never rise, so those that were counted before are bounds:
    the largest one is counted again, and stands where it is still the largest (lazy greedy).

    Args:
        neighbours: of `nearest`, `[N, k]`.
    """
    covers: list[list[int]] = [[] for _ in range(len(neighbours))]
    for v, row in enumerate(neighbours.tolist()):
        for q in row:
            covers[q].append(v)
    heap = [(-len(own), q) for q, own in enumerate(covers)]
    heapq.heapify(heap)
    free, order = [True] * len(covers), []
    while heap:
        bound, q = heapq.heappop(heap)
        gain = sum(free[v] for v in covers[q])
        if gain < -bound:
            heapq.heappush(heap, (-gain, q))
            continue
        order.append(q)
        for v in covers[q]:
            free[v] = False
    return order


def page_rank(graph: NodeGraph, roots: Tensor, damping: float) -> Tensor:
    """Personalised PageRank, float64 `[V]`: the walk starts anew at one of `roots` with chance 1 − damping.

    A node without edges sends its share to the roots.

    Args:
        graph: V nodes.
        roots: int64, at least one.
        damping: in [0, 1).
    """
    start = torch.zeros(len(graph), dtype=torch.float64)
    start[roots] = 1 / len(roots)
    source, target = graph.edge_index
    share = 1 / graph.degree.double().clamp(min=1)
    bare = graph.degree == 0
    rank = start
    for _ in range(ROUNDS):
        moved = torch.zeros_like(rank).index_add_(0, target, (rank * share)[source])
        made = damping * (moved + rank[bare].sum() * start) + (1 - damping) * start
        change = float((made - rank).abs().sum())
        rank = made
        if change < CLOSE:
            break
    return rank
