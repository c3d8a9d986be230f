"""Small graphs, their trees as a DAG, and a small network of each kind."""

from __future__ import annotations

from typing import Any

import torch
from reference.trees import levels_by_hand, random_graphs
from torch import Tensor, nn

from dd.data.graphs.codes import Codes, fit_codes
from dd.data.graphs.graphs import GraphSplit
from dd.models import GNNS, GraphNet, PlainGraphs, TreeDag, plain_graphs, tree_dag

D = 8
DOUBLE = torch.float64
KINDS = sorted(GNNS)


def graphs(seed: int = 0, *, directed: bool = False, bonds: bool = False) -> tuple[GraphSplit, Codes]:
    """Three random graphs with an isolated node each."""
    edge_features = (2, 3) if bonds else ()
    split = random_graphs(seed, (7, 5, 6), directed=directed, features=(2, 3), edge_features=edge_features)
    return split, fit_codes(split)


def plain(split: GraphSplit, codes: Codes) -> PlainGraphs:
    fields = plain_graphs(codes.node_fields(split), split.edge_index, codes.edge_fields(split))
    return fields.to(dtype=DOUBLE)


def dag(split: GraphSplit, codes: Codes, depth: int, *, degrees: bool = True) -> tuple[TreeDag, Tensor]:
    """(the DAG of all trees of a depth, the tree of every node); leaves have the degree of their node or none."""
    levels, ids = levels_by_hand(split, codes, depth, leaf_degree=degrees)
    leaf = torch.zeros(len(levels[0]))
    leaf[ids[0]] = split.degree.float() if degrees else leaf[ids[0]]
    return tree_dag(levels, leaf, codes.table, codes.edge_table).to(dtype=DOUBLE), ids[depth]


def net(kind: str, codes: Codes, layers: int = 2, **options: Any) -> GraphNet:
    torch.manual_seed(1)
    made = GraphNet(codes.sizes, codes.edge_sizes, 3, kind=kind, layers=layers, width=D, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases, ε and norms away from their starts
        for table in made.modules():
            if isinstance(table, nn.Embedding):
                table.weight[0] = 0
    return made.double().eval()
