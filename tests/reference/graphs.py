"""Small graphs with the attributes of PyG's `Data`, and what a split holds, by loops."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dd.data import GraphSplit, load_graphs


def graph(edges: list[tuple[int, int]], n: int, y: Any = 0, both: bool = True, **more: Any) -> SimpleNamespace:
    """A graph with the attributes of PyG's `Data`; every edge in both directions unless told otherwise."""
    rows = edges + [(b, a) for a, b in edges] if both else edges
    index = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).t()
    return SimpleNamespace(edge_index=index, num_nodes=n, y=torch.tensor([y]) if y is not None else None, **more)


def some_graphs(n: int = 30, seed: int = 0, features: bool = True) -> list[SimpleNamespace]:
    """Random undirected graphs of two classes, some of them without edges."""
    rng, out = random.Random(seed), []
    for i in range(n):
        nodes = rng.randint(1, 7)
        pairs = [(a, b) for a in range(nodes) for b in range(a) if rng.random() < 0.4]
        more = {}
        if features:
            attr = torch.tensor([rng.randint(0, 2) for _ in pairs], dtype=torch.int64)
            x = torch.tensor([[rng.randint(0, 3), rng.randint(5, 6)] for _ in range(nodes)])
            more = {"x": x, "edge_attr": attr.repeat(2)}
        out.append(graph(pairs, nodes, i % 2, **more))
    return out


def a_split(n: int = 12, seed: int = 1) -> GraphSplit:
    return load_graphs(some_graphs(n, seed), split=None, role="evaluate").test or pytest.fail("no test graphs")


def contents(split: GraphSplit) -> list[tuple[Any, ...]]:
    """Each graph by itself, by a loop: label, features, and edges as (source, target, features), sorted."""
    out = []
    for i, label in enumerate(split.labels.tolist()):
        a, b = int(split.ptr[i]), int(split.ptr[i + 1])
        edges = [
            (s - a, t - a, *split.edge_attr[e].tolist())
            for e, (s, t) in enumerate(split.edge_index.t().tolist())
            if a <= t < b
        ]
        out.append((label, split.x[a:b].tolist(), sorted(edges)))
    return out
