"""A summary of trees for people and for other libraries: PyG graphs, a text, a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.errors import refuse
from dd.files import write_bytes
from dd.synthetic.trees import TreeSummary

LIMIT: Final = 1_000_000
"""Nodes of explicit trees that are made at most."""


def expand(small: TreeSummary, tree: int) -> tuple[Tensor, Tensor, Tensor]:
    """A kept tree as an explicit graph: (node labels `[n]`, edges from child to parent `[2, n - 1]`, their labels).

    Node 0 is the root. Children of one parent follow each other.

    Raises:
        InputError: it has more than a million nodes.
    """
    labels = [int(small.levels[-1].label[tree])]
    parents: list[int] = []
    edges: list[int] = []
    layer = [(0, tree)]
    for d in range(small.depth, 0, -1):
        level, below = small.levels[d], small.levels[d - 1]
        following = []
        for node, place in layer:
            for run in range(int(level.ptr[place]), int(level.ptr[place + 1])):
                child, times = int(level.child[run]), int(level.count[run])
                if len(labels) + times > LIMIT:
                    raise refuse("tree", f"of at most {LIMIT:,} nodes to be written out", "a larger one")
                for _ in range(times):
                    following.append((len(labels), child))
                    labels.append(int(below.label[child]))
                    parents.append(node)
                    edges.append(int(level.edge[run]))
        layer = following
    ends = torch.tensor([list(range(1, len(labels))), parents], dtype=torch.int64).reshape(2, -1)
    return torch.tensor(labels), ends, torch.tensor(edges, dtype=torch.int64)


def pattern_data(small: TreeSummary, pattern: int) -> Any:
    """A pattern as PyG `Data`, its trees with edges from child to parent.

    `x` are raw feature values `[n, F]`, `edge_attr` `[e, B]`, `root` bool `[n]`, `count` float32 `[n]` the mean
    multiplicity at roots (else 0), `y` its class, `support` the training graphs of the class that hold it.
    """
    from torch_geometric.data import Data

    labels, ends, edges, roots = [], [], [], []
    offset = 0
    for tree in small.trees(pattern):
        nodes, pair, kinds = expand(small, tree)
        roots.append(offset)
        labels.append(nodes)
        ends.append(pair + offset)
        edges.append(kinds)
        offset += len(nodes)
    label, edge = torch.cat(labels), torch.cat(edges)
    root = torch.zeros(offset, dtype=torch.bool)
    root[roots] = True
    count = torch.zeros(offset)
    inside = slice(int(small.pattern_ptr[pattern]), int(small.pattern_ptr[pattern + 1]))
    count[roots] = small.pattern_count[inside]
    own = int(small.labels[pattern])
    return Data(
        x=_raw(small.codes.values, small.codes.table[label]),
        edge_index=torch.cat(ends, dim=1),
        edge_attr=_raw(small.codes.edge_values, small.codes.edge_table[edge]),
        root=root,
        count=count,
        y=torch.tensor([own]),
        support=int(small.support[pattern, own]),
    )


def _raw(values: tuple[Tensor, ...], places: Tensor) -> Tensor:
    """The features that places stand for, `[n, F]`."""
    columns = [known[column - 1] for known, column in zip(values, places.t(), strict=True)]
    return torch.stack(columns, dim=1) if columns else torch.zeros(len(places), 0, dtype=torch.int64)


def report(small: TreeSummary) -> str:
    """What the summary covers of its training graphs, as text."""
    told = small.figures
    lines = [
        f"{len(small)} patterns over {len(small.levels[-1])} trees of depth {small.depth}; "
        f"{small.published:,} bytes by the published count, {small.nbytes.total:,} on disk"
    ]
    if "coverage" in told:
        lines.append(f"nodes whose tree is kept: {100 * told['coverage']:.1f} % of the training nodes")
        each = zip(
            small.classes,
            small.graphs.tolist(),
            told["patterns_by_class"],
            told["thresholds"],
            told["coverage_by_class"],
            told["uncovered_graphs"],
            strict=True,
        )
        for name, graphs, patterns, least, cover, bare in each:
            lines.append(
                f"class {name}: {patterns} patterns"
                + ("" if least is None else f", each in {least} or more of {graphs} graphs")
                + f"; {100 * cover:.1f} % of its nodes; {bare} graphs without any kept tree"
            )
        distinct = ", ".join(f"{n:,} of depth {d}" for d, n in enumerate(told["distinct_trees"]))
        lines.append(f"distinct trees in training: {distinct}")
    return "\n".join(lines)


def draw(small: TreeSummary, path: str | Path | None, per_class: int) -> bytes:
    """The most frequent trees of each class as PNG; see `TreeSummary.draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if per_class < 1:
        raise refuse("per_class", "at least 1", per_class)
    figure = Figure(figsize=(2.6 * per_class, 2.4 * small.num_classes), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    share = small.tree_support.double() / small.graphs.clamp(min=1)
    axes = figure.subplots(small.num_classes, per_class, squeeze=False)
    for k, row in enumerate(axes):
        best = torch.sort(share[:, k], descending=True, stable=True).indices.tolist()
        for place, axis in enumerate(row):
            axis.set_axis_off()
            if place < len(best) and share[best[place], k] > 0:
                _plot_tree(axis, small, best[place])
                axis.set_title(f"{small.classes[k]}: {100 * float(share[best[place], k]):.0f} % of graphs", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    if path is not None:
        write_bytes(Path(path), buffer.getvalue())
    return buffer.getvalue()


_SHOWN: Final = 200


def _plot_tree(axis: Any, small: TreeSummary, tree: int) -> None:
    """One tree, its root on top, node labels in colour and as numbers."""
    labels, ends, _ = expand(small, tree)
    if len(labels) > _SHOWN:
        axis.text(0.5, 0.5, f"{len(labels):,} nodes", ha="center", va="center", fontsize=8)
        return
    parent = [-1, *ends[1].tolist()]
    depth = [0] * len(labels)
    for node in range(1, len(labels)):
        depth[node] = depth[parent[node]] + 1
    children: list[list[int]] = [[] for _ in labels]
    for node in range(1, len(labels)):
        children[parent[node]].append(node)
    x = [0.0] * len(labels)
    free = 0.0
    stack = [(0, False)]
    while stack:
        node, done = stack.pop()
        if done:
            x[node] = sum(x[c] for c in children[node]) / len(children[node])
        elif children[node]:
            stack.append((node, True))
            stack.extend((c, False) for c in reversed(children[node]))
        else:
            x[node] = free
            free += 1
    for node in range(1, len(labels)):
        axis.plot([x[node], x[parent[node]]], [-depth[node], -depth[parent[node]]], color="0.6", lw=0.8, zorder=1)
    y = [-d for d in depth]
    axis.scatter(x, y, c=labels.numpy() % 20, cmap="tab20", vmin=0, vmax=19, s=60, zorder=2)
    if len(labels) <= 40:
        for node, label in enumerate(labels.tolist()):
            axis.text(x[node], y[node], str(label), ha="center", va="center", fontsize=5, zorder=3)
    axis.margins(0.15)
