"""Cards: what is known about a method beside its code, one TOML file each in `dd/methods/_cards/`.

A card has the paper, when to take the method, what it costs, and its rows of settings (`dd.methods.presets`). Whoever
tells of a method reads it here: `dd.describe`, `dd.cite`, the pages of the manual, the benchmark.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Self, final

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
NEVER: Final = "no"
"""What `run` says of a row that has no record."""
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
        kind: what data it is for, as its class says.
        role: `method`, or `baseline`: what the others are compared with.
        when: when to take it, in one sentence.
        cost: its class, a key of `COSTS`.
        cost_note: what else a run does, or empty.
        tiny: fields with which it runs in a second on little data, for tests (`dd.testing.tiny`).
        path: the file.
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
    path: Path
    kind: Literal["images", "graphs", "nodes"] = "images"
    cost_note: str = ""
    paper: Paper | None = None
    bibtex: str = ""
    common: Mapping[str, Mapping[str, Any]]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def needs(self) -> str:
        """What a run needs before it starts, and what else it does."""
        return f"{COSTS[self.cost]} {self.cost_note}".strip()

    @cached_property
    def checked(self) -> Self:
        """This card, compared with the method, which is loaded for it.

        Raises:
            DamagedError: it is for other data than the method, or a row has a field that the method does not have.
        """
        value: Any = METHODS[self.name]()
        if value.kind != self.kind:
            raise DamagedError(
                f"{self.path} is no card of a method: `kind` must be {value.kind!r}, that of {self.name}; "
                f"got {self.kind!r}."
            )
        if not dataclasses.is_dataclass(value):
            return self
        known = ABOUT | {field.name for field in dataclasses.fields(value)} - {"name"}
        places = {f"rows[{number}]": row for number, row in enumerate(self.rows)}
        places |= {f"common.{tier}": row for tier, row in self.common.items()}
        places["tiny"] = self.tiny
        for place, row in places.items():
            for key in sorted(row.keys() - known):
                raise DamagedError(
                    f"{self.path} is no card of a method: `{place}.{key}` must be a field of {self.name} "
                    f"({', '.join(sorted(known - ABOUT))}); got {key!r}."
                )
        return self


def card(method: str) -> MethodCard:
    """The card of a method, whose rows have no other fields than the method; capitals do not matter.

    Raises:
        InputError: unknown method.
        MissingError: it has no card.
        DamagedError: the file is none; names the place, what is expected there and what is there.
    """
    return read_card(method).checked


def read_card(method: str) -> MethodCard:
    """`card`, whatever the fields of its rows are called: the method itself is not loaded."""
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
    return read_card(method).role == "baseline"


@lru_cache
def _read(name: str, path: Path) -> MethodCard:
    told = conform(read_toml(path, "card"), "method", path)
    paper = Paper(**told["paper"]) if "paper" in told else None
    given = {"paper": paper, "bibtex": told.get("bibtex", "").strip(), "common": told.get("common", {})}
    return MethodCard(**{**told, **given, "name": name, "path": path, "rows": tuple(told["rows"])})


__all__ = ["COSTS", "FOLDERS", "MethodCard", "Paper", "card", "is_baseline", "read_card"]
