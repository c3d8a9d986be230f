"""Learners of nodes: fresh networks trained on a small graph, or on the real one, and tested on the whole graph."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import Tensor, nn

from dd.base.seeding import child_seed, isolated
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import Nodes, NodeSplit
from dd.errors import DivergedError, refuse
from dd.evaluation.scores import METRICS, check_metric
from dd.models import AnyNodeModel, NodeInput, as_node_spec, build_node_net
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.nodes import NodeSet

NODE_LR_GRID: Final = (0.001, 0.003, 0.01, 0.03)
"""Step sizes of Adam tried by `tuned`: the same ones for a set and for its baselines."""


def _cpu() -> torch.device:
    return torch.device("cpu")


@final
@dataclass(frozen=True, eq=False)
class WholeGraph:
    """The real graph, read once for all networks of one scale of features.

    Attributes:
        real: the data.
        given: the graph as networks read it.
    """

    real: Nodes
    given: NodeInput

    @staticmethod
    def of(real: Nodes, scale: str, device: torch.device) -> WholeGraph:
        """The whole graph with its features scaled as a recipe says."""
        return WholeGraph(real, NodeInput.of(real, scale, device))


@final
@dataclass(frozen=True, eq=False)
class NodePredictor:
    """A trained network.

    Attributes:
        net: in eval mode.
        step: training steps it has made.
        val: its accuracy, or another metric, on the validation nodes, if they were looked at.
    """

    net: nn.Module
    step: int
    val: float | None = None

    @torch.no_grad()
    def scores(self, whole: WholeGraph, split: NodeSplit) -> Tensor:
        """Log-probabilities of nodes, float64 `[N, K]`, on the CPU; the network reads the whole graph.

        Raises:
            InputError: a network that gives no logits `[V, K]`.
        """
        self.net.eval()
        logits = self.net(whole.given)
        _check_logits(logits, len(whole.real.x), whole.real.num_classes)
        return logits[split.rows.to(logits.device)].double().log_softmax(1).cpu()

    def score(self, whole: WholeGraph, split: NodeSplit, metric: str = "accuracy") -> float:
        """One figure of merit, a fraction.

        Raises:
            InputError: an unknown metric.
        """
        check_metric(metric, split.labels, whole.real.num_classes)
        return METRICS[metric](self.scores(whole, split), split.labels)


def _check_logits(logits: object, nodes: int, classes: int) -> None:
    if not isinstance(logits, Tensor) or logits.shape != (nodes, classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        way_out = "Its factory is called as f(features, classes), its network as net(x, edge_index)."
        raise refuse("model", f"a network that gives logits [{nodes}, {classes}]", got, way_out)


@final
@dataclass(frozen=True, kw_only=True)
class NodeLearner:
    """Trains a fresh network on a set by the recipe carried in it, with some of its fields replaced.

    Attributes:
        model: a text such as `gcn(width=64)`, a spec or a factory; `None` takes the one it was distilled for.
        steps, lr: `None` takes the recipe's.
        device: where to train.
        metric: by which validation nodes choose the step.
        looks: whether validation nodes are looked at before the last step, as the recipe says; `False`: once, then.
    """

    model: AnyNodeModel | None = None
    steps: int | None = None
    lr: float | None = None
    device: torch.device = field(default_factory=_cpu)
    metric: str = "accuracy"
    looks: bool = True

    def recipe(self, given: NodeRecipe) -> NodeRecipe:
        """The recipe that is used in place of one."""
        told = {name: value for name, value in (("steps", self.steps), ("lr", self.lr)) if value is not None}
        return dataclasses.replace(given, **told)  # type: ignore[arg-type]  # each is of the field with its name

    def name(self, given: NodeRecipe) -> str:
        """How a report calls the model."""
        return str(as_node_spec(given.model if self.model is None else self.model))

    def fit(self, small: NodeSet, seed: int, whole: WholeGraph | None = None) -> NodePredictor:
        """Train one network on a set; see `fit_graph`."""
        return self.fit_graph(small.graph, small.num_classes, small.recipe, seed, whole)

    def fit_graph(
        self,
        graph: NodeGraph | NodeInput,
        classes: int,
        recipe: NodeRecipe,
        seed: int,
        whole: WholeGraph | None = None,
    ) -> NodePredictor:
        """Train one network on the labelled nodes of a graph.

        Args:
            graph: with `y` -1 of nodes that are not trained on; as networks read it, where that is made already.
            classes: K.
            recipe: of its set.
            seed: of all streams.
            whole: the real graph; its validation nodes say which step counts, where the recipe asks for it.

        Raises:
            InputError: a network that does not fit.
            DivergedError: the loss stopped being finite.
        """
        recipe = self.recipe(recipe)
        given = graph if isinstance(graph, NodeInput) else NodeInput.of(graph, recipe.scale, self.device)
        net = build_node_net(
            recipe.model if self.model is None else self.model,
            features=given.graph.x.shape[1],
            classes=classes,
            seed=child_seed(seed, "network"),
            dropout=recipe.dropout,
        ).to(self.device)
        val = None if whole is None else whole.real.val
        kept: list[NodePredictor] = []

        def look(step: int) -> None:
            last = step == recipe.steps
            if whole is None or val is None or not (last or (self.looks and step % recipe.every == 0)):
                return
            now = NodePredictor(net, step)
            scores = now.scores(whole, val)
            if not bool(torch.isfinite(scores).all()):
                raise _diverged(recipe)
            found = METRICS[self.metric](scores, val.labels)
            best = kept[0].val if kept else None
            if best is None or found > best or (recipe.stop == "last" and last):
                kept[:] = [NodePredictor(net if last else copy.deepcopy(net), step, found)]

        _train(net, given, classes, recipe, seed, look)
        return kept[0] if kept else NodePredictor(net, recipe.steps)


def _train(
    net: nn.Module, given: NodeInput, classes: int, recipe: NodeRecipe, seed: int, after: Callable[[int], None]
) -> None:
    """Train in place for exactly `recipe.steps` steps of Adam on all labelled nodes; leaves the network in eval mode.

    Raises:
        DivergedError: the loss or a parameter stopped being finite.
    """
    rows = (given.graph.y >= 0).nonzero()[:, 0]
    labels = given.graph.y[rows].to(given.device)
    rows = rows.to(given.device)
    counts = torch.bincount(labels, minlength=classes).to(given.dtype)
    weights = 1 / counts.clamp(min=1) if recipe.balance == "class" else None
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    loss = torch.zeros(())
    with isolated(seed, "layers", device=given.device):  # dropout takes the global stream
        for step in range(recipe.steps):
            net.train()
            logits = net(given)
            if not step:
                _check_logits(logits, len(given.graph), classes)
            loss = nn.functional.cross_entropy(logits[rows], labels, weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            net.eval()
            after(step + 1)
    if not all(bool(torch.isfinite(t).all()) for t in (loss, *net.parameters(), *net.buffers())):
        raise _diverged(recipe)


def _diverged(recipe: NodeRecipe) -> DivergedError:
    return DivergedError(f"training diverged (lr {recipe.lr:g}, {recipe.steps} steps). Give a lower `lr`.")
