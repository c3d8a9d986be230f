"""Cards of graphs whose nodes have classes: TOML files of the domain `nodes` in `datasets/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from dd.base.home import shipped
from dd.data.card import CheckedCard, checked_card, list_cards, read_toml
from dd.errors import find_name

NODE_KINDS: Final = ("npz", "generated")
"""`npz`: plain arrays, see `dd.data.nodes.arrays`; `generated`: by `dd.data.nodes.blocks`."""


@final
@dataclass(frozen=True, kw_only=True)
class NodeCard(CheckedCard):
    """One graph.

    Attributes:
        name: file name of the card and the name used everywhere.
        title: name for people.
        domain: `"nodes"`.
        kind: of `NODE_KINDS`.
        classes: class names in label order.
        counts: `nodes`, `edges` (undirected, without loops), `features`, asserted on load; of a generated graph what
            it is made with.
        per_class: nodes of each class.
        url: page to read about it, and to get it from.
        licence: as stated by the source.
        marker: file whose presence says that the data is there; empty where no file is needed.
        folders: places under the root where `marker` is looked for, in order.
        layout: the expected files, for messages.
        notes: what a reader must know.
    """

    name: str
    title: str
    domain: str
    kind: str
    classes: tuple[str, ...]
    counts: dict[str, int]
    per_class: tuple[int, ...]
    url: str
    licence: str
    marker: str
    folders: tuple[str, ...]
    layout: str
    notes: str

    def __post_init__(self) -> None:
        self._need(self.domain == "nodes", f"`domain` must be 'nodes'; got {self.domain!r}")
        self._need(self.kind in NODE_KINDS, f"`kind` must be one of {', '.join(NODE_KINDS)}; got {self.kind!r}")
        self._need(len(self.classes) >= 2, f"`classes` must be at least 2; got {len(self.classes)}")
        self._need(len(self.per_class) == len(self.classes), f"`per_class` must have {len(self.classes)} values")
        self._need(self.counts.keys() == {"nodes", "edges", "features"}, "`counts` must have nodes, edges, features")
        self._need(bool(self.marker) == (self.kind == "npz"), "`marker` is the file of an npz, and of nothing else")

    @property
    def downloadable(self) -> bool:
        """Whether `download=True` fetches it."""
        return False


def load_node_card(name: str) -> NodeCard:
    """The card of a graph whose nodes have classes; capitals, dashes and underscores do not matter.

    Raises:
        InputError: no card has this name; the message lists those there are.
        DamagedError: the file is not a card.
    """
    way_out = "Or give a PyG `Data` with `x`, `edge_index`, `y` and masks."
    file = shipped("datasets") / f"{find_name('graph of nodes', name, list_cards('nodes'), way_out)}.toml"
    return parse_node_card(read_toml(file), file)


def parse_node_card(values: dict[str, Any], file: Path) -> NodeCard:
    """`checked_card` of a graph whose nodes have classes."""
    return checked_card(NodeCard, values, file)
