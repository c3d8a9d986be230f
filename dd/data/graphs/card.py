"""Cards of graph data sets: TOML files of the domain `graphs` in `datasets/`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from dd.base.home import shipped
from dd.data.card import CheckedCard, checked_card, list_cards, no_folder, read_toml
from dd.errors import find_name

GRAPH_KINDS: Final = {"tu": ("raw",), "smiles": ("rdkit",), "embedded": ("digits",)}
"""Kind of source -> the loaders there are for it."""
RULES: Final = ("random", "scaffold", "given")
PUBLISHED: Final = ("", "torch", "numpy", "same")
LABELLED: Final = ("nodes", "edges")


@final
@dataclass(frozen=True, kw_only=True)
class GraphCard(CheckedCard):
    """One graph data set.

    Attributes:
        name: file name of the card and the name used everywhere.
        title: name for people.
        domain: `"graphs"`.
        kind: `"tu"` (raw text of the TU collection), `"smiles"` (a table of molecules), `"embedded"` (made from a
            dependency's data).
        loader: `"raw"`, `"rdkit"`, `"digits"`.
        classes: class names in label order.
        labels: their values in the files, in the same order, ascending.
        metric: usual figure of merit.
        rule: how `split=k` is drawn: `"random"`, `"scaffold"` or `"given"` (the same test graphs for every k).
        published: how `split="published"` is drawn: `"torch"` or `"numpy"`, see `splits.published_rows`, or
            `"same"` as by `rule`; empty where there is no such split.
        counts: `graphs` (rows of the table for molecules), asserted on load; where known also `nodes` and `edges`
            (directed ones, after the removal of self-loops and duplicates).
        per_class: graphs of each class.
        labelled: what has features as published: `nodes`, `edges`, both or neither; files without them are not whole.
        columns: names of the columns of SMILES and label, for molecules; else empty.
        chirality: whether scaffolds keep chirality, for molecules.
        url: page to read about it, and to get it from.
        archive: URL that `download=True` fetches; empty where PyG knows it or nothing is fetched.
        licence: as stated by the source.
        marker: file whose presence says that the data is there.
        folders: places under the root where `marker` is looked for, in order.
        layout: the expected files, for messages.
        notes: what a reader must know.
    """

    name: str
    title: str
    domain: str
    kind: str
    loader: str
    classes: tuple[str, ...]
    labels: tuple[int, ...]
    metric: str
    rule: str
    published: str
    counts: dict[str, int]
    per_class: tuple[int, ...]
    labelled: tuple[str, ...]
    columns: tuple[str, ...]
    chirality: bool
    url: str
    archive: str
    licence: str
    marker: str
    folders: tuple[str, ...]
    layout: str
    notes: str

    def __post_init__(self) -> None:
        k = len(self.classes)
        self._need(self.domain == "graphs", f"`domain` must be 'graphs'; got {self.domain!r}")
        self._need(self.kind in GRAPH_KINDS, f"`kind` must be one of {', '.join(GRAPH_KINDS)}; got {self.kind!r}")
        self._need(self.loader in GRAPH_KINDS[self.kind], f"`loader` {self.loader!r} is none of kind {self.kind!r}")
        self._need(self.rule in RULES, f"`rule` must be one of {', '.join(RULES)}; got {self.rule!r}")
        self._need(
            self.published in PUBLISHED,
            f"`published` must be one of {', '.join(map(repr, PUBLISHED))}; got {self.published!r}",
        )
        self._need(k >= 2, f"`classes` must be at least 2; got {k}")
        self._need(len(self.labels) == len(self.per_class) == k, f"`labels` and `per_class` must have {k} values")
        self._need(list(self.labels) == sorted(set(self.labels)), f"`labels` must rise; got {self.labels}")
        self._need(
            set(self.labelled) <= set(LABELLED), f"`labelled` must be of {', '.join(LABELLED)}; got {self.labelled}"
        )
        self._need("graphs" in self.counts, "`counts` must have `graphs`")
        self._need(len(self.columns) == (2 if self.kind == "smiles" else 0), "`columns` are two names for molecules")

    @property
    def downloadable(self) -> bool:
        """Whether `download=True` fetches it."""
        return self.kind == "tu" or bool(self.archive)


def load_graph_card(name: str, root: str | os.PathLike[str] | None = None) -> GraphCard:
    """The card of a graph data set; capitals, dashes and underscores do not matter. A `root` is only told of.

    Raises:
        InputError: no card has this name; the message lists those there are.
        DamagedError: the file is not a card.
    """
    way_out = no_folder(root) + (
        "Or give a PyG dataset, a list of `Data`, or the NAME of a TU set with the folder of its NAME_A.txt, "
        "NAME_graph_indicator.txt and NAME_graph_labels.txt as `root=`."
    )
    file = shipped("datasets") / f"{find_name('graph data set', name, list_cards('graphs'), way_out)}.toml"
    return parse_graph_card(read_toml(file), file)


def parse_graph_card(values: dict[str, Any], file: Path) -> GraphCard:
    """`checked_card` of a graph data set."""
    return checked_card(GraphCard, values, file)
