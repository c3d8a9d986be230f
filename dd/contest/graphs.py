"""The contest of graphs: a summary of trees beside whole graphs, trees and single numbers, at equal bytes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

from torch import Tensor

from dd.base.parts import ALONE, Parts
from dd.base.seeding import child_seed
from dd.base.texts import count
from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs, GraphEntrant
from dd.contest.contest import ROOM, Given, Rules, chosen, read_row, row_of
from dd.data import Images
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.data.labels import check_same_classes
from dd.data.nodes.nodes import Nodes
from dd.errors import refuse
from dd.evaluation import GraphLearner, GraphPredictor, Row, TreeLearner
from dd.evaluation.learners import best_lr
from dd.evaluation.scores import Figures, check_metric, figures, shared_figures
from dd.evaluation.trees import LR_GRID, AnyGraphModel
from dd.evaluation.unseen import standing, warn_trained
from dd.synthetic import TreeSummary

NO_SUPPORTS: Final = "no naive_bayes row: supports of trees are not kept (keep_supports)"


@final
@dataclass(frozen=True, kw_only=True)
class GraphContest:
    """Trains and scores summaries of trees, whole graphs and readings on one split.

    Attributes:
        entrants: what has rows.
        beside: the summary that all of them stand beside, and the data.
        rules: `repeats` networks a row, and where a baseline has several draws as many in all, at least one of each;
            `tuned` is, for each row and model alike, that of `LR_GRID` whose network (of the first draw, by a stream of
            its own) scores best on the validation graphs at its last step.
        early_stop: rows of the same trainings, stopped where the validation graphs score best, beside them.
        parts: where networks are shared with other processes; those with `early_stop` are not.

    Raises:
        InputError: a metric that the test graphs do not have; no validation graphs where they are needed.
    """

    entrants: Sequence[GraphEntrant]
    beside: BesideGraphs
    rules: Rules
    early_stop: bool = False
    parts: Parts = ALONE

    def __post_init__(self) -> None:
        real = self.beside.real
        check_metric(self.metric, self.beside.test.labels, real.num_classes)
        if self.rules.lr == "tuned" and real.val is None:
            raise refuse("lr", "`recipe` or a number, since this data has no validation graphs", "tuned")
        if self.early_stop and real.val is None:
            raise refuse("early_stop", "False for data without validation graphs", True)

    @property
    def metric(self) -> str:
        """Of the rows."""
        return self.rules.metric or ("auroc" if self.beside.real.num_classes == 2 else "accuracy")

    def count(self, models: Sequence[AnyGraphModel | None]) -> int:
        """How many rows there will be."""
        return sum(1 if one.read else len(models) * (1 + self.early_stop) for one in self.entrants)

    def rows(self, models: Sequence[AnyGraphModel | None]) -> Iterator[Row]:
        """A row for each entrant and model, and with `early_stop` another; one for what trains no network."""
        for number, entrant in enumerate(self.entrants):
            if entrant.read is not None:
                yield read_row(entrant, self.beside.test.labels, self.metric)
                continue
            for place, model in enumerate(models):
                yield from self._trained(entrant, model, (number * len(models) + place) * ROOM)

    def places(self, models: Sequence[AnyGraphModel | None]) -> list[int]:
        """The networks of all rows, as places of parts; those with `early_stop` are none."""
        pairs = [entrant for entrant in self.entrants for _ in models]
        counts = [0 if one.read or self.early_stop else self._count(one) for one in pairs]
        return [number * ROOM + r for number, count in enumerate(counts) for r in range(count)]

    def network(self, models: Sequence[AnyGraphModel | None], place: int) -> None:
        """Make the part of one of the `places`; `parts` is told to make no other."""
        number, row = divmod(place // ROOM, len(models))
        list(self._trained(self.entrants[number], models[row], place // ROOM * ROOM))

    def _trained(self, entrant: GraphEntrant, model: AnyGraphModel | None, first: int) -> Iterator[Row]:
        start, rules, small = time.monotonic(), self.rules, self.beside.small
        lr = None if rules.lr == "tuned" else rules.lr
        learner = TreeLearner(model=model, steps=rules.steps, lr=lr, device=rules.device, metric=self.metric)
        if rules.lr == "tuned":
            learner = self._tuned(entrant, learner)
        recipe, text = learner.recipe(small), learner.name(small)
        if entrant.pool is not None:
            text += f", {entrant.pool} pooling"
        last, best = list[Figures](), list[Figures]()
        if self.parts.shared and not self.early_stop:
            one = lambda place: self._figures(self._network(entrant, learner, place - first))  # noqa: E731
            last = shared_figures(self.parts, range(first, first + self._count(entrant)), one)
        else:
            for number in range(self._count(entrant)):
                predictor = self._network(entrant, learner, number)
                last.append(self._figures(predictor))
                if predictor.best is not None:
                    best.append(self._figures(predictor.best))
        seconds = time.monotonic() - start
        size = self.beside.bytes_of(entrant.sets[0]) if entrant.budget else None
        for suffix, found in (("", last), (", early stop", best)):
            if found:
                told = {"set": entrant.name + suffix, "model": text, "steps": recipe.steps, "lr": recipe.lr}
                yield Row.of(found, self.metric, **told, draws=len(entrant.sets), bytes=size, seconds=seconds)

    def _figures(self, predictor: GraphPredictor) -> Figures:
        test = self.beside.test
        return figures(predictor.scores(test), test.labels, self.metric)

    def _tuned(self, entrant: GraphEntrant, learner: TreeLearner) -> TreeLearner:
        """The learner with the step size of `LR_GRID` that is best.

        Raises:
            DivergedError: with every one of the grid.
        """
        seed, steps = child_seed(self.rules.seed, "tune", 0, 0), learner.recipe(self.beside.small).steps

        def score(lr: float) -> float:
            trial = dataclasses.replace(learner, lr=lr, every=steps)
            found = self._fit(entrant, 0, trial, seed, self.beside.real.val).val
            assert found is not None
            return found

        return dataclasses.replace(learner, lr=best_lr(LR_GRID, score, entrant.name))

    def _count(self, entrant: GraphEntrant) -> int:
        """Networks of a row: as many of each of its sets."""
        return len(entrant.sets) * -(-self.rules.repeats // len(entrant.sets))

    def _network(self, entrant: GraphEntrant, learner: TreeLearner, number: int) -> GraphPredictor:
        """A network of a row."""
        val = self.beside.real.val if self.early_stop else None
        draw, r = divmod(number, -(-self.rules.repeats // len(entrant.sets)))
        return self._fit(entrant, draw, learner, child_seed(self.rules.seed, "evaluate", draw, r), val)

    def _fit(
        self, entrant: GraphEntrant, draw: int, learner: TreeLearner, seed: int, val: GraphSplit | None
    ) -> GraphPredictor:
        """One network trained on one of the sets of a row."""
        given, small = entrant.sets[draw], self.beside.small
        if isinstance(given, TreeSummary):
            return learner.fit(given, seed, val)
        recipe = learner.recipe(small)
        recipe = dataclasses.replace(recipe, pool=entrant.pool or recipe.pool, filtered=False, targets="hard")
        same = {name: getattr(learner, name) for name in ("model", "device", "metric", "every")}
        graphs = GraphLearner(recipe=recipe, depth=small.depth, **same)
        return graphs.fit(given, small.codes, self.beside.real.num_classes, seed, val)


def given_graphs(
    small: TreeSummary,
    real: Images | Graphs | Nodes,
    baselines: str | Sequence[str] | None,
    rules: Rules,
    early_stop: bool = False,
) -> Given:
    """The contest of a summary and its baselines.

    Raises:
        InputError: see `check_same_data` and `GraphContest`; an unknown baseline.
    """
    if real.kind != "graphs":
        raise refuse("data", "graphs for a summary of trees", type(real).__name__)
    picked, notes = chosen(GRAPH_BASELINES, "evaluate", baselines), check_same_data(small, real)
    name, beside = str(small.method.get("name", "imported")), BesideGraphs(small, real, rules.seed)
    own = GraphEntrant(name=name, sets=[small])
    contest = GraphContest(entrants=[own], beside=beside, rules=rules, early_stop=early_stop)
    if baselines is None and not len(small.tree_support):
        picked = [one for one in picked if not one.supports]
        notes.append(NO_SUPPORTS)
    if not len(real.train):
        notes += [f"no {one.name} row: the data has no training graphs" for one in picked if not one.supports]
        picked = [one for one in picked if one.supports]
    made = [one.stand(beside) for one in picked]
    others = [dataclasses.replace(entrant, name=row_of(entrant.name, name)) for entrant in made]
    return Given(
        small=small,
        real=real,
        contest=dataclasses.replace(contest, entrants=[own, *others]),
        title=f"{name}, {count(len(small), 'pattern')} of depth {small.depth}",
        split=f"test graphs of split {real.split}, {real.rule}",
        selection=", last step of training",
        notes=[*notes, *_coverage_notes(small)],
        about={row_of(one.name, name): one.told for one in picked},
    )


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
    check_same_classes(small.classes, real.classes, "summary")
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


def _coverage_notes(small: TreeSummary) -> list[str]:
    """What a reader should know of the summary: how much it covers, and classes without a pattern."""
    told = small.figures
    if "coverage" not in told:
        return []
    notes = [f"{100 * told['coverage']:.1f} % of the training nodes have a kept tree"]
    empty = [c for c, n in zip(small.classes, told["patterns_by_class"], strict=True) if not n]
    return [*notes, *([f"no pattern of class {', '.join(empty)}"] if empty else [])]
