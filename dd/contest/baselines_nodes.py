"""Baselines of nodes: real nodes and ego nets at the bytes of a set, and what reads the whole graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import zip_longest
from typing import ClassVar, Final, final

import torch
from torch import Tensor

from dd.base.seeding import child
from dd.contest.contest import BOTH, Baseline, table
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import Nodes, NodeSplit
from dd.data.nodes.propagate import operator, propagated
from dd.errors import refuse
from dd.methods.nodes.cluster import distances
from dd.methods.nodes.common import ego_net, that_fit, union
from dd.synthetic import NodeSet

SPREAD: Final = 50
"""Rounds of label propagation."""
KEPT: Final = 0.9
"""Share of a node's label that comes from its neighbours, a round."""

NEXT: Final = 20
"""Parts beyond those that fit in a row that are tried one by one."""


@final
@dataclass(frozen=True)
class BesideNodes:
    """What baselines of nodes are made from.

    Attributes:
        small: the set that they stand beside: they have its bytes, recipe and setting.
        real: the data with its test nodes.
        seed: of the draws.
    """

    small: NodeSet
    real: Nodes
    seed: int = 0

    @property
    def test(self) -> NodeSplit:
        """The test nodes."""
        assert self.real.test is not None
        return self.real.test

    @property
    def setting(self) -> str:
        """`transductive` or `inductive`, as the set's method saw the graph."""
        return str(self.small.method.get("setting", "transductive"))

    @cached_property
    def seen(self) -> NodeGraph:
        """What methods may read."""
        return self.real.seen(self.setting)

    @cached_property
    def features(self) -> Tensor:
        """Features that have gone along edges twice, float64 `[V, F]`, in the order of `seen`."""
        return propagated(self.seen, 2, self.small.recipe.scale)[-1]

    @cached_property
    def lists(self) -> list[Tensor]:
        """Training nodes of each class, in the order of `seen`."""
        return [(self.seen.y == k).nonzero()[:, 0] for k in range(self.real.num_classes)]


def filled(beside: BesideNodes, orders: list[Iterator[Tensor]]) -> NodeGraph:
    """The union of parts, one of each class in turns, as many as fit; then those of the next few that still fit.

    Args:
        beside: whose bytes they have.
        orders: for each class its parts, best first: the nodes that one brings.
    """
    turns = [part for group in zip_longest(*orders) for part in group if part is not None]
    kept = that_fit(beside.seen, turns, beside.small.nbytes.counted, beside.real.num_classes, NEXT)
    return union(beside.seen, [turns[place] for place in kept])


def _shuffled(beside: BesideNodes, draw: int, name: str) -> list[Tensor]:
    return [
        rows[torch.randperm(len(rows), generator=child(beside.seed, name, draw, k))]
        for k, rows in enumerate(beside.lists)
    ]


def _random(beside: BesideNodes, draw: int) -> NodeGraph:
    """Training nodes by chance, and the edges between them."""
    return filled(beside, [iter(rows.split(1)) for rows in _shuffled(beside, draw, "random nodes")])


def _egos(beside: BesideNodes, draw: int) -> NodeGraph:
    """Training nodes by chance with all their neighbours; of a neighbour the class counts if it is a training node."""
    return filled(
        beside,
        [(ego_net(beside.seen, row) for row in rows.tolist()) for rows in _shuffled(beside, draw, "random egos")],
    )


def _herded(beside: BesideNodes, _: int) -> NodeGraph:
    """Training nodes whose mean comes closest to the class's, by twice-propagated features."""
    return filled(beside, [_herding(beside.features, rows) for rows in beside.lists])


def _herding(features: Tensor, rows: Tensor) -> Iterator[Tensor]:
    own = features[rows]
    mean, total, free = own.mean(0), torch.zeros(own.shape[1], dtype=own.dtype), torch.ones(len(own), dtype=torch.bool)
    for count in range(1, len(own) + 1):
        away = ((mean - (total + own) / count) ** 2).sum(1).masked_fill(~free, torch.inf)
        best = int(away.argmin())
        free[best], total = False, total + own[best]
        yield rows[best : best + 1]


def _centred(beside: BesideNodes, _: int) -> NodeGraph:
    """Training nodes that are farthest from those taken before (k-center), by twice-propagated features."""
    return filled(beside, [_k_center(beside.features, rows) for rows in beside.lists])


def _k_center(features: Tensor, rows: Tensor) -> Iterator[Tensor]:
    own = features[rows]
    best = int(distances(own, own.mean(0, keepdim=True)).argmin())
    near = torch.full((len(own),), torch.inf, dtype=own.dtype)
    for _ in range(len(own)):
        yield rows[best : best + 1]
        near = torch.minimum(near, distances(own, own[best : best + 1])[:, 0])
        near[best] = -1
        best = int(near.argmax())


