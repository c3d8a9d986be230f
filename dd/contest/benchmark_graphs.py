"""The benchmark's cells of graph methods: summaries of trees beside graphs, trees and single numbers, bytes alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, final

from dd.contest.baselines_graphs import GRAPH_BASELINES, BesideGraphs, GraphBaseline, GraphEntrant
from dd.contest.contest import chosen
from dd.contest.graphs import NO_SUPPORTS, GraphContest
from dd.contest.lead import LeadBench
from dd.contest.plan import Settings, Unit, wanted_models
from dd.data.graphs.graphs import Graphs
from dd.errors import refuse
from dd.methods import Method
from dd.models import as_graph_spec
from dd.synthetic import TreeRecipe


@final
class GraphBench(LeadBench):
    """Measures summaries of trees; see `dd.benchmark` for the arguments."""

    beside: ClassVar[Mapping[str, GraphBaseline]] = GRAPH_BASELINES
    unbudgeted: ClassVar[tuple[str, str]] = ("min_support", "a support")
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

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model; one without a model for rows without a network."""
        made = self._set(unit)
        small, own = made[0], unit.set in self._methods
        beside = BesideGraphs(small, self._real, unit.seed)
        one = GraphEntrant(name=unit.set, sets=[small]) if own else self._baselines[unit.set].stand(beside)
        contest = GraphContest(entrants=[one], beside=beside, rules=self._settings.rules(unit, self._settings.steps))
        sizes = small.nbytes._asdict() if own else {"published": small.published} if unit.budget else None
        for row in contest.rows([self.models[name] for name in models if name]):
            yield self._cell(unit, row, len(one.sets), sizes, made)


def _model_of(method: Any) -> str:
    """The network that a method's summaries are for, or that of every recipe where its value does not say."""
    return str(getattr(getattr(method, "train", None), "model", TreeRecipe().model))
