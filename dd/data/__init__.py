"""Data: cards, splits, and `Images` from whatever the user has."""

from dd.data.card import Card, list_cards, load_card
from dd.data.custom import LIMIT, as_split
from dd.data.images import Images, check_ipc, hold_out
from dd.data.load import load_images
from dd.data.splits import LazySplit, Split, TensorSplit, chunks, statistics

__all__ = [
    "LIMIT",
    "Card",
    "Images",
    "LazySplit",
    "Split",
    "TensorSplit",
    "as_split",
    "check_ipc",
    "chunks",
    "hold_out",
    "list_cards",
    "load_card",
    "load_images",
    "statistics",
]
