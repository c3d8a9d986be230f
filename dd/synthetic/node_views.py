"""A set of nodes for people: a report in words, and a picture of its graph."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from dd.base.files import write_bytes
from dd.base.paths import as_path
from dd.errors import refuse

if TYPE_CHECKING:
    from dd.synthetic.nodes import NodeSet

ROUNDS: Final = 60
"""Steps of the layout; a picture of a large graph takes fewer."""
DRAWN: Final = 2000
"""Nodes of a picture at most, the first ones."""
NAMED: Final = 20
"""Classes in the legend at most."""


def report(small: NodeSet) -> str:
    """Nodes, edges and bytes, and how it was chosen."""
    size, graph = small.nbytes, small.graph
    held = int((graph.x != 0).sum())
    counts = torch.bincount(small.labels, minlength=small.num_classes).tolist()
    each = ", ".join(f"{name} {count:,}" for name, count in zip(small.classes, counts, strict=True))
    form = "dense" if size.features == 2 * graph.x.numel() else "by their entries"
    lines = [
        f"{len(small):,} nodes, {graph.num_edges // 2:,} edges; labelled: {each}",
        f"features: {held:,} of {graph.x.numel():,} not zero, stored {form}",
        f"bytes: {size.counted:,} counted (features {size.features:,}, edges {size.edges:,}, labels {size.labels:,}), "
        f"{size.total:,} on disk",
    ]
    return "\n".join([*lines, *share(small)])


def share(small: NodeSet) -> list[str]:
    """How large a set is beside the graph that its method saw, in words; nothing where that is not known."""
    whole, counted = small.figures.get("graph_bytes"), small.nbytes.counted
    if not isinstance(whole, int) or not whole:
        return []
    alone = small.method.get("setting") == "inductive"
    of = "training nodes and the edges between them, all that was seen," if alone else "graph"
    told = f"{100 * counted / whole:.2f} % of the {whole:,} bytes of the {of} stored alike"
    return [told] if counted < whole else [told, "it is no smaller than what it was made of: lower `budget_bytes`"]


def places(small: NodeSet, nodes: int) -> Tensor:
    """Where nodes are drawn, float64 `[nodes, 2]`: by the first two directions of their features, then pulled by edges.

    Like nodes are near each other; nothing is drawn by chance.
    """
    x = small.graph.x[:nodes].double()
    x = x / torch.where(x.norm(dim=1, keepdim=True) > 0, x.norm(dim=1, keepdim=True), 1)
    x = x - x.mean(0)
    gram = x @ x.t()
    values, vectors = torch.linalg.eigh(gram)
    at = vectors[:, -2:] * values[-2:].clamp(min=0).sqrt() if nodes > 1 else torch.zeros(nodes, 2, dtype=torch.float64)
    at = torch.cat([at, torch.zeros(nodes, 2 - at.shape[1], dtype=torch.float64)], 1)
    signs = torch.where(at.sum(0) < 0, -1.0, 1.0)
    spread = at.abs().amax(0)
    at = signs * at / torch.where(spread > 0, spread, 1)
    edges = small.graph.edge_index[:, (small.graph.edge_index < nodes).all(0)]
    if not edges.shape[1]:
        return at
    degree = torch.bincount(edges[1], minlength=nodes).double()[:, None]
    for _ in range(ROUNDS // 20):  # a little towards the neighbours
        pulled = torch.zeros_like(at).index_add_(0, edges[1], at[edges[0]]) / degree.clamp(min=1)
        at = torch.where(degree > 0, 0.7 * at + 0.3 * pulled, at)
    return at


def draw(small: NodeSet, path: str | Path | None) -> bytes:
    """The graph as PNG, its nodes coloured by class; see `NodeSet.draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path is not None and as_path(path).suffix.lower() != ".png":
        raise refuse("path", "a file NAME.png", repr(str(path)), "For NAME.svg give it to `plot`.")
    count = min(DRAWN, len(small))
    at, y = np.asarray(places(small, count)), np.asarray(small.graph.y[:count])
    figure = Figure(figsize=(7, 5), dpi=100)
    FigureCanvasAgg(figure)
    axis = figure.subplots(subplot_kw={"xticks": (), "yticks": ()})
    axis.set_axis_off()
    edges = small.graph.edge_index[:, (small.graph.edge_index < count).all(0)]
    source, target = np.asarray(edges[:, edges[0] < edges[1]])
    gap = np.full(len(source), np.nan)
    lines = [np.stack([at[source, d], at[target, d], gap], 1).ravel() for d in (0, 1)]
    axis.plot(*lines, color="0.75", lw=0.6, zorder=1)
    bare, size = y < 0, 70 if count < 60 else 22
    axis.scatter(at[bare, 0], at[bare, 1], s=12, color="0.8", zorder=2, label="not trained on" if bare.any() else None)
    for k in range(min(small.num_classes, NAMED)):
        own = y == k
        axis.scatter(at[own, 0], at[own, 1], s=size, color=_colour(k), zorder=3, label=small.classes[k][:30])
    rest = y >= NAMED
    if rest.any():
        axis.scatter(
            at[rest, 0], at[rest, 1], s=size, color="0.4", zorder=3, label=f"{small.num_classes - NAMED} more classes"
        )
    axis.margins(0.08)
    legend = axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.subplots_adjust(0.02, 0.02, 0.68, 0.98)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    if path is not None:
        write_bytes(Path(path), buffer.getvalue())
    return buffer.getvalue()


def _colour(k: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    found: tuple[float, float, float, float] = colormaps["tab20"](k % 20)
    return found
