"""The graph records: Mirage at its published thresholds and at three budgets, beside everything it should beat.

    python -m scripts.records.make.graphs --root DATA [--only TEXT] [--threads 1]

One record a data set and split (of the molecules, whose scaffold split is one, a seed); like `run.py`
it resumes, and processes can share the list. In a record every row is one training or one reader: `last` is
the test AUROC after the last step, `early` that of the same training where the validation graphs scored best (looked at
every 30 steps), `val` the validation AUROC after the last step, by which settings may be chosen.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch

import dd
from dd.base.seeding import child_seed
from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs
from dd.data.graphs.graphs import Graphs
from dd.data.graphs.load import load_graphs
from dd.evaluation import METRICS, origin
from dd.evaluation.trees import GraphLearner, NaiveBayesLearner, TreeLearner
from dd.methods import CoverageWarning, Mirage, Run
from dd.synthetic import TreeRecipe, TreeSummary
from scripts.records.make import run

METRIC: Final = "auroc"
UNIT: Final = "-unit-embedding"
"""Ends the name of a data set whose networks start from embeddings of spread 1."""

SPLITS: Final = 10
BUDGETS: Final = (512, 2048, 8192)
NETWORKS: Final = ("gin", "gcn", "gat")
WHOLE: Final = 3  # splits on which the dear rows are trained: all training graphs
FEW: Final = {  # the calibration's, for every row; sets are the published reading unless a row says otherwise
    **{"steps": 150, "lr": 5e-3, "weight_decay": 1e-3, "dropout": 0.2},
    **{"reading": "sets", "filtered": None},
}
ACCOUNT: Final = "one account, supports counted"
"""How the bytes of these records are spent; records without it: a share a class, supports not counted."""

FAITHFUL: Final = {"patterns": "all", "storage": "repeated"}
SINGLE: Final = {"patterns": "single", "storage": "repeated"}
GAP: Final = {**SINGLE, "rank": "gap"}
VARIANTS: Final[dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "all sets, mean": (FAITHFUL, {"pool": "mean"}),
    "all sets, msum": (FAITHFUL, {"pool": "msum"}),
    "closed sets stored once, msum": ({}, {"pool": "msum"}),
    "closed sets stored once, bags": ({}, {"pool": "msum", "reading": "bags"}),
    "single trees, msum": (SINGLE, {"pool": "msum"}),
    "support gap, mean": (GAP, {"pool": "mean"}),
    "support gap, msum, soft targets": (GAP, {"pool": "msum", "targets": "soft"}),
    "support gap, mean, soft targets, filtered": (GAP, {"pool": "mean", "targets": "soft", "filtered": True}),
    "support gap, msum, soft targets, filtered": (GAP, {"pool": "msum", "targets": "soft", "filtered": True}),
}
"""Name: (fields of the method, fields of the recipe)."""

ON_ALL: Final = ("all sets, mean", "closed sets stored once, msum")
"""Variants that GCN and GAT are trained on too."""

READ: Final = ("all sets, mean", "closed sets stored once, msum", "single trees, msum", "support gap, mean")
"""Variants that naive Bayes reads; recipes do not matter to it."""


@dataclass(frozen=True)
class Source:
    """A data set and how its trees are made."""

    name: str
    depth: int | None
    node_label: str = "auto"
    thresholds: tuple[int, ...] = ()
    published: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: str = ""
    embedding: float | None = None
    full: bool = False  # only networks on all training graphs, apart where they take long

    @property
    def card(self) -> str:
        """What `load_graphs` is asked for."""
        return self.data or self.name

    def network(self, model: str) -> str:
        """The network of a row, with the spread of its first embeddings where it is not the library's."""
        return model if self.embedding is None else f"{model}(embedding={self.embedding:g})"


SOURCES: Final = (
    Source("NCI1", 2, thresholds=(440, 570), published={"drop_shared": True}),
    Source("PROTEINS", 1),
    Source("IMDB-BINARY-constant", 1, "constant", data="IMDB-BINARY"),
    Source("MUTAG", 2),
    Source("IMDB-BINARY", 2, "degree", thresholds=(13, 14), published={"drop_shared": True}),
    Source("DD", 1, thresholds=(15, 9)),
    Source("BACE", None, thresholds=(150, 104), published={"depth": 3}),
    Source("BBBP", None, thresholds=(24, 109), published={"depth": 2, "drop_shared": True}),
    Source("HIV", None, thresholds=(1800, 115), published={"depth": 3}),
    Source("PROTEINS-depth-2", 2, data="PROTEINS"),
    Source(f"NCI1{UNIT}", 2, data="NCI1", embedding=1.0),
    Source("DD-full-data", 1, data="DD", full=True),
    Source("HIV-full-data", None, data="HIV", full=True),
)
APART: Final = {source.card for source in SOURCES if source.full}
JOBS: Final = tuple((source, split) for source in SOURCES for split in range(WHOLE if source.full else SPLITS))


