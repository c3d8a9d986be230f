"""`evaluate` for graphs: a summary of trees beside its baselines, under one loop, one budget, one number of steps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np
import torch
from torch import Tensor

from dd.data.graphs import Graphs, GraphSplit
from dd.errors import DivergedError, refuse, unknown
from dd.evaluation import EvalReport, GraphLearner, GraphPredictor, NaiveBayesLearner, Row, TreeLearner, origin
from dd.evaluation.graphs import logistic_scores
from dd.evaluation.report import no_better, support_of
from dd.evaluation.scores import Figures, check_metric, figures
from dd.evaluation.trees import LR_GRID, AnyGraphModel, given_lr
from dd.methods import Run
from dd.methods.mirage.account import Account, class_weights
from dd.methods.mirage.baselines import graph_bytes, herding, random_graphs, random_trees
from dd.methods.mirage.build import Entry, build, leaf_degrees, whole_graph
from dd.methods.mirage.select import Costs, Pattern
from dd.methods.mirage.transactions import Transactions, chunks, transactions
from dd.seeding import child_seed
from dd.shapes import as_list
from dd.synthetic import TreeSummary
from dd.synthetic.match import Matcher
from dd.unseen import standing, warn_trained

NETWORKS: Final = ("random", "random_sum", "random_mean", "herding", "random_trees", "all_trees", "full")
READERS: Final = ("naive_bayes", "tree_counts", "node_count", "edges_per_node")
GRAPH_BASELINES: Final = (*NETWORKS, *READERS)
DEFAULTS: Final = ("random", "naive_bayes", "node_count", "edges_per_node")
DRAWS: Final = 2
NO_SUPPORTS: Final = "no naive_bayes row: supports of trees are not kept (keep_supports)"


@final
@dataclasses.dataclass(frozen=True)
class GraphJudge:
    """Trains and scores every row for one summary and one split.

    Attributes:
        small: the summary.
        real: the data with its test graphs.
        repeats: fresh networks a row (of random graphs and trees: for each of two draws half as many, at least one).
        run: seed, device, progress.
        metric: of `METRICS`.
        steps, lr: replace those of the recipe; `tuned` is, for each row and model alike, that of `LR_GRID` whose
            network (of the first draw, by a stream of its own) scores best on the validation graphs at its last step.
        early_stop: rows of the same trainings, stopped where the validation graphs score best, beside them.
    """

    small: TreeSummary
    real: Graphs
    repeats: int
    run: Run
    metric: str
    steps: int | None = None
    lr: float | Literal["tuned"] | None = None
    early_stop: bool = False

    def __post_init__(self) -> None:
        check_metric(self.metric, self._test.labels, self.real.num_classes)
        if self.lr == "tuned" and self.real.val is None:
            raise refuse("lr", "`recipe` or a number, since this data has no validation graphs", "tuned")
        if self.early_stop and self.real.val is None:
            raise refuse("early_stop", "False for data without validation graphs", True)

    @property
    def _exact(self) -> bool:
        """Whether the summary tells leaves apart by their degree."""
        return bool(self.small.levels[0].trunc.any())

    @property
    def _supports(self) -> bool:
        """Whether the summary has those of its trees."""
        return len(self.small.tree_support) > 0

    @cached_property
    def _found(self) -> Transactions:
        return transactions(
            chunks(self.real.train),
            self.small.codes,
            self.small.depth,
            self.real.num_classes,
            leaf_degree=self._exact,
            isolated=True,
        )[-1]

    @property
    def _test(self) -> GraphSplit:
        assert self.real.test is not None
        return self.real.test

    def account(self) -> Account:
        """The bytes that the summary has spent, to be spent by a baseline in the same turns."""
        share = str(self.small.method.get("share", "equal"))
        return Account(self.small.published, class_weights(share, self.real.graphs_per_class.tolist()))

    @cached_property
    def _bytes(self) -> Tensor:
        codes = self.small.codes
        return graph_bytes(
            self.real.train, codes.table.shape[1], codes.edge_table.shape[1], directed=self.real.directed
        )

    def table(self, models: Sequence[AnyGraphModel | None], baselines: Sequence[str]) -> Iterator[Row]:
        """The summary's rows first, then each baseline's."""
        name = str(self.small.method.get("name", "imported"))
        for label in (name, *baselines):
            if label in READERS:
                yield self.read(label)
                continue
            for model in models:
                yield from self.trained(label, model, label == name)

    def trained(self, label: str, model: AnyGraphModel | None, own: bool) -> Iterator[Row]:
        """The row of a set under one model, and with `early_stop` that of the same trainings stopped early."""
        start = time.monotonic()
        lr = None if self.lr == "tuned" else self.lr
        learner = TreeLearner(model=model, steps=self.steps, lr=lr, device=self.run.device, metric=self.metric)
        if self.lr == "tuned":
            learner = self._tuned(label, learner, own)
        recipe = learner.recipe(self.small)
        last, best = [], []
        for fit in self._fits(label, learner, own):
            predictor = fit()
            last.append(self._figures(predictor))
            if predictor.best is not None:
                best.append(self._figures(predictor.best))
        seconds = time.monotonic() - start
        text = learner.name(self.small)
        if label.endswith(("_sum", "_mean")):
            text += f", {label.rpartition('_')[2]} pooling"
        for suffix, found in (("", last), (", early stop", best)):
            if found:
                told = {"set": label + suffix, "model": text, "steps": recipe.steps, "lr": recipe.lr}
                yield Row.of(found, self.metric, **told, seconds=seconds)

    def _figures(self, predictor: GraphPredictor) -> Figures:
        return figures(predictor.scores(self._test), self._test.labels, self.metric)

    def _tuned(self, label: str, learner: TreeLearner, own: bool) -> TreeLearner:
        """The learner with the step size that `lr` says.

        Raises:
            DivergedError: with every one of the grid.
        """
        given, seed = self.small if own else self.training_set(label, 0), child_seed(self.run.seed, "tune", 0, 0)
        tried: list[tuple[float, TreeLearner]] = []
        for lr in LR_GRID:
            trial = dataclasses.replace(learner, lr=lr, every=learner.recipe(self.small).steps)
            try:
                score = self._fit(label, trial, given, seed, self.real.val)().val
            except DivergedError:
                continue
            tried.append((score, dataclasses.replace(learner, lr=lr)))
        if not tried:
            raise DivergedError(f"training on {label} diverged with every lr of {LR_GRID}. Give `lr` yourself.")
        return max(tried, key=lambda pair: pair[0])[1]

    def _fits(self, label: str, learner: TreeLearner, own: bool) -> Iterator[Callable[[], Any]]:
        """One call for each network of a row."""
        val = self.real.val if self.early_stop else None
        drawn = label.startswith("random")
        each = -(-self.repeats // DRAWS) if drawn else self.repeats
        for draw in range(DRAWS if drawn else 1):
            given = self.small if own else self.training_set(label, draw)
            for r in range(each):
                yield self._fit(label, learner, given, child_seed(self.run.seed, "evaluate", draw, r), val)

    def _fit(
        self, label: str, learner: TreeLearner, given: TreeSummary | GraphSplit, seed: int, val: GraphSplit | None
    ) -> Callable[[], Any]:
        """A call that trains one network on a row's training set."""
        if isinstance(given, TreeSummary):
            return partial(learner.fit, given, seed, val)
        pool = label.rpartition("_")[2] if label.endswith(("_sum", "_mean")) else self.small.recipe.pool
        graphs = GraphLearner(
            recipe=dataclasses.replace(learner.recipe(self.small), pool=pool, filtered=False, targets="hard"),
            depth=self.small.depth,
            model=learner.model,
            device=self.run.device,
            metric=self.metric,
            every=learner.every,
        )
        return partial(graphs.fit, given, self.small.codes, self.real.num_classes, seed, val)

    def training_set(self, label: str, draw: int) -> TreeSummary | GraphSplit:
        """The training set of a baseline."""
        train = self.real.train
        if label == "full":
            return train
        if label == "herding":
            rows = herding(self._found, self._bytes, self.account())
        elif label in ("random_trees", "all_trees"):
            return self._trees(label, draw)
        else:
            rows = random_graphs(train.labels, self._bytes, self.account(), self.run.seed, draw)
        if not len(rows):
            cheapest = int(self._bytes.min())
            spent = f"no graph fits the {self.small.published} bytes of the summary, {cheapest} at least"
            raise refuse("baselines", f"without {label}: {spent}", label)
        return train.subset(rows)

    def _trees(self, label: str, draw: int) -> TreeSummary:
        codes, method = self.small.codes, self.small.method
        costs = Costs(
            self._found,
            codes.table.shape[1],
            codes.edge_table.shape[1],
            method.get("storage") == "once",
            bool(method.get("keep_counts", True)),
            self._supports,
        )
        entries: list[Entry]
        if label == "all_trees":
            entries = [whole_graph(self._found, g) for g in range(len(self._found))]
        else:
            entries = random_trees(self._found, costs, self.account(), self.run.seed, draw)
        leaves = leaf_degrees(self._found, codes, self.real.train, self._exact)
        recipe = self.small.recipe
        if label == "all_trees":  # a graph is the set of its trees, so it is read as one
            recipe = dataclasses.replace(recipe, reading="sets")
        return build(
            self._found,
            entries,
            codes,
            leaves,
            self._supports,
            classes=self.real.classes,
            recipe=recipe,
            method={"name": label},
            published=costs.total([Pattern(tuple(e.trees), e.label, 0) for e in entries]),
        )

    def read(self, label: str) -> Row:
        """A row without a network."""
        start = time.monotonic()
        if label == "naive_bayes":
            scores = NaiveBayesLearner().fit(self.small).scores(self._test)
        elif label == "tree_counts":
            scores = self._regression()
        else:
            scores = self._feature(label)
        found = figures(scores, self._test.labels, self.metric)
        name = {"naive_bayes": "supports of the summary", "tree_counts": "logistic regression"}.get(label, "one number")
        seconds = time.monotonic() - start
        return Row.of([found], self.metric, set=label, model=name, steps=0, lr=0.0, seconds=seconds)

    def _regression(self) -> Tensor:
        """Logistic regression on the counts of all trees of all training graphs, log(1 + count)."""
        whole = build(
            self._found,
            [whole_graph(self._found, g) for g in range(len(self._found))],
            self.small.codes,
            torch.zeros(len(self._found.tables[0])),
            classes=self.real.classes,
        )
        matcher = Matcher(whole)
        return logistic_scores(
            matcher.counts(self.real.train).log1p(), self.real.train.labels, matcher.counts(self._test).log1p()
        )

    def _feature(self, label: str) -> Tensor:
        """Logistic regression on one number of a graph."""

        def number(split: GraphSplit) -> np.ndarray[Any, Any]:
            nodes = split.ptr.diff().double()
            edges = split.edge_ptr.diff().double() / (1 if self.real.directed else 2)
            return (nodes if label == "node_count" else edges / nodes.clamp(min=1)).numpy()[:, None]

        return logistic_scores(number(self.real.train), self.real.train.labels, number(self._test), scale=True)


