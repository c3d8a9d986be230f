"""Which methods have an estimate, and what gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dd.cost.decoupled import estimate_coreset, estimate_infer, estimate_recover
from dd.cost.estimate import Estimate
from dd.cost.matching import estimate_matching
from dd.cost.plain import estimate_plain
from dd.cost.trees import estimate_mirage
from dd.methods import (
    METHODS,
    ClassMean,
    Coreset,
    Infer,
    Mirage,
    RandomReal,
    Recover,
    TrajectoryMatching,
    class_of,
)

ESTIMATES: Final[dict[type, Callable[..., Estimate]]] = {
    TrajectoryMatching: estimate_matching,
    Recover: estimate_recover,
    Infer: estimate_infer,
    Coreset: estimate_coreset,
    RandomReal: estimate_plain,
    ClassMean: estimate_plain,
    Mirage: estimate_mirage,
}
"""What predicts the cost of this library's methods, by their class; it knows their loops, which do not know it."""


def estimator_of(made: type) -> Callable[..., Estimate] | None:
    """What predicts the cost of the methods of a class, `f(method, real, device, calibrate)`, where something does.

    A method of one's own has it as a method, `estimate(real, device, calibrate)`.
    """
    own: Callable[..., Estimate] | None = getattr(made, "estimate", None)
    return own or ESTIMATES.get(made)


def estimated() -> tuple[str, ...]:
    """The names of the methods whose cost can be predicted."""
    return tuple(name for name in METHODS if estimator_of(class_of(name)) is not None)
