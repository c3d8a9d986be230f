"""Networks that classify the nodes of one graph: GCN, GraphSAGE, GAT, GIN, SGC, and an MLP that sees no edges.

Layers are the textbook's, on features that are real numbers; a node is its own neighbour in all of them but GIN, so a
graph without edges is one whose adjacency is the identity.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor, nn

from dd.base.shapes import check_number, check_whole
from dd.data.nodes.graph import NodeGraph, both_ways
from dd.data.nodes.nodes import Nodes
from dd.data.nodes.propagate import Sparse, operator, rows_of, scaled
from dd.errors import refuse, unknown

FULL: Final = 0.25
"""Features with a larger share of numbers that are not zero are kept as a dense matrix."""


@final
@dataclass(frozen=True, eq=False)
class NodeInput:
    """A graph as networks read it, its matrices made once for all of them.

    Attributes:
        graph: V nodes, E edges.
        x: scaled features `[V, F]`, sparse where most are zero.
        device, dtype: of the matrices.
    """

    graph: NodeGraph
    x: Tensor | Sparse
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def of(
        graph: NodeGraph | Nodes, scale: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> NodeInput:
        """A graph, or the whole one of a data set, with its features scaled by one of `propagate.SCALES`."""
        graph, device = graph.whole if isinstance(graph, Nodes) else graph, torch.device(device)
        x = scaled(graph.x, scale)
        sparse = int((x != 0).sum()) < FULL * x.numel()
        found = rows_of(x).to(device, dtype) if sparse else x.to(device, dtype)
        return NodeInput(graph, found, device, dtype)

    @staticmethod
    def read(given: object, edge_index: object = None) -> NodeInput:
        """What a network was called with: a `NodeInput`, or, as PyG's, scaled features `[V, F]` and edges `[2, E]`.

        Raises:
            InputError: neither.
        """
        if isinstance(given, NodeInput) and edge_index is None:
            return given
        if not isinstance(given, Tensor) or not isinstance(edge_index, Tensor):
            way_out = "`dd.models.NodeInput.of(dd.load_graphs(data), small.recipe.scale)` is what it reads."
            raise refuse("given", "a `NodeInput`, or features and `edge_index`", type(given).__name__, way_out)
        edges, nobody = both_ways(edge_index.cpu(), len(given)), torch.full((len(given),), -1)
        return NodeInput(NodeGraph(given, edges, nobody), given, given.device, given.dtype)

    def _operator(self, norm: str) -> Sparse | None:
        made = operator(self.graph, norm, self.dtype)
        return None if made is None else made.to(self.device, self.dtype)

    @cached_property
    def both(self) -> Sparse | None:
        """D̃^(-1/2) (A + I) D̃^(-1/2)."""
        return self._operator("both")

    @cached_property
    def mean(self) -> Sparse | None:
        """D̃^(-1) (A + I)."""
        return self._operator("mean")

    @cached_property
    def sum(self) -> Sparse | None:
        """A."""
        return self._operator("sum")

    @cached_property
    def ends(self) -> Tensor:
        """Sources and targets of all edges and of a loop at each node, int64 `[2, E + V]`."""
        loops = torch.arange(len(self.graph)).expand(2, -1)
        return torch.cat([self.graph.edge_index, loops], 1).to(self.device)


def _times(matrix: Sparse | None, h: Tensor) -> Tensor:
    return h if matrix is None else matrix @ h


@final
class GCNLayer(nn.Module):
    """D̃^(-1/2) (A + I) D̃^(-1/2) X W + b, as PyG's `GCNConv`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = _glorot(inputs, outputs), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor | Sparse, given: NodeInput) -> Tensor:
        """`[V, inputs]` to `[V, outputs]`."""
        return _times(given.both, x @ self.weight) + self.bias


@final
class SAGELayer(nn.Module):
    """D̃^(-1) (A + I) X W₁ + X W₂ + b: PyG's `SAGEConv` on a graph with a loop at every node."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.root = _glorot(inputs, outputs), _glorot(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor | Sparse, given: NodeInput) -> Tensor:
        """`[V, inputs]` to `[V, outputs]`."""
        return _times(given.mean, x @ self.weight) + x @ self.root + self.bias


@final
class GINLayer(nn.Module):
    """MLP((1 + ε) x_v + Σ_u x_u), the MLP with one hidden layer of `outputs`; ε is learnt from 0. PyG's `GINConv`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.weight, self.bias = _glorot(inputs, outputs), nn.Parameter(torch.zeros(outputs))
        self.after = nn.Linear(outputs, outputs)

    def forward(self, x: Tensor | Sparse, given: NodeInput) -> Tensor:
        """`[V, inputs]` to `[V, outputs]`."""
        h = x @ self.weight  # the sum is linear, so the first product comes before it
        h = (1 + self.eps) * h + _times(given.sum, h) + self.bias
        return self.after(h.relu())


