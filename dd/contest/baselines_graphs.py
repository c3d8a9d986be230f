"""Baselines of graphs at the bytes of a summary: whole graphs, trees, and readings without a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from dd.contest.contest import BOTH, Baseline, table
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.errors import refuse
from dd.evaluation import NaiveBayesLearner
from dd.evaluation.graphs import logistic_scores
from dd.methods.mirage.account import Account, class_weights
from dd.methods.mirage.baselines import graph_bytes, herding, random_graphs, random_trees
from dd.methods.mirage.build import Entry, build, leaf_degrees, whole_graph
from dd.methods.mirage.select import Costs, Pattern
from dd.methods.mirage.transactions import Transactions, chunks, transactions
from dd.synthetic import TreeSummary
from dd.synthetic.match import Matcher


@final
@dataclass(frozen=True)
class BesideGraphs:
    """What baselines of graphs are made from.

    Attributes:
        small: the summary that they stand beside: they have its bytes, depth, codes and recipe.
        real: the data with its test graphs.
        seed: of the draws.
    """

    small: TreeSummary
    real: Graphs
    seed: int = 0

    @property
    def test(self) -> GraphSplit:
        """The test graphs."""
        assert self.real.test is not None
        return self.real.test

    @property
    def exact(self) -> bool:
        """Whether the summary tells leaves apart by their degree."""
        return bool(self.small.levels[0].trunc.any())

    @cached_property
    def found(self) -> Transactions:
        """The trees of all training graphs."""
        codes, classes = self.small.codes, self.real.num_classes
        parts = chunks(self.real.train)
        return transactions(parts, codes, self.small.depth, classes, leaf_degree=self.exact, isolated=True)[-1]

    def account(self) -> Account:
        """The bytes that the summary has spent, to be spent by a baseline in the same turns."""
        share = str(self.small.method.get("share", "equal"))
        return Account(self.small.published, class_weights(share, self.real.graphs_per_class.tolist()))

    @property
    def _features(self) -> tuple[int, int]:
        """How many a node and an edge have."""
        return self.small.codes.table.shape[1], self.small.codes.edge_table.shape[1]

    @cached_property
    def bytes(self) -> Tensor:
        """Of each training graph by the published count, int64 `[N]`."""
        return graph_bytes(self.real.train, *self._features, directed=self.real.directed)

    def bytes_of(self, given: TreeSummary | GraphSplit) -> int:
        """Of a summary or of whole graphs, by the published count."""
        if isinstance(given, TreeSummary):
            return given.published
        return int(graph_bytes(given, *self._features, directed=self.real.directed).sum())

    def summary(self, name: str, entries: Sequence[Entry], reading: str | None = None) -> TreeSummary:
        """Patterns of training trees under the recipe of the summary, read as it is or otherwise."""
        codes, recipe = self.small.codes, self.small.recipe
        patterns = [Pattern(tuple(e.trees), e.label, 0) for e in entries]
        return build(
            self.found,
            entries,
            codes,
            leaf_degrees(self.found, codes, self.real.train, self.exact),
            len(self.small.tree_support) > 0,
            classes=self.real.classes,
            recipe=recipe if reading is None else dataclasses.replace(recipe, reading=reading),
            method={"name": name},
            published=self.costs.total(patterns),
        )

    @cached_property
    def costs(self) -> Costs:
        """Of trees and patterns, as the summary counts them."""
        told = self.small.method
        once, counts = told.get("storage") == "once", bool(told.get("keep_counts", True))
        return Costs(self.found, *self._features, once, counts, len(self.small.tree_support) > 0)


@final
@dataclass(frozen=True, kw_only=True)
class GraphEntrant:
    """What has a row, or one with each model: the summary, or a baseline that was made.

    Attributes:
        name: of its row.
        sets: what networks are trained on, one a draw.
        pool: of the nodes of whole graphs, `sum` or `mean`; `None` is the recipe's.
        budget: whether its sets spend what the summary has spent.
        read: scores of the test graphs `[N, K]` without a network, in place of `sets`.
        reads: what a report calls the model of such a row.
    """

    name: str
    sets: Sequence[TreeSummary | GraphSplit] = ()
    pool: str | None = None
    budget: bool = True
    read: Callable[[], Tensor] | None = None
    reads: str = ""


@final
@dataclass(frozen=True, kw_only=True)
class GraphBaseline(Baseline):
    """A baseline of graphs: `make(beside, draw)` gives a summary or whole graphs; of a reading, scores.

    Attributes:
        pool: of the nodes of whole graphs, `sum` or `mean`; `None` is the recipe's.
        supports: whether it reads the supports that the summary keeps, and nothing else: no training graphs.
    """

    kind: ClassVar[str] = "graphs"
    make: Callable[[BesideGraphs, int], TreeSummary | GraphSplit | Tensor]
    pool: str | None = None
    supports: bool = False

    def drawn(self, beside: BesideGraphs, draw: int) -> Any:
        """What `make` gives.

        Raises:
            InputError: no graph fits the bytes.
        """
        made = self.make(beside, draw)
        if isinstance(made, GraphSplit) and not len(made):
            spent, least = beside.small.published, int(beside.bytes.min())
            told = f"no graph fits the {spent} bytes of the summary, {least} at least"
            raise refuse("baselines", f"without {self.name}: {told}", self.name)
        return made

    def stand(self, beside: BesideGraphs) -> GraphEntrant:
        """The baseline, made."""
        if self.reads:
            return GraphEntrant(name=self.name, read=partial(self.drawn, beside, 0), reads=self.reads)
        sets = [self.drawn(beside, draw) for draw in range(self.draws)]
        return GraphEntrant(name=self.name, sets=sets, pool=self.pool, budget=self.budget)


def _random(beside: BesideGraphs, draw: int) -> GraphSplit:
    """Whole graphs by chance."""
    train = beside.real.train
    return train.subset(random_graphs(train.labels, beside.bytes, beside.account(), beside.seed, draw))


def _herded(beside: BesideGraphs, _: int) -> GraphSplit:
    """Whole graphs whose trees, in the mean, are those of their class."""
    return beside.real.train.subset(herding(beside.found, beside.bytes, beside.account()))


def _random_trees(beside: BesideGraphs, draw: int) -> TreeSummary:
    """A summary of single trees by chance."""
    entries = random_trees(beside.found, beside.costs, beside.account(), beside.seed, draw)
    return beside.summary("random_trees", entries)


def _whole_graphs(beside: BesideGraphs) -> list[Entry]:
    return [whole_graph(beside.found, g) for g in range(len(beside.found))]


def _all_trees(beside: BesideGraphs, _: int) -> TreeSummary:
    """Every training graph as a pattern; it is the set of its trees, so it is read as one."""
    return beside.summary("all_trees", _whole_graphs(beside), "sets")


def _full(beside: BesideGraphs, _: int) -> GraphSplit:
    """All training graphs."""
    return beside.real.train


def _naive_bayes(beside: BesideGraphs, _: int) -> Tensor:
    """The supports that the summary keeps."""
    return NaiveBayesLearner().fit(beside.small).scores(beside.test)


def _tree_counts(beside: BesideGraphs, _: int) -> Tensor:
    """Logistic regression on the counts of all trees of all training graphs, log(1 + count)."""
    leaves = torch.zeros(len(beside.found.tables[0]))
    whole = build(beside.found, _whole_graphs(beside), beside.small.codes, leaves, classes=beside.real.classes)
    matcher, train = Matcher(whole), beside.real.train
    return logistic_scores(matcher.counts(train).log1p(), train.labels, matcher.counts(beside.test).log1p())


def _one_number(number: Callable[[Tensor, Tensor], Tensor], beside: BesideGraphs, _: int) -> Tensor:
    """Logistic regression on one number of a graph, of its nodes and edges, float64 `[N]`."""

    def of(split: GraphSplit) -> Any:
        nodes, edges = split.ptr.diff().double(), split.edge_ptr.diff().double()
        return number(nodes, edges / (1 if beside.real.directed else 2)).numpy()[:, None]

    train = beside.real.train
    return logistic_scores(of(train), train.labels, of(beside.test), scale=True)


_nodes: Final = partial(_one_number, lambda nodes, _: nodes)
_edges: Final = partial(_one_number, lambda nodes, edges: edges / nodes.clamp(min=1))

GRAPH_BASELINES: Final = table(
    GraphBaseline(
        name="random",
        says="random training graphs of as many bytes, pooled as the summary says",
        make=_random,
        draws=2,
        default=BOTH,
    ),
    GraphBaseline(name="random_sum", says="those of `random`, nodes summed", make=_random, draws=2, pool="sum"),
    GraphBaseline(name="random_mean", says="those of `random`, nodes averaged", make=_random, draws=2, pool="mean"),
    GraphBaseline(
        name="herding",
        says="training graphs of as many bytes whose trees are in the mean those of their class",
        make=_herded,
        default=("benchmark",),
    ),
    GraphBaseline(
        name="random_trees",
        says="random trees of training graphs, of as many bytes",
        make=_random_trees,
        draws=2,
        default=("benchmark",),
    ),
    GraphBaseline(name="all_trees", says="every training graph as a pattern", make=_all_trees, budget=False),
    GraphBaseline(name="full", says="all training graphs", make=_full, budget=False, default=("benchmark",)),
    GraphBaseline(
        name="naive_bayes",
        says="the supports of the summary, without a network",
        make=_naive_bayes,
        reads="supports of the summary",
        supports=True,
        default=BOTH,
    ),
    GraphBaseline(
        name="tree_counts",
        says="logistic regression on the trees of all training graphs",
        make=_tree_counts,
        reads="logistic regression",
        budget=False,
    ),
    GraphBaseline(
        name="node_count",
        says="logistic regression on the number of nodes of all training graphs",
        make=_nodes,
        reads="one number",
        budget=False,
        default=BOTH,
    ),
    GraphBaseline(
        name="edges_per_node",
        says="logistic regression on edges a node of all training graphs",
        make=_edges,
        reads="one number",
        budget=False,
        default=("evaluate",),
    ),
)
