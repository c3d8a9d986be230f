"""What the benchmarks of images and of graphs share: the units of work, the protocol, sets that are distilled once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import torch

from dd.api import distill
from dd.contest import Rules, given_lr
from dd.data import Images
from dd.data.graphs import Graphs
from dd.errors import DDError, find_name, refuse
from dd.evaluation import Row
from dd.files import read_json
from dd.methods import Method
from dd.names import file_name, same_file
from dd.presets import replace_fields
from dd.resolve import Tier, resolve_method
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

    def rules(self, unit: Unit, steps: int | None) -> Rules:
        """Those of a unit's contest, by the metric of its kind of data."""
        return Rules(repeats=self.repeats, seed=unit.seed, device=self.device, steps=steps, lr=given_lr(self.lr))

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


class Bench(ABC):
    """What measures the units of a benchmark: images, or graphs.

    Args:
        real: the data.
        asked: methods, as in `dd.benchmark`.
        known: names of methods for this data that are no baselines.
        settings: the protocol.

    Attributes:
        counted: the argument of `dd.benchmark`, and the field of a method, that is the budget.
        unit: what a budget counts, in the table.
        models: by the name of their column.
        notes: what a reader should know.
    """

    counted: ClassVar[str]
    unit: ClassVar[str]
    models: dict[str, Any]
    notes: list[str]

    def __init__(
        self, real: Images | Graphs, asked: Sequence[str | Method], known: Sequence[str], settings: Settings
    ) -> None:
        self._settings, self._source = settings, real
        self._methods = named(asked, known, real.kind)
        self._made: dict[Unit, tuple[Any, float]] = {}
        self._failed: dict[Unit, DDError] = {}

    @abstractmethod
    def units(self) -> list[Unit]:
        """The work in the order of the table."""

    @abstractmethod
    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on, JSON-able.

        Raises:
            InputError: the method refuses the budget.
        """

    @abstractmethod
    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell for each of some of the models; one for rows without a network."""

    @abstractmethod
    def method(self, unit: Unit) -> Method:
        """What makes the set of a unit."""

    def _preset(self, name: str, budget: int | None) -> Method:
        """A method's preset for this data at a budget."""
        settings = self._settings
        return resolve_method(name, self._source, settings.tier, settings.device, {self.counted: budget})[0]

    def _own(self, unit: Unit) -> Method:
        """A method that was asked for, at the budget of a unit."""
        given = self._methods[unit.set]
        if isinstance(given, str):
            return self._preset(given, unit.budget)
        return replace_fields(given, {self.counted: unit.budget})

    def _distilled(self, unit: Unit, out: Path | None, **given: Any) -> tuple[Any, float]:
        """The set of a unit and the seconds that it took; made, or failed, once for all models."""
        if unit in self._failed:
            raise self._failed[unit]
        if unit not in self._made:
            settings, start = self._settings, time.monotonic()
            given |= {"seed": unit.seed, "out": out, "protocol": settings.protocol, "progress": False}
            given |= {"device": settings.device, "store": settings.store, "resume": settings.resume}
            try:
                small = distill(self._source, self.method(unit), **{**given, **settings.distilling})
            except DDError as error:
                self._failed[unit] = error
                raise
            taken = time.monotonic() - start
            told = taken if out is None else float(read_json(out / "run.json", "finished run")["seconds"])
            self._made[unit] = (small, told)
        return self._made[unit]


def cell(row: Row, streams: Sequence[Any]) -> dict[str, Any]:
    """What a cell says of its networks; `streams` name those that others share."""
    return {
        "metric": row.metric,
        "values": list(row.values),
        "streams": list(streams),
        "steps": row.steps or None,
        "lr": row.lr or None,
        "train_seconds": round(row.seconds, 3),
    }
