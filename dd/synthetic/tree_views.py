"""A summary of trees for people and for other libraries: PyG graphs, a text, a picture."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.files import write_bytes
from dd.base.paths import as_path
from dd.base.raster import short
from dd.base.texts import count
from dd.errors import refuse
from dd.synthetic.trees import TreeSummary

LIMIT: Final = 1_000_000
"""Nodes of explicit trees that are made at most."""
CLASSES: Final = 20
"""Whose trees are drawn at most."""
_NONE: Final = torch.zeros(0, dtype=torch.int64)


def tree_sizes(small: TreeSummary) -> list[int]:
    """Nodes of each kept tree written out, `[R]`, however many that would be."""
    sizes = [1] * len(small.levels[0])
    for level in small.levels[1:]:
        below, ptr = sizes, level.ptr.tolist()
        runs = [n * below[c] for c, n in zip(level.child.tolist(), level.count.tolist(), strict=True)]
        sizes = [1 + sum(runs[a:b]) for a, b in itertools.pairwise(ptr)]
    return sizes


def expand(small: TreeSummary, tree: int) -> tuple[Tensor, Tensor, Tensor]:
    """A kept tree as an explicit graph: (node labels `[n]`, edges from child to parent `[2, n - 1]`, their labels).

    Node 0 is the root. Children of one parent follow each other.

    Raises:
        InputError: it has more than a million nodes.
    """
    size = tree_sizes(small)[tree]
    if size > LIMIT:
        raise refuse("tree", f"of at most {LIMIT:,} nodes to be written out", f"one of {size:,}")
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
    inside = slice(int(small.pattern_ptr[pattern]), int(small.pattern_ptr[pattern + 1]))
    own = int(small.labels[pattern])
    data = _trees_data(small, small.trees(pattern), small.pattern_count[inside], own)
    data.support = int(small.support[pattern, own])
    return data


def bag_data(small: TreeSummary, bag: Tensor, label: int) -> Any:
    """A bag, how often it holds each tree `[R]`, as PyG `Data` like that of a pattern; the empty one has no nodes."""
    trees = bag.nonzero()[:, 0]
    return _trees_data(small, trees.tolist(), bag[trees].float(), label)


def _trees_data(small: TreeSummary, trees: Sequence[int], counts: Tensor, label: int) -> Any:
    """Trees, as often as `counts` says, as PyG `Data`; see `pattern_data`."""
    from torch_geometric.data import Data

    labels, ends, edges, roots = [_NONE], [_NONE.view(1, 0).expand(2, 0)], [_NONE], []
    offset = 0
    for tree in trees:
        nodes, pair, kinds = expand(small, tree)
        roots.append(offset)
        labels.append(nodes)
        ends.append(pair + offset)
        edges.append(kinds)
        offset += len(nodes)
    kind, edge = torch.cat(labels), torch.cat(edges)
    root = torch.zeros(offset, dtype=torch.bool)
    root[roots] = True
    count = torch.zeros(offset)
    count[roots] = counts
    return Data(
        x=_raw(small.codes.values, small.codes.table[kind]),
        edge_index=torch.cat(ends, dim=1),
        edge_attr=_raw(small.codes.edge_values, small.codes.edge_table[edge]),
        root=root,
        count=count,
        y=torch.tensor([label]),
    ).to(small.device)


def _raw(values: tuple[Tensor, ...], places: Tensor) -> Tensor:
    """The features that places stand for, `[n, F]`."""
    columns = [known[column - 1] for known, column in zip(values, places.t(), strict=True)]
    return torch.stack(columns, dim=1) if columns else torch.zeros(len(places), 0, dtype=torch.int64)


def report(small: TreeSummary) -> str:
    """What the summary covers of its training graphs, as text."""
    told = small.figures
    pooled = "nodes with a kept tree" if small.filtered else "all nodes"
    lines = [
        f"{count(len(small), 'pattern')} over {count(len(small.levels[-1]), 'tree')} of depth {small.depth}; "
        f"{small.published:,} bytes by the published count, {small.nbytes.total:,} on disk",
        f"networks read it as {small.reading}, and test graphs by {pooled}",
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
                f"class {name}: {count(patterns, 'pattern')}"
                + ("" if least is None else f", each in {least} or more of {count(graphs, 'graph')}")
                + f"; {100 * cover:.1f} % of its nodes; {count(bare, 'graph')} without any kept tree"
            )
        distinct = ", ".join(f"{n:,} of depth {d}" for d, n in enumerate(told["distinct_trees"]))
        lines.append(f"distinct trees in training: {distinct}")
    return "\n".join(lines)


def _known_support(small: TreeSummary) -> Tensor:
    """Graphs of each class that hold each tree, int64 `[R, K]`: where that is not kept, the most of a set with it."""
    if len(small.tree_support):
        return small.tree_support
    found = torch.zeros(len(small.levels[-1]), small.num_classes, dtype=torch.int64)
    rows = small.pattern_tree[:, None].expand(-1, small.num_classes)
    return found.scatter_reduce(0, rows, small.support[small.pattern_of], "amax")


def telling(small: TreeSummary, per_class: int) -> list[list[tuple[int, float, float]]]:
    """The trees that tell each class from the others, best first: (tree, its share, the most of another class).

    Shares are of the class's graphs that hold the tree, in [0, 1]. The gap between the two orders the trees, not their
    frequency: what every class has says nothing of one. A tree without a gap is left out.
    """
    share = _known_support(small).double() / small.graphs.clamp(min=1)
    found = []
    for k in range(small.num_classes):
        others = [j for j in range(small.num_classes) if j != k]
        most = share[:, others].amax(1) if others else torch.zeros(len(share), dtype=share.dtype)
        best = torch.sort(share[:, k] - most, descending=True, stable=True).indices[:per_class].tolist()
        found.append([(t, float(share[t, k]), float(most[t])) for t in best if share[t, k] > most[t]])
    return found


def draw(small: TreeSummary, path: str | Path | None, per_class: int, classes: int = CLASSES) -> bytes:
    """The trees that tell each class from the others as PNG, of `classes` at most; see `TreeSummary.draw`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if per_class < 1:
        raise refuse("per_class", "at least 1", per_class)
    if path is not None and as_path(path).suffix.lower() != ".png":
        raise refuse("path", "a file NAME.png", repr(str(path)), "For NAME.svg give it to `plot`.")
    shown = telling(small, per_class)
    count, names = min(classes, small.num_classes), [short(name) for name in small.classes]
    columns = max(1, *map(len, shown[:count]))
    figure = Figure(figsize=(2.8 * columns, 2.5 * count), dpi=100)
    FigureCanvasAgg(figure)
    palette = _Palette(small)
    axes = figure.subplots(count, columns, squeeze=False, subplot_kw={"xticks": (), "yticks": ()})
    for k, row in enumerate(axes):
        for axis in row:
            axis.set_axis_off()
        others = [name for j, name in enumerate(names) if j != k]
        beside = others[0] if len(others) == 1 else "others at most"
        for axis, (tree, own, most) in zip(row, shown[k], strict=False):
            _plot_tree(axis, small, tree, palette)
            rest = f", {beside} {100 * most:.0f} %" if others else ""
            axis.set_title(f"{names[k]}: {100 * own:.0f} % of graphs{rest}", fontsize=8, pad=2, parse_math=False)
    lines = sorted(palette.legend, key=lambda line: line.lstrip()[0].isalpha())
    lines += [f"{count} of {small.num_classes} classes"] if count < small.num_classes else []
    height = figure.get_figheight() + 0.13 * len(lines)
    figure.set_figheight(height)
    figure.subplots_adjust(0.01, 0.13 * len(lines) / height, 0.99, 1 - 0.25 / height, wspace=0.08, hspace=0.12)
    if lines:
        figure.text(
            0.5, 0.05 / height, "\n".join(lines), fontsize=7, family="monospace", ha="center", va="bottom", ma="left"
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    if path is not None:
        write_bytes(Path(path), buffer.getvalue())
    return buffer.getvalue()


_SHOWN: Final = 200
_WRITTEN: Final = 40
_LEGEND: Final = 40


class _Palette:
    """Colours and texts of labels, in the order in which they are first drawn.

    The text is the raw value of a label with one feature, nothing where all nodes are alike, and a name that `legend`
    explains where there are several features: a number of a node, a letter of an edge.
    """

    def __init__(self, small: TreeSummary) -> None:
        self._small = small
        self._nodes: dict[int, int] = {}
        self._edges: dict[int, int] = {}
        self.legend: list[str] = []

    def node(self, label: int) -> tuple[int, str]:
        """(colour 0 … 19, text) of a node label."""
        place = self._nodes.setdefault(label, len(self._nodes))
        if self._small.codes.kind == "constant":
            return place, ""
        return place % 20, self._named(label, "", str(place + 1), place + 1 == len(self._nodes))

    def edge(self, label: int) -> str:
        """Text of an edge label; empty without features."""
        place = self._edges.setdefault(label, len(self._edges))
        letter = chr(ord("a") + place) if place < 26 else f"z{place}"
        return self._named(label, "edge_", letter, place + 1 == len(self._edges))

    def _named(self, label: int, side: str, name: str, newest: bool) -> str:
        codes = self._small.codes
        raw = _raw(getattr(codes, f"{side}values"), getattr(codes, f"{side}table")[[label]])[0].tolist()
        text = " ".join(f"{v:g}" for v in raw)
        if len(raw) < 2:
            return text
        line = f"{name:>2} = {text}"
        if newest and line not in self.legend and len(self.legend) < _LEGEND:
            self.legend.append(line)
        return name


def _plot_tree(axis: Any, small: TreeSummary, tree: int, palette: _Palette) -> None:
    """One tree, its root on top, with the raw features of its nodes and edges."""
    size = tree_sizes(small)[tree]
    if size > _SHOWN:
        axis.text(0.5, 0.5, f"{size:,} nodes", ha="center", va="center", fontsize=8)
        return
    labels, ends, kinds = expand(small, tree)
    x, y = _places(len(labels), [-1, *ends[1].tolist()])
    gap = float("nan")  # between the lines of one plot
    pairs = list(zip(*ends.tolist(), strict=True))
    lines = [[(at[child], at[parent], gap) for child, parent in pairs] for at in (x, y)]
    axis.plot(*(list(itertools.chain(*line)) for line in lines), color="0.6", lw=0.8, zorder=1)
    for (node, parent), kind in zip(pairs, kinds.tolist(), strict=True):
        if size <= _WRITTEN and (text := palette.edge(kind)):
            middle = (0.6 * x[node] + 0.4 * x[parent], 0.6 * y[node] + 0.4 * y[parent])
            axis.text(*middle, text, ha="center", va="center", fontsize=6, color="0.35", zorder=2, bbox=_HALO)
    colours, texts = zip(*(palette.node(label) for label in labels.tolist()), strict=True)
    axis.scatter(x, y, c=colours, cmap="tab20", vmin=0, vmax=19, s=150 if size <= _WRITTEN else 20, zorder=3)
    if size <= _WRITTEN:
        for node, text in enumerate(texts):
            axis.text(x[node], y[node], text, ha="center", va="center", fontsize=7, zorder=4)
    axis.margins(0.15)


_HALO: Final = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}


def _places(nodes: int, parent: list[int]) -> tuple[list[float], list[float]]:
    """Where nodes are drawn: leaves side by side, a parent above the middle of its children; y is minus the depth."""
    children: list[list[int]] = [[] for _ in range(nodes)]
    y = [0.0] * nodes
    for node in range(1, nodes):
        children[parent[node]].append(node)
        y[node] = y[parent[node]] - 1
    x = [0.0] * nodes
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
    return x, y