def _full(beside: BesideNodes, _: int) -> NodeGraph:
    """The whole graph that methods see."""
    return beside.seen


def _class_means(beside: BesideNodes, _: int) -> Tensor:
    """The class whose mean of twice-propagated features is nearest, by cosine; tests read the whole graph."""
    means = torch.stack([beside.features[rows].mean(0) for rows in beside.lists])
    real, scale = beside.real, beside.small.recipe.scale
    found = propagated(real.whole, 2, scale)[-1][beside.test.rows]
    made: Tensor = torch.nn.functional.normalize(found, dim=1) @ torch.nn.functional.normalize(means, dim=1).t()
    return made.log_softmax(1)


def _label_propagation(beside: BesideNodes, _: int) -> Tensor:
    """Labels of training nodes spread along edges (Zhou et al. 2004, here by GCN's operator, with a loop at each node).

    No feature is read.
    """
    real = beside.real
    start = torch.zeros(len(real.x), real.num_classes, dtype=torch.float64)
    start[real.train.rows, real.train.labels] = 1
    matrix, held = operator(real.whole, "both", torch.float64), start
    for _round in range(SPREAD):
        held = KEPT * (held if matrix is None else matrix @ held) + (1 - KEPT) * start
    held = held[beside.test.rows]
    prior = torch.full_like(held, 1e-12)  # a node that no label reaches is of any class alike
    return (held + prior).log().log_softmax(1)


@final
@dataclass(frozen=True, kw_only=True)
class NodeEntrant:
    """What has a row, or one with each model: a set, a graph, or a reading without a network.

    Attributes:
        name: of its row.
        graphs: what networks are trained on, one a draw.
        model: the one network of the row, in place of those that are asked for.
        budget: whether its graphs spend what the set has spent.
        read: scores of the test nodes `[N, K]` without a network, in place of `graphs`.
        reads: what a report calls the model of such a row.
    """

    name: str
    graphs: tuple[NodeGraph, ...] = ()
    model: str | None = None
    budget: bool = True
    read: Callable[[], Tensor] | None = None
    reads: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class NodeBaseline(Baseline):
    """A baseline of nodes: `make(beside, draw)` gives a graph; of a reading, scores.

    Attributes:
        model: the network that it is for, where it is for one alone.
    """

    kind: ClassVar[str] = "nodes"
    make: Callable[[BesideNodes, int], NodeGraph | Tensor]
    model: str | None = None

    def stand(self, beside: BesideNodes) -> NodeEntrant:
        """The baseline, made.

        Raises:
            InputError: no node fits the bytes.
        """
        if self.reads and self.model is None:
            return NodeEntrant(name=self.name, read=partial(self._read, beside), reads=self.reads)
        made = tuple(self._graph(beside, draw) for draw in range(self.draws))
        return NodeEntrant(name=self.name, graphs=made, model=self.model, budget=self.budget)

    def _read(self, beside: BesideNodes) -> Tensor:
        made = self.make(beside, 0)
        assert isinstance(made, Tensor)
        return made

    def _graph(self, beside: BesideNodes, draw: int) -> NodeGraph:
        made = self.make(beside, draw)
        assert isinstance(made, NodeGraph)
        if not bool((made.y >= 0).any()):
            told = f"no node fits the {beside.small.nbytes.counted:,} bytes of the set"
            raise refuse("baselines", f"without {self.name}: {told}", self.name)
        return made


NODE_BASELINES: Final = table(
    NodeBaseline(
        name="random",
        says="random training nodes of as many bytes, and the edges between them",
        make=_random,
        draws=2,
        default=BOTH,
    ),
    NodeBaseline(
        name="random_egos",
        says="random training nodes with all their neighbours, of as many bytes",
        make=_egos,
        draws=2,
        default=("benchmark",),
    ),
    NodeBaseline(
        name="herding",
        says="training nodes of as many bytes whose mean features are those of their class",
        make=_herded,
        default=("benchmark",),
    ),
    NodeBaseline(
        name="k_center",
        says="training nodes of as many bytes that cover their class by features",
        make=_centred,
        default=("benchmark",),
    ),
    NodeBaseline(
        name="features",
        says="an MLP on all training nodes, without edges",
        make=_full,
        model="mlp",
        reads="mlp",
        budget=False,
        default=BOTH,
    ),
    NodeBaseline(
        name="label_propagation",
        says="labels spread along edges, without features or a network",
        make=_label_propagation,
        reads="no network",
        budget=False,
        default=BOTH,
    ),
    NodeBaseline(
        name="class_means",
        says="the nearest class mean of propagated features, without a network",
        make=_class_means,
        reads="no network",
        budget=False,
        default=BOTH,
    ),
    NodeBaseline(name="full", says="all of the graph that the method saw", make=_full, budget=False, default=BOTH),
)
