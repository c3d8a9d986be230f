"""DD-Ranking's label-robust and augmentation-robust scores: what images are worth apart from labels and augmentation.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (arXiv 2505.13300). Accuracies are fractions
here, which is what the published bounds hold for; the published code feeds percent: `ddranking_compat`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from dd.errors import refuse
from dd.evaluation.values import Values, table


def score_of(gain: float) -> float:
    """(e^a − e^−1) / (e − e^−1): 0 at a = −1, 0.2689 at 0, 1 at 1; strictly increasing."""
    return (math.exp(gain) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust_score(
    *,
    full_hard: float,
    hard: float,
    own: float,
    random: float,
    weight: float = 0.5,
    ddranking_compat: bool = False,
) -> float:
    """LRS: `score_of(a)` with a = w · IOR − (1 − w) · HLR.

    HLR = full_hard − hard is what the set lacks under classes, IOR = own − random what its images add to random real
    ones under the same labels.

    Args:
        full_hard: test accuracy after training on all real images with their classes.
        hard: on the set with classes for labels.
        own: on the set with its own labels and augmentation.
        random: on as many random real images with such labels and augmentation.
        weight: w in [0, 1].
        ddranking_compat: the published package's number for the same accuracies: it calculates in percent, so that the
            score is not in [0, 1] but grows with e^100.

    Returns:
        A fraction in [0, 1]; any number with `ddranking_compat`.

    Raises:
        InputError: an accuracy or a weight outside [0, 1].
    """
    _fractions(full_hard=full_hard, hard=hard, own=own, random=random, weight=weight)
    gain = weight * (own - random) - (1 - weight) * (full_hard - hard)
    return score_of(100 * gain if ddranking_compat else gain)


def augmentation_robust_score(
    *,
    own_augmented: float,
    random_augmented: float,
    own_plain: float,
    random_plain: float,
    weight: float = 0.5,
    ddranking_compat: bool = False,
) -> float:
    """ARS: `score_of(b)`, b = γ (own − random) with augmentation + (1 − γ) (own − random) without.

    Args:
        own_augmented, own_plain: test accuracy after training on the set, with and without augmentation.
        random_augmented, random_plain: on as many random real images, likewise.
        weight: γ in [0, 1].
        ddranking_compat: as in `label_robust_score`.

    Returns:
        A fraction in [0, 1]; any number with `ddranking_compat`.

    Raises:
        InputError: an accuracy or a weight outside [0, 1].
    """
    _fractions(
        own_augmented=own_augmented,
        random_augmented=random_augmented,
        own_plain=own_plain,
        random_plain=random_plain,
        weight=weight,
    )
    gain = weight * (own_augmented - random_augmented) + (1 - weight) * (own_plain - random_plain)
    return score_of(100 * gain if ddranking_compat else gain)


def _fractions(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise refuse(name, "a fraction in [0, 1]", value, "Divide percent by 100.")


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """One of the trainings that the scores compare.

    Attributes:
        name: `full_hard`, `hard`, `own`, `random`, `own_plain`, `random_plain`, `hard_augmented`, `random_hard`, ….
        accuracy: test accuracies, one a network.
        lr, steps: of each of them.
    """

    name: str
    accuracy: Values
    lr: float
    steps: int


@final
@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What `dd.robustness` answers; `print` is a table.

    Attributes:
        lrs: label-robust score of each repeat, fractions.
        ars: augmentation-robust score of each repeat, fractions; `None` where nothing is augmented.
        hlr, ior: of each repeat, fractions.
        trainings: the accuracies that they are made of.
        weight, gamma: w and γ.
        compat: the scores are the published package's, in whose unit they have no bounds.
        dataset, method, model: what was measured.
        origin: seed, commit, versions, machine.
        notes: what was done where the definition leaves it open.
    """

    lrs: Values
    ars: Values | None
    hlr: Values
    ior: Values
    trainings: tuple[Training, ...]
    weight: float
    gamma: float
    compat: bool
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "robustness",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "lrs": self.lrs.to_json(),
            "ars": None if self.ars is None else self.ars.to_json(),
            "hlr": self.hlr.to_json(),
            "ior": self.ior.to_json(),
            "weight": self.weight,
            "gamma": self.gamma,
            "ddranking_compat": self.compat,
            "trainings": [
                {"name": t.name, "accuracy": t.accuracy.to_json(), "lr": t.lr, "steps": t.steps} for t in self.trainings
            ],
            "origin": dict(self.origin),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        unit = "published unit" if self.compat else "× 100"
        scale = 1.0 if self.compat else 100.0
        write = "{:.4g}".format if self.compat else None
        scores = [("label-robust score", self.lrs), ("augmentation-robust score", self.ars)]
        lines = [f"{self.method} on {self.dataset}, {self.model}"]
        for name, value in scores:
            if value is not None:
                lines.append(f"{name} ({unit}): {write(value.mean) if write else value.text(scale)}, n {value.n}")
        lines.append(f"hard-label gap {self.hlr.text()}, gain over random {self.ior.text()} (accuracy, %)")
        rows = [(t.name, t.accuracy.text(), f"{t.lr:.3g}", str(t.steps)) for t in self.trainings]
        lines += table(("training", "accuracy %", "lr", "steps"), rows)
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
