"""The methods. To add one: a file (or a function over an existing one), a line in `METHODS`, a card, a test."""

from collections.abc import Callable, Mapping
from typing import Any, Final, get_type_hints

from dd.methods.base import Candidate, FromExperts, Method, Run, RunOptions, Step, need_method, need_told, own_network
from dd.methods.decoupled.infer import Infer
from dd.methods.decoupled.papers import CVDD, INFER, RDED, SRE2L, SRE2LPP, rebuild
from dd.methods.decoupled.recover import Recover
from dd.methods.mirage import CoverageWarning, Mirage
from dd.methods.real.baselines import ClassMean, RandomReal
from dd.methods.real.coresets import Coreset, Herding, KCenter
from dd.methods.trajectory.matching import TrajectoryMatching
from dd.methods.trajectory.papers import AST, DATM, FTD, MTT, TESLA

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


def list_methods() -> list[str]:
    """Names that `distill` takes."""
    return sorted(METHODS)


def class_of(name: str) -> type[Method]:
    """The class of the method of that name, which says what it is.

    It is the class in `METHODS`, or the one that the function there says it gives (`def FTD(…) -> TrajectoryMatching`).
    """
    made = METHODS[name]
    found: type[Method] | None = made if isinstance(made, type) else get_type_hints(made).get("return")
    if found is None:
        raise TypeError(f"METHODS[{name!r}] does not say what it gives. Annotate it: `-> YourMethod`.")
    return found


def kind_of(name: str) -> str:
    """What data the method of that name is for: `images`, `graphs`."""
    return class_of(name).kind


def names_of(kind: str) -> tuple[str, ...]:
    """The methods for data of a kind, in the order of `METHODS`."""
    return tuple(name for name in METHODS if kind_of(name) == kind)


def one_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for the method of that name; of those that exclude each other one that is given leaves out the others.

    Which do says its class, by `either`; and by `completed` which fields follow from those that are given.
    """
    either: tuple[str, ...] = getattr(class_of(name), "either", ())
    left_out = dict.fromkeys(either) if any(given.get(field) is not None for field in either) else {}
    completed: Callable[[Mapping[str, Any]], dict[str, Any]] = getattr(class_of(name), "completed", dict)
    return completed({**left_out, **given})


__all__ = [
    "Coreset",
    "Herding",
    "KCenter",
    "CoverageWarning",
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
    "FromExperts",
    "Method",
    "RDED",
    "RandomReal",
    "Recover",
    "Run",
    "RunOptions",
    "SRE2L",
    "SRE2LPP",
    "Step",
    "TESLA",
    "TrajectoryMatching",
    "class_of",
    "kind_of",
    "list_methods",
    "names_of",
    "need_method",
    "need_told",
    "own_network",
    "one_of",
    "rebuild",
]
