"""What the benchmarks of images and of graphs share: the units of work, the protocol, sets that are distilled once."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import torch

from dd.base.files import read_json
from dd.base.names import file_name, same_file
from dd.base.shapes import as_list, check_name
from dd.contest.contest import Baseline, Rules, given_lr, offered
from dd.contest.recipes import Recipe
from dd.data import Images
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import DDError, find_name, known_as, refuse
from dd.evaluation import Row
from dd.evaluation.selection import Protocol
from dd.methods import Method, names_of, need_method, need_told
from dd.methods.cards import is_baseline
from dd.methods.panel import Member, describe_members
from dd.methods.presets import replace_fields
from dd.run.distill import distill
from dd.run.resolve import Tier, resolve_method


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
    recipe: Recipe
    device: torch.device
    store: Path
    out: Path | None
    resume: bool
    committee: tuple[Member, ...] | None = None
    distilling: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """What every cell depends on."""
        told: dict[str, Any] = {"protocol": self.protocol, "repeats": self.repeats, "lr": self.lr}
        if self.committee is not None:
            told["committee"] = describe_members(self.committee)
        return told if self.recipe == "own" else {**told, "recipe": self.recipe}

    def rules(self, unit: Unit, steps: int | None) -> Rules:
        """Those of a unit's contest, by the metric of its kind of data."""
        return Rules(repeats=self.repeats, seed=unit.seed, device=self.device, steps=steps, lr=given_lr(self.lr))

    def run_folder(self, unit: Unit) -> Path | None:
        """Where a unit is distilled."""
        return None if self.out is None else self.out / "runs" / unit.name


def named(
    asked: Sequence[str | Method], known: Sequence[str], kind: str, reserved: Collection[str] = ()
) -> dict[str, str | Method]:
    """Methods by the name of their row.

    Args:
        asked: names, `all` for all of `known`, or values.
        known: names for this kind of data.
        kind: `images` or `graphs`.
        reserved: names of baselines.

    Raises:
        InputError: no method, an unknown name, one twice, or a value for other data or with the name of a baseline.
    """
    found: dict[str, str | Method] = {}
    way_out = "Or `all`; several are a list; baselines are given as `baselines`."
    for method in asked:
        names: Sequence[str | Method] = list(known) if method == "all" else [method]
        for one in names:
            if isinstance(one, str):
                if (baseline := known_as(one, reserved)) is not None and known_as(one, known) is None:
                    way_out = f'Give it as baselines=("{baseline}",), `--baselines {baseline}` in the shell.'
                    raise refuse("methods", "names of methods", f"{one!r}, which is a baseline", way_out)
                name = find_name(f"method for {kind}", one, known, way_out)
            else:
                name = _own_name(one, kind, reserved)
            if twice := [other for other in found if same_file(other) == same_file(name)]:
                got = f"{name!r} twice" if name in found else f"{twice[0]!r} and {name!r}, which would be one file"
                raise refuse("methods", "different names", got, "Give a value another `name=`.")
            found[name] = name if isinstance(one, str) else one
    if not found:
        raise refuse("methods", "at least one", "none", "Give names, or `all`.")
    return found


def _own_name(value: object, kind: str, reserved: Collection[str]) -> str:
    """The row of a Method value.

    Raises:
        InputError: no method, one for another kind of data, or one with the name of a baseline: that row is ours.
    """
    method = need_method(value)
    name = check_name(need_told(method).name, "name")
    if method.kind != kind:
        raise refuse("methods", f"for {kind}", f"{name!r}, which is for {method.kind}")
    row = name.partition(" of ")[0]  # as of `random_labels of METHOD`
    if twins := [other for other in reserved if same_file(other) == same_file(row)]:
        way_out = f"Give the value another `name=`, or ask for baselines={twins!r}."
        raise refuse("methods", "named otherwise than baselines", repr(name), way_out)
    return name


