"""The table of methods, and what is told of each by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from dd.base.lazy import Table

if TYPE_CHECKING:
    from dd.methods.base import Method

METHODS: Final[Table[Callable[..., Method]]] = Table(
    {
        "mtt": "dd.methods.trajectory.papers:MTT",
        "ftd": "dd.methods.trajectory.papers:FTD",
        "ast": "dd.methods.trajectory.papers:AST",
        "tesla": "dd.methods.trajectory.papers:TESLA",
        "datm": "dd.methods.trajectory.papers:DATM",
        "dm": "dd.methods.distribution.papers:DM",
        "idm": "dd.methods.distribution.papers:IDM",
        "ncfm": "dd.methods.distribution.papers:NCFM",
        "sre2l": "dd.methods.decoupled.papers:SRE2L",
        "sre2l++": "dd.methods.decoupled.papers:SRE2LPP",
        "cda": "dd.methods.decoupled.papers:CDA",
        "delt": "dd.methods.decoupled.papers:DELT",
        "cvdd": "dd.methods.decoupled.papers:CVDD",
        "rded": "dd.methods.decoupled.papers:RDED",
        "infer": "dd.methods.decoupled.papers:INFER",
        "random": "dd.methods.real.baselines:RandomReal",
        "class_mean": "dd.methods.real.baselines:ClassMean",
        "herding": "dd.methods.real.coresets:Herding",
        "k_center": "dd.methods.real.coresets:KCenter",
        "mirage": "dd.methods.mirage.method:Mirage",
        "node_means": "dd.methods.nodes.means:NodeMeans",
        "bonsai": "dd.methods.nodes.bonsai:Bonsai",
    }
)
"""Name → the class or function that makes the method of its fields. To add one: a file, a line here, a card, a test."""


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


def is_ours(method: Method) -> bool:
    """Whether this library has its class, whatever its name, and so knows what its fields do."""
    return type(method).__module__.partition(".")[0] == __name__.partition(".")[0]


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
