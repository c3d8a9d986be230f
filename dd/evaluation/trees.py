"""Learners that read graphs: fresh networks trained on a summary of trees or on real graphs, and naive Bayes."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import Tensor, nn

from dd.base.seeding import child_seed
from dd.base.shapes import check_choices, check_number, check_whole
from dd.data.graphs.codes import Codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import refuse
from dd.evaluation.graphs import EncodedGraphs, Match, encode
from dd.evaluation.scores import METRICS, check_metric
from dd.evaluation.tasks import BagTask, GraphTask, Task, TreeTask, diverged, train_on
from dd.models import GraphModel, GraphSpec, as_graph_spec, build_graph_net, rooted
from dd.models.graphs.spec import GraphFactory
from dd.synthetic.match import Matcher
from dd.synthetic.tree_checks import check_supports
from dd.synthetic.tree_recipe import TreeRecipe
from dd.synthetic.trees import TreeSummary

AnyGraphModel = str | GraphSpec | GraphModel | GraphFactory
LR_GRID: Final = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Step sizes of Adam tried by `tuned`: the same ones for a summary and for its baselines."""

_PRIORS: Final = {"prior": ("graphs", "uniform")}


def _cpu() -> torch.device:
    return torch.device("cpu")


def _measured(scores: Tensor, labels: Tensor, metric: str) -> float:
    check_metric(metric, labels, scores.shape[1])
    return METRICS[metric](scores, labels)


@final
@dataclass(frozen=True, eq=False)
class GraphPredictor:
    """A trained graph network with all that it takes to score real graphs.

    Attributes:
        net: in eval mode.
        codes: what features mean.
        readout: pooling of the nodes of a graph, `sum` or `mean`.
        match: if given, only nodes whose tree is kept are pooled.
        device: where `net` is.
        step: training steps it has made.
        empty: whether a graph without kept trees then has the embedding 0, or is pooled over all its nodes.
        val: its figure on the validation graphs, if they were given.
        best: the same training stopped where `val` was highest (the first of equals), if they were given.
    """

    net: nn.Module
    codes: Codes
    readout: str
    match: Match | None
    device: torch.device
    step: int
    empty: bool = False
    val: float | None = None
    best: GraphPredictor | None = None

    def encode(self, split: GraphSplit) -> EncodedGraphs:
        """A split, encoded once for this predictor and all others of the same summary."""
        return encode(split, self.codes, self.match)

    @torch.no_grad()
    def scores(self, split: GraphSplit | EncodedGraphs) -> Tensor:
        """Log-probabilities, float64 `[N, K]`, on the CPU.

        Raises:
            InputError: another number of features; or graphs encoded without their kept trees, which are needed.
        """
        given = split if isinstance(split, EncodedGraphs) else self.encode(split)
        if self.match is not None and given.trees is None:
            raise refuse("split", "encoded with `match`", "graphs whose kept trees are unknown", "Use `encode`.")
        self.net.eval()
        dtype = next((p.dtype for p in self.net.parameters()), torch.float32)
        parts = [
            part.to(self.device, dtype).pooled(self.net, self.readout, self.match is not None, self.empty)
            for part in given.parts
        ]
        return torch.cat([rooted(self.net).head(part).double().log_softmax(1).cpu() for part in parts])

    def score(self, split: GraphSplit | EncodedGraphs, metric: str = "auroc") -> float:
        """`auroc` or `accuracy`, a fraction.

        Raises:
            InputError: an unknown metric, or a split without one of the classes (AUROC).
        """
        return _measured(self.scores(split), split.labels, metric)


def _fitted(
    task: Task,
    start: GraphPredictor,
    recipe: TreeRecipe,
    seed: int,
    val: EncodedGraphs | None,
    metric: str,
    every: int,
) -> GraphPredictor:
    """Train the network of `start` in place; score `val` after every `every` steps and after the last."""
    kept: list[GraphPredictor] = []

    def after(step: int) -> None:
        if val is None or (step % every and step != recipe.steps):
            return
        scores = start.scores(val)
        if not bool(torch.isfinite(scores).all()):
            raise diverged(recipe)
        now = dataclasses.replace(start, step=step, val=_measured(scores, val.labels, metric))
        if not kept or (now.val or 0.0) > (kept[0].val or 0.0):
            kept[:] = [dataclasses.replace(now, net=copy.deepcopy(now.net))]
        kept[1:] = [now]

    train_on(task, start.net, recipe, seed, after)
    if not kept:
        return start
    return dataclasses.replace(kept[-1], best=kept[0])


