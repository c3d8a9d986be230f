"""`bonsai`: real nodes with their neighbours, those whose computation trees stand for most others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import check_choices, check_number, check_types, check_whole
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import SETTINGS, Nodes
from dd.data.nodes.propagate import operator
from dd.errors import refuse
from dd.methods.base import Candidate, Run, Step
from dd.methods.nodes.common import ego_net, recipe_for, rows_in, seen_by, that_fit, too_little
from dd.methods.nodes.cover import coverage_order, nearest, page_rank
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.node_store import stored_bytes
from dd.synthetic.nodes import NodeSet

MISSES: Final = 100
"""Ego nets that did not fit after which a walk ends."""
APART: Final = 0.01
"""How far the share of a class among the labelled nodes may be from its share among the training nodes."""
_CHOICES: Final = {
    "order": ("coverage", "degree", "random"),
    "prune": ("ppr", "none"),
    "balance": ("train", "none"),
    "setting": SETTINGS,
}


@final
@dataclass(frozen=True, kw_only=True)
class Bonsai:
    """Bonsai: gradient-free graph condensation for node classification (Gupta et al., ICLR 2025).

    A training node stands for those that have it among their nearest neighbours by what a layer of messages sees,
    D̃⁻¹ (A + I) D̃⁻¹ X. Nodes are taken in the order in which they stand for most of what is not covered yet, each with
    its neighbours and the edges between them. More of them are taken than the budget allows, and what personalised
    PageRank from the chosen nodes ranks last is cut.

    The published code counts the whole graph dense and the small one by its entries, so its budgets are far larger than
    they are called: its 0.5 % of Cora is 33 % of the graph in its own count of entries, its 3 % twice the graph. Here
    both sides are counted as they are stored. Its choice of features by a decision tree is left out.

    Attributes:
        budget_bytes: bytes of features, edges and labels as the set's file holds them.
        k: nearest neighbours, the node itself among them.
        hops: how often features go along edges.
        order: in which nodes are taken: by `coverage`, by `degree`, or `random`, which tell what the order is worth.
        over: budgets that are filled before nodes are cut; 10 is the published share of 0.9 that is cut.
        prune: `ppr`, or `none`: one budget is filled, and nothing cut.
        damping: of PageRank.
        balance: `train`: labelled nodes are added and left out until classes have their shares of the training nodes to
            one point; `none`.
        setting: `transductive`: all nodes and edges are seen; `inductive`: training nodes and edges between them alone.
        train: how networks are trained on the set; `scale="auto"` is `rows` where there are
            several features and none is below 0, else `none`.

    Raises:
        InputError: a field outside its range.
    """

    kind: ClassVar[str] = "nodes"
    budget: ClassVar[str] = "budget_bytes"
    name: str = "bonsai"
    budget_bytes: int = 8192
    k: int = 5
    hops: int = 1
    order: str = "coverage"
    over: float = 10.0
    prune: str = "ppr"
    damping: float = 0.85
    balance: str = "train"
    setting: str = "transductive"
    train: NodeRecipe = field(default_factory=NodeRecipe)

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        for name in ("budget_bytes", "k", "hops"):
            check_whole(getattr(self, name), name)
        check_number(self.over, "over", 1)
        if check_number(self.damping, "damping", 0) >= 1:
            raise refuse("damping", "less than 1", self.damping)
        check_types(self)

    @under_own_settings
    def distill(self, real: Nodes, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, one candidate.

        Raises:
            InputError: a class without training nodes, or a budget below one node a class.
        """
        del state
        graph, classes = seen_by(self, real), real.num_classes
        trained = (graph.y >= 0).nonzero()[:, 0]
        order = trained[self._order(graph, trained, run)]
        run.progress(1, 3, "order")
        self._check_least(graph, order, classes)
        egos = [ego_net(graph, row) for row in order.tolist()]
        kept = that_fit(graph, egos, self.budget_bytes, classes, MISSES)
        rows, rank = self._pruned(graph, order, egos, kept, classes)
        run.progress(2, 3, "choice")
        rows = _Balance(graph, order, rank, classes, self.budget_bytes).made(rows, self.balance == "train")
        small = graph.subgraph(rows.sort().values)
        figures = {"graph_bytes": stored_bytes(graph, classes), "ego_nets": len(kept)}
        made = NodeSet(
            graph=small,
            classes=real.classes,
            recipe=recipe_for(self.train, graph),
            method=self.describe(),
            figures=figures,
        )
        metrics = {"iteration": 1, "nodes": len(made), "labelled": len(made.rows)}
        yield Step(1, 1, metrics, {"iteration": torch.tensor(1)}, (Candidate("last", 1, made),))

    def _order(self, graph: NodeGraph, trained: Tensor, run: Run) -> Tensor:
        """Places of the training nodes, best first, int64."""
        if self.order == "random":
            return torch.randperm(len(trained), generator=child(run.seed, "order"))
        if self.order == "degree":
            return torch.argsort(graph.degree[trained], descending=True, stable=True)
        seen = seen_features(graph, self.hops)[trained]
        return torch.tensor(coverage_order(nearest(seen, min(self.k, len(trained)))), dtype=torch.int64)

    def _pruned(
        self, graph: NodeGraph, order: Tensor, egos: list[Tensor], kept: list[int], classes: int
    ) -> tuple[Tensor, Tensor]:
        """(the chosen nodes, the rank of every node)."""
        rows = rows_in([egos[place] for place in kept])
        more = kept
        if self.prune == "ppr" and self.over > 1:
            more = that_fit(graph, egos, self.over * self.budget_bytes, classes, MISSES)
        wide = rows_in([egos[place] for place in more])
        if not len(wide):
            return rows, torch.zeros(len(graph), dtype=torch.float64)
        place = torch.searchsorted(wide, order[more])
        rank = torch.zeros(len(graph), dtype=torch.float64)
        rank[wide] = page_rank(graph.subgraph(wide), place, self.damping)
        if self.prune == "none":
            return rows, rank
        best = wide[torch.argsort(rank[wide], descending=True, stable=True)]
        fit = that_fit(graph, list(best[: len(rows)].split(1)), self.budget_bytes, classes, 0)
        return best[fit], rank

    def _check_least(self, graph: NodeGraph, order: Tensor, classes: int) -> None:
        """Refuse a budget in which not even the first node of each class fits.

        Raises:
            InputError: with the bytes that this takes.
        """
        least = stored_bytes(graph.subgraph(first_of_each(graph, order, classes)), classes)
        if least > self.budget_bytes:
            raise too_little(self.budget_bytes, least, graph, classes)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)


