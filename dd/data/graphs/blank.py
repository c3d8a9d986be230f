"""Graphs of a card's counts without its files: what refinement costs depends on nodes and edges."""

from __future__ import annotations

import torch

from dd.data.graphs.card import GraphCard
from dd.data.graphs.graphs import Graphs, GraphSplit

_TRAINING = 0.8  # of the graphs, by the rule `random`


def blank_graphs(card: GraphCard) -> Graphs | None:
    """Training graphs in the number and mean size of a card's, all alike; `None` where it does not count nodes."""
    total, nodes, edges = (card.counts.get(name) for name in ("graphs", "nodes", "edges"))
    if not total or not nodes or not edges:
        return None
    count = max(2 * len(card.classes), round(_TRAINING * total))
    each, ends = max(2, round(nodes / total)), max(1, round(edges / total))
    target = torch.arange(ends) * each // ends  # ascending
    one = torch.stack([(target + 1) % each, target])
    shift = (torch.arange(count) * each).repeat_interleave(ends)
    train = GraphSplit(
        x=torch.zeros(count * each, 1, dtype=torch.int64),
        edge_index=one.repeat(1, count) + shift,
        edge_attr=torch.zeros(count * ends, 0, dtype=torch.int64),
        ptr=torch.arange(count + 1) * each,
        labels=torch.arange(count) % len(card.classes),
    )
    return Graphs(train=train, classes=card.classes, name=card.name)
