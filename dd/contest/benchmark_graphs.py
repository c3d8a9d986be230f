"""The benchmark's cells of graph methods: summaries of trees beside graphs, trees and single numbers, bytes alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, final

from dd.base.locks import locked
from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs, GraphBaseline, GraphEntrant
from dd.contest.contest import chosen
from dd.contest.graphs import NO_SUPPORTS, GraphContest
from dd.contest.plan import Bench, Settings, Unit, cell, wanted_models
from dd.data.graphs.graphs import Graphs
from dd.errors import InputError, refuse
from dd.methods import Method
from dd.models import as_graph_spec
from dd.synthetic import TreeRecipe, TreeSummary


@final
class GraphBench(Bench):
    """Measures summaries of trees; see `dd.benchmark` for the arguments."""

    counted: ClassVar[str] = "budget_bytes"
    beside: ClassVar[Mapping[str, GraphBaseline]] = GRAPH_BASELINES
    unit: ClassVar[str] = "bytes"
    _real: Graphs

    def __init__(
        self,
        real: Graphs,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        models: Any,
        baselines: str | Sequence[str] | None,
        settings: Settings,
    ) -> None:
        super().__init__(real, asked, budgets, chosen(GRAPH_BASELINES, "benchmark", baselines), settings)
        self._lead = next(iter(self._methods))
        lead: Any = self.method(Unit(self._lead, budgets[0], 0))
        self.models = {str(as_graph_spec(model)): model for model in wanted_models(models) or [_model_of(lead)]}
        self.notes = [
            f"Baselines have the bytes that {self._lead}'s summary spent, its depth, codes and training recipe; "
            "budgets are bytes by the published count.",
            f"Split {real.split} ({real.rule}). Random rows are two draws of the seed.",
        ]
        if not getattr(lead, "keep_supports", True):
            self._without_supports(baselines is None)

    def _without_supports(self, default: bool) -> None:
        """Leave out what reads supports, or refuse it where it was asked for, if summaries have none."""
        for name in [one.name for one in self._baselines.values() if one.supports]:
            if not default:
                raise refuse("baselines", f"without {name} for a method with keep_supports=False", name)
            del self._baselines[name]
            self.notes.append(NO_SUPPORTS)

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told = {"name": self._real.name, "sha256": self._real.fingerprint, "split": self._real.split}
        method = self.method(self._source(unit)).describe()
        row = {} if unit.set in self._methods else {"row": unit.set}
        return {**self._settings.request(), "data": told, "steps": self._settings.steps, "method": {**method, **row}}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model; one without a model for rows without a network."""
        small, seconds = self._summary(self._source(unit))
        beside, own = BesideGraphs(small, self._real, unit.seed), unit.set in self._methods
        entrant = GraphEntrant(name=unit.set, sets=[small]) if own else self._baselines[unit.set].stand(beside)
        rules = self._settings.rules(unit, self._settings.steps)
        contest = GraphContest(entrants=[entrant], beside=beside, rules=rules)
        for row in contest.rows([self.models[name] for name in models if name]):
            yield {
                **cell(row, [unit.seed, "two draws" if len(entrant.sets) > 1 else "one set"]),
                "bytes": small.nbytes._asdict() if own else {"published": small.published} if unit.budget else None,
                "distill_seconds": round(seconds, 3) if own else None,
                "selection": str(small.provenance.get("selection", "")) if own else "",
            }

    def _source(self, unit: Unit) -> Unit:
        """The summary that a row is, or stands beside."""
        if unit.set in self._methods:
            return unit
        return Unit(self._lead, self.budgets[0] if unit.budget is None else unit.budget, unit.seed)

    def method(self, unit: Unit) -> Method:
        """The value of a summary's unit."""
        given = self._methods[unit.set]
        if not isinstance(given, str) and getattr(given, "min_support", None) is not None:
            raise InputError(f"method {given.name!r} has a support and no budget; benchmarks compare at equal bytes.")
        return super().method(unit)

    def _summary(self, unit: Unit) -> tuple[TreeSummary, float]:
        """The summary and its seconds; in a shared folder other processes wait for it."""
        folder = self._settings.run_folder(unit)
        lock = None if folder is None else folder.with_name(f".{folder.name}.summary.lock")
        with nullcontext() if lock is None else locked(lock, wait=True):
            return self._distilled(unit, folder)


def _model_of(method: Any) -> str:
    """The network that a method's summaries are for, or that of every recipe where its value does not say."""
    return str(getattr(getattr(method, "train", None), "model", TreeRecipe().model))
