"""The methods. To add one: a file (or a function over an existing one), a line in `METHODS`, a test."""

from collections.abc import Callable
from typing import Final, get_type_hints

from dd.methods.base import Candidate, Method, Run, Step, need_method
from dd.methods.baselines import ClassMean, RandomReal
from dd.methods.coresets import Coreset, Herding, KCenter
from dd.methods.decoupled import CVDD, INFER, RDED, SRE2L, SRE2LPP, rebuild
from dd.methods.infer import Infer
from dd.methods.mirage import CoverageWarning, Mirage
from dd.methods.papers import AST, DATM, FTD, MTT, TESLA
from dd.methods.recover import Recover
from dd.methods.trajectory import TrajectoryMatching

METHODS: Final[dict[str, Callable[..., Method]]] = {
    "mtt": MTT,
    "ftd": FTD,
    "ast": AST,
    "tesla": TESLA,
    "datm": DATM,
    "sre2l": SRE2L,
    "sre2l++": SRE2LPP,
    "cvdd": CVDD,
    "rded": RDED,
    "infer": INFER,
    "random": RandomReal,
    "class_mean": ClassMean,
    "herding": Herding,
    "k_center": KCenter,
    "mirage": Mirage,
}


def class_of(name: str) -> type[Method]:
    """The class of the method of that name, which says what it is: the one in `METHODS`, or what its function gives."""
    made = METHODS[name]
    return made if isinstance(made, type) else get_type_hints(made)["return"]


def kind_of(name: str) -> str:
    """What data the method of that name is for: `images`, `graphs`."""
    return class_of(name).kind


def names_of(kind: str) -> tuple[str, ...]:
    """The methods for data of a kind, in the order of `METHODS`."""
    return tuple(name for name in METHODS if kind_of(name) == kind)


GRAPH_METHODS: Final = ("mirage",)
"""Methods for graphs; they have a budget in bytes and no `ipc`. All others are for images."""

TRAJECTORY_METHODS: Final = ("mtt", "ftd", "ast", "tesla", "datm")
"""Methods of one loop over expert trajectories; `dd.estimate` knows what they cost."""

BASELINE_METHODS: Final = ("random", "class_mean", "herding", "k_center")
"""Sets of real images, or their means, that methods are compared with."""

__all__ = [
    "BASELINE_METHODS",
    "Coreset",
    "Herding",
    "KCenter",
    "CoverageWarning",
    "GRAPH_METHODS",
    "Mirage",
    "AST",
    "DATM",
    "FTD",
    "INFER",
    "Infer",
    "METHODS",
    "MTT",
    "CVDD",
    "Candidate",
    "ClassMean",
    "Method",
    "RDED",
    "RandomReal",
    "Recover",
    "Run",
    "SRE2L",
    "SRE2LPP",
    "Step",
    "TESLA",
    "TRAJECTORY_METHODS",
    "TrajectoryMatching",
    "class_of",
    "kind_of",
    "names_of",
    "need_method",
    "rebuild",
]