def _changed(recipe: TreeRecipe, steps: int | None, lr: float | None) -> TreeRecipe:
    given = {name: value for name, value in (("steps", steps), ("lr", lr)) if value is not None}
    return dataclasses.replace(recipe, **given)  # type: ignore[arg-type]  # each is of the field with its name


@final
@dataclass(frozen=True, kw_only=True)
class TreeLearner:
    """Trains a fresh network on a summary by the recipe carried in it, with some of its fields replaced.

    Attributes:
        model: a text such as `gin(width=64)`, a spec or a factory; `None` takes the one it was distilled for.
        steps, lr: `None` takes the recipe's.
        device: where to train.
        metric: by which validation graphs choose the step: `auroc` or `accuracy`.
        every: steps between two looks at them.
    """

    model: AnyGraphModel | None = None
    steps: int | None = None
    lr: float | None = None
    device: torch.device = field(default_factory=_cpu)
    metric: str = "auroc"
    every: int = 10

    def recipe(self, small: TreeSummary) -> TreeRecipe:
        """The recipe used for this summary."""
        return _changed(small.recipe, self.steps, self.lr)

    def name(self, small: TreeSummary) -> str:
        """How a report calls the model."""
        return str(as_graph_spec(small.recipe.model if self.model is None else self.model))

    def encode(self, small: TreeSummary, split: GraphSplit) -> EncodedGraphs:
        """A split, encoded once for all predictors of this summary."""
        return encode(split, small.codes, _match(small))

    def fit(self, small: TreeSummary, seed: int, val: GraphSplit | EncodedGraphs | None = None) -> GraphPredictor:
        """Train one network; the answer is that of the last step.

        With the exact loss there is no chance but the initialisation and dropout. With `val`, `answer.best` is the
        same training stopped early: that uses the labels of all validation graphs, so say so where it is reported.

        Args:
            small: the summary.
            seed: of all streams.
            val: validation graphs, or these encoded by `encode`.

        Raises:
            InputError: a network with more layers than the trees are deep, or validation graphs without a class.
            DivergedError: the loss stopped being finite.
        """
        check_whole(self.every, "every")
        recipe = self.recipe(small)
        if val is not None:
            check_metric(self.metric, val.labels, small.num_classes)
        net = build_graph_net(
            recipe.model if self.model is None else self.model,
            node_sizes=small.codes.sizes,
            edge_sizes=small.codes.edge_sizes,
            classes=small.num_classes,
            depth=small.depth,
            seed=child_seed(seed, "network"),
            dropout=recipe.dropout,
        ).to(self.device)
        bags = small.reading == "bags"
        start = GraphPredictor(net, small.codes, recipe.readout, _match(small), self.device, recipe.steps, empty=bags)
        ready = start.encode(val) if isinstance(val, GraphSplit) else val
        task = (BagTask if bags else TreeTask)(small, self.device)
        return _fitted(task, start, recipe, seed, ready, self.metric, self.every)


def _match(small: TreeSummary) -> Match | None:
    return Matcher(small).trees if small.filtered else None


@final
@dataclass(frozen=True, kw_only=True)
class GraphLearner:
    """Trains a fresh network on real graphs in the same loop: the rows of random graphs, of herding and of full data.

    Attributes:
        recipe: `sampling="exact"` takes all graphs in every step, `proportional` draws `batch_size` of them;
            `balance="class"` lets classes weigh alike, any other lets graphs. `targets` and `filtered` do not apply.
        depth: layers of a network whose text does not say.
        model: as in `TreeLearner`; `None` takes the recipe's.
        device, metric, every: as in `TreeLearner`.
    """

    recipe: TreeRecipe
    depth: int
    model: AnyGraphModel | None = None
    device: torch.device = field(default_factory=_cpu)
    metric: str = "auroc"
    every: int = 10

    def fit(
        self,
        graphs: GraphSplit,
        codes: Codes,
        classes: int,
        seed: int,
        val: GraphSplit | EncodedGraphs | None = None,
    ) -> GraphPredictor:
        """Train one network; the answer is that of the last step, `answer.best` as in `TreeLearner.fit`.

        Raises:
            InputError: no graphs, a network with more than `depth` layers, or validation graphs without a class.
            DivergedError: the loss stopped being finite.
        """
        check_whole(self.every, "every")
        if not len(graphs):
            raise refuse("graphs", "at least one graph", "none")
        if val is not None:
            check_metric(self.metric, val.labels, classes)
        net = build_graph_net(
            self.recipe.model if self.model is None else self.model,
            node_sizes=codes.sizes,
            edge_sizes=codes.edge_sizes,
            classes=classes,
            depth=self.depth,
            seed=child_seed(seed, "network"),
            dropout=self.recipe.dropout,
        ).to(self.device)
        start = GraphPredictor(net, codes, self.recipe.readout, None, self.device, self.recipe.steps)
        ready = start.encode(val) if isinstance(val, GraphSplit) else val
        task = GraphTask(graphs, codes, classes, self.recipe, self.device)
        return _fitted(task, start, self.recipe, seed, ready, self.metric, self.every)


