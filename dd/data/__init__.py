"""Data: cards, splits, and `Images` or `Graphs` from whatever the user has."""

from dd.data.card import Card, list_cards, load_card
from dd.data.codes import Codes, fit_codes
from dd.data.custom import LIMIT, as_split
from dd.data.graph_bins import Bins
from dd.data.graph_card import GraphCard, load_graph_card
from dd.data.graph_load import load_graphs, smiles_graphs
from dd.data.graphs import Graphs, GraphSplit, graph_split
from dd.data.images import Images, check_ipc, hold_out
from dd.data.kinds import About, Source, about
from dd.data.load import load_images
from dd.data.splits import LazySplit, Split, TensorSplit, chunks, statistics

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
    "LazySplit",
    "Source",
    "Split",
    "TensorSplit",
    "about",
    "as_split",
    "check_ipc",
    "chunks",
    "fit_codes",
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
