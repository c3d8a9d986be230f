"""The benchmark's cells of methods for nodes: small graphs beside real nodes of their bytes and the whole graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

from dd.contest.baselines_nodes import NODE_BASELINES, BesideNodes, NodeBaseline, NodeEntrant
from dd.contest.contest import chosen
from dd.contest.lead import LeadBench
from dd.contest.nodes import NodeContest
from dd.contest.plan import Settings, Unit, wanted_models
from dd.data.nodes.nodes import Nodes
from dd.methods import Method
from dd.models import as_node_spec
from dd.synthetic import NodeRecipe, stored_bytes


@final
class NodeBench(LeadBench):
    """Measures sets of nodes; see `dd.benchmark` for the arguments."""

    beside: ClassVar[Mapping[str, NodeBaseline]] = NODE_BASELINES
    unbudgeted: ClassVar[tuple[str, str]] = ("nodes", "`nodes`")
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
        lead: Any = self.method(Unit(self._lead, budgets[0], 0))
        own = str(getattr(getattr(lead, "train", None), "model", NodeRecipe().model))
        self.models = {str(as_node_spec(model)): model for model in wanted_models(models) or [own]}
        seen = stored_bytes(real.seen(getattr(lead, "setting", "transductive")), real.num_classes)
        self.notes = [
            f"Baselines have at most the bytes that {self._lead}'s set takes (features, edges, labels as stored), its "
            "training recipe and its setting; the networks of all rows are tested on the whole graph. "
            f"What {self._lead} sees of the graph takes {seen:,} bytes, stored alike.",
            f"Split {real.split} ({real.rule}). Steps are chosen on the validation nodes, in every row alike. Random "
            "rows are two draws of the seed.",
            *real.said,
        ]

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        return {**super().request(unit), "test_sha256": self._real.test_fingerprint}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model; one without a model for rows that have a network of their own, or none."""
        made = self._set(unit)
        small, own = made[0], unit.set in self._methods
        beside = BesideNodes(small, self._real, unit.seed)
        one = NodeEntrant(name=unit.set, graphs=(small.graph,)) if own else self._baselines[unit.set].stand(beside)
        contest = NodeContest(entrants=[one], beside=beside, rules=self._settings.rules(unit, self._settings.steps))
        sizes = {k: v for k, v in small.nbytes._asdict().items() if own or k == "counted"} if unit.budget else None
        for row in contest.rows([self.models[name] for name in models if name]):
            yield self._cell(unit, row, len(one.graphs), sizes, made)
