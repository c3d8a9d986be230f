"""The one function that makes `Graphs` from what users give as `data`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dd.base.paths import as_path, expanded
from dd.base.process import under_own_settings
from dd.base.texts import clean_names
from dd.data.card import SMILES
from dd.data.graphs.bins import Bins, check_bins, fit_columns
from dd.data.graphs.card import GraphCard, load_graph_card
from dd.data.graphs.checks import check_labels, check_train, orientation
from dd.data.graphs.custom import are_graphs, check_classified, graphs_of, is_parts
from dd.data.graphs.digits import digits_graphs
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.data.graphs.moleculenet import card_source, molecule_source, table_source
from dd.data.graphs.sources import Unsplit, find_graphs, own_card, tu_folder, tu_graphs
from dd.data.graphs.splits import Rows, check_split, held_out_rows, published_rows, random_number, random_rows
from dd.data.images.checks import some, splits_by_name
from dd.data.images.load import ROLES
from dd.data.items import warn_twins
from dd.data.labels import Encoding, read_labels
from dd.errors import InputError, refuse


@under_own_settings
def load_graphs(
    data: object,
    *,
    split: int | str | None = 0,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    bins: int | Bins | None = None,
    directed: bool | None = None,
    classes: Sequence[str] | int | None = None,
    role: str = "distill",
    like: Sequence[str] | None = None,
) -> Graphs:
    """Any data argument as `Graphs`.

    Args:
        data: a graph card's name (`nci-1` is `NCI1`); the name of any other set whose raw text in the form of the
            TU collection is under `root` (`NAME_A.txt`, `NAME_graph_indicator.txt`, `NAME_graph_labels.txt` and perhaps
            `NAME_node_labels.txt`, `NAME_edge_labels.txt`), as spelled there; `"smiles:PATH.csv"`, a table with a
            column of SMILES and one of labels (`"smiles:PATH.csv#COLUMN"` if there are more), see
            `moleculenet.read_table` and `smiles_graphs`; a PyG data set, `InMemoryDataset` or other, whole, sliced or
            as torch's `Subset`; a list of `torch_geometric.data.Data`, or a `Batch`; a tuple (train, test) or (train,
            val, test) of these, or a list of them as `random_split` gives it, or a dict
            by these names; `Graphs`. Of a `Data`, `edge_index`, `x`,
            `edge_attr`, `y` and `num_nodes` are read. Features may be categories (integers, or floats that are all
            whole numbers; one-hot columns are turned back to one category) or continuous. `y` is one class, a whole
            number or a name, see `dd.data.labels`. Each direction of an undirected edge is an edge of its own, as
            everywhere in PyG.
        split: which split. A number draws 80/10/10 (rule `random`; for cards whose rule is `scaffold` or `given` every
            number means the same graphs); `"random"`, or `"random:K"` for another one, draws so whatever the rule;
            `"published"` is that of the published code, for cards that have one. A list
            is drawn at random in the same way, so that distilling and evaluating with one list keeps test graphs
            apart; `split=None` takes all of a list: as training graphs when distilling, as test graphs when
            evaluating. Where training graphs are given, a tenth of each class is held out as validation graphs, the
            same ones always.
        root: where the files of a card or TU set are; by default the store of `dd.base.home.home`.
        download: fetch a card's files if they are not there. Nothing is fetched otherwise.
        bins: cut every continuous feature at its quantiles over the training graphs into this many categories; the
            thresholds are kept in `Graphs.bins`, which can be given here to cut other graphs alike. Without it
            continuous features stay as they are, and methods that need categories refuse them.
        directed: `None` finds out, see `dd.data.graphs.checks.orientation`; `True` takes edges as they are.
        classes: class names, or their number, of a list.
        role: `"distill"` or `"evaluate"`; the latter needs test graphs.
        like: classes of the summary that a list is to test: its labels go by them where they are no numbers of classes.

    Raises:
        InputError: an unknown name or split, another form, or graphs that cannot be learned from: one class, a class
            without training graphs, no edges, test labels that no training graph has, NaN, symmetric
            and asymmetric graphs mixed.
        MissingError: files that are not there; the message shows the layout and whether `download` fetches them.
        DamagedError: files that cannot be read; the message names them.

    Warns:
        UserWarning: of data of one's own: test graphs that look like training graphs, and graphs under more than one
            class, counted; see `items.graph_items`. Cards are as published; `dd.evaluate` notes what they have.
    """
    if role not in ROLES:
        raise refuse("role", "'distill' or 'evaluate'", repr(role))
    check_split(split)
    if bins is not None:
        check_bins(bins)
    if isinstance(data, str | Graphs) and classes is not None:
        raise refuse("classes", "left out for a named data set or `Graphs`", repr(classes))
    if root is not None and not isinstance(data, str):
        raise refuse("root", "left out unless `data` is the name of a card", repr(os.fspath(root)))
    if isinstance(data, str):
        graphs = _from_name(data, split, None if root is None else os.fspath(root), download)
    elif isinstance(data, Graphs):
        graphs = data
    else:
        graphs = _from_user(data, split, classes, role, like)
    _check(graphs, role)
    if not isinstance(data, Graphs) and (not isinstance(data, str) or data.startswith(SMILES)):
        warn_twins(graphs.twins, "graphs")
    wanted = graphs.directed or None if directed is None else directed
    graphs = replace(graphs, directed=orientation(parts_of(graphs), wanted))
    return graphs if bins is None else _binned(graphs, bins)


def parts_of(graphs: Graphs) -> list[GraphSplit]:
    """The splits there are."""
    return [part for part in (graphs.train, graphs.val, graphs.test) if part is not None]


def smiles_graphs(
    smiles: Sequence[str],
    labels: Sequence[int | str] | Tensor,
    *,
    split: int = 0,
    rule: str = "scaffold",
    chirality: bool = False,
    classes: Sequence[str] | int | None = None,
    name: str = "molecules",
    workers: int | None = None,
) -> Graphs:
    """Molecules as graphs, split 80/10/10.

    Nodes are atoms with the 9 features of the Open Graph Benchmark (`molecules.ATOM_NAMES`), hydrogens left implicit,
    edges are bonds with 3 (`molecules.BOND_NAMES`), once in each direction.

    Args:
        smiles: one a molecule. Those that rdkit does not read are left out, with a warning that names their rows.
        labels: classes, one a molecule: whole numbers or names, see `dd.data.labels`.
        split: number of the split; `scaffold` gives the same graphs for every number.
        rule: `scaffold` (`molecules.scaffold_rows`; nothing is drawn) or `random` (`splits.random_rows`).
        chirality: whether scaffolds keep chirality.
        classes: class names, or their number.
        name: what reports call the data.
        workers: processes that read; by default one a CPU, at most four, and none for a few molecules.

    Raises:
        InputError: see `load_graphs`.
        MissingError: rdkit is not installed.
    """
    check_split(split)
    if rule not in ("scaffold", "random"):
        raise refuse("rule", "'scaffold' or 'random'", repr(rule))
    if not isinstance(split, int):
        raise refuse("split", "a whole number from 0 on", repr(split))
    found = read_labels(labels, "labels", "a molecule")
    if len(found) != len(smiles):
        raise refuse("labels", f"one a SMILES, {len(smiles)}", len(found))
    encoding = Encoding.of(found, classes, "labels")
    y = encoding.classes_of(found, "labels")
    source = molecule_source(smiles, y, scaffold=rule == "scaffold", chirality=chirality, workers=workers)
    rows = source.rows or random_rows(len(source.graphs), split)
    graphs = source.graphs_in(rows, clean_names(encoding.names), name, split, rule)
    warn_twins(graphs.twins, "graphs")
    return load_graphs(graphs, directed=False)


def _from_name(name: str, split: int | str | None, root: str | None, download: bool) -> Graphs:
    if not name.startswith(SMILES):
        return _from_card(_card(name, root), split, root, download)
    path, _, column = name.removeprefix(SMILES).partition("#")
    if not path:
        raise refuse("data", f"`{SMILES}PATH.csv` or `{SMILES}PATH.csv#COLUMN`", f"`{name}`")
    if root is not None:
        raise refuse("root", "left out unless `data` is the name of a card", repr(root))
    drawn = random_number(split)
    if not isinstance(split, int) and drawn is None:
        expected = "a whole number from 0 on, or 'random', for molecules of your own"
        raise refuse("split", expected, repr(split))
    file = expanded(as_path(path, "data"))
    source, names = table_source(file, column or None, chirality=False, scaffold=drawn is None)
    rows = source.rows or random_rows(len(source.graphs), drawn or 0)
    number = split if isinstance(split, int) else drawn or 0
    return source.graphs_in(rows, names, file.stem, number, "scaffold" if drawn is None else "random")


def _card(name: str, root: str | None) -> GraphCard:
    """The card of this name, or one made for the TU text of this name under the root."""
    try:
        return load_graph_card(name, root)
    except InputError:
        if (folder := tu_folder(name, root)) is not None:
            return own_card(name, folder)
        raise


def _from_card(card: GraphCard, split: int | str | None, root: str | None, download: bool) -> Graphs:
    if split is None or (split == "published" and not card.published):
        words = "a whole number from 0 on" + (", or 'published'" if card.published else "")
        raise refuse("split", f"{words} for {card.name!r}", repr(split))
    source, drawn = _source(card, root, download), random_number(split)
    n, rule, number = len(source.graphs), card.rule, split if isinstance(split, int) else drawn or 0
    if drawn is not None:
        rows, rule = random_rows(n, drawn), "random"
    elif split == "published" and card.published != "same":
        rows, rule = published_rows(card.published, n), "published"
    elif source.rows is not None:
        rows = source.rows
    else:
        rows = random_rows(n, number)
    return source.graphs_in(rows, card.classes, card.name, number, rule)


def _source(card: GraphCard, root: str | None, download: bool) -> Unsplit:
    if card.kind == "embedded":
        source, where = digits_graphs(), "scikit-learn"
    else:
        own = tu_folder(card.name, root) if not card.folders else None
        folder = own or find_graphs(card, root, download)
        if card.kind == "smiles":
            return card_source(card, folder)
        source, where = tu_graphs(folder, card), str(folder)
    _assert_counts(card, source.graphs, where)
    return source


def _assert_counts(card: GraphCard, graphs: GraphSplit, where: str) -> None:
    got = {"graphs": len(graphs), "nodes": graphs.num_nodes, "edges": graphs.num_edges}
    for what, expected in card.counts.items():
        if got[what] != expected:
            raise refuse(card.name, f"{expected} {what}, as its card says", f"{got[what]} in {where}", "Get it again.")
    sizes = torch.bincount(graphs.labels, minlength=len(card.classes)).tolist()
    if sizes != list(card.per_class):
        raise refuse(card.name, f"{list(card.per_class)} graphs a class", f"{sizes} in {where}", "Get it again.")


def _from_user(
    data: Any, split: int | str | None, classes: Sequence[str] | int | None, role: str, like: Sequence[str] | None
) -> Graphs:
    if split == "published":
        raise refuse("split", "a whole number, or None, for graphs of your own", repr(split))
    if isinstance(data, Mapping):
        found = splits_by_name(data)
        if not {"train", "test"} <= found.keys():
            raise refuse("data", "graphs by `train` and `test`", some(list(map(str, data)), 20), "Name them so.")
        data = tuple(found.values())
    parts = list(data) if is_parts(data) else [data]
    if are_graphs(data):
        check_classified(data, fewest=2 if role == "distill" else 1)
    split = random_number(split) if isinstance(split, str) else split
    tests = len(parts) == 1 and not isinstance(split, int) and role == "evaluate"
    whole, sizes, names = graphs_of(parts, classes, every=not tests, like=like if tests else None)
    check_labels(whole.labels, names)
    source = Unsplit(whole, None, _numbered("x", whole.x.shape[1]), _numbered("edge_attr", whole.edge_attr.shape[1]))
    if len(parts) == 1 and isinstance(split, int):
        return source.graphs_in(random_rows(len(whole), split), names, "graphs", split, "random")
    ends = torch.tensor(sizes).cumsum(0).tolist()
    ranges = [torch.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    if tests:
        rows = Rows(ranges[0][:0], None, ranges[0])
    elif len(parts) == 3:
        rows = Rows(*ranges)
    else:
        rows = held_out_rows(whole.labels, ranges[0], ranges[1] if len(parts) == 2 else None, len(names))
    return source.graphs_in(rows, names, "graphs", 0, "given")


def _numbered(what: str, n: int) -> tuple[str, ...]:
    return (what,) if n == 1 else tuple(f"{what}[{j}]" for j in range(n))


def _check(graphs: Graphs, role: str) -> None:
    for part in parts_of(graphs):
        check_labels(part.labels, graphs.classes)
    if role == "evaluate" and graphs.test is None:
        raise refuse("data", "graphs with test graphs", f"{graphs.name!r} without", "Give a tuple (train, test).")
    if len(graphs.train) or role == "distill":
        way = "Add graphs, name the classes with `classes=`, try another `split`, or give a tuple (train, test)."
        check_train(graphs.train, graphs.classes, way)


def _binned(graphs: Graphs, bins: int | Bins) -> Graphs:
    if isinstance(bins, int):
        if graphs.bins is not None:
            return graphs
        if not len(graphs.train):
            raise refuse("bins", "the `bins` of the training graphs, where all are test graphs", str(bins))
        others = [part for part in (graphs.val, graphs.test) if part is not None]
        made = Bins(
            fit_columns(graphs.train.x, [part.x for part in others], bins),
            fit_columns(graphs.train.edge_attr, [part.edge_attr for part in others], bins),
        )
        if all(cuts is None for cuts in (*made.nodes, *made.edges)):
            raise refuse("bins", "left out for data without continuous features", str(bins))
        bins = made

    def apply(part: GraphSplit) -> GraphSplit:
        return replace(part, x=bins.node_values(part.x), edge_attr=bins.edge_values(part.edge_attr))

    train, val, test = (None if p is None else apply(p) for p in (graphs.train, graphs.val, graphs.test))
    assert train is not None
    return replace(graphs, train=train, val=val, test=test, bins=bins)
