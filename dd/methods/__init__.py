"""The methods. To add one: a file (or a function over an existing one), a line in `METHODS`, a test."""

from collections.abc import Callable
from typing import Final

from dd.methods.base import Candidate, Method, Run, Step
from dd.methods.baselines import ClassMean, RandomReal
from dd.methods.papers import AST, DATM, FTD, MTT, TESLA
from dd.methods.trajectory import TrajectoryMatching

METHODS: Final[dict[str, Callable[..., Method]]] = {
    "mtt": MTT,
    "ftd": FTD,
    "ast": AST,
    "tesla": TESLA,
    "datm": DATM,
    "random": RandomReal,
    "class_mean": ClassMean,
}

__all__ = [
    "AST",
    "DATM",
    "FTD",
    "METHODS",
    "MTT",
    "Candidate",
    "ClassMean",
    "Method",
    "RandomReal",
    "Run",
    "Step",
    "TESLA",
    "TrajectoryMatching",
]
