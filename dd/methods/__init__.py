"""The methods. To add one: a file (or a function over an existing one), a line in `METHODS`, a test."""

from collections.abc import Callable
from typing import Final

from dd.methods.base import Candidate, Method, Run, Step
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
    "rebuild",
]
