"""Graphs or images: what a data argument is, before it is read."""

from __future__ import annotations

import os
from typing import Final

from dd.data.card import list_cards
from dd.data.graph_custom import holds_graphs, is_graph
from dd.data.graph_sources import tu_folder
from dd.data.graphs import Graphs

SMILES: Final = "smiles:"


def is_graph_data(data: object, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether `load_graphs` should read it: `Graphs`, the name of a graph card, `smiles:PATH`, PyG data sets or lists.

    So is the name of a TU set that has no card and whose text is under `root`.

    One graph alone is graph data too, so that `load_graphs` says what is missing.
    """
    if isinstance(data, Graphs):
        return True
    if isinstance(data, str):
        known = data.startswith(SMILES) or data.casefold() in map(str.casefold, list_cards("graphs"))
        return known or _is_tu(data, None if root is None else os.fspath(root))
    if is_graph(data) or holds_graphs(data):
        return True
    return isinstance(data, tuple | list) and bool(data) and holds_graphs(data[0])


def _is_tu(name: str, root: str | None) -> bool:
    return name.casefold() not in map(str.casefold, list_cards()) and tu_folder(name, root) is not None
