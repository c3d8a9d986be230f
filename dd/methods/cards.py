"""Cards: what is known about a method beside its code, one TOML file each in `dd/methods/_cards/`.

A card has the paper, when to take the method, what it costs, and its rows of settings (`dd.methods.presets`). Whoever
tells of a method reads it here: `dd.describe`, `dd.cite`, the pages of the manual, the benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, final

from dd.base.paths import is_there, read_toml
from dd.base.schema import conform
from dd.errors import DamagedError, MissingError, find_name
from dd.methods.table import METHODS

FOLDERS: list[Path] = [Path(__file__).parent / "_cards"]
"""Where cards are looked for, in order; a method that is being written may have its own in a further folder."""
ABOUT: Final = frozenset(
    {"dataset", "tier", "settings", "run", "source", "note", "published", "expert_fields", "aspect", "ipc"}
)
"""What a row says about itself, as opposed to the fields of the method."""
COSTS: Final = {
    "nothing": "Nothing is trained before.",
    "teachers": "Teachers first, each trained once and shared by all methods that name it.",
    "experts": "A buffer of expert trajectories first, shared by all runs of one recipe.",
}
"""Classes of cost, by what has to be there before a run; `teachers` are one network or a few, `experts` dozens."""


@final
@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a method was published.

    Attributes:
        authors: surnames.
        title, venue, year, url: as in the entry.
        note: what of the paper is meant, where that is not its own method; may be empty.
    """

    authors: str
    title: str
    venue: str
    year: int
    url: str
    note: str = ""

    def __str__(self) -> str:
        year = f"{self.venue}{', ' if self.venue[-1].isdigit() else ' '}{self.year}"
        return f"{self.authors}: {self.title}. {year}{f' ({self.note})' if self.note else ''}. {self.url}"


@final
@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """One method.

    Attributes:
        name: key of `METHODS`, and the name of the file.
        title: name for people.
        role: `method`, or `baseline`: what the others are compared with.
        when: when to take it, in one sentence.
        cost: its class, a key of `COSTS`.
        cost_note: what else a run does, or empty.
        tiny: fields with which it runs in a second on little data, for tests (`dd.testing.tiny`).
        paper, bibtex: `None` and empty for a baseline without a paper.
        common: by tier, what all its rows have unless they say otherwise.
        rows: settings, see `dd.methods.presets.rows`. Not to be changed.
    """

    name: str
    title: str
    role: Literal["method", "baseline"]
    when: str
    cost: Literal["nothing", "teachers", "experts"]
    tiny: Mapping[str, Any]
    cost_note: str = ""
    paper: Paper | None = None
    bibtex: str = ""
    common: Mapping[str, Mapping[str, Any]]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def needs(self) -> str:
        """What a run needs before it starts, and what else it does."""
        return f"{COSTS[self.cost]} {self.cost_note}".strip()


def card(method: str) -> MethodCard:
    """The card of a method; capitals do not matter.

    Raises:
        InputError: unknown method.
        MissingError: it has no card.
        DamagedError: the file is none; names the place, what is expected there and what is there.
    """
    name = find_name("method", method, METHODS)
    places = [folder / f"{name}.toml" for folder in FOLDERS]
    path = next((path for path in places if is_there(path)), None)
    if path is None:
        raise MissingError(
            f"the method {name!r} has no card {places[0]}. Write it as CONTRIBUTING.md says, or give `dd.distill` the "
            "Method value, which needs none."
        )
    return _read(name, path)


def is_baseline(method: str) -> bool:
    """Whether others are compared with it, as its card says."""
    return card(method).role == "baseline"


@lru_cache
def _read(name: str, path: Path) -> MethodCard:
    told = conform(read_toml(path, "card"), "method", path)
    value: Any = METHODS[name]()
    if dataclasses.is_dataclass(value):
        known = ABOUT | {field.name for field in dataclasses.fields(value)} - {"name"}
        places = {f"rows[{number}]": row for number, row in enumerate(told["rows"])}
        places |= {f"common.{tier}": row for tier, row in told.get("common", {}).items()}
        places["tiny"] = told["tiny"]
        for place, row in places.items():
            for key in sorted(row.keys() - known):
                raise DamagedError(
                    f"{path} is no card of a method: `{place}.{key}` must be a field of {name} "
                    f"({', '.join(sorted(known - ABOUT))}); got {key!r}."
                )
    paper = Paper(**told["paper"]) if "paper" in told else None
    given = {"paper": paper, "bibtex": told.get("bibtex", "").strip(), "common": told.get("common", {})}
    return MethodCard(**{**told, **given, "name": name, "rows": tuple(told["rows"])})


__all__ = ["COSTS", "FOLDERS", "MethodCard", "Paper", "card", "is_baseline"]
