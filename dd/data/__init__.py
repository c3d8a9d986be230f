"""Data: cards, splits, and `Images` or `Graphs` from whatever the user has."""

from dd.data.card import Card, list_cards, load_card
from dd.data.graphs.bins import Bins
from dd.data.graphs.card import GraphCard, load_graph_card
from dd.data.graphs.codes import Codes, fit_codes
from dd.data.graphs.graphs import Graphs, GraphSplit, graph_split
from dd.data.graphs.load import load_graphs, smiles_graphs
from dd.data.images.budget import Ipc, class_counts, given_ipc
from dd.data.images.custom import LIMIT, as_split
from dd.data.images.images import Images, check_ipc, hold_out
from dd.data.images.load import load_images
from dd.data.images.splits import LazySplit, Split, TensorSplit, chunks, statistics
from dd.data.kinds import About, Source, about

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
