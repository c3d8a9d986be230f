"""`dd.calibration`, `dd.adversarial`: what networks trained on the set say of test images, as they are and attacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Unpack, final

from dd.errors import refuse
from dd.evaluation.adversarial import attacked_accuracy
from dd.evaluation.calibration import BINS, calibration_figures
from dd.evaluation.values import Values, table
from dd.keep import kept
from dd.measure.bench import AnyImageSet, Options, open_bench, some_rows
from dd.process import under_own_settings
from dd.seeding import child
from dd.shapes import as_list, check_number, check_whole

EPS: Final = (2 / 255, 8 / 255)
"""Radii in pixel units that papers report."""


@final
@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What `dd.calibration` answers; `print` is a table.

    Attributes:
        figures: by name (see `calibration_figures`), one value a network.
        bins: of the calibration errors.
        images: test images.
        dataset, method, model, origin: what was measured, and where.
    """

    figures: Mapping[str, Values]
    bins: int
    images: int
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "calibration",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "bins": self.bins,
            "images": self.images,
            "figures": {name: value.to_json() for name, value in self.figures.items()},
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), value.text(1, 4), str(value.n)) for name, value in self.figures.items()]
        head = (
            f"{self.method} on {self.dataset}, {self.model}: calibration on {self.images} test images, {self.bins} bins"
        )
        return "\n".join([head, *table(("figure", "value", "n"), rows)])


@under_own_settings
@kept("calibration")
def calibration(small: AnyImageSet, data: object, *, bins: int = BINS, **options: Unpack[Options]) -> Calibration:
    """Calibration of networks trained on the set, on test images: expected, adaptive and class-wise error.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`.
        bins: of confidence.
        **options: see `dd.measure.Options`.

    Returns:
        `accuracy`, `confidence`, `ece`, `adaptive_ece`, `class_ece` (fractions), `nll`, `brier`; each with mean, sample
        std and n over networks.

    Raises:
        InputError: an argument out of range.
        DivergedError: a training is not finite.
    """
    check_whole(bins, "bins")
    bench = open_bench(small, data, **options)
    found = [calibration_figures(net.logits(bench.test), bench.test.labels, bins) for net in bench.networks()]
    return Calibration(
        figures={name: Values(tuple(each[name] for each in found)) for name in found[0]},
        bins=bins,
        images=len(bench.test),
        **bench.about,
    )


@final
@dataclass(frozen=True, kw_only=True)
class AttackedRow:
    """Accuracy (fractions) under one attack with radius `eps` in pixel units."""

    attack: str
    eps: float
    accuracy: Values


@final
@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """What `dd.adversarial` answers; `print` is a table.

    Attributes:
        rows: first without attack, then by attack and radius.
        steps: of PGD.
        images: test images.
        dataset, method, model, origin: what was measured, and where.
    """

    rows: tuple[AttackedRow, ...]
    steps: int
    images: int
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "adversarial",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "norm": "Linf",
            "steps": self.steps,
            "images": self.images,
            "rows": [{"attack": r.attack, "eps": r.eps, "accuracy": r.accuracy.to_json()} for r in self.rows],
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        rows = [(r.attack, f"{255 * r.eps:.3g}", r.accuracy.text(), str(r.accuracy.n)) for r in self.rows]
        head = f"{self.method} on {self.dataset}, {self.model}: {self.images} test images, PGD of {self.steps} steps"
        return "\n".join([head, *table(("attack", "eps · 255", "accuracy %", "n"), rows)])


@under_own_settings
@kept("adversarial")
def adversarial(
    small: AnyImageSet,
    data: object,
    *,
    eps: Sequence[float] = EPS,
    attack_steps: int = 10,
    step_size: float | None = None,
    random_start: bool = True,
    images: int = 1000,
    **options: Unpack[Options],
) -> Adversarial:
    """Accuracy of networks trained on the set when every test image is moved against them, at most ε a pixel.

    White box: the attacker has the network and the set's transform. See `dd.evaluation.adversarial` for the equations.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`.
        eps: radii in L∞, in units of pixels in [0, 1].
        attack_steps, step_size: of PGD.
        random_start: PGD starts at a random point of the ball.
        images: at most so many test images, drawn at random.
        **options: see `dd.measure.Options`.

    Returns:
        Accuracies without attack, under FGSM and under PGD, each with mean, sample std and n over networks.

    Raises:
        InputError: a radius outside [0, 1], or another argument out of range.
        DivergedError: a training is not finite.
    """
    eps = as_list(eps)
    for radius in eps:
        if not check_number(radius, "eps", 0) <= 1:
            raise refuse("eps", "in [0, 1], in units of pixels in [0, 1]", radius, "8/255 is customary.")
    check_whole(attack_steps, "attack_steps")
    bench = open_bench(small, data, **options)
    split = some_rows(bench.test, images, bench.seed, "attacked")
    asked = [("none", 0.0), *((attack, radius) for attack in ("fgsm", "pgd") for radius in eps)]
    found: dict[tuple[str, float], list[float]] = {key: [] for key in asked}
    for i, trained in enumerate(bench.networks()):
        for place, (attack, radius) in enumerate(asked):
            start = child(bench.seed, "start", i) if random_start else None
            value = attacked_accuracy(
                trained.net,
                trained.small.ready_transform(),
                split,
                radius,
                attack=attack,
                steps=attack_steps,
                step_size=step_size,
                generator=start,
                device=bench.learner.device,
            )
            found[attack, radius].append(value)
            bench.progress(i * len(asked) + place + 1, bench.repeats * len(asked), f"{attack} {100 * value:.1f} %")
    rows = tuple(AttackedRow(attack=a, eps=e, accuracy=Values(tuple(v))) for (a, e), v in found.items())
    return Adversarial(rows=rows, steps=attack_steps, images=len(split), **bench.about)