def wanted_models(models: Any) -> list[Any]:
    """The argument `models` as a list; a name or a value alone is one model, `None` is none.

    Raises:
        InputError: an empty one.
    """
    if models is not None and not as_list(models):
        raise refuse("models", "at least one network, or None for that of the trajectory presets", "none")
    return [] if models is None else as_list(models)


class Bench(ABC):
    """What measures: images, or graphs; see `dd.benchmark` for the arguments.

    Attributes:
        counted: the argument of `dd.benchmark`, and the field of a method, that is the budget.
        beside: the baselines that there are for this kind of data, by name.
        unit: what a budget counts, in the table.
        budgets: of the rows.
        models: by the name of their column.
        notes: what a reader should know.
    """

    counted: ClassVar[str]
    beside: ClassVar[Mapping[str, Baseline]]
    unit: ClassVar[str]
    models: dict[str, Any]
    notes: list[str]

    def __init__(
        self,
        real: Images | Graphs | Nodes,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        baselines: Sequence[Baseline],
        settings: Settings,
    ) -> None:
        self._real, self.budgets, self._settings = real, budgets, settings
        known = [name for name in names_of(real.kind) if not is_baseline(name)]
        self._methods = named(asked, known, real.kind, offered(self.beside, "benchmark"))
        self._baselines: dict[str, Any] = {one.name: one for one in baselines}
        self._beside: dict[str, str] = {}  # rows of their own beside a method, by its name
        self._made: dict[Unit, tuple[Any, float]] = {}
        self._failed: dict[Unit, DDError] = {}

    @property
    def real(self) -> Images | Graphs | Nodes:
        """The data."""
        return self._real

    def baseline(self, name: str) -> Any:
        """The baseline of a row; `None` of a method's."""
        return self._baselines.get(name)

    def units(self) -> list[Unit]:
        """The work in the order of the table: at each budget baselines before methods, last what has no budget."""
        names = (*self._baselines, *self._methods, *self._beside)
        found = []
        for budget in (*self.budgets, None):
            for name in names:
                one = self.baseline(name)
                if budget is not None if one is None else one.stands(budget):
                    networks = one is None or not one.reads
                    found += [Unit(name, budget, seed, networks) for seed in self._settings.seeds]
        return found

    @abstractmethod
    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on, JSON-able.

        Raises:
            InputError: the method refuses the budget.
        """

    @abstractmethod
    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell for each of some of the models; one for rows without a network."""

    def method(self, unit: Unit) -> Method:
        """What makes the set of a unit."""
        given = self._methods[unit.set]
        if isinstance(given, str):
            return self._preset(given, unit.budget)
        return replace_fields(given, {self.counted: unit.budget})

    def _preset(self, name: str, budget: int | None) -> Method:
        """A method's preset for this data at a budget."""
        settings = self._settings
        return resolve_method(name, self._real, settings.tier, settings.device, {self.counted: budget})[0]

    def _distilled(self, unit: Unit, out: Path | None, **given: Any) -> tuple[Any, float]:
        """The set of a unit and the seconds that it took; made, or failed, once for all models."""
        if unit in self._failed:
            raise self._failed[unit]
        if unit not in self._made:
            settings, start = self._settings, time.monotonic()
            given |= {"seed": unit.seed, "out": out, "progress": False, "resume": settings.resume}
            given |= {"device": settings.device, "store": settings.store, **settings.distilling}
            try:
                small = distill(self._real, self.method(unit), **given)
            except DDError as error:
                self._failed[unit] = error
                raise
            taken = time.monotonic() - start
            told = taken if out is None else float(read_json(out / "run.json", "finished run")["seconds"])
            self._made[unit] = (small, told)
        return self._made[unit]


def cell(row: Row, streams: Sequence[Any]) -> dict[str, Any]:
    """What a cell says of its networks; `streams` name those that others share."""
    told = {"metric": row.metric, "values": list(row.values), "streams": list(streams)}
    return {**told, "steps": row.steps or None, "lr": row.lr or None, "train_seconds": round(row.seconds, 3)}