def seen_features(graph: NodeGraph, hops: int) -> Tensor:
    """(D̃⁻¹ (A + I) D̃⁻¹)^hops X, float64 `[V, F]`; a node without edges keeps its features."""
    share = 1 / (graph.degree.double() + 1)[:, None]
    mean, held = operator(graph, "mean", torch.float64), graph.x.double()
    for _ in range(hops):
        held = held if mean is None else mean @ (share * held)
    return held


def first_of_each(graph: NodeGraph, order: Tensor, classes: int) -> Tensor:
    """The first node of each class in an order of training nodes, int64 `[K]`."""
    return torch.stack([order[graph.y[order] == k][0] for k in range(classes)])


class _Balance:
    """Labelled nodes by class, and the budget: what is added and what is left out.

    Args:
        graph: that is seen.
        order: training nodes, best first.
        rank: of every node, by which those are left out that are not trained on.
        classes: K.
        budget_bytes: of the set.
    """

    def __init__(self, graph: NodeGraph, order: Tensor, rank: Tensor, classes: int, budget_bytes: int) -> None:
        self._graph, self._order, self._rank = graph, order, rank
        self._classes, self._budget = classes, budget_bytes
        counts = torch.bincount(graph.y[order], minlength=classes).double()
        self._share = counts / counts.sum()

    def made(self, rows: Tensor, balanced: bool) -> Tensor:
        """The nodes of the set: every class has one, and with `balanced` its share; int64."""
        held = torch.zeros(len(self._graph), dtype=torch.bool)
        held[rows] = True
        wanted = self._wanted(held) if balanced else self._counts(held).clamp(min=1)
        for k in range(self._classes):
            own = self._order[self._graph.y[self._order] == k]
            inside = own[held[own]]
            held[inside[int(wanted[k]) :]] = False  # the last ones of the order
        for k in range(self._classes):
            own = self._order[self._graph.y[self._order] == k]
            lacking = int(wanted[k]) - int(held[own].sum())
            must = int(held[own].sum()) == 0
            for row in own[~held[own]][: max(lacking, 0)].tolist():
                if not self._add(held, row, must):
                    break
                must = False
        return held.nonzero()[:, 0]

    def _counts(self, held: Tensor) -> Tensor:
        """Labelled nodes of each class, int64 `[K]`."""
        return torch.bincount(self._graph.y[self._order[held[self._order]]], minlength=self._classes)

    def _wanted(self, held: Tensor) -> Tensor:
        """How many labelled nodes each class should have, int64 `[K]`; as they are where they are near enough."""
        counts = self._counts(held)
        total = max(int(counts.sum()), self._classes)
        near = (counts / total - self._share).abs() <= APART
        most = torch.bincount(self._graph.y[self._order], minlength=self._classes)
        wanted = torch.where(near, counts, (total * self._share).round().long())
        return torch.minimum(wanted.clamp(min=1), most)

    def _add(self, held: Tensor, row: int, must: bool) -> bool:
        """Add a node where it fits; one that must be there takes the place of nodes that are not trained on, or of one
        of the class with most.
        """
        held[row] = True
        while not self._fits(held):
            if not must:
                held[row] = False
                return False
            self._drop(held, row)
        return True

    def _drop(self, held: Tensor, keep: int) -> None:
        """Leave out the node that matters least; where no class can spare one, take the first of each, which fit."""
        context = (held & (self._graph.y < 0)).nonzero()[:, 0]
        if len(context):
            held[context[self._rank[context].argmin()]] = False
            return
        counts = self._counts(held)
        if int(counts.max()) == 1:
            held[:] = False
            held[first_of_each(self._graph, self._order, self._classes)] = True
            return
        own = self._order[(self._graph.y[self._order] == int(counts.argmax())) & held[self._order]]
        held[own[own != keep][-1]] = False

    def _fits(self, held: Tensor) -> bool:
        return stored_bytes(self._graph.subgraph(held.nonzero()[:, 0]), self._classes) <= self._budget