def check_graph_baselines(names: Sequence[str]) -> None:
    """Refuse a name that is no baseline of graphs."""
    for name in names:
        if name not in GRAPH_BASELINES:
            raise unknown("baseline for graphs", name, GRAPH_BASELINES)


def _check_features(what: str, known: tuple[Tensor, ...], given: Tensor) -> None:
    if given.shape[1] != len(known):
        raise refuse("data", f"of {len(known)} {what} features, like the summary", given.shape[1])
    if known and given.is_floating_point():
        way_out = "Cut them as when distilling: dd.load_graphs(data, bins=real.bins), `real` being those graphs."
        raise refuse("data", f"of categorical {what} features, like the summary", "continuous ones", way_out)


def check_same_data(small: TreeSummary, real: Graphs) -> list[str]:
    """Notes on data that differs; refuses another split of the same data.

    Raises:
        InputError: other classes, features or directions, no test graphs, or the test graphs of another split.

    Warns:
        UserWarning: the test graphs are those that the summary was made from.
    """
    told = small.provenance
    if len(small.classes) != real.num_classes:
        raise refuse("data", f"of {len(small.classes)} classes, like the summary", f"{real.num_classes} ({real.name})")
    if real.test is None:
        raise refuse("data", "with test graphs", "none", "Give a tuple (train, test).")
    if small.directed != real.directed:
        wanted, got = ("directed", "undirected") if small.directed else ("undirected", "directed")
        raise refuse("data", f"{wanted}, like the summary", f"{got} graphs", "See `directed` of `dd.load_graphs`.")
    codes, test = small.codes, real.test
    if codes.kind == "features":
        _check_features("node", codes.values, test.x)
    _check_features("edge", codes.edge_values, test.edge_attr)
    if told.get("dataset") == real.name and (told.get("split"), told.get("rule")) != (real.split, real.rule):
        was, now = (f"split {s} ({r})" for s, r in ((told.get("split"), told.get("rule")), (real.split, real.rule)))
        raise refuse("split", f"that of the summary, {was}", now, "Other splits hold its training graphs as tests.")
    warn_trained(told, real)
    known = standing(told, real).trained or told.get("data_sha256") in (None, real.fingerprint)
    other = "these are not the graphs that the summary was distilled from; nobody checked that the tests are unseen"
    return [] if known else [other]


