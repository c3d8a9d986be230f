"""Real graphs as networks read them, encoded once, and the one pooling of nodes and of trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.models import PlainGraphs, plain_graphs, rooted

NODES_AT_ONCE: Final = 20_000
"""About as many nodes go through a network at once: their embeddings stay in the cache."""

Match = Callable[[GraphSplit], Tensor]
"""Place among a summary's trees of depth L of every node's tree, int64 `[V]`; -1 where it is not kept."""


def pool(x: Tensor, group: Tensor, groups: int, how: str, weights: Tensor | None = None) -> Tensor:
    """Sum or mean of the rows of each group, with weights if any: `[M, d]` to `[groups, d]`; zero for an empty group.

    Args:
        x: `[M, d]`.
        group: int64 `[M]`.
        groups: their number.
        how: `sum`: Σ w x, or `mean`: Σ w x / Σ w.
        weights: `[M]`; `None` for ones.
    """
    one = x.new_ones(len(x)) if weights is None else weights.to(x.dtype)
    total = x.new_zeros(groups, x.shape[1]).index_add(0, group, x if weights is None else x * one[:, None])
    if how == "sum":
        return total
    mass = x.new_zeros(groups).index_add(0, group, one)
    return total / torch.where(mass > 0, mass, 1)[:, None]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Some graphs in a row.

    Attributes:
        graphs: what the network reads, V nodes.
        group: graph of each node, int64 `[V]`.
        size: number of graphs.
        kept: nodes that a filtered pooling counts, int64, rising: those whose tree is kept, or all of a graph that has
            none; `None` if kept trees were not looked for.
        bare: whether a graph has no kept tree, bool `[size]`; `None` likewise.
    """

    graphs: PlainGraphs
    group: Tensor
    size: int
    kept: Tensor | None
    bare: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> Part:
        """The same on a device, for a network of a floating type."""
        kept, bare = (None if t is None else t.to(device) for t in (self.kept, self.bare))
        return Part(self.graphs.to(device, dtype), self.group.to(device), self.size, kept, bare)

    def pooled(self, net: nn.Module, how: str, filtered: bool = False, empty: bool = False) -> Tensor:
        """Embeddings of the graphs, `[size, d]`: nodes pooled by `sum` or `mean`.

        `filtered` pools the nodes of kept trees alone; with `empty` graphs without any are then 0.
        """
        x, group = rooted(net).nodes(self.graphs), self.group
        if not filtered or self.kept is None or self.bare is None:
            return pool(x, group, self.size, how)
        made = pool(x.index_select(0, self.kept), group.index_select(0, self.kept), self.size, how)
        return torch.where(self.bare[:, None], 0, made) if empty else made


@final
@dataclass(frozen=True, eq=False)
class EncodedGraphs:
    """A split that is ready for any number of networks. Make one with `encode`.

    Attributes:
        labels: int64 `[N]`.
        parts: the graphs, about `NODES_AT_ONCE` nodes at a time.
        trees: place of every node's tree in the summary, int64 `[V]`, -1 where it is not kept; `None` if nobody asked.
        graph: graph of each node, int64 `[V]`.
    """

    labels: Tensor
    parts: tuple[Part, ...]
    trees: Tensor | None
    graph: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def encode(split: GraphSplit, codes: Codes, match: Match | None = None) -> EncodedGraphs:
    """Encode a split once, to be scored by many networks.

    Args:
        split: real graphs.
        codes: what features mean, those of the summary.
        match: finds kept trees, for filtered pooling and for naive Bayes: `Matcher(summary).trees`.

    Raises:
        InputError: another number of features than in training.
    """
    trees = None if match is None else match(split)
    parts = []
    for first, last in _cuts(split):
        own = None if trees is None else trees[int(split.ptr[first]) : int(split.ptr[last])]
        parts.append(encode_part(split.slice(first, last), codes, own))
    return EncodedGraphs(split.labels, tuple(parts), trees, split.graph)


def encode_part(some: GraphSplit, codes: Codes, trees: Tensor | None = None) -> Part:
    """Few graphs as one part; `trees` as in `EncodedGraphs`."""
    graphs = plain_graphs(codes.node_fields(some), some.edge_index, codes.edge_fields(some))
    kept = bare = None
    if trees is not None:
        bare = torch.ones(len(some), dtype=torch.bool)
        bare[some.graph[trees >= 0]] = False
        kept = ((trees >= 0) | bare[some.graph]).nonzero()[:, 0]
    return Part(graphs, some.graph, len(some), kept, bare)


def _cuts(split: GraphSplit) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of graphs with about `NODES_AT_ONCE` nodes, at least one graph each."""
    first = 0
    while first < len(split):
        end = int(torch.searchsorted(split.ptr, int(split.ptr[first]) + NODES_AT_ONCE, right=True)) - 1
        last = min(max(first + 1, end), len(split))
        yield first, last
        first = last


def logistic_scores(x: Any, labels: Tensor, test: Any, scale: bool = False) -> Tensor:
    """Log-probabilities `[N, K]` of test rows by scikit-learn's logistic regression (C = 1)."""
    from sklearn.linear_model import LogisticRegression

    if scale:
        mean, std = x.mean(0), x.std(0) + 1e-12
        x, test = (x - mean) / std, (test - mean) / std
    solver = "lbfgs" if scale or int(labels.max()) > 1 else "liblinear"
    model = LogisticRegression(max_iter=1000, solver=solver).fit(x, labels.numpy())
    return torch.from_numpy(model.predict_log_proba(test))
