"""Data: cards, splits, and `Images` or `Graphs` from whatever the user has."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "LIMIT",
    "About",
    "Bins",
    "Card",
    "Codes",
    "GraphCard",
    "GraphSplit",
    "Graphs",
    "Images",
    "Ipc",
    "LazySplit",
    "NodeGraph",
    "NodeSplit",
    "Nodes",
    "Source",
    "Split",
    "TensorSplit",
    "about",
    "as_split",
    "check_ipc",
    "chunks",
    "class_counts",
    "fit_codes",
    "given_ipc",
    "graph_split",
    "hold_out",
    "list_cards",
    "load_card",
    "load_graph_card",
    "load_graphs",
    "load_images",
    "smiles_graphs",
    "statistics",
]

if TYPE_CHECKING:
    from dd.data.card import Card, list_cards, load_card
    from dd.data.either import load_graphs
    from dd.data.graphs.bins import Bins
    from dd.data.graphs.card import GraphCard, load_graph_card
    from dd.data.graphs.codes import Codes, fit_codes
    from dd.data.graphs.graphs import Graphs, GraphSplit, graph_split
    from dd.data.graphs.load import smiles_graphs
    from dd.data.images.budget import Ipc, class_counts, given_ipc
    from dd.data.images.custom import LIMIT, as_split
    from dd.data.images.images import Images, check_ipc, hold_out
    from dd.data.images.lazy import LazySplit
    from dd.data.images.load import load_images
    from dd.data.images.splits import Split, TensorSplit, chunks
    from dd.data.images.statistics import statistics
    from dd.data.kinds import About, about
    from dd.data.nodes.graph import NodeGraph
    from dd.data.nodes.nodes import Nodes, NodeSplit
    from dd.data.source import Source
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.data.card": "Card list_cards load_card",
            "dd.data.either": "load_graphs",
            "dd.data.graphs.bins": "Bins",
            "dd.data.graphs.card": "GraphCard load_graph_card",
            "dd.data.graphs.codes": "Codes fit_codes",
            "dd.data.graphs.graphs": "Graphs GraphSplit graph_split",
            "dd.data.graphs.load": "smiles_graphs",
            "dd.data.images.budget": "Ipc class_counts given_ipc",
            "dd.data.images.custom": "LIMIT as_split",
            "dd.data.images.images": "Images check_ipc hold_out",
            "dd.data.images.lazy": "LazySplit",
            "dd.data.images.load": "load_images",
            "dd.data.images.splits": "Split TensorSplit chunks",
            "dd.data.images.statistics": "statistics",
            "dd.data.kinds": "About about",
            "dd.data.nodes.graph": "NodeGraph",
            "dd.data.nodes.nodes": "NodeSplit Nodes",
            "dd.data.source": "Source",
        },
    )