def evaluate_graphs(
    small: TreeSummary,
    real: Graphs,
    models: Sequence[AnyGraphModel] | AnyGraphModel | None,
    baselines: Sequence[str] | None,
    run: Run,
    path: Path | None,
    *,
    metric: str | None,
    lr: float | str,
    steps: int | None,
    repeats: int,
    early_stop: bool,
) -> EvalReport:
    """`dd.evaluate` of a summary of trees; arguments as there, with the data loaded.

    Raises:
        InputError: see `check_same_data`; an unknown baseline or metric; `tuned` without validation graphs.
    """
    if not isinstance(real, Graphs):
        raise refuse("data", "graphs for a summary of trees", type(real).__name__)
    names = DEFAULTS if baselines is None else tuple(as_list(baselines))
    check_graph_baselines(names)
    notes = check_same_data(small, real)
    assert real.test is not None
    if baselines is None and not len(small.tree_support):
        names = tuple(name for name in names if name != "naive_bayes")
        notes.append(NO_SUPPORTS)
    if not len(real.train):
        notes += [f"no {name} row: the data has no training graphs" for name in names if name != "naive_bayes"]
        names = tuple(name for name in names if name == "naive_bayes")
    judge = GraphJudge(
        small,
        real,
        repeats,
        run,
        metric or ("auroc" if real.num_classes == 2 else "accuracy"),
        steps,
        given_lr(lr),
        early_stop,
    )
    wanted = as_list(models)
    rows = []
    for row in judge.table(wanted or [None], names):
        rows.append(row)
        run.progress(len(rows), len(rows) + 1, f"{row.set} {100 * row.mean:.1f} %")
    sizes = dict(small.nbytes._asdict())
    if path is not None and path.is_file():
        sizes["total"] = path.stat().st_size
    seen = standing(small.provenance, real, f"test graphs of split {real.split}, {real.rule}")
    support = support_of(real.classes, real.test.labels)
    notes = [*seen.notes, *no_better(rows, list(support.values())), *notes, *_coverage_notes(small)]
    return EvalReport(
        dataset=real.name,
        split=seen.split,
        protocol=seen.protocol,
        selection=str(small.provenance.get("selection", "unknown")) + ", last step of training",
        method=f"{small.method.get('name', 'imported')}, {len(small)} patterns of depth {small.depth}",
        rows=tuple(rows),
        bytes=sizes,
        origin=origin(run.seed, run.device),
        notes=tuple(notes),
        support=support,
    )


def _coverage_notes(small: TreeSummary) -> list[str]:
    """What a reader should know of the summary: how much it covers, and classes without a pattern."""
    told = small.figures
    if "coverage" not in told:
        return []
    notes = [f"{100 * told['coverage']:.1f} % of the training nodes have a kept tree"]
    empty = [c for c, n in zip(small.classes, told["patterns_by_class"], strict=True) if not n]
    return [*notes, *([f"no pattern of class {', '.join(empty)}"] if empty else [])]
