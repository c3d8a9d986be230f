"""The user's own graph: a PyG `Data`, or a data set of one, read by its attributes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dd.base.shapes import check_finite, check_names
from dd.base.texts import shown
from dd.data.graphs.custom import are_of_nodes, is_graph, is_hetero
from dd.data.images.checks import name_of, some
from dd.data.nodes.graph import WIDTH, NodeGraph, both_ways
from dd.errors import InputError, refuse

NODE_FORM: Final = "a PyG `Data` with `x`, `edge_index`, `y` (a class a node) and masks"
MASKS: Final = ("train_mask", "val_mask", "test_mask")


LOST: Final = 0.1
"""A feature is lost where float16 rounds away more than this share of its variance."""


class OwnGraph(NamedTuple):
    """A graph as a user gave it: its `y` has every class that is known; masks by name, bool `[V]` or `[V, S]`."""

    graph: NodeGraph
    masks: dict[str, Tensor]
    classes: tuple[str, ...]
    said: tuple[str, ...]


def one_graph(data: Any) -> Any | None:
    """The graph of a data argument that is one graph whose nodes have classes, or a data set of it; else `None`."""
    if is_graph(data):
        return data if _has_nodes(data) else None
    if isinstance(data, str | dict) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return None
    try:
        only = data[0] if len(data) == 1 else None
    except Exception:  # what cannot be read says so where it is read
        return None
    return only if only is not None and is_graph(only) and _has_nodes(only) else None


def _has_nodes(graph: Any) -> bool:
    """Whether its nodes have classes: `y` has one for each, or it has masks."""
    if is_hetero(graph):
        return False
    return are_of_nodes(getattr(graph, "y", None), getattr(graph, "num_nodes", None)) or _masked(graph)


def _masked(graph: Any) -> bool:
    return any(isinstance(getattr(graph, name, None), Tensor) for name in MASKS)


def read_graph(data: Any, classes: Sequence[str] | int | None) -> OwnGraph:
    """A PyG `Data` as arrays.

    Raises:
        InputError: names the attribute, what is expected, what is there and the way out.
    """
    x, said = _features(data)
    edge_index = _edges(data, len(x))
    loops = int((edge_index[0] == edge_index[1]).sum())
    edges = both_ways(edge_index, len(x))
    if loops:
        said.append(f"{loops:,} loops left out")
    if added := _one_way(edge_index, edges):
        said.append(f"edges made undirected ({added:,} had no reverse)")
    _check_weights(data)
    y = _labels(data, len(x))
    masks = _masks(data, len(x))
    names = _names(y, classes)
    check_masked(y, masks)
    return OwnGraph(NodeGraph(x, edges, y), masks, names, tuple(said))


def _features(data: Any) -> tuple[Tensor, list[str]]:
    """Features float32 `[V, F]`, and what is said of them."""
    x = getattr(data, "x", None)
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_nested or x.is_meta:
        way_out = "Without features give some, such as the degree: `torch_geometric.transforms.OneHotDegree`."
        way_out = "Give `.to_dense()` of it." if isinstance(x, Tensor) else way_out
        got = str(x.layout) if isinstance(x, Tensor) else "none" if x is None else type(x).__name__
        raise refuse("data.x", "features of the nodes, a dense tensor [V, F]", got, way_out)
    x = x.detach().cpu()
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.numel() or x.is_complex():
        raise refuse("data.x", "features of the nodes, numbers [V, F]", f"{x.dtype} {list(x.shape)}")
    found = x.to(torch.float32).contiguous()
    check_finite(x if x.is_floating_point() else found, "data.x", "Fill them in, or leave out such nodes.")
    way_out = "Scale its columns, as by `sklearn.preprocessing.StandardScaler`."
    if (top := float(found.abs().max())) > WIDTH:
        raise refuse("data.x", f"at most {WIDTH:,.0f} in size, since sets have float16", f"{top:g}", way_out)
    lost, differing = _lost(x)
    if lost and lost == differing:
        got = f"{lost} features, none of which float16 does" if lost > 1 else "a feature that float16 does not"
        raise refuse("data.x", "features that tell nodes apart in float16, which sets have", got, way_out)
    return found, [f"{lost} of {differing} features blurred by float16, which sets have"] if lost else []


def _lost(x: Tensor, block: int = 64) -> tuple[int, int]:
    """(features of which rounding to float16 takes more than a tenth of the variance, features that differ at all)."""
    lost = differing = 0
    for part in x.split(block, dim=1):
        values = part.double()
        differs = values.amax(0) > values.amin(0)
        away = ((values - values.half().double()) ** 2).mean(0)
        lost += int((differs & (away > LOST * values.var(0, correction=0))).sum())
        differing += int(differs.sum())
    return lost, differing


def _edges(data: Any, nodes: int) -> Tensor:
    edge = getattr(data, "edge_index", None)
    if not isinstance(edge, Tensor) or edge.layout != torch.strided:
        way_out = "Of a sparse matrix: `data.edge_index = torch_geometric.utils.to_edge_index(data.adj_t)[0]`."
        raise refuse(
            "data.edge_index", "whole numbers [2, E]", "none" if edge is None else type(edge).__name__, way_out
        )
    edge = edge.detach().cpu()
    if edge.ndim != 2 or len(edge) != 2 or edge.is_floating_point() or edge.is_complex() or edge.dtype == torch.bool:
        way_out = "Give `.t()` of it." if edge.ndim == 2 and edge.shape[1] == 2 else ""
        raise refuse("data.edge_index", "whole numbers [2, E]", f"{edge.dtype} {list(edge.shape)}", way_out)
    edge = edge.to(torch.int64)
    if edge.numel() and (int(edge.min()) < 0 or int(edge.max()) >= nodes):
        got, way_out = f"{int(edge.min())} … {int(edge.max())}", "Number nodes by their row in `x`."
        raise refuse("data.edge_index", f"nodes of the graph, 0 … {nodes - 1}", got, way_out)
    return edge


def _one_way(given: Tensor, edges: Tensor) -> int:
    """Edges whose reverse was not given."""
    kept = given[:, given[0] != given[1]]
    different = torch.unique(kept[0] * (int(edges.max()) + 1 if edges.numel() else 1) + kept[1])
    return edges.shape[1] - len(different)


def _check_weights(data: Any) -> None:
    """Refuse edges that differ in more than their ends."""
    for name in ("edge_weight", "edge_attr"):
        value = getattr(data, name, None)
        if value is None:
            continue
        value = value.detach().cpu().to_dense().double().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if value.size and not bool((value == value.flatten()[0]).all()):
            way_out = f"Weights and features of edges are not read: `del data.{name}` takes all edges alike."
            raise refuse(f"data.{name}", "left out, or the same for all edges", f"{list(value.shape)}", way_out)


def _labels(data: Any, nodes: int) -> Tensor:
    y: Any = getattr(data, "y", None)
    if not isinstance(y, Tensor):
        way_out = f"Give {NODE_FORM}."
        raise refuse(
            "data.y", f"a class for each of the {nodes:,} nodes", "none" if y is None else type(y).__name__, way_out
        )
    y = y.detach().cpu()
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim == 2:
        way_out = "Of one-hot rows give `.argmax(1)`; of several targets a node one: `data.y = data.y[:, 0]`."
        raise refuse("data.y", "one class a node", f"{y.shape[1]} targets each", way_out)
    if y.shape != (nodes,):
        raise refuse("data.y", f"a class for each of the {nodes:,} nodes", list(y.shape))
    if y.is_complex():
        raise refuse("data.y", "classes, whole numbers", y.dtype, "Give `.real` of it.")
    if y.is_floating_point():
        known = y[torch.isfinite(y)]
        if bool((known != known.round()).any()):
            way_out = "A class is needed, no quantity: cut it, as by `torch.bucketize(data.y, edges)`."
            raise refuse("data.y", "classes, whole numbers", y.dtype, way_out)
        y = torch.where(torch.isfinite(y), y, -1)
    return y.to(torch.int64)


def _masks(data: Any, nodes: int) -> dict[str, Tensor]:
    """The masks there are, bool `[V]` or `[V, S]`."""
    found = {}
    for name in MASKS:
        mask = getattr(data, name, None)
        if mask is None:
            continue
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim > 2 or mask.shape[:1] != (nodes,):
            got = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            way_out = "Of the numbers of nodes: `torch_geometric.utils.index_to_mask(numbers, data.num_nodes)`."
            raise refuse(f"data.{name}", f"true or false for each of the {nodes:,} nodes", got, way_out)
        mask = mask.detach().cpu()
        found[name] = mask[:, 0] if mask.ndim == 2 and mask.shape[1] == 1 else mask
    if found and "train_mask" not in found:
        way_out = "Add it, or leave all masks out for a random split."
        raise refuse("data.train_mask", f"given beside {', '.join(found)}", "none", way_out)
    columns = {mask.shape[1] for mask in found.values() if mask.ndim == 2}
    if len(columns) > 1 or 0 in columns:
        way_out = "Each column is a split; a mask [V] goes with all of them."
        got = ", ".join(f"{n} {list(m.shape)}" for n, m in found.items())
        raise refuse("masks", "[V], or [V, S] of one number of columns", got, way_out)
    return found


def _names(y: Tensor, classes: Sequence[str] | int | None) -> tuple[str, ...]:
    """Class names; labels are 0 … K−1, and -1 of nodes without a class."""
    top = int(y.max()) + 1 if len(y) else 0
    if isinstance(classes, bool) or not isinstance(classes, int | None):
        names = check_names(classes, "classes")
        if len(names) < top:
            raise refuse("data.y", f"0 … {len(names) - 1} (`classes` names {len(names)})", top - 1)
        return names
    count = top if classes is None else classes
    if top > count or count < 2:
        way_out = "Renumber them from 0 on: `torch.unique(data.y, return_inverse=True)[1]`."
        expected = f"0 … {count - 1}, as `classes` says" if classes is not None else "of at least two classes, 0 … K−1"
        raise refuse("data.y", expected, some(y.unique().tolist()), way_out)
    if count > len(y):
        way_out = "Renumber them from 0 on: `torch.unique(data.y, return_inverse=True)[1]`."
        raise refuse("data.y", "0 … K−1 with every class present", f"class {count - 1} of {len(y)} nodes", way_out)
    return tuple(map(str, range(count)))


def check_masked(y: Tensor, masks: dict[str, Tensor]) -> None:
    """Refuse masks with nodes that have no class.

    Raises:
        InputError: names the mask and how many there are.
    """
    for name, mask in masks.items():
        rows = mask if mask.ndim == 1 else mask.any(1)
        if bool((y[rows] < 0).any()):
            count, way_out = int((y[rows] < 0).sum()), f"Leave them out: `data.{name} &= data.y >= 0`."
            raise refuse(f"data.{name}", "true of nodes with a class alone", f"{count} nodes without (y < 0)", way_out)


def check_trained(labels: Tensor, classes: Sequence[str]) -> None:
    """Refuse a class without training nodes.

    Raises:
        InputError: names the class.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    if empty := [name_of(k, classes) for k, n in enumerate(counts) if n == 0]:
        way_out = "Add some to `train_mask`, renumber the classes, or leave the masks out for a random split."
        raise refuse("data", "training nodes of every class", f"none of class {some(empty)}", way_out)


def check_edges(data: object) -> None:
    """Refuse what is a graph in another form, which would be taken for images.

    Raises:
        InputError: a `Data` whose edges are no `edge_index`, a dict of its attributes, or a graph of networkx.
    """
    first = data[0] if isinstance(data, list | tuple) and data else data
    got, form = type(first).__name__, "a graph as PyG's `Data`"
    if isinstance(first, Mapping):
        if "edge_index" in first:
            raise refuse("data", form, got, "Give `torch_geometric.data.Data.from_dict(data)`.")
    elif not isinstance(getattr(first, "edge_index", torch.empty(0)), Tensor):
        _edges(first, 0)
    elif hasattr(first, "to_undirected") and hasattr(first, "adj"):
        raise refuse("data", form, got, "Of networkx: `torch_geometric.utils.from_networkx(graph)`, with `x` and `y`.")


def not_of_nodes(data: object) -> InputError:
    """What is said of data that are no graph whose nodes have classes."""
    return refuse("data", f"{NODE_FORM}, or a card's name", shown(type(data).__name__))
