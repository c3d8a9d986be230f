"""The leaderboards: `dd.benchmark` of every method on the two-core budget, as records.

    python -m scripts.records.make.leaderboards --root DATA [--store FOLDER] [--only TEXT] [--methods A,B] [--threads 1]

Each becomes the record `leaderboard-NAME` (rows, and the cells they were made of). The cells are kept in
`runs/leaderboards/NAME` and in it a call goes on where another was interrupted; processes can share it. A leaderboard
whose record has the methods asked is skipped; one with fewer goes on from its cells, at any later time. A board of hard
labels has the sets of the other one, a board of several sets a method the cells of the one of single sets.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import dd
from dd.base.paths import is_there
from dd.contest.cells import put_back
from dd.methods import METHODS, RandomReal
from dd.methods.presets import preset
from dd.models import as_spec
from scripts.records import kept
from scripts.records.make import run

RUNS: Final = kept.RUNS.parent / "leaderboards"

CIFAR10: Final[Mapping[str, Any]] = {
    "data": "cifar10",
    # Not `full_converged`: up to 16,000 steps of 256 images four times, hours where a cell should take minutes.
    "baselines": ["class_mean", "random", "herding", "k_center", "random_labels", "full"],
    "preset": "cpu",
    "repeats": 3,
}
HARD: Final[Mapping[str, Any]] = {
    "models": ["convnet(width=32)"],
    "baselines": ["class_mean", "random"],
    "recipe": "hard",
}


def random_as(name: str) -> dd.Method:
    """Random real pictures at a byte a number, trained on as the sets of a method are at 10 images a class."""
    value: Any = METHODS[name](**preset(name, CIFAR10["data"], 10, "cpu").fields)
    train = dataclasses.replace(value.train, model=str(as_spec(value.expert.model)))
    return RandomReal(name=f"random as {name}", storage="uint8", train=train)


BOARDS: Final[Mapping[str, dict[str, Any]]] = {
    "MUTAG": {"data": "MUTAG", "models": ["gin", "gcn", "gat", "sage"], "budget_bytes": (512, 2048), "repeats": 5},
    "NCI1": {"data": "NCI1", "models": ["gin", "gcn", "gat", "sage"], "budget_bytes": (512, 2048), "repeats": 5},
    "cifar10-ipc10": {**CIFAR10, "ipc": 10, "models": ["convnet(width=32)", "unseen", "ridge", "nearest_mean"]},
    "cifar10-ipc1": {**CIFAR10, "ipc": 1, "models": ["convnet(width=32)", "unseen", "ridge", "nearest_mean"]},
    "cifar10-ipc10-hard": {**CIFAR10, "ipc": 10, **HARD},
    "cifar10-ipc1-hard": {**CIFAR10, "ipc": 1, **HARD},
    "cifar10-ipc10-sets": {
        **CIFAR10,
        "ipc": 10,
        # The one that its first set showed above random pictures under every stranger, and these in its own training.
        "methods": ["idm", random_as("idm")],
        "models": ["convnet(width=32)", "unseen"],
        "baselines": ["random"],
        "seeds": 3,
    },
}
"""Name: arguments of `dd.benchmark`."""
SAME_SETS: Final[Mapping[str, str]] = {"cifar10-ipc10-hard": "cifar10-ipc10", "cifar10-ipc1-hard": "cifar10-ipc1"}
"""Board → the board whose run folders it takes where they are."""
SAME_CELLS: Final[Mapping[str, str]] = {"cifar10-ipc10-sets": "cifar10-ipc10"}
"""Board → the board whose record has some of its cells."""


def board(name: str, root: Path, store: Path | None, methods: Sequence[str] = ()) -> bool:
    """Measure one leaderboard, unless its record has these methods (none: all); whether it was measured."""
    asked = {**BOARDS[name], **({"methods": list(methods)} if methods else {})}
    if (there := _record(name)) is not None:
        wanted = {one if isinstance(one, str) else one.name for one in asked.get("methods", ["all"])}
        told = there["asked"] or {}  # nothing of methods that are values
        if told.get("methods") == ["all"] or wanted <= {cell["set"] for cell in there["cells"]}:
            return False
    for record in (there, _record(SAME_CELLS[name]) if name in SAME_CELLS else None):
        for cell in record["cells"] if record else ():
            put_back(cell, RUNS / name)
    if name in SAME_SETS and is_there(runs := RUNS / SAME_SETS[name] / "runs"):
        shutil.copytree(runs, RUNS / name / "runs", ignore=shutil.ignore_patterns("*.lock"), dirs_exist_ok=True)
    made = dd.benchmark(**asked, root=root, store=store, out=RUNS / name)
    kept.keep(f"leaderboard-{name}", made.to_json())
    return True


def _record(name: str) -> dict[str, Any] | None:
    """A leaderboard as it was measured, where it was."""
    return kept.named(f"leaderboard-{name}").get(f"leaderboard-{name}")


def main() -> None:
    """Work through the list."""
    store = "experts and teachers; default: as DD_HOME says"
    more: Mapping[str, dict[str, Any]] = {
        "--methods": {"type": lambda text: text.split(","), "default": [], "help": "of a board; default: all"}
    }
    options = run.options(__doc__, "tu/, cifar10/, …", store=store, more=more)
    for name in BOARDS:
        if options.only not in name:
            continue
        try:
            board(name, options.root, options.store, options.methods)
        except dd.MissingError as error:
            print(f"{name} skipped: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
