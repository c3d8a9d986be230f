"""The benchmark's cells of graph methods: summaries of trees beside graphs, trees and single numbers, bytes alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, final

from dd.api import distill
from dd.benchmark_plan import Settings, Unit, named, wanted_models
from dd.compare_graphs import NO_SUPPORTS, READERS, GraphJudge, check_graph_baselines
from dd.data.graphs import Graphs
from dd.errors import InputError, refuse
from dd.evaluation.trees import given_lr
from dd.files import read_json
from dd.locks import locked
from dd.methods import Method, Run, names_of
from dd.models import as_graph_spec
from dd.presets import replace_fields
from dd.resolve import resolve_method
from dd.shapes import as_list
from dd.synthetic import TreeSummary, need_trees

DEFAULTS: Final = ("random", "herding", "random_trees", "full", "naive_bayes", "node_count")
NO_BUDGET: Final = ("full", "all_trees", "tree_counts", "node_count", "edges_per_node")


@final
class GraphBench:
    """Measures summaries of trees; see `dd.benchmark` for the arguments.

    Attributes:
        unit: what a budget counts.
        notes: what a reader should know.
    """

    unit = "bytes"

    def __init__(
        self,
        real: Graphs,
        asked: Sequence[str | Method],
        budgets: tuple[int, ...],
        models: Any,
        baselines: Sequence[str] | None,
        settings: Settings,
    ) -> None:
        self._real, self._budgets, self._settings = real, budgets, settings
        self._baselines = DEFAULTS if baselines is None else tuple(as_list(baselines))
        check_graph_baselines(self._baselines)
        self._methods = named(asked, names_of("graphs"), "graphs")
        self._lead = next(iter(self._methods))
        lead: Any = self._method(Unit(self._lead, budgets[0], 0))
        chosen = wanted_models(models) or [lead.train.model]
        self._models = {str(as_graph_spec(model)): model for model in chosen}
        self._made: dict[Unit, tuple[TreeSummary, float]] = {}
        self.notes = [
            f"Baselines have the bytes that {self._lead}'s summary spent, its depth, codes and training recipe; "
            "budgets are bytes by the published count.",
            f"Split {real.split} ({real.rule}). Random rows are two draws of the seed.",
        ]
        self._without_supports(baselines is None, lead)

    def _without_supports(self, default: bool, lead: Any) -> None:
        """Leave naive Bayes out, or refuse it where it was asked for, if summaries have nothing that it reads."""
        if lead.keep_supports or "naive_bayes" not in self._baselines:
            return
        if not default:
            raise refuse("baselines", "without naive_bayes for a method with keep_supports=False", "naive_bayes")
        self._baselines = tuple(name for name in self._baselines if name != "naive_bayes")
        self.notes.append(NO_SUPPORTS)

    @property
    def names(self) -> tuple[str, ...]:
        """Models, as the table names them."""
        return tuple(self._models)

    def units(self) -> list[Unit]:
        """Baselines of each budget, then the methods; last what has no budget."""
        sized = [name for name in self._baselines if name not in NO_BUDGET]
        pairs = [(name, b) for b in self._budgets for name in (*sized, *self._methods)]
        whole: list[tuple[str, int | None]] = [(name, None) for name in self._baselines if name in NO_BUDGET]
        seeds = self._settings.seeds
        return [Unit(name, budget, seed, name not in READERS) for name, budget in [*pairs, *whole] for seed in seeds]

    def request(self, unit: Unit) -> dict[str, Any]:
        """What a unit's cells depend on."""
        told = {"name": self._real.name, "sha256": self._real.fingerprint, "split": self._real.split}
        method = self._method(self._source(unit)).describe()
        row = {} if unit.set in self._methods else {"row": unit.set}
        return {**self._settings.request(), "data": told, "steps": self._settings.steps, "method": {**method, **row}}

    def measure(self, unit: Unit, models: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A cell a model; one without a model for rows without a network."""
        small, seconds = self._summary(self._source(unit))
        settings, lr, own = self._settings, self._settings.lr, unit.set in self._methods
        judge = GraphJudge(
            small,
            self._real,
            settings.repeats,
            Run(seed=unit.seed, device=settings.device),
            "auroc" if self._real.num_classes == 2 else "accuracy",
            settings.steps,
            given_lr(lr),
        )
        for name in models:
            row = next(judge.trained(unit.set, self._models[name], own)) if unit.networks else judge.read(unit.set)
            yield {
                "metric": row.metric,
                "values": list(row.values),
                "streams": [unit.seed, "two draws" if unit.set.startswith("random") else "one set"],
                "steps": row.steps or None,
                "lr": row.lr or None,
                "train_seconds": round(row.seconds, 3),
                "bytes": small.nbytes._asdict() if own else {"published": small.published} if unit.budget else None,
                "distill_seconds": round(seconds, 3) if own else None,
                "selection": str(small.provenance.get("selection", "")) if own else "",
            }

    def _source(self, unit: Unit) -> Unit:
        """The summary that a row is, or stands beside."""
        if unit.set in self._methods:
            return unit
        return Unit(self._lead, self._budgets[0] if unit.budget is None else unit.budget, unit.seed)

    def _method(self, unit: Unit) -> Method:
        given, fields = self._methods[unit.set], {"budget_bytes": unit.budget}
        if isinstance(given, str):
            return resolve_method(given, self._real, self._settings.tier, self._settings.device, fields)[0]
        if getattr(given, "min_support", None) is not None:
            raise InputError(f"method {given.name!r} has a support and no budget; benchmarks compare at equal bytes.")
        return replace_fields(given, fields)

    def _summary(self, unit: Unit) -> tuple[TreeSummary, float]:
        """The summary and its seconds, made once; in a shared folder other processes wait for it."""
        if unit not in self._made:
            folder, settings = self._settings.run_folder(unit), self._settings
            given: dict[str, Any] = {"seed": unit.seed, "progress": False, "resume": settings.resume, "out": folder}
            given.update(device=settings.device, store=settings.store, **settings.distilling)
            if folder is None:
                start = time.monotonic()
                small = need_trees(distill(self._real, self._method(unit), **given))
                self._made[unit] = (small, time.monotonic() - start)
            else:
                with locked(folder.with_name(f".{folder.name}.summary.lock"), wait=True):
                    small = need_trees(distill(self._real, self._method(unit), **given))
                self._made[unit] = (small, float(read_json(folder / "run.json", "finished run")["seconds"]))
        return self._made[unit]