@final
@dataclass(frozen=True, eq=False)
class BayesPredictor:
    """Naive Bayes over the presence of kept trees.

    Attributes:
        base: score of a graph without any kept tree, float64 `[K]`.
        present: what a tree's presence adds, float64 `[R, K]`.
        codes: what features mean.
        match: finds kept trees.
    """

    base: Tensor
    present: Tensor
    codes: Codes
    match: Match

    def encode(self, split: GraphSplit) -> EncodedGraphs:
        """A split, encoded once for this predictor and for networks on the same summary."""
        return encode(split, self.codes, self.match)

    def scores(self, split: GraphSplit | EncodedGraphs) -> Tensor:
        """Log-probabilities of the classes, float64 `[N, K]`.

        Raises:
            InputError: graphs encoded without their kept trees.
        """
        if isinstance(split, GraphSplit):
            trees, graph = self.match(split), split.graph
        elif split.trees is None:
            raise refuse("split", "encoded with `match`", "graphs whose kept trees are unknown", "Use `encode`.")
        else:
            trees, graph = split.trees, split.graph
        held = trees >= 0
        once = torch.unique(graph[held] * len(self.present) + trees[held])
        graph, tree = once // len(self.present), once % len(self.present)
        joint = self.base.expand(len(split), -1).index_add(0, graph, self.present[tree])
        return joint.log_softmax(1)

    def score(self, split: GraphSplit | EncodedGraphs, metric: str = "auroc") -> float:
        """`auroc` or `accuracy`, a fraction.

        Raises:
            InputError: an unknown metric, or a split without one of the classes (AUROC).
        """
        return _measured(self.scores(split), split.labels, metric)


@final
@dataclass(frozen=True, kw_only=True)
class NaiveBayesLearner:
    """Reads a summary without a network: Bernoulli naive Bayes on the supports of its trees.

    With n_rk of the n_k training graphs of class k holding tree r, p_rk = (n_rk + a) / (n_k + 2 a), and a graph with
    x_r = 1 where it holds r scores

        log π_k + Σ_r [x_r log p_rk + (1 − x_r) log(1 − p_rk)],

    π_k = n_k / n or 1 / K. Patterns and multiplicities are not read.

    Attributes:
        smoothing: a > 0 (Laplace's is 1).
        prior: `graphs`: n_k / n, or `uniform`.

    Raises:
        InputError: a field out of range.
    """

    smoothing: float = 1.0
    prior: str = "graphs"

    def __post_init__(self) -> None:
        check_choices(self, _PRIORS)
        if check_number(self.smoothing, "smoothing", 0) == 0:
            raise refuse("smoothing", "above 0", self.smoothing, "A tree of one class alone would decide everything.")

    def encode(self, small: TreeSummary, split: GraphSplit) -> EncodedGraphs:
        """A split, encoded once for all predictors of this summary."""
        return encode(split, small.codes, Matcher(small).trees)

    def fit(self, small: TreeSummary, seed: int = 0, val: object = None) -> BayesPredictor:
        """Count; `seed` and `val` are not used.

        Raises:
            InputError: a class without training graphs, or a summary without the supports of its trees.
        """
        check_supports(small, "naive Bayes")
        if bool((small.graphs == 0).any()):
            empty = [c for c, n in zip(small.classes, small.graphs.tolist(), strict=True) if not n]
            raise refuse("graphs", "at least one training graph of every class", f"none of {', '.join(empty)}")
        graphs, a = small.graphs.double(), self.smoothing
        p = (small.tree_support.double() + a) / (graphs + 2 * a)
        prior = (graphs / graphs.sum()).log() if self.prior == "graphs" else torch.zeros_like(graphs)
        absent, there = (1 - p).log(), p.log()
        return BayesPredictor(prior + absent.sum(0), there - absent, small.codes, Matcher(small).trees)
