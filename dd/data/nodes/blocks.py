"""A graph that needs no file: a stochastic block model with noisy features, generated from a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.base.seeding import child
from dd.base.shapes import check_number, check_whole
from dd.data.nodes.graph import NodeGraph, both_ways
from dd.errors import refuse


def block_model(
    nodes: int = 1200,
    classes: int = 4,
    features: int = 60,
    edges: int = 3600,
    *,
    within: float = 0.8,
    signal: float = 0.3,
    seed: int = 0,
) -> NodeGraph:
    """A stochastic block model: node i has class i mod K, an edge joins two nodes of one class with chance `within`.

    A node has a bag of eight words. Each is of its class's own share of the words with chance `signal`, else any word:
    the features of a node alone say little, those of its neighbours more.

    Args:
        nodes: V.
        classes: K.
        features: words, at least one a class.
        edges: undirected ones that are drawn; those that are drawn twice, and loops, are left out.
        within, signal: chances in [0, 1].
        seed: of all draws.

    Raises:
        InputError: a number out of range.
    """
    for name, value, low in (("classes", classes, 2), ("nodes", nodes, classes), ("features", features, classes)):
        check_whole(value, name, low)
    check_whole(edges, "edges")
    for name, chance in (("within", within), ("signal", signal)):
        if check_number(chance, name, 0) > 1:
            raise refuse(name, "at most 1", chance)
    y = torch.arange(nodes) % classes
    generator = child(seed, "blocks", "edges")
    source = torch.randint(nodes, (edges,), generator=generator)
    same = torch.rand(edges, generator=generator) < within
    other = torch.randint(classes - 1, (edges,), generator=generator)
    wanted = torch.where(same, y[source], (y[source] + 1 + other) % classes)
    each = nodes // classes  # the remaining nodes of the first classes are drawn as sources alone
    target = torch.randint(each, (edges,), generator=generator) * classes + wanted
    return NodeGraph(_words(y, classes, features, signal, seed), both_ways(torch.stack([source, target]), nodes), y)


def _words(y: Tensor, classes: int, features: int, signal: float, seed: int, count: int = 8) -> Tensor:
    """Bags of words, ones in float32 `[V, F]`."""
    generator, own = child(seed, "blocks", "features"), features // classes
    shape = (len(y), count)
    of_class = y[:, None] * own + torch.randint(own, shape, generator=generator)
    anything = torch.randint(features, shape, generator=generator)
    told = torch.where(torch.rand(shape, generator=generator) < signal, of_class, anything)
    return torch.zeros(len(y), features).scatter_(1, told, 1.0)
