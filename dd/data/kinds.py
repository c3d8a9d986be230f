"""Graphs or images: what a data argument is, before it is read."""

from __future__ import annotations

from typing import Final

from dd.data.card import list_cards
from dd.data.graph_custom import holds_graphs, is_graph
from dd.data.graphs import Graphs

SMILES: Final = "smiles:"


def is_graph_data(data: object) -> bool:
    """Whether `load_graphs` should read it: `Graphs`, a graph card's name, `smiles:PATH`, PyG data sets or lists.

    One graph alone is graph data too, so that `load_graphs` says what is missing.
    """
    if isinstance(data, Graphs):
        return True
    if isinstance(data, str):
        return data.startswith(SMILES) or data.lower() in {name.lower() for name in list_cards("graphs")}
    if is_graph(data) or holds_graphs(data):
        return True
    return isinstance(data, tuple | list) and bool(data) and holds_graphs(data[0])
