"""The file of a graph whose nodes have classes: plain arrays in an `.npz`, which hold no code."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dd.base.files import write_bytes
from dd.base.home import home
from dd.base.paths import as_path, is_file
from dd.data.missing import missing_files
from dd.data.nodes.card import NodeCard
from dd.data.nodes.graph import WIDTH, NodeGraph, both_ways
from dd.errors import DamagedError, MissingError

ARRAYS: Final = ("indptr", "indices", "shape", "edges", "y", "train", "val", "test")
"""Features as rows of a sparse matrix, whose values are `data` or else 1; edges `[M, 2]`, each once; classes, -1 where
there is none; and masks. `classes` has their names, where it is there."""
OPTIONAL: Final = ("data", "classes")
PICKLES: Final = "ind.{name}.x"
"""A file of Planetoid's own form, by which it is told."""


class Arrays(NamedTuple):
    """A file: the graph, whose `y` has the class of every node that has one, its masks, bool `[V]`, and its classes."""

    graph: NodeGraph
    masks: tuple[Tensor, Tensor, Tensor]
    classes: tuple[str, ...] = ()


def read_card(card: NodeCard, root: str | None) -> Arrays:
    """The file of a card.

    Raises:
        MissingError: it is not there.
        DamagedError: it is no such file, or its counts are not those of the card.
    """
    store = home("datasets", root)
    places = [store / folder for folder in card.folders]
    path = next((place / card.marker for place in places if is_file(place / card.marker)), None)
    if path is None:
        told = missing_files(card, store, places, False)
        names = [PICKLES.format(name=name) for name in (card.name.lower(), card.name)]
        if any(is_file(place / name) for place in places for name in names):
            told += (
                f" The files `ind.{card.name.lower()}.*` are pickles, which may run code, and are not read. Read them "
                f"with PyG and give what it makes, `Planetoid(root, {card.name!r})[0]`; or write it once as arrays: "
                f"`dd.load_graphs(Planetoid(root, {card.name!r})[0]).save({str(places[0] / card.marker)!r})`."
            )
        raise MissingError(told)
    found = read_arrays(path)
    bare = (found.graph.degree == 0) & (found.graph.x == 0).all(1)  # of CiteSeer; PyG says the first class of them
    graph = replace(found.graph, y=torch.where(bare, -1, found.graph.y))
    got = {"nodes": len(graph), "edges": graph.num_edges // 2, "features": graph.x.shape[1]}
    per_class = torch.bincount(graph.y[graph.y >= 0], minlength=len(card.classes)).tolist()
    if got != card.counts or per_class != list(card.per_class):
        raise DamagedError(
            f"{path} is not {card.name} as its card counts it: {got}, {per_class} a class. Get it again."
        )
    if bool((graph.y[torch.stack(found.masks).any(0)] < 0).any()):
        raise DamagedError(f"{path} has masks of nodes without a class. Get it again.")
    return Arrays(graph, found.masks)


def read_arrays(path: Path) -> Arrays:
    """A file of `ARRAYS`.

    Raises:
        DamagedError: something else, or arrays that do not fit together.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if missing := [name for name in ARRAYS if name not in file]:
                raise DamagedError(f"{path} has no array {', '.join(missing)}; it must have {', '.join(ARRAYS)}.")
            found = {name: np.asarray(file[name]) for name in (*ARRAYS, *(o for o in OPTIONAL if o in file))}
        return _fitted(found)
    except (OSError, ValueError, IndexError, KeyError, zipfile.BadZipFile, TypeError, RuntimeError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"{path} is no file of a graph ({error}). Get it again.") from error


def _fitted(found: dict[str, Any]) -> Arrays:
    """The graph of arrays.

    Raises:
        ValueError: they do not fit together.
    """
    nodes, features = (int(size) for size in found["shape"])
    ptr, columns, y = (torch.from_numpy(found[name].astype(np.int64)) for name in ("indptr", "indices", "y"))
    edges = torch.from_numpy(found["edges"].astype(np.int64)).reshape(-1, 2).t()
    masks = [torch.from_numpy(found[name].astype(bool)) for name in ("train", "val", "test")]
    values = torch.from_numpy(found.get("data", np.ones(len(columns))).astype(np.float32))
    rising = ptr.shape == (nodes + 1,) and int(ptr[0]) == 0 and bool((ptr.diff() >= 0).all())
    inside = not len(columns) or (int(columns.min()) >= 0 and int(columns.max()) < features)
    joined = not edges.numel() or (int(edges.min()) >= 0 and int(edges.max()) < nodes)
    if not (rising and int(ptr[-1]) == len(columns) == len(values) and inside and joined):
        raise ValueError("its arrays do not fit together")
    if any(part.shape != (nodes,) for part in (y, *masks)):
        raise ValueError(f"`y` and masks must have {nodes} entries")
    if int(y.max()) >= nodes:
        raise ValueError(f"class {int(y.max())} of {nodes} nodes")
    if not bool((values.abs() <= WIDTH).all()):
        raise ValueError(f"features that are no numbers of at most {WIDTH:,.0f}")
    x = torch.zeros(nodes, features)
    x[torch.repeat_interleave(torch.arange(nodes), ptr.diff()), columns] = values
    names = tuple(str(name) for name in np.atleast_1d(found.get("classes", np.array([], dtype=str))))
    names = names or tuple(map(str, range(int(y.max()) + 1)))
    if int(y.max()) >= len(names):
        raise ValueError(f"class {int(y.max())} of {len(names)} that `classes` names")
    return Arrays(NodeGraph(x, both_ways(edges, nodes), y), (masks[0], masks[1], masks[2]), names)


def write_arrays(
    path: str | Path, graph: NodeGraph, masks: tuple[Tensor, Tensor, Tensor], classes: Sequence[str]
) -> Path:
    """Write a graph as `read_arrays` reads it; equal graphs give equal bytes.

    Raises:
        WriteError: the disk refuses; an earlier file is intact.
    """
    rows, columns = graph.x.nonzero(as_tuple=True)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=len(graph)).cumsum(0)])
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]].t()
    told = {"indptr": ptr, "indices": columns, "shape": torch.tensor(graph.x.shape), "edges": once, "y": graph.y}
    told |= dict(zip(("train", "val", "test"), masks, strict=True))
    values = graph.x[rows, columns]
    told |= {} if bool((values == 1).all()) else {"data": values}
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in told.items()}
    arrays["classes"] = np.array(classes, dtype=str)
    np.savez_compressed(buffer, **arrays)
    place = as_path(path)
    write_bytes(place, buffer.getvalue())
    return place
