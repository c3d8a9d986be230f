"""The contest of nodes: a small graph beside real nodes of its bytes, and what reads the whole graph."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

from torch import Tensor

from dd.base.seeding import child_seed
from dd.contest.baselines_nodes import NODE_BASELINES, BesideNodes, NodeEntrant
from dd.contest.contest import Given, Rules, chosen, read_row, row_of
from dd.data.labels import check_same_classes
from dd.data.nodes.nodes import Nodes
from dd.errors import refuse
from dd.evaluation import Row
from dd.evaluation.learners import best_lr
from dd.evaluation.nodes import NODE_LR_GRID, NodeLearner, NodePredictor, WholeGraph
from dd.evaluation.scores import check_metric, figures
from dd.models import AnyNodeModel, NodeInput
from dd.synthetic import NodeSet
from dd.synthetic.node_store import stored_bytes
from dd.synthetic.node_views import share

EQUAL = 0.005
"""A reading without edges or without features is called as good where it is at most so far below the set."""


@final
@dataclass(frozen=True, kw_only=True)
class NodeContest:
    """Trains and scores sets of nodes, real nodes and readings on one split.

    Attributes:
        entrants: what has rows.
        beside: the set that all of them stand beside, and the data.
        rules: `repeats` networks a row, and where a baseline has several draws as many in all, at least one of each;
            `tuned` is, for each row and model alike, that of `NODE_LR_GRID` whose network scores best on the validation
            nodes.

    Raises:
        InputError: a metric that the test nodes do not have; no validation nodes where they are needed.
    """

    entrants: Sequence[NodeEntrant]
    beside: BesideNodes
    rules: Rules

    def __post_init__(self) -> None:
        check_metric(self.metric, self.beside.test.labels, self.beside.real.num_classes)
        if self.rules.lr == "tuned" and self.beside.real.val is None:
            raise refuse("lr", "`recipe` or a number, since this data has no validation nodes", "tuned")

    @property
    def metric(self) -> str:
        """Of the rows."""
        return self.rules.metric or "accuracy"

    @cached_property
    def whole(self) -> WholeGraph:
        """The real graph as networks read it."""
        return WholeGraph.of(self.beside.real, self.beside.small.recipe.scale, self.rules.device)

    def count(self, models: Sequence[AnyNodeModel | None]) -> int:
        """How many rows there will be."""
        return sum(1 if one.read or one.model else len(models) for one in self.entrants)

    def rows(self, models: Sequence[AnyNodeModel | None]) -> Iterator[Row]:
        """A row for each entrant and model; one for what has a network of its own, or none."""
        for entrant in self.entrants:
            if entrant.read is not None:
                yield read_row(entrant, self.beside.test.labels, self.metric)
                continue
            for model in [entrant.model] if entrant.model else models:
                yield self._trained(entrant, model)

    def _trained(self, entrant: NodeEntrant, model: AnyNodeModel | None) -> Row:
        start, rules, small = time.monotonic(), self.rules, self.beside.small
        lr = None if rules.lr == "tuned" else rules.lr
        learner = NodeLearner(model=model, steps=rules.steps, lr=lr, device=rules.device, metric=self.metric)
        inputs = [NodeInput.of(graph, small.recipe.scale, rules.device) for graph in entrant.graphs]
        if rules.lr == "tuned":
            learner = self._tuned(entrant.name, inputs[0], learner)
        found = [
            figures(self._fit(given, learner, seed).scores(self.whole, self.beside.test), self._labels, self.metric)
            for given, seed in self._seeds(inputs)
        ]
        recipe = learner.recipe(small.recipe)
        told: dict[str, Any] = {"set": entrant.name, "model": learner.name(small.recipe), "draws": len(inputs)}
        if entrant.budget:
            told["bytes"] = stored_bytes(entrant.graphs[0], small.num_classes)
        return Row.of(found, self.metric, **told, steps=recipe.steps, lr=recipe.lr, seconds=time.monotonic() - start)

    @property
    def _labels(self) -> Tensor:
        return self.beside.test.labels

    def _seeds(self, inputs: Sequence[NodeInput]) -> Iterator[tuple[NodeInput, int]]:
        """What each network of a row is trained on, and its seed."""
        each = -(-self.rules.repeats // len(inputs))
        for draw, given in enumerate(inputs):
            for r in range(each):
                yield given, child_seed(self.rules.seed, "evaluate", draw, r)

    def _fit(self, given: NodeInput, learner: NodeLearner, seed: int) -> NodePredictor:
        small = self.beside.small
        return learner.fit_graph(given, small.num_classes, small.recipe, seed, self.whole)

    def _tuned(self, name: str, given: NodeInput, learner: NodeLearner) -> NodeLearner:
        """The learner with the step size of `NODE_LR_GRID` that is best on the validation nodes.

        Raises:
            DivergedError: with every one of the grid.
        """
        seed = child_seed(self.rules.seed, "tune", 0, 0)

        def score(lr: float) -> float:
            found = self._fit(given, dataclasses.replace(learner, lr=lr), seed).val
            assert found is not None
            return found

        return dataclasses.replace(learner, lr=best_lr(NODE_LR_GRID, score, name))


def given_nodes(small: NodeSet, real: Any, baselines: str | Sequence[str] | None, rules: Rules) -> Given:
    """The contest of a set and its baselines.

    Raises:
        InputError: see `check_same_graph` and `NodeContest`; an unknown baseline.
    """
    if real.kind != "nodes":
        raise refuse("data", "one graph whose nodes have classes, for a set of nodes", real.kind)
    picked, notes = chosen(NODE_BASELINES, "evaluate", baselines), check_same_graph(small, real)
    name, beside = str(small.method.get("name", "imported")), BesideNodes(small, real, rules.seed)
    own = NodeEntrant(name=name, graphs=(small.graph,))
    made = [one.stand(beside) for one in picked]
    others = [dataclasses.replace(entrant, name=row_of(entrant.name, name)) for entrant in made]
    stop = small.recipe.stop == "validation" and real.val is not None
    return Given(
        small=small,
        real=real,
        contest=NodeContest(entrants=[own, *others], beside=beside, rules=rules),
        title=f"{name}, {len(small):,} nodes",
        split=f"test nodes of split {real.split}, {real.rule}, {beside.setting}",
        selection=", best step on the validation nodes" if stop else ", last step of training",
        notes=[*notes, *real.said, *share(small)],
        about={row_of(one.name, name): one.told for one in picked},
    )


def as_good(rows: Sequence[Row]) -> list[str]:
    """Notes where what reads no edges, or no features, is as good as the set."""
    readers = {
        "features": "a network that sees no edges (features)",
        "label_propagation": "label propagation, which sees no features,",
        "class_means": "the nearest class mean, without a network,",
    }
    own = rows[0]
    found = [
        f"{readers[row.set]} is as good: {100 * row.mean:.1f} % beside {100 * own.mean:.1f} %"
        for row in rows
        if row.set in readers and row.metric == own.metric and row.mean >= own.mean - EQUAL
    ]
    return found


def check_same_graph(small: NodeSet, real: Nodes) -> list[str]:
    """Notes on data that differs; refuses another split of the same graph.

    Raises:
        InputError: other classes or features, no test nodes, or test nodes of another split.
    """
    told = small.provenance
    if len(small.classes) != real.num_classes:
        raise refuse("data", f"of {len(small.classes)} classes, like the set", f"{real.num_classes} ({real.name})")
    check_same_classes(small.classes, real.classes, "set")
    if (features := small.graph.x.shape[1]) != real.x.shape[1]:
        raise refuse("data", f"of {features} features a node, like the set", real.x.shape[1])
    if real.test is None:
        raise refuse("data", "with test nodes", "none", "Give a `test_mask`, or split='random'.")
    if told.get("graph_sha256") == real.graph_fingerprint and told.get("data_sha256") != real.fingerprint:
        was, now = (f"split {s} ({r})" for s, r in ((told.get("split"), told.get("rule")), (real.split, real.rule)))
        way_out = "Leave `split` out, or distil on that split: others hold its training nodes as tests."
        if was == now:
            now = "other masks of this graph"
            way_out = "Give it with the masks that it was distilled with: others hold its training nodes as tests."
        raise refuse("split", f"that of the set, {was}", now, way_out)
    known = told.get("data_sha256") in (None, real.fingerprint)
    other = "this is not the graph that the set was distilled from; nobody checked that the test nodes are unseen"
    return [] if known else [other]


__all__ = ["NodeContest", "as_good", "check_same_graph", "given_nodes"]
