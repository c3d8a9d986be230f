"""Which methods have an estimate, and what gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dd.base.lazy import Table
from dd.cost.estimate import Estimate
from dd.methods import METHODS, class_of

ESTIMATES: Final[Table[Callable[..., Estimate]]] = Table(
    {
        "dd.methods.trajectory.matching:TrajectoryMatching": "dd.cost.matching:estimate_matching",
        "dd.methods.distribution.matching:DistributionMatching": "dd.cost.distribution:estimate_distribution",
        "dd.methods.decoupled.recover:Recover": "dd.cost.decoupled:estimate_recover",
        "dd.methods.decoupled.infer:Infer": "dd.cost.decoupled:estimate_infer",
        "dd.methods.real.coresets:Coreset": "dd.cost.decoupled:estimate_coreset",
        "dd.methods.real.baselines:RandomReal": "dd.cost.plain:estimate_plain",
        "dd.methods.real.baselines:ClassMean": "dd.cost.plain:estimate_plain",
        "dd.methods.mirage.method:Mirage": "dd.cost.trees:estimate_mirage",
        "dd.methods.nodes.means:NodeMeans": "dd.cost.nodes:estimate_nodes",
        "dd.methods.nodes.bonsai:Bonsai": "dd.cost.nodes:estimate_nodes",
    }
)
"""What predicts the cost of this library's methods, by their class; it knows their loops, which do not know it."""


def estimator_of(made: type) -> Callable[..., Estimate] | None:
    """What predicts the cost of the methods of a class, `f(method, real, device, calibrate)`, where something does.

    A method of one's own has it as a method, `estimate(real, device, calibrate)`.
    """
    own: Callable[..., Estimate] | None = getattr(made, "estimate", None)
    return own or ESTIMATES.get(f"{made.__module__}:{made.__qualname__}")


def estimated() -> tuple[str, ...]:
    """The names of the methods whose cost can be predicted."""
    return tuple(name for name in METHODS if estimator_of(class_of(name)) is not None)
