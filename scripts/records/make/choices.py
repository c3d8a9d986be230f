"""The `cpu` rows of distribution matching for CIFAR-10, chosen on held-out images: one factor at a time, two seeds.

    python -m scripts.records.make.choices --root DATA [--work FOLDER] [--only TEXT] [--threads 1]

A setting is the row as it was when the search began with one field changed; a record is one set of it, whose networks
are scored on the **validation** split; no test image is read. That row itself is among the settings, so that a field
that is moved is moved because another value was better here. Experts, which `ncfm` reads, lie in FOLDER and are trained
before the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dd
from dd.experts import ExpertStore
from dd.methods import METHODS, Run
from dd.methods.presets import preset, replace_fields
from dd.transforms.whiten import make_transform
from scripts.records import kept
from scripts.records.make import run
from scripts.records.make.settings import data, tried

DATASET, IPC, NETWORKS, SEEDS = "cifar10", 10, 2, 2
ROW: Final = "row"
"""The value of a setting that changes nothing."""

BEFORE: Final[dict[str, dict[str, Any]]] = {"dm": {"lr_img": 10.0}, "idm": {"lr_img": 10.0}, "ncfm": {}}
"""What the rows had when the search began."""

FACTORS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "dm": {"lr_img": (1.0, 3.0, 30.0)},
    "idm": {"lr_img": (1.0, 3.0, 30.0), "features": ("channel",), "class_weight": (0.5, 500.0)},
    "ncfm": {"lr_img": (0.01, 0.1), "class_weight": (0.05,), "iterations": (200, 800)},
}
"""Method → field → values beside that of the row."""


@dataclass(frozen=True)
class Choice:
    """One set: the row of a method, but for one field."""

    method: str
    field: str
    value: Any
    seed: int

    @property
    def name(self) -> str:
        """Of its record."""
        return f"choices-{DATASET}-ipc{IPC}-{self.method}-{self.field}-{self.value}-{self.seed}"

    def made(self) -> dd.DistributionMatching:
        """The method."""
        value = METHODS[self.method](**preset(self.method, DATASET, IPC, "cpu").fields)
        own = {} if self.field == ROW else {self.field: self.value}
        made = replace_fields(value, {**BEFORE[self.method], **own})
        assert isinstance(made, dd.DistributionMatching)
        return made


CHOICES: Final = [
    Choice(method, field, value, seed)
    for seed in range(SEEDS)
    for method, factors in FACTORS.items()
    for field, values in {ROW: (ROW,), **factors}.items()
    for value in values
]


def measure(choice: Choice, root: Path, work: Path) -> dict[str, Any]:
    """Make one set and score its networks on the validation split."""
    real, method = data(DATASET, root), choice.made()
    how = Run(seed=choice.seed, store=work)
    if method.snapshots_read:
        transform = make_transform(real, method.expert.whiten)
        ExpertStore(work, method.expert, real).ensure(transform, snapshots=method.snapshots_read)
    told = {"method": choice.method, "field": choice.field, "value": choice.value, "seed": choice.seed}
    return {"choice": told, "dataset": DATASET, "ipc": IPC, **tried(method, real, how, NETWORKS)}


def main() -> None:
    """Work through the list."""
    about = {"type": Path, "default": kept.RUNS / "choices", "help": "where experts lie"}
    more: Mapping[str, dict[str, Any]] = {"--work": about}
    given = run.options(__doc__, "cifar10/", more=more)
    for choice in CHOICES:
        if given.only in choice.name:
            run.once(choice.name, lambda choice=choice: measure(choice, given.root, given.work))


if __name__ == "__main__":
    main()
