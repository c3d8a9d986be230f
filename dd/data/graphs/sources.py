"""From a graph card, or a name alone, to its graphs: the raw text of TU data sets."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dd.base.home import home
from dd.base.paths import is_file, reading
from dd.data.graphs.card import GraphCard
from dd.data.graphs.graphs import Graphs, GraphSplit, graph_split
from dd.data.graphs.splits import Rows
from dd.data.missing import missing_files
from dd.errors import DamagedError, DDError, MissingError, refuse, warn

TU_FILES: Final = ("A", "graph_indicator", "graph_labels")
"""What every TU set has; node and edge labels are there or not."""
TU_PLACES: Final = ("tu/{name}/raw", "{name}/raw", "{name}", "raw", "")
"""Where the files of a TU set are looked for under the root, in order."""


class Unsplit(NamedTuple):
    """Graphs of a card before they are split; `rows` where the split comes with them."""

    graphs: GraphSplit
    rows: Rows | None = None
    node_names: tuple[str, ...] = ()
    edge_names: tuple[str, ...] = ()

    def graphs_in(self, rows: Rows, classes: tuple[str, ...], name: str, split: int, rule: str) -> Graphs:
        """The graphs of each split."""
        train, val, test = (None if part is None else self.graphs.subset(part) for part in rows)
        assert train is not None
        return Graphs(
            train=train,
            val=val,
            test=test,
            classes=classes,
            name=name,
            split=split,
            rule=rule,
            node_names=self.node_names,
            edge_names=self.edge_names,
        )


def find_graphs(card: GraphCard, root: str | None, download: bool) -> Path:
    """The folder that has the card's files, fetched if `download` asks for it and it is not there.

    Raises:
        MissingError: not there and not fetched.
    """
    store = home("datasets", root)
    places = [store / folder for folder in card.folders]
    found = next((place for place in places if is_file(place / card.marker)), None)
    if found is not None:
        return found
    if not download or not card.downloadable:
        raise MissingError(missing_files(card, store, places, download))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _download(card, places[0])
    except (OSError, RuntimeError) as error:
        raise MissingError(
            f"{card.name!r} could not be fetched into {places[0]} ({error}). Try again, or get it from "
            f"{card.url} and lay it out as\n{card.layout}"
        ) from error
    return find_graphs(card, root, download=False)


def _download(card: GraphCard, target: Path) -> None:
    """Fetch beside the final place and rename, so that what is there is whole."""
    from torch_geometric.data import download_url, extract_zip
    from torch_geometric.datasets import TUDataset

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as fresh:
        if card.kind == "tu":
            extract_zip(download_url(f"{TUDataset.url}/{card.name}.zip", fresh), fresh)
            made = Path(fresh) / card.name
        else:
            made = Path(fresh) / "table"
            made.mkdir()
            Path(download_url(card.archive, fresh)).rename(made / card.marker)
        if not (made / card.marker).is_file():
            raise DamagedError(f"the archive of {card.name!r} has no {card.marker}")
        target.mkdir(exist_ok=True)
        for file in made.iterdir():
            file.rename(target / file.name)


def tu_folder(name: str, root: str | None) -> Path | None:
    """The folder under the root that has raw text of a TU set of this name, whole or not; `None` without."""
    if not name or not name.isprintable() or Path(name).name != name:
        return None
    store = home("datasets", root)
    places = [store / place.format(name=name) for place in TU_PLACES]
    return next((p for p in places if any(is_file(p / f"{name}_{what}.txt") for what in TU_FILES)), None)


def own_card(name: str, folder: Path) -> GraphCard:
    """A card of a TU set that has none, from its files: classes are the graph labels there are, in rising order.

    Raises:
        MissingError: a file that every set has is not there.
        DamagedError: graph labels that are no integers.
        InputError: one class alone.

    Warns:
        UserWarning: of continuous attributes, which are left out, as those of the sets that have cards are.
    """
    missing = [f"{name}_{what}.txt" for what in TU_FILES if not (folder / f"{name}_{what}.txt").is_file()]
    if missing:
        raise MissingError(
            f"{' and '.join(missing)} of the set {name!r} not there, in {folder}. Expected layout:\n"
            f"{own_layout(name)}\nPut what is missing beside the rest; a set without graph labels has no classes."
        )
    labels, counts = np.unique(_read(folder, name, "graph_labels")[:, 0], return_counts=True)
    if len(labels) < 2:
        raise refuse(name, "of two or more classes of graphs", f"{len(labels)}, {[str(x) for x in labels.tolist()]}")
    attributes = [f"{name}_{what}_attributes.txt" for what in ("node", "edge")]
    if left := [file for file in attributes if (folder / file).is_file()]:
        way = "give a PyG data set of it and bins= to have them as categories"
        warn(f"{' and '.join(left)}: continuous attributes are left out, labels alone are read; {way}.")
    return GraphCard(
        name=name,
        title=name,
        domain="graphs",
        kind="tu",
        loader="raw",
        classes=tuple(str(label) for label in labels.tolist()),
        labels=tuple(labels.tolist()),
        metric="auroc" if len(labels) == 2 else "accuracy",
        rule="random",
        published="",
        counts={"graphs": int(counts.sum())},
        per_class=tuple(counts.tolist()),
        labelled=tuple(f"{what}s" for what in ("node", "edge") if (folder / f"{name}_{what}_labels.txt").is_file()),
        columns=(),
        chirality=False,
        url="",
        archive="",
        licence="",
        marker=f"{name}_A.txt",
        folders=(),
        layout=own_layout(name),
        notes="",
    )


def own_layout(name: str) -> str:
    """The files of a TU set that has no card."""
    return (
        f"ROOT/{name}/raw/{name}_A.txt (a line `source, target` an edge, nodes counted from 1 through all graphs)\n"
        f"                {name}_graph_indicator.txt (a line a node: its graph, from 1)\n"
        f"                {name}_graph_labels.txt (a line a graph: its class, an integer)\n"
        f"                {name}_node_labels.txt, {name}_edge_labels.txt (where there are any)\n"
        f"(also ROOT/tu/{name}/raw/…, ROOT/{name}/… or ROOT/…)"
    )


def tu_graphs(folder: Path, card: GraphCard) -> Unsplit:
    """A TU data set from its raw text.

    Node and edge *labels* become features; continuous attributes are left out. Self-loops and duplicates are removed,
    as PyG's reader does; unlike its reader, labels keep their values.

    Args:
        folder: has `<name>_A.txt` and the rest.
        card: of the data set; its labels become 0 … K−1, and it says which files there are.

    Raises:
        MissingError: a file is not there, that of node or edge labels included where the card has them.
        DamagedError: files that cannot be read or do not fit together.
    """
    name, labels = card.name, card.labels
    _check_there(folder, card)
    edges = _read(folder, name, "A") - 1
    owner = _read(folder, name, "graph_indicator")[:, 0] - 1
    raw = _read(folder, name, "graph_labels")[:, 0]
    x = _read(folder, name, "node_labels", len(owner))
    attr = _read(folder, name, "edge_labels", len(edges))
    if edges.shape[1] != 2 or (np.diff(owner) < 0).any() or owner.min() < 0 or owner.max() >= len(raw):
        raise _damaged(folder, name, "nodes are not listed graph by graph, or of graphs that have no label")
    if edges.min() < 0 or edges.max() >= len(owner) or (owner[edges[:, 0]] != owner[edges[:, 1]]).any():
        raise _damaged(folder, name, f"an edge joins nodes of two graphs, or one that is not among the {len(owner)}")
    if len(x) != len(owner) or len(attr) != len(edges):
        raise _damaged(folder, name, f"{len(x)} node labels of {len(owner)}, {len(attr)} edge labels of {len(edges)}")
    if not set(np.unique(raw).tolist()) <= set(labels):
        raise _damaged(folder, name, f"graph labels {sorted(set(raw.tolist()))}, not {list(labels)}")
    keep = edges[:, 0] != edges[:, 1]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(raw)))])
    graphs = graph_split(
        torch.from_numpy(x),
        torch.from_numpy(np.ascontiguousarray(edges[keep].T)),
        torch.from_numpy(attr[keep]),
        torch.from_numpy(ptr),
        torch.from_numpy(np.searchsorted(np.array(labels), raw)),
    )
    return Unsplit(graphs, None, _names("label", x.shape[1]), _names("edge label", attr.shape[1]))


def _check_there(folder: Path, card: GraphCard) -> None:
    """Refuse a set that lacks a file that its card has."""
    name = card.name
    for what in (*TU_FILES, *(f"{kind[:-1]}_labels" for kind in card.labelled)):
        if not (file := folder / f"{name}_{what}.txt").is_file():
            raise MissingError(
                f"{file} is not there, though {name!r} has it as published. Put it beside {card.marker}, or remove "
                f"that and get the data set again: with `download=True` (`--download`), or from {card.url}."
            )


def _read(folder: Path, name: str, what: str, optional: int = 0) -> NDArray[np.int64]:
    """`[lines, columns]` of a file of integers; no columns for `optional` lines where the file is not there."""
    file = folder / f"{name}_{what}.txt"
    if optional and not is_file(file):
        return np.zeros((optional, 0), np.int64)
    try:
        with warnings.catch_warnings(action="ignore"):  # of an empty file, which is refused
            values = reading(file, lambda path: np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2))
    except ValueError as error:
        if isinstance(error, DDError):
            raise
        raise _damaged(folder, name, f"{file.name} holds something else than integers ({error})") from error
    if not len(values):
        raise _damaged(folder, name, f"{file.name} is empty")
    return values


def _names(what: str, n: int) -> tuple[str, ...]:
    return (what,) if n == 1 else tuple(f"{what} {j}" for j in range(n))


def _damaged(folder: Path, name: str, text: str) -> DamagedError:
    return DamagedError(f"the files of {name!r} in {folder} are damaged: {text}. Remove them and get them again.")
