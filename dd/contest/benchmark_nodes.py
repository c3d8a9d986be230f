"""The benchmark's cells of methods for nodes: small graphs beside real nodes of their bytes and the whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, final

from dd.base.locks import locked
from dd.contest.baselines_nodes import NODE_BASELINES, BesideNodes, NodeBaseline, NodeEntrant
from dd.contest.contest import chosen
from dd.contest.nodes import NodeContest
from dd.contest.plan import Bench, Settings, Unit, cell, wanted_models
from dd.data.nodes.nodes import Nodes
from dd.errors import InputError
from dd.methods import Method
from dd.models import as_node_spec
from dd.synthetic import NodeRecipe, NodeSet


@final
class NodeBench(Bench):
    """Measures sets of nodes; see `dd.benchmark` for the arguments."""

    counted: ClassVar[str] = "budget_bytes"
    beside: ClassVar[Mapping[str, NodeBaseline]] = NODE_BASELINES
    unit: ClassVar[str] = "bytes"
    _real: Nodes

    def __init__(
        self,
        real: Nodes,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        models: Any,
        baselines: str | Sequence[str] | None,
        settings: Settings,
    ) -> None:
        super().__init__(real, asked, budgets, chosen(NODE_BASELINES, "benchmark", baselines), settings)
        self._lead = next(iter(self._methods))
        lead: Any = self.method(Unit(self._lead, budgets[0], 0))
        own = str(getattr(getattr(lead, "train", None), "model", NodeRecipe().model))
        self.models = {str(as_node_spec(model)): model for model in wanted_models(models) or [own]}
        self.notes = [
            f"Baselines have at most the bytes that {self._lead}'s set takes (features, edges, labels as stored), its "
            "training recipe and its setting; the networks of all rows are tested on the whole graph.",
            f"Split {real.split} ({real.rule}). Steps are chosen on the validation nodes, in every row alike. Random "
            "rows are two draws of the seed.",
            *real.said,
        ]

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told = {"name": self._real.name, "sha256": self._real.fingerprint, "split": self._real.split}
        method = self.method(self._source(unit)).describe()
        row = {} if unit.set in self._methods else {"row": unit.set}
        return {**self._settings.request(), "data": told, "steps": self._settings.steps, "method": {**method, **row}}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model; one without a model for rows that have a network of their own, or none."""
        small, seconds = self._set(self._source(unit))
        beside, own = BesideNodes(small, self._real, unit.seed), unit.set in self._methods
        one = NodeEntrant(name=unit.set, graphs=(small.graph,)) if own else self._baselines[unit.set].stand(beside)
        rules = self._settings.rules(unit, self._settings.steps)
        contest = NodeContest(entrants=[one], beside=beside, rules=rules)
        sizes = {k: v for k, v in small.nbytes._asdict().items() if own or k == "counted"}
        for row in contest.rows([self.models[name] for name in models if name]):
            yield {
                **cell(row, [unit.seed, "two draws" if len(one.graphs) > 1 else "one set"]),
                "bytes": sizes if unit.budget else None,
                "distill_seconds": round(seconds, 3) if own else None,
                "selection": str(small.provenance.get("selection", "")) if own else "",
            }

    def _source(self, unit: Unit) -> Unit:
        """The set that a row is, or stands beside."""
        if unit.set in self._methods:
            return unit
        return Unit(self._lead, self.budgets[0] if unit.budget is None else unit.budget, unit.seed)

    def method(self, unit: Unit) -> Method:
        """The value of a set's unit."""
        given = self._methods[unit.set]
        if not isinstance(given, str) and getattr(given, "nodes", None) is not None:
            raise InputError(f"method {given.name!r} has `nodes` and no budget; benchmarks compare at equal bytes.")
        return super().method(unit)

    def _set(self, unit: Unit) -> tuple[NodeSet, float]:
        """The set and its seconds; in a shared folder other processes wait for it."""
        folder = self._settings.run_folder(unit)
        lock = None if folder is None else folder.with_name(f".{folder.name}.set.lock")
        with nullcontext() if lock is None else locked(lock, wait=True):
            return self._distilled(unit, folder)
