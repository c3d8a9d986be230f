"""What the benchmarks of graphs and of nodes share: rows stand at equal bytes beside the sets of the first method."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import Any, ClassVar

from dd.base.locks import locked
from dd.contest.plan import Bench, Unit, cell
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import InputError
from dd.evaluation import Row
from dd.methods import Method


class LeadBench(Bench):
    """A bench whose baselines are made beside the sets of its first method, the lead, and have their bytes.

    Attributes:
        unbudgeted: the field of a method that takes the place of a budget, and what a message calls it.
    """

    counted: ClassVar[str] = "budget_bytes"
    unit: ClassVar[str] = "bytes"
    unbudgeted: ClassVar[tuple[str, str]]
    _real: Graphs | Nodes

    @property
    def _lead(self) -> str:
        return next(iter(self._methods))

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told = {"name": self._real.name, "sha256": self._real.fingerprint, "split": self._real.split}
        method = self.method(self._source(unit)).describe()
        row = {} if unit.set in self._methods else {"row": unit.set}
        return {**self._settings.request(), "data": told, "steps": self._settings.steps, "method": {**method, **row}}

    def method(self, unit: Unit) -> Method:
        """The value of a set's unit.

        Raises:
            InputError: it has no budget.
        """
        given, (field, called) = self._methods[unit.set], self.unbudgeted
        if not isinstance(given, str) and getattr(given, field, None) is not None:
            raise InputError(f"method {given.name!r} has {called} and no budget; benchmarks compare at equal bytes.")
        return super().method(unit)

    def _source(self, unit: Unit) -> Unit:
        """The set that a row is, or stands beside."""
        if unit.set in self._methods:
            return unit
        return Unit(self._lead, self.budgets[0] if unit.budget is None else unit.budget, unit.seed)

    def _set(self, unit: Unit) -> tuple[Any, float]:
        """The set that a row is, or stands beside, and its seconds.

        A row without a budget of its own stands beside the lead's set at the first budget that holds one, or at the
        lead's own where none does.
        """
        source = self._source(unit)
        if unit.budget is not None:
            return self._made_once(source)
        own = getattr(type(self.method(source)), self.counted, None)
        budgets = dict.fromkeys([*self.budgets, *([own] if isinstance(own, int) else [])])
        refused: InputError | None = None
        for budget in budgets:
            try:
                return self._made_once(dataclasses.replace(source, budget=budget))
            except InputError as error:
                refused = refused or error
        raise refused or InputError("no budget")

    def _made_once(self, source: Unit) -> tuple[Any, float]:
        """A set and its seconds; in a shared folder other processes wait for it."""
        folder = self._settings.run_folder(source)
        lock = None if folder is None else folder.with_name(f".{folder.name}.set.lock")
        with nullcontext() if lock is None else locked(lock, wait=True):
            return self._distilled(source, folder)

    def _cell(self, unit: Unit, row: Row, draws: int, size: Any, made: tuple[Any, float]) -> dict[str, Any]:
        """What a cell says of its row.

        Args:
            unit: of the row.
            row: it.
            draws: sets that it has.
            size: its bytes by part.
            made: the set that it is, or stands beside, and the seconds that it took.
        """
        own, (small, seconds) = unit.set in self._methods, made
        return {
            **cell(row, [unit.seed, "two draws" if draws > 1 else "one set"]),
            "bytes": size,
            "distill_seconds": round(seconds, 3) if own else None,
            "selection": str(small.provenance.get("selection", "")) if own else "",
        }
