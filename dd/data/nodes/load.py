"""The one function that makes `Nodes` from what users give as `data`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from torch import Tensor

from dd.base.paths import as_path, expanded, is_file
from dd.base.process import under_own_settings
from dd.data.card import NODES
from dd.data.graphs.splits import Rows, check_split, random_number
from dd.data.nodes.arrays import read_arrays, read_card
from dd.data.nodes.blocks import block_model
from dd.data.nodes.card import NodeCard, load_node_card
from dd.data.nodes.custom import MASKS, OwnGraph, check_masked, check_trained, not_of_nodes, one_graph, read_graph
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import Nodes, NodeSplit
from dd.data.nodes.splits import mask_rows, random_masks
from dd.errors import MissingError, refuse, warn

DRAWN: Final = "no masks, so training and validation nodes of each class are drawn; `split=` says which draw"
"""What is said of a graph without masks."""


@under_own_settings
def load_nodes(
    data: object,
    *,
    split: int | str | None = 0,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    classes: Sequence[str] | int | None = None,
    role: str = "distill",
    like: Sequence[str] | None = None,
) -> Nodes:
    """One graph whose nodes have classes, as `Nodes`.

    Args:
        data: a card's name (`Cora`, `CiteSeer`, or `blocks`, which is generated); `nodes:PATH.npz`, a graph of one's
            own as `dd.load_graphs(graph).save("PATH.npz")` wrote it, for the shell; a PyG `Data`, or a data set of one,
            with `x`, `edge_index`, `y` and perhaps `train_mask`, `val_mask`, `test_mask`; `Nodes`. Edges are taken
            both ways and loops are left out.
        split: a number takes the masks there are, of several columns that one; data without masks are split at random,
            20 training and 30 validation nodes of each class, all others for tests (`random_masks`).
            `"random"`, or `"random:K"` for another one, draws so whatever masks there are; `"published"` insists on
            masks.
        root: where the file of a card is; by default the store of `dd.base.home.home`.
        download: no file of these is fetched; their cards say where they are.
        classes: class names, or their number, of a `Data`.
        role: `"distill"` or `"evaluate"`; the latter needs test nodes.
        like: classes of the set that the data is to test: their names, where a `Data` has none.

    Raises:
        InputError: another form; no features or labels; labels or edges out of range; several targets a node; weights
            of edges that differ; NaN; masks that share nodes or have nodes without a class; a class without training
            nodes.
        MissingError: a card's file that is not there; the message shows the layout.
        DamagedError: a file that cannot be read, or is not what its card counts.

    Warns:
        UserWarning: edges that were made undirected, loops that were left out, and nodes that were drawn for want of
            masks.
    """
    check_split(split)
    if isinstance(data, str | Nodes) and classes is not None:
        raise refuse("classes", "left out for a named data set or `Nodes`", repr(classes))
    if isinstance(data, Nodes):
        real = data
    elif isinstance(data, str) and not data.startswith(NODES):
        real = _from_card(load_node_card(data), split, None if root is None else os.fspath(root))
    else:
        if root is not None:
            raise refuse("root", "left out unless `data` is the name of a card", repr(os.fspath(root)))
        real = _from_file(data, split) if isinstance(data, str) else _from_user(data, split, classes, like)
    check_trained(real.train.labels, real.classes)
    if role == "evaluate" and real.test is None:
        raise refuse("data", "with test nodes", f"{real.name!r} without", "Give a `test_mask`, or split='random'.")
    return real


def _from_card(card: NodeCard, split: int | str | None, root: str | None) -> Nodes:
    if card.kind == "generated":
        counts = card.counts
        graph = block_model(counts["nodes"], len(card.classes), counts["features"], seed=0)
        return made(graph, {}, card.classes, card.name, split)
    found = read_card(card, root)
    return made(found.graph, dict(zip(MASKS, found.masks, strict=True)), card.classes, card.name, split)


def _from_file(data: str, split: int | str | None) -> Nodes:
    text = data.removeprefix(NODES)
    if not text:
        raise refuse("data", f"`{NODES}PATH.npz`", f"`{data}`")
    path = expanded(as_path(text, "data"))
    if not is_file(path):
        way_out = f"`dd.load_graphs(graph).save({str(path)!r})` writes one of a PyG `Data`."
        raise MissingError(f"data={data!r}: there is no file {path}. {way_out}")
    found = read_arrays(path)
    masks = {name: mask for name, mask in zip(MASKS, found.masks, strict=True) if bool(mask.any())}
    check_masked(found.graph.y, masks)
    return made(found.graph, masks if MASKS[0] in masks else {}, found.classes, path.stem, split)


def _from_user(
    data: object, split: int | str | None, classes: Sequence[str] | int | None, like: Sequence[str] | None
) -> Nodes:
    graph = one_graph(data)
    if graph is None:
        raise not_of_nodes(data)
    found: OwnGraph = read_graph(graph, like if classes is None and like is not None else classes)
    drawn = () if found.masks or random_number(split) is not None else (DRAWN,)
    if said := (*found.said, *drawn):
        warn(f"`data`: {', '.join(said)}.")
    return made(found.graph, found.masks, found.classes, "nodes", split, found.said)


def made(
    graph: NodeGraph,
    masks: dict[str, Tensor],
    classes: Sequence[str],
    name: str = "nodes",
    split: int | str | None = 0,
    said: tuple[str, ...] = (),
) -> Nodes:
    """A graph with every class that is known, and its masks, as `Nodes`.

    Raises:
        InputError: a split that there is not, or masks that do not do.
    """
    drawn, number, rule = random_number(split), 0, "given"
    if drawn is not None or not masks:
        if drawn is None and not isinstance(split, int):
            raise refuse("split", "a whole number, 'random' or 'random:K' for data without masks", repr(split))
        number = drawn if drawn is not None else int(split or 0)
        rows, rule = random_masks(graph, number), "random"
    else:
        rows, number = _column(masks, split)
    train, val, test = (None if part is None else NodeSplit(part, graph.y[part]) for part in rows)
    assert train is not None
    return Nodes(
        x=graph.x,
        edge_index=graph.edge_index,
        y=graph.y,
        train=train,
        val=val,
        test=test,
        classes=tuple(classes),
        name=name,
        split=number,
        rule=rule,
        said=said,
    )


def _column(masks: dict[str, Tensor], split: int | str | None) -> tuple[Rows, int]:
    """The rows of masks, and the number of the split, of those of several columns."""
    number = split if isinstance(split, int) else 0
    columns = max(mask.shape[1] if mask.ndim == 2 else 1 for mask in masks.values())
    if number >= columns:
        there = f"0 … {columns - 1}, the columns of the masks" if columns > 1 else "0, since there is one set of masks"
        raise refuse("split", there, number, f"'random:{number}' draws another one.")
    one = {name: mask[:, number] if mask.ndim == 2 else mask for name, mask in masks.items()}
    return mask_rows(one["train_mask"], one.get("val_mask"), one.get("test_mask")), number


def blank_nodes(card: NodeCard) -> Nodes:
    """A graph with the counts of a card, of noise: what an estimate looks at where the file is not there."""
    counts = card.counts
    graph = block_model(counts["nodes"], len(card.classes), counts["features"], counts["edges"])
    return made(graph, {}, card.classes, card.name)
