"""The leaderboards: `dd.benchmark` of every method on the two-core budget, as records.

    python -m scripts.records.make.leaderboards --root DATA [--store EXPERTS] [--only TEXT] [--threads 1]

Each becomes the record `leaderboard-NAME` (rows, and the cells they were made of). The cells are
kept in `runs/leaderboards/NAME` and in it a call goes on where another was interrupted; processes can share it. A
leaderboard whose record is there is skipped. The board of hard labels has the sets of the other one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dd
from scripts.records import kept
from scripts.records.make import run

RUNS: Final = kept.RUNS.parent / "leaderboards"

CIFAR10: Final[Mapping[str, Any]] = {
    "data": "cifar10",
    "ipc": (1, 10),
    # Not `full_converged`: up to 16,000 steps of 256 images four times, hours where a cell should take minutes.
    "baselines": ["class_mean", "random", "herding", "k_center", "random_labels", "full"],
    "preset": "cpu",
    "repeats": 3,
}
BOARDS: Final[Mapping[str, dict[str, Any]]] = {
    "MUTAG": {"data": "MUTAG", "models": ["gin", "gcn", "gat", "sage"], "budget_bytes": (512, 2048), "repeats": 5},
    "NCI1": {"data": "NCI1", "models": ["gin", "gcn", "gat", "sage"], "budget_bytes": (512, 2048), "repeats": 5},
    "cifar10": {**CIFAR10, "models": ["convnet(width=32)", "unseen", "ridge", "nearest_mean"]},
    "cifar10-hard": {
        **CIFAR10,
        "models": ["convnet(width=32)"],
        "baselines": ["class_mean", "random"],
        "recipe": "hard",
    },
}
"""Name: arguments of `dd.benchmark`."""
SAME_SETS: Final[Mapping[str, str]] = {"cifar10-hard": "cifar10"}
"""Board → the board whose run folders it takes where they are."""


def board(name: str, root: Path, store: Path | None) -> bool:
    """Measure one leaderboard, unless its record is there; whether it was measured."""
    if kept.named(f"leaderboard-{name}"):
        return False
    if name in SAME_SETS and (runs := RUNS / SAME_SETS[name] / "runs").is_dir():
        shutil.copytree(runs, RUNS / name / "runs", ignore=shutil.ignore_patterns("*.lock"), dirs_exist_ok=True)
    made = dd.benchmark(**BOARDS[name], root=root, store=store, out=RUNS / name)
    kept.keep(f"leaderboard-{name}", made.to_json())
    return True


def main() -> None:
    """Work through the list."""
    store = "experts and teachers; default: as DD_HOME says"
    options = run.options(__doc__, "tu/, cifar10/, …", store=store)
    for name in BOARDS:
        if options.only not in name:
            continue
        try:
            board(name, options.root, options.store)
        except dd.MissingError as error:
            print(f"{name} skipped: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
