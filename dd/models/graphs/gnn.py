"""Graph networks of message passing: GIN, GCN, GAT and GraphSAGE, one implementation for graphs and DAGs of trees.

A layer maps the rows `x` of m sources to those of n targets over a `Round`:

    h_v = UPDATE(x_v, AGG {count · MSG(x_u, e_uv)}),

which on a graph is the textbook layer (n = m nodes, counts of 1) and on level k of a DAG gives the embedding of every
distinct tree of depth k from those of depth k - 1. The embedding of a node after k layers depends on nothing but its
computation tree of depth k, so both agree at every node (Mirage, section 9) for networks of at most as many layers as
the trees are deep, in eval mode. Outside the theory, and not offered: virtual nodes, attention over all pairs of
nodes, positional encodings, edge dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from dd.base.shapes import check_number, check_whole, check_word
from dd.errors import refuse, unknown
from dd.models.graphs.rounds import PlainGraphs, Round, TreeDag


@final
class GIN(nn.Module):
    """h_v = MLP((1 + ε) x_v + Σ_u x_u), with edge features Σ_u ReLU(x_u + W e_uv + b); ε is learnt from 0.

    The MLP is d → 2d → d with a ReLU. PyG's `GINConv` and `GINEConv(edge_dim=d)`.
    """

    def __init__(self, width: int, has_edges: bool) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.edge = nn.Linear(width, width) if has_edges else None

    def forward(self, x: Tensor, edges: Tensor | None, step: Round) -> Tensor:
        """`x` `[m, d]` and the table of edge features `[U, d]` to `[n, d]`."""
        messages = _with_edges(step.gather(x), self.edge, edges, step)
        messages = messages if self.edge is None else messages.relu()
        return self.mlp((1 + self.eps) * step.themselves(x) + step.sum(messages))


@final
class GCN(nn.Module):
    """h_v = W Σ_u (x_u + U e_uv + c) / √((deg_v + 1)(deg_u + 1)) + W x_v / (deg_v + 1) + b.

    A self loop is added to every node, whether it has one or not; deg counts messages in, as PyG's `GCNConv` does,
    which has no edge features. On trees, deg of a leaf is that of the node it stands for.
    """

    def __init__(self, width: int, has_edges: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.edge = nn.Linear(width, width) if has_edges else None

    def forward(self, x: Tensor, edges: Tensor | None, step: Round) -> Tensor:
        """`x` `[m, d]` and the table of edge features `[U, d]` to `[n, d]`."""
        source = (step.source_degree + 1).rsqrt().to(x.dtype)[:, None]
        target = (step.degree + 1).rsqrt().to(x.dtype)[:, None]
        messages = _with_edges(step.gather(x), self.edge, edges, step) * step.gather(source)
        return self.linear(target * (step.sum(messages) + target * step.themselves(x)))


@final
class SAGE(nn.Module):
    """h_v = W₁ mean_u(x_u + U e_uv + c) + b + W₂ x_v; PyG's `SAGEConv(aggr="mean")`, which has no edge features."""

    def __init__(self, width: int, has_edges: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.root = nn.Linear(width, width, bias=False)
        self.edge = nn.Linear(width, width) if has_edges else None

    def forward(self, x: Tensor, edges: Tensor | None, step: Round) -> Tensor:
        """`x` `[m, d]` and the table of edge features `[U, d]` to `[n, d]`."""
        messages = _with_edges(step.gather(x), self.edge, edges, step)
        return self.linear(step.mean(messages)) + self.root(step.themselves(x))


@final
class GAT(nn.Module):
    """h_v = Σ_u α_uv W x_u + b over neighbours and v itself.

    α is the softmax over u of LeakyReLU_0.2(a · W x_u + a' · W x_v + a'' · U e_uv). A run of `count` children
    weighs count · exp(score) in it. Heads share the width. The self loop has the mean of the edge features into v
    (zero where there are none): PyG's `GATConv(edge_dim=d, fill_value="mean")`.
    """

    def __init__(self, width: int, has_edges: bool, heads: int = 1) -> None:
        super().__init__()
        if width % heads:
            raise refuse("heads", f"a divisor of the width {width}", heads)
        self.heads = heads
        self.linear = nn.Linear(width, width, bias=False)
        self.att_source = _glorot(heads, width // heads)
        self.att_target = _glorot(heads, width // heads)
        self.edge = nn.Linear(width, width, bias=False) if has_edges else None
        self.att_edge = _glorot(heads, width // heads) if has_edges else None
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, edges: Tensor | None, step: Round) -> Tensor:
        """`x` `[m, d]` and the table of edge features `[U, d]` to `[n, d]`."""
        h = self.linear(x).view(len(x), self.heads, -1)
        from_source, from_target = (h * self.att_source).sum(2), step.themselves((h * self.att_target).sum(2))
        scores = step.gather(from_source) + from_target.index_select(0, step.target)
        own = step.themselves(from_source) + from_target
        if self.edge is not None and self.att_edge is not None and edges is not None:
            e = self.edge(edges).view(len(edges), self.heads, -1)
            from_edge = (e * self.att_edge).sum(2).index_select(0, step.edge)
            scores, own = scores + from_edge, own + step.mean(from_edge)
        scores, own = (nn.functional.leaky_relu(s, 0.2) for s in (scores, own))
        top = step.max(scores, own).detach()  # cancels; keeps exp in range
        a, a_own = (scores - top.index_select(0, step.target)).exp(), (own - top).exp()
        total = step.sum(a) + a_own
        out = step.sum(a[..., None] * step.gather(h)) + a_own[..., None] * step.themselves(h)
        return (out / total[..., None]).flatten(1) + self.bias


def _glorot(heads: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, width)))


def _with_edges(messages: Tensor, layer: nn.Module | None, edges: Tensor | None, step: Round) -> Tensor:
    """Messages `[M, d]` plus the transformed edge features of each run."""
    if layer is None or edges is None:
        return messages
    return messages + layer(edges).index_select(0, step.edge)


LAYERS: Final[dict[str, Callable[..., nn.Module]]] = {"gin": GIN, "gcn": GCN, "gat": GAT, "sage": SAGE}
NORMS: Final = ("none", "batch")
JUMPS: Final = ("last", "sum")
EMBEDDING: Final = 0.03
"""Default standard deviation of fresh embeddings.

With 1, PyTorch's own, GIN's sums over many neighbours are so large that the biases of its first layer move no ReLU: it
starts linear in the counts of neighbours, and stays so on few patterns. Of 1, 0.3, 0.1 and 0.03 this had the highest
mean AUROC on validation graphs over NCI1, PROTEINS, IMDB-BINARY and MUTAG (73.8; 67.0 with 1). Data with many
labels and graphs of like degrees learns faster from larger ones: NCI1 alone prefers 1 by a point, digits-graphs more.
"""


@final
class Encoder(nn.Module):
    """Sum of one embedding per categorical feature; the value 0, unseen in training, is the zero vector.

    Weights are normal, so that the sum of F of them has the standard deviation `std`.
    """

    def __init__(self, sizes: Sequence[int], width: int, std: float = EMBEDDING) -> None:
        super().__init__()
        tables = [nn.Embedding(size, width, padding_idx=0) for size in sizes]
        with torch.no_grad():
            for table in tables:
                table.weight.mul_(std * len(sizes) ** -0.5)
        self.tables = nn.ModuleList(tables)

    def forward(self, tuples: Tensor) -> Tensor:
        """Places `[T, F]` to `[T, d]`."""
        parts = [table(column) for table, column in zip(self.tables, tuples.t(), strict=True)]
        return torch.stack(parts).sum(0)


@final
class GraphNet(nn.Module):
    """Encoder, `layers` layers of one kind, and a linear classifier of pooled embeddings.

    After every layer: batch norm if asked for, a ReLU but after the last one, dropout. Batch norm on a DAG counts each
    distinct tree once; with it, trees and graphs agree in eval mode only.

    Args:
        node_sizes: number of values of each node feature, 0 (unseen) included; at least one feature.
        edge_sizes: likewise for edges; empty without edge features.
        classes: K ≥ 1.
        kind: `gin`, `gcn`, `gat` or `sage`.
        layers: at least 1, at most the depth of the trees.
        width: d.
        dropout: in [0, 1), after every layer and before the classifier.
        norm: `none` or `batch`.
        jk: what a node's embedding is: the `last` layer's output, or the `sum` of all layers' outputs.
        heads: of `gat`; divides `width`.
        embedding: standard deviation of fresh embeddings of nodes and edges, above 0; see `EMBEDDING`.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        node_sizes: Sequence[int],
        edge_sizes: Sequence[int],
        classes: int,
        *,
        kind: str,
        layers: int,
        width: int = 64,
        dropout: float = 0.2,
        norm: str = "none",
        jk: str = "last",
        heads: int = 1,
        embedding: float = EMBEDDING,
    ) -> None:
        super().__init__()
        if kind not in LAYERS:
            raise unknown("kind of layer", kind, LAYERS)
        for name, value, words in (("norm", norm, NORMS), ("jk", jk, JUMPS)):
            check_word(value, name, words)
        for name, number in (("classes", classes), ("layers", layers), ("width", width), ("heads", heads)):
            check_whole(number, name)
        if check_number(dropout, "dropout", 0) >= 1:
            raise refuse("dropout", "less than 1", dropout)
        if check_number(embedding, "embedding", 0) == 0:
            raise refuse("embedding", "above 0", embedding, "Equal embeddings cannot tell labels apart.")
        if not node_sizes:
            raise refuse("node_sizes", "of at least one feature", "none", "Label nodes by their degree.")
        options = {"heads": heads} if kind == "gat" else {}
        self.jk, self.dropout = jk, dropout
        self.node = Encoder(node_sizes, width, embedding)
        self.edge = Encoder(edge_sizes, width, embedding) if edge_sizes else None
        self.layers = nn.ModuleList(LAYERS[kind](width, bool(edge_sizes), **options) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if norm == "batch" else nn.Identity() for _ in range(layers))
        self.classifier = nn.Linear(width, classes)

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def nodes(self, graphs: PlainGraphs) -> Tensor:
        """Embedding of every node of plain graphs, `[V, d]`."""
        return self._run(graphs, [graphs.edges] * self.depth)

    def roots(self, dag: TreeDag) -> Tensor:
        """Embedding of the root of every tree of the deepest level, `[R, d]`.

        A network of fewer layers than the trees are deep reads their truncations.

        Raises:
            InputError: the network has more layers than the trees are deep: the embeddings would not be those of nodes.
        """
        if self.depth > dag.depth:
            way_out = "Use fewer layers, or distil with a larger `depth`."
            raise refuse("layers", f"at most {dag.depth}, the depth of the trees", self.depth, way_out)
        h = self._run(dag, dag.rounds[: self.depth])
        for step in dag.rounds[self.depth :]:
            h = step.themselves(h)
        return h

    def head(self, pooled: Tensor) -> Tensor:
        """Logits `[G, K]` of pooled embeddings `[G, d]`."""
        return self.classifier(self._drop(pooled))

    def _run(self, given: PlainGraphs | TreeDag, rounds: Iterable[Round]) -> Tensor:
        h = self.node(given.tuples).index_select(0, given.node)
        edges = None if self.edge is None else self.edge(given.edge_tuples)
        total: Tensor | None = None
        for k, (layer, norm, step) in enumerate(zip(self.layers, self.norms, rounds, strict=True)):
            h = norm(layer(h, edges, step))
            h = self._drop(h.relu() if k + 1 < self.depth else h)
            total = h if total is None else step.themselves(total) + h
        return total if self.jk == "sum" and total is not None else h

    def _drop(self, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, self.dropout, self.training)
