"""A small graph as users give it, and slow, obvious twins of what goes along the edges of one graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dd.data.nodes.blocks import block_model
from dd.data.nodes.graph import NodeGraph

NODES = 60


def own(**changes: Any) -> Any:
    """A PyG graph of two classes with masks."""
    from torch_geometric.data import Data

    graph = block_model(NODES, 2, 8, 150, seed=1)
    place = torch.arange(NODES)
    masks = {name: place % 3 == i for i, name in enumerate(("train_mask", "val_mask", "test_mask"))}
    return Data(**{"x": graph.x, "edge_index": graph.edge_index, "y": graph.y, **masks, **changes})


def shuffled(data: Any, seed: int = 0) -> Any:
    """The same graph with other numbers of its nodes, and its edges in another order."""
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(NODES, generator=generator)
    place = order.argsort()
    edges = place[data.edge_index][:, torch.randperm(data.edge_index.shape[1], generator=generator)]
    parts = {name: getattr(data, name)[order] for name in ("x", "y", "train_mask", "val_mask", "test_mask")}
    return Data(edge_index=edges, **parts)


def adjacency(graph: NodeGraph) -> Tensor:
    """A, float64 `[V, V]`: row v has a 1 for each u whose messages reach v."""
    a = torch.zeros(len(graph), len(graph), dtype=torch.float64)
    for source, target in graph.edge_index.t().tolist():
        a[target, source] = 1
    return a


def operator(graph: NodeGraph, norm: str) -> Tensor:
    """One of `propagate.NORMS` as a dense matrix."""
    a = adjacency(graph)
    if norm == "sum":
        return a
    a = a + torch.eye(len(graph), dtype=torch.float64)
    degree = a.sum(1)
    if norm == "mean":
        return torch.diag(1 / degree) @ a
    return torch.diag(degree**-0.5) @ a @ torch.diag(degree**-0.5)


def propagated(graph: NodeGraph, hops: int, scale: str) -> list[Tensor]:
    """The scaled features and their products with the operator `both`."""
    x = graph.x.double()
    if scale == "rows":
        x = torch.stack([row / max(float(row.abs().sum()), 1e-300) for row in x])
    found = [x]
    for _ in range(hops):
        found.append(operator(graph, "both") @ found[-1])
    return found


def lloyd(x: Tensor, centres: Tensor, fuzziness: float) -> Tensor:
    """One round of Lloyd, or of fuzzy c-means, by loops."""
    weights = torch.zeros(len(x), len(centres), dtype=torch.float64)
    for i, row in enumerate(x):
        away = [max(float(((row - centre) ** 2).sum()), 1e-300) for centre in centres]
        if fuzziness == 1:
            weights[i, away.index(min(away))] = 1
            continue
        for j, own in enumerate(away):
            weights[i, j] = sum((own / other) ** (1 / (fuzziness - 1)) for other in away) ** -fuzziness
    made = []
    for j, centre in enumerate(centres):
        mass = weights[:, j].sum()
        made.append((weights[:, j, None] * x).sum(0) / mass if mass > 0 else centre)
    return torch.stack(made)


def nearest(x: Tensor, k: int) -> list[list[int]]:
    """The k nearest rows of each row, itself first, of equal ones the first."""
    found = []
    for i, row in enumerate(x):
        away = [(j != i, round(float(((row - other) ** 2).sum()), 9), j) for j, other in enumerate(x)]
        found.append([j for _, _, j in sorted(away)[:k]])
    return found


def coverage_order(neighbours: list[list[int]]) -> list[int]:
    """All rows, each time the first of those that cover most of what is not covered."""
    n = len(neighbours)
    covers = [{v for v in range(n) if q in neighbours[v]} for q in range(n)]
    order: list[int] = []
    covered: set[int] = set()
    while len(order) < n:
        left = [q for q in range(n) if q not in order]
        best = max(left, key=lambda q: (len(covers[q] - covered), -q))
        order.append(best)
        covered |= covers[best]
    return order


def page_rank(graph: NodeGraph, roots: Tensor, damping: float) -> Tensor:
    """Personalised PageRank as the solution of its linear equation."""
    n = len(graph)
    start = torch.zeros(n, dtype=torch.float64)
    start[roots] = 1 / len(roots)
    a = adjacency(graph)
    out = a.sum(0)
    walk = torch.stack([a[:, v] / out[v] if out[v] else start for v in range(n)], 1)
    return torch.linalg.solve(torch.eye(n, dtype=torch.float64) - damping * walk, (1 - damping) * start)
