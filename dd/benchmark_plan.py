"""What the benches of images and of graphs share: the units of work, and the protocol that all of them obey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from dd.errors import find_name, refuse
from dd.methods import Method
from dd.names import file_name, same_file
from dd.resolve import Tier
from dd.selection import Protocol
from dd.shapes import as_list, check_name


@final
@dataclass(frozen=True)
class Unit:
    """One set to be made and measured.

    Attributes:
        set: a method or a baseline.
        budget: images a class, or bytes; `None` for what has none.
        seed: of the set and of its networks.
        networks: whether networks are trained.
    """

    set: str
    budget: int | None
    seed: int
    networks: bool = True

    @property
    def name(self) -> str:
        """What its files are called."""
        budget = "all" if self.budget is None else str(self.budget)
        return f"{file_name(self.set)}-{budget}-seed{self.seed}"


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol and the machine; arguments of `dd.benchmark`."""

    repeats: int
    seeds: tuple[int, ...]
    tier: Tier
    protocol: Protocol
    steps: int | None
    lr: float | str
    device: torch.device
    store: Path
    out: Path | None
    resume: bool
    distilling: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """What every cell depends on."""
        return {"protocol": self.protocol, "repeats": self.repeats, "lr": self.lr}

    def run_folder(self, unit: Unit) -> Path | None:
        """Where a unit is distilled."""
        return None if self.out is None else self.out / "runs" / unit.name


def named(asked: Sequence[str | Method], known: Sequence[str], kind: str) -> dict[str, str | Method]:
    """Methods by the name of their row.

    Args:
        asked: names, `all` for all of `known`, or values.
        known: names for this kind of data.
        kind: `images` or `graphs`, for messages.

    Raises:
        InputError: no method, an unknown name, or one twice.
    """
    found: dict[str, str | Method] = {}
    way_out = "Or `all`; baselines are given as `baselines`."
    for method in asked:
        names: Sequence[str | Method] = list(known) if method == "all" else [method]
        for one in names:
            if not isinstance(one, str | Method):
                raise refuse("methods", "names or Method values", type(one).__name__)
            if isinstance(one, str):
                name = find_name(f"method for {kind}", one, known, way_out)
            else:
                name = check_name(one.name, "name")
            if twice := [other for other in found if same_file(other) == same_file(name)]:
                got = f"{name!r} twice" if name in found else f"{twice[0]!r} and {name!r}, which would be one file"
                raise refuse("methods", "different names", got, "Give a value another `name=`.")
            found[name] = name if isinstance(one, str) else one
    if not found:
        raise refuse("methods", "at least one", "none", "Give names, or `all`.")
    return found


def wanted_models(models: Any) -> list[Any]:
    """The argument `models` as a list; a name or a value alone is one model, `None` is none."""
    return [] if models is None else as_list(models)
