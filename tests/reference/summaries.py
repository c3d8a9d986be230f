"""Small data sets of random graphs, summaries of them and evaluations in a few steps, for several test files."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from reference.trees import random_graphs

from dd.base.shapes import as_list
from dd.contest.contest import Rules, given_lr
from dd.contest.evaluate import judged
from dd.contest.graphs import given_graphs
from dd.data.graphs.graphs import Graphs, GraphSplit
from dd.evaluation import EvalReport
from dd.methods import Mirage, Run
from dd.synthetic import TreeRecipe, TreeSummary

FAST = TreeRecipe(model="gin(width=8)", steps=4, lr=0.01)
OPTIONS: dict[str, Any] = {"features": (2,), "edge_features": (2,), "probability": 0.3}


def graphs(seed: int = 0, classes: int = 2, count: int = 24, **options: Any) -> Graphs:
    """Random graphs; those of class 1 are larger, so that the number of nodes tells something."""

    def part(n: int, shift: int) -> GraphSplit:
        sizes = [5 + i % classes + i % 3 for i in range(n)]
        return random_graphs(100 * seed + shift, sizes, classes=classes, **OPTIONS | options)

    names = tuple(f"c{k}" for k in range(classes))
    return Graphs(train=part(count, 1), val=part(12, 2), test=part(18, 3), classes=names, name="toy", rule="random")


def distil(real: Graphs, **fields: Any) -> TreeSummary:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (step,) = Mirage(**{"depth": 1, "budget_bytes": 500, "train": FAST, **fields}).distill(real, Run())
    made = step.candidates[0].set
    assert isinstance(made, TreeSummary)
    told = {"dataset": real.name, "split": real.split, "rule": real.rule, "data_sha256": real.fingerprint}
    return dataclasses.replace(made, provenance={**told, "protocol": "clean", "selection": "last iterate"})


def evaluate(small: TreeSummary, real: Graphs, **changes: Any) -> EvalReport:
    """`dd.evaluate` of a summary in memory: no file, no folder."""
    options: dict[str, Any] = {"models": None, "baselines": (), "run": Run(), "lr": "recipe", "repeats": 2} | changes
    models, baselines, run, lr = (options.pop(name) for name in ("models", "baselines", "run", "lr"))
    early_stop = options.pop("early_stop", False)
    rules = Rules(seed=run.seed, device=run.device, lr=given_lr(lr), **options)
    return judged(given_graphs(small, real, baselines, rules, early_stop), as_list(models), run)
