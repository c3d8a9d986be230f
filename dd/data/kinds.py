"""Graphs or images: what a data argument is, before it is read."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from dd.data.card import list_cards
from dd.data.graphs import Graphs

SMILES: Final = "smiles:"


def is_graph_data(data: object) -> bool:
    """Whether `load_graphs` should read it: `Graphs`, a graph card's name, `smiles:PATH`, or lists of PyG's `Data`."""
    if isinstance(data, Graphs):
        return True
    if isinstance(data, str):
        return data.startswith(SMILES) or data.lower() in {name.lower() for name in list_cards("graphs")}
    part = data[0] if isinstance(data, tuple) and data else data
    if isinstance(part, Tensor) or not (hasattr(part, "__len__") and hasattr(part, "__getitem__")) or not len(part):
        return False
    try:
        first = part[0]
    except (KeyError, TypeError, IndexError):
        return False
    return isinstance(getattr(first, "edge_index", None), Tensor)
