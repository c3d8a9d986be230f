"""What a network makes of a summary by each reading: the records by which `reading="auto"` was decided.

    python scripts/records/graph_readings.py --root DATA [--only TEXT] [--threads 1]

One JSON record a data set and split (of digits and molecules, whose test graphs are always the same, a seed) beside
this file; it resumes, and processes can share the list. Every network is GIN with the default recipe of 500 steps, at
the last one; a row has its figure on the validation graphs, by which the default was chosen, and on the test graphs.
"""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import run
import torch

from dd.compare_graphs import GraphJudge
from dd.data.graph_load import load_graphs
from dd.data.graphs import Graphs, GraphSplit
from dd.evaluation import mean_std, origin
from dd.evaluation.trees import GraphLearner, NaiveBayesLearner, TreeLearner
from dd.files import read_foreign_json
from dd.methods import Mirage, Run
from dd.seeding import child_seed
from dd.synthetic import TreeSummary

HERE: Final = Path(__file__).resolve().parent
SPLITS: Final = 5
PATTERNS: Final = {"closed sets": "closed", "single trees": "single"}
DEFAULT: Final = ("closed sets",)
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
    given = GraphJudge(small, real, 1, Run(seed=split), metric).training_set("random", 0)
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


def reading_records(folder: Path = HERE) -> dict[str, list[Mapping[str, Any]]]:
    """Records by data set, in the order of the list."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for source in SOURCES:
        for path in sorted(folder.glob(f"readings-{source.name}-split*.json")):
            found[source.name].append(read_foreign_json(path))
    return found


def readings_table(
    found: Mapping[str, Sequence[Mapping[str, Any]]], patterns: Sequence[str] = tuple(PATTERNS)
) -> list[str]:
    """Validation and test figures of each reading, by data set and kind of summary."""
    if not found:
        return []
    names = [*READINGS, "naive bayes"]
    head = [f"{name}: {part}" for name in names for part in ("validation", "test")]
    lines = [
        "",
        "The readings of a summary, at the default recipe of 500 steps, on the validation graphs, by which the default "
        "is chosen, and on the test graphs (AUROC × 100, accuracy in % of digits-graphs):",
        "",
        f"| data | summary | bytes | splits | {' | '.join(head)} | random graphs: test |",
        "|---|---|---|---|" + "---|" * (len(head) + 1),
    ]
    for dataset, records in found.items():
        for made_of in patterns:
            cells = []
            for name in names:
                for part in ("val", "test"):
                    cells.append(_cell(records, made_of, name, part))
            spent = sorted(record["summaries"][made_of]["published_bytes"] for record in records)
            cells.append(_cell(records, None, "random graphs", "test"))
            size = f"{spent[0]:,} to {spent[-1]:,}" if spent[0] != spent[-1] else f"{spent[0]:,}"
            lines.append(f"| {dataset} | {made_of} | {size} | {len(records)} | {' | '.join(cells)} |")
    commits = sorted({record["origin"]["commit"] for records in found.values() for record in records})
    return [
        *lines,
        "",
        "*sets*: the published reading, every set a pseudo-graph, test graphs pooled over all nodes; *filtered*: "
        "pooled over nodes whose tree is kept alone, as bags are. Budgets: 2,048 bytes, of digits-graphs 8,192; one "
        "account for all classes, supports of trees counted. ± is the sample standard deviation over splits (digits, "
        "BBBP and BACE: over seeds); random graphs have the bytes that the summary of single trees spent. "
        f"Commit {', '.join(commits)}.",
    ]


def _cell(records: Sequence[Mapping[str, Any]], made_of: str | None, reading: str, part: str) -> str:
    held = [
        row[part]
        for record in records
        for row in record["rows"]
        if row["reading"] == reading and made_of in (None, row["summary"])
    ]
    mean, std = mean_std(held)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


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
