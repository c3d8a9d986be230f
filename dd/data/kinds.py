"""Images, graphs or one graph of nodes: what a data argument is, before it is read, and where and how it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from dd.base.paths import as_path, expanded
from dd.base.texts import clean_name
from dd.data.card import NODES, SMILES, list_cards
from dd.data.graphs.custom import are_graphs, check_classified
from dd.data.graphs.graphs import Graphs
from dd.data.graphs.sources import tu_folder
from dd.data.images.images import Images
from dd.data.images.load import FOLDER, card_of
from dd.data.nodes.custom import one_graph
from dd.data.nodes.nodes import Nodes
from dd.errors import known_as, refuse


class About(NamedTuple):
    """What is known of data before it is read.

    Attributes:
        kind: `images`, `graphs`, or `nodes`, one graph whose nodes have classes.
        name: what it is or will be called; rows of settings go by it.
        card: whether it is named by a card of images, so that it can be read as a row of settings says.
    """

    kind: Literal["images", "graphs", "nodes"]
    name: str
    card: bool = False


def about(data: object, root: str | os.PathLike[str] | None = None) -> About:
    """The kind and the name of a data argument.

    Raises:
        InputError: the name of no data set, or one graph whose nodes have no classes, or several whose nodes have.
    """
    if isinstance(data, Images):
        return About(data.kind, data.name if data.card is None else data.card.name)
    if isinstance(data, Graphs | Nodes):
        return About(data.kind, data.name)
    if isinstance(data, str) and is_node_data(data):
        return About("nodes", known_as(data, list_cards("nodes")) or clean_name(Path(data.removeprefix(NODES)).stem))
    if is_graph_data(data, root):
        if is_node_data(data):
            return About("nodes", "nodes")
        if not isinstance(data, str):
            check_classified(data)
        return About("graphs", _graph_name(data) if isinstance(data, str) else "graphs")
    if isinstance(data, list | tuple) and not data:
        raise refuse("data", "a set with images or graphs", "an empty one")
    if not isinstance(data, str):
        return About("images", "custom")
    if data.startswith(FOLDER):
        path = data.removeprefix(FOLDER)
        return About("images", clean_name(expanded(as_path(path, "data")).resolve().name if path else ""))
    return About("images", card_of(data, root).name, card=True)


def _graph_name(data: str) -> str:
    if data.startswith(SMILES):
        return clean_name(Path(data.removeprefix(SMILES).partition("#")[0]).stem)
    return known_as(data, list_cards("graphs")) or clean_name(data)


def is_node_data(data: object) -> bool:
    """Whether it is one graph whose nodes have classes: `Nodes`, a card's name, `nodes:PATH`, PyG's `Data` or a set."""
    if isinstance(data, str):
        return data.startswith(NODES) or known_as(data, list_cards("nodes")) is not None
    return isinstance(data, Nodes) or one_graph(data) is not None


def is_graph_data(data: object, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether `load_graphs` should read it: `Graphs`, the name of a graph card, `smiles:PATH`, PyG data sets or lists.

    So is the name of a TU set that has no card and whose text is under `root`.
    """
    if isinstance(data, Graphs):
        return True
    if isinstance(data, str):
        known = data.startswith(SMILES) or known_as(data, list_cards("graphs")) is not None
        return known or _is_tu(data, None if root is None else str(as_path(root, "root")))
    return are_graphs(data)


def _is_tu(name: str, root: str | None) -> bool:
    return name.casefold() not in map(str.casefold, list_cards()) and tu_folder(name, root) is not None