@final
class GATLayer(nn.Module):
    """Σ_u α_uv W x_u + b over neighbours and v itself, as PyG's `GATConv`.

    α is the softmax over u of LeakyReLU_0.2(a · W x_u + a' · W x_v).
    """

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads, self.weight = heads, _glorot(inputs, outputs)
        each = outputs // heads
        self.att_source, self.att_target = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, heads, each))) for _ in range(2)
        )
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor | Sparse, given: NodeInput) -> Tensor:
        """`[V, inputs]` to `[V, outputs]`."""
        h = (x @ self.weight).view(len(given.graph), self.heads, -1)
        source, target = given.ends
        scores = (h * self.att_source).sum(2)[source] + (h * self.att_target).sum(2)[target]
        scores = nn.functional.leaky_relu(scores, 0.2)
        top = scores.new_full((len(h), self.heads), -torch.inf)
        top = top.scatter_reduce(0, target[:, None].expand_as(scores), scores.detach(), "amax")
        weights = (scores - top[target]).exp()
        total = weights.new_zeros(len(h), self.heads).index_add(0, target, weights)
        made = torch.zeros_like(h).index_add(0, target, (weights / total[target])[..., None] * h[source])
        return made.flatten(1) + self.bias


def _glorot(inputs: int, outputs: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))


@final
class Dense(nn.Module):
    """X W + b: no edge is read."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = _glorot(inputs, outputs), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor | Sparse, given: NodeInput) -> Tensor:
        """`[V, inputs]` to `[V, outputs]`."""
        del given
        return x @ self.weight + self.bias


LAYERS: Final[dict[str, Callable[[int, int], nn.Module]]] = {
    "gcn": GCNLayer,
    "sage": SAGELayer,
    "gin": GINLayer,
    "mlp": Dense,
}


@final
class NodeNet(nn.Module):
    """Layers of one kind with a ReLU (of GAT an ELU) and dropout between them; the last one gives the logits.

    Args:
        features: F.
        classes: K.
        dropout: in [0, 1), before every layer but the first.
        kind: `gcn`, `sage`, `gat`, `gin` or `mlp`.
        layers: at least 1.
        width: of all layers but the last.
        heads: of `gat`; divides `width`. The last layer has one.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self, features: int, classes: int, dropout: float, *, kind: str, layers: int, width: int, heads: int = 1
    ) -> None:
        super().__init__()
        for name, number in (("features", features), ("classes", classes), ("layers", layers), ("width", width)):
            check_whole(number, name)
        if check_number(dropout, "dropout", 0) >= 1:
            raise refuse("dropout", "less than 1", dropout)
        if check_whole(heads, "heads") and width % heads:
            raise refuse("heads", f"a divisor of the width {width}", heads)
        if kind not in (*LAYERS, "gat"):
            raise unknown("kind of layer", kind, (*LAYERS, "gat"))
        sizes = [features, *[width] * (layers - 1), classes]
        pairs = list(itertools.pairwise(sizes))
        self.kind, self.dropout = kind, dropout
        self.layers = nn.ModuleList(
            GATLayer(a, b, heads if i + 1 < layers else 1) if kind == "gat" else LAYERS[kind](a, b)
            for i, (a, b) in enumerate(pairs)
        )

    def forward(self, given: NodeInput | Tensor, edge_index: Tensor | None = None) -> Tensor:
        """Logits of all nodes, `[V, K]`; for the arguments see `NodeInput.read`."""
        given = NodeInput.read(given, edge_index)
        h: Tensor | Sparse = given.x
        for layer in self.layers:
            if isinstance(h, Tensor) and layer is not self.layers[0]:
                h = nn.functional.elu(h) if self.kind == "gat" else h.relu()
                h = nn.functional.dropout(h, self.dropout, self.training)
            h = layer(h, given)
        assert isinstance(h, Tensor)
        return h


@final
class SGC(nn.Module):
    """P^hops X W + b, P as in GCN: a linear classifier of propagated features."""

    def __init__(self, features: int, classes: int, hops: int) -> None:
        super().__init__()
        self.hops, self.dense = check_whole(hops, "hops"), Dense(features, classes)

    def forward(self, given: NodeInput | Tensor, edge_index: Tensor | None = None) -> Tensor:
        """Logits of all nodes, `[V, K]`; for the arguments see `NodeInput.read`."""
        given = NodeInput.read(given, edge_index)
        h = given.x @ self.dense.weight  # few columns: they are propagated in place of the features
        for _ in range(self.hops):
            h = _times(given.both, h)
        return h + self.dense.bias


def _family(kind: str) -> Callable[..., nn.Module]:
    def make(features: int, classes: int, dropout: float = 0.5, *, layers: int = 2, width: int = 64) -> nn.Module:
        return NodeNet(features, classes, dropout, kind=kind, layers=layers, width=width)

    return make


def gat(
    features: int, classes: int, dropout: float = 0.5, *, layers: int = 2, width: int = 64, heads: int = 8
) -> nn.Module:
    """GAT, which has `heads` beside the options of the others."""
    return NodeNet(features, classes, dropout, kind="gat", layers=layers, width=width, heads=heads)


def sgc(features: int, classes: int, dropout: float = 0.5, *, hops: int = 2) -> nn.Module:
    """SGC; it has no hidden layer, so dropout is not used."""
    del dropout
    return SGC(features, classes, hops)


gcn, sage, gin, mlp = _family("gcn"), _family("sage"), _family("gin"), _family("mlp")
