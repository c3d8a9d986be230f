"""What a network makes of a summary by each reading: the records by which `reading="auto"` was decided.

    python -m scripts.records.make.readings --root DATA [--only TEXT] [--threads 1]

One record a data set and split (of digits and molecules, whose test graphs are always the same, a seed); it resumes,
and processes can share the list. Every network is GIN with the default recipe of 500 steps, at the last one; a row
has its figure on the validation graphs, by which the default was chosen, and on the test graphs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from dd.base.seeding import child_seed
from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.data.graphs.load import load_graphs
from dd.evaluation import origin
from dd.evaluation.trees import GraphLearner, NaiveBayesLearner, TreeLearner
from dd.methods import Mirage, Run
from dd.synthetic import TreeSummary
from scripts.records.make import run

SPLITS: Final = 5
PATTERNS: Final = {"closed sets": "closed", "single trees": "single"}
READINGS: Final[dict[str, dict[str, Any]]] = {
    "sets": {"reading": "sets", "filtered": False},
    "sets, filtered": {"reading": "sets", "filtered": True},
    "bags": {"reading": "bags"},
}
"""Name: fields of the recipe. `sets` is the published reading."""


@dataclass(frozen=True)
class Source:
    """A data set, how its trees are made, and the bytes."""

    name: str
    depth: int | None
    budget: int = 2048
    node_label: str = "auto"


SOURCES: Final = (
    Source("digits-graphs", 2, 8192),
    Source("MUTAG", 2),
    Source("NCI1", 2),
    Source("PROTEINS", 1),
    Source("IMDB-BINARY", 1, node_label="constant"),
    Source("DD", 1),
    Source("BBBP", None),
    Source("BACE", None),
)


def summary(source: Source, real: Graphs, patterns: str) -> TreeSummary:
    """The summary of one kind of patterns."""
    fields: dict[str, Any] = {"depth": source.depth, "node_label": source.node_label, "budget_bytes": source.budget}
    made = next(iter(Mirage(patterns=patterns, **fields).distill(real, Run()))).candidates[0].set
    assert isinstance(made, TreeSummary)
    return made


def cell(source: Source, split: int, real: Graphs) -> dict[str, Any]:
    """One record."""
    assert real.val is not None
    assert real.test is not None
    metric = "auroc" if real.num_classes == 2 else "accuracy"
    rows: list[dict[str, Any]] = []
    sizes: dict[str, dict[str, Any]] = {}

    def add(made_of: str, reading: str, score: Callable[[GraphSplit], float]) -> None:
        start = time.monotonic()
        told = {"val": score(real.val), "test": score(real.test)}  # type: ignore[arg-type]
        rows.append({"summary": made_of, "reading": reading, **told, "seconds": round(time.monotonic() - start, 3)})

    seed, small = child_seed(split, "network"), None
    for made_of, patterns in PATTERNS.items():
        small = summary(source, real, patterns)
        sizes[made_of] = {
            "published_bytes": small.published,
            "disk_bytes": small.nbytes.total,
            "depth": small.depth,
            "trees": len(small.levels[-1]),
            "coverage": small.figures["coverage"],
        }
        for reading, fields in READINGS.items():
            fit = TreeLearner(metric=metric).fit(small.with_recipe(**fields), seed)
            add(made_of, reading, lambda part, fit=fit: fit.score(part, metric))
        bayes = NaiveBayesLearner().fit(small)
        add(made_of, "naive bayes", lambda part, bayes=bayes: bayes.score(part, metric))
    assert small is not None
    given = GRAPH_BASELINES["random"].drawn(BesideGraphs(small, real, split), 0)
    assert isinstance(given, GraphSplit)
    learner = GraphLearner(recipe=small.recipe, depth=small.depth, metric=metric)
    fit = learner.fit(given, small.codes, real.num_classes, seed)
    add(f"{len(given)} graphs", "random graphs", lambda part: fit.score(part, metric))
    return {
        "job": {"dataset": source.name, "split": split, "rule": real.rule},
        "budget": source.budget,
        "metric": metric,
        "classes": real.num_classes,
        "summaries": sizes,
        "rows": rows,
        "recipe": dataclasses.asdict(small.recipe),
        "origin": origin(split, torch.device("cpu")),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Work through the list, a split of every data set before the next one."""
    options = run.options(__doc__, "tu/ and mol/", arguments)
    for split in range(SPLITS):
        for source in SOURCES:
            name = f"readings-{source.name}-split{split}"
            if options.only in f"{name}-":
                run.once(name, lambda s=source, k=split: cell(s, k, load_graphs(s.name, split=k, root=options.root)))


if __name__ == "__main__":
    main()