def distilled(real: Graphs, **fields: Any) -> tuple[TreeSummary | None, dict[str, Any]]:
    """(the summary or `None` where it is refused, what to say of it)."""
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            small = next(iter(Mirage(**fields).distill(real, Run()))).candidates[0].set
        except dd.InputError as error:
            return None, {"refused": str(error)}
    assert isinstance(small, TreeSummary)
    said = {
        "seconds": round(time.monotonic() - start, 3),
        "published_bytes": small.published,
        "disk_bytes": small.nbytes.total,
        "depth": small.depth,
        **{name: small.figures[name] for name in ("coverage", "patterns_by_class", "thresholds", "uncovered_graphs")},
        "warnings": [str(w.message) for w in told if issubclass(w.category, CoverageWarning)],
    }
    return small, said


def settings(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """(budget or `published`, fields) of every summary size."""
    plain = {"depth": source.depth, "node_label": source.node_label}
    if source.thresholds:
        fields = {**plain, **source.published, "budget_bytes": None, "min_support": source.thresholds}
        yield "published", {**fields, **FAITHFUL, "keep_counts": False, "keep_supports": False}
    for budget in BUDGETS:
        yield str(budget), {**plain, "budget_bytes": budget}


class Rows:
    """Trains and collects the rows of one record."""

    def __init__(self, source: Source, real: Graphs, seed: int) -> None:
        assert real.test is not None
        assert real.val is not None
        self.source, self.real, self.seed = source, real, seed
        self.rows: list[dict[str, Any]] = []

    def add(self, at: Mapping[str, Any], fit: Any, encode: Any) -> None:
        """One network: last step, early stop, validation."""
        start = time.monotonic()
        try:
            made = fit()
        except dd.DDError as error:
            self.rows.append({**at, "refused": str(error)})
            return
        test = encode(self.real.test)
        self.rows.append(
            {
                **at,
                "last": made.score(test, METRIC),
                "early": made.best.score(test, METRIC),
                "val": made.val,
                "seconds": round(time.monotonic() - start, 3),
            }
        )

    def summary(self, at: Mapping[str, Any], small: TreeSummary, model: str) -> None:
        """A network on a summary."""
        learner = TreeLearner(model=self.source.network(model), metric=METRIC, every=30)
        val = learner.encode(small, self.real.val)
        seed = child_seed(self.seed, "network")
        self.add(
            {**at, "model": model}, lambda: learner.fit(small, seed, val), lambda part: learner.encode(small, part)
        )

    def graphs(self, at: Mapping[str, Any], beside: BesideGraphs, label: str, draw: int, model: str, pool: str) -> None:
        """A network on whole training graphs."""
        try:
            given = GRAPH_BASELINES[label].drawn(beside, draw)
        except dd.InputError as error:
            self.rows.append({**at, "model": model, "refused": str(error)})
            return
        recipe = TreeRecipe(**FEW, pool=pool, balance="class")
        network = self.source.network(model)
        learner = GraphLearner(recipe=recipe, depth=beside.small.depth, model=network, metric=METRIC, every=30)
        codes, classes, seed = beside.small.codes, self.real.num_classes, child_seed(self.seed, "network", draw)
        start = {**at, "model": model, "draw": draw, "graphs": len(given)}
        kept: list[Any] = []

        def fit() -> Any:
            kept.append(learner.fit(given, codes, classes, seed, self.real.val))
            return kept[0]

        self.add(start, fit, lambda part: kept[0].encode(part))

    def reader(self, at: Mapping[str, Any], value: float) -> None:
        """A row without a network."""
        self.rows.append({**at, "last": value})


def random_rows(rows: Rows, beside: BesideGraphs, at: Mapping[str, Any]) -> None:
    """Random graphs by both poolings, herding and random trees at the bytes of a summary."""
    for pool in ("sum", "mean"):
        for model in NETWORKS if pool == "sum" else ("gin",):
            for draw in range(2 if model == "gin" else 1):
                rows.graphs({**at, "set": f"random graphs, {pool}"}, beside, "random", draw, model, pool)
        rows.graphs({**at, "set": f"herding, {pool}"}, beside, "herding", 0, "gin", pool)
    for draw in range(2):
        try:
            trees = GRAPH_BASELINES["random_trees"].drawn(beside, draw)
        except dd.InputError as error:
            rows.rows.append({**at, "set": "random trees, mean", "model": "gin", "refused": str(error)})
            continue
        assert isinstance(trees, TreeSummary)
        rows.summary({**at, "set": "random trees, mean", "draw": draw}, trees.with_recipe(**FEW, pool="mean"), "gin")


def cell(source: Source, split: int, real: Graphs) -> dict[str, Any]:
    """One record."""
    start = time.monotonic()
    rows = Rows(source, real, split)
    summaries: list[dict[str, Any]] = []
    last: BesideGraphs | None = None
    if source.full:
        small, _ = distilled(real, depth=source.depth, node_label=source.node_label, budget_bytes=BUDGETS[-1])
        assert small is not None
        whole(rows, BesideGraphs(small, real, split))
    for size, fields in () if source.full else settings(source):
        chosen = {"all sets, mean": VARIANTS["all sets, mean"]} if size == "published" else VARIANTS
        made: dict[str, TreeSummary] = {}
        for name, (extra, recipe) in chosen.items():
            small, said = distilled(real, **{**fields, **({} if size == "published" else extra)})
            at = {"size": size, "set": name}
            summaries.append({**at, **said})
            if small is None:
                rows.rows.append({**at, **said})
                continue
            made[name] = small.with_recipe(**{**FEW, **recipe})
            for model in NETWORKS if name in ON_ALL else ("gin",):
                rows.summary(at, made[name], model)
            if name in READ and len(small.tree_support):
                value = NaiveBayesLearner().fit(small).score(real.test, METRIC)
                rows.reader({**at, "model": "naive bayes"}, value)
        if made:
            first = next(iter(made.values()))
            last = BesideGraphs(first, real, split)
            random_rows(rows, last, {"size": size})
    if last is not None:
        alone(rows, last, source, split)
    return {
        "job": {"dataset": source.name, "split": split, "rule": real.rule},
        "graphs": [len(part) for part in (real.train, real.val, real.test) if part is not None],
        "summaries": summaries,
        "rows": rows.rows,
        "recipe": dataclasses.asdict(TreeRecipe(**FEW)),
        "metric": METRIC,
        "bytes": ACCOUNT,
        "seconds": round(time.monotonic() - start, 1),
        "origin": origin(split, torch.device("cpu")),
    }


def alone(rows: Rows, beside: BesideGraphs, source: Source, split: int) -> None:
    """Rows that have no budget: single numbers, all trees by logistic regression, and on few splits by networks."""
    for label in ("node_count", "edges_per_node", "tree_counts"):
        scores = GRAPH_BASELINES[label].drawn(beside, 0)
        value = METRICS[METRIC](scores, beside.test.labels)
        rows.reader({"size": "", "set": label, "model": "logistic regression"}, value)
    if split < WHOLE and source.card not in APART:
        whole(rows, beside)


def whole(rows: Rows, beside: BesideGraphs) -> None:
    """Networks on all training graphs, tree by tree and whole."""
    trees = GRAPH_BASELINES["all_trees"].drawn(beside, 0)
    assert isinstance(trees, TreeSummary)
    # a graph is the pattern of all its trees: by (m)sum and (m)mean this trains on the graphs themselves
    for name, pool in (("all trees, mean", "mean"), ("full data, sum", "msum"), ("full data, mean", "mmean")):
        rows.summary({"size": "", "set": name}, trees.with_recipe(**FEW, pool=pool), "gin")


@lru_cache(maxsize=1)
def _read(card: str, split: int, root: Path) -> Graphs:
    return load_graphs(card, split=split, root=root)


def loaded(source: Source, split: int, root: Path) -> Graphs:
    """The data; that of molecules once, since their split is always the same."""
    return _read(source.card, 0 if source.depth is None else split, root)


def main(arguments: Sequence[str] | None = None) -> None:
    """Work through the list."""
    options = run.options(__doc__, "tu/ and mol/", arguments)
    for source, split in JOBS:
        name = f"graphs-{source.name}-split{split}"
        if options.only in f"{name}-":
            run.once(name, lambda s=source, k=split: cell(s, k, loaded(s, k, options.root)))


if __name__ == "__main__":
    main()
