"""`ddistill measure`: what a set is worth beyond accuracy, and what it is good for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tyro

from dd.base.bounds import check_ranges
from dd.base.lazy import Table
from dd.base.progress import say
from dd.cli.options import Answer, Common, Data, as_lr, reads
from dd.errors import find_name

METRICS: Final[Table[Callable[..., Any]]] = Table(
    {
        "robust": "dd.measure.robustness:robustness",
        "calibration": "dd.measure.calibration:calibration",
        "membership": "dd.measure.membership:membership",
        "adversarial": "dd.measure.adversarial:adversarial",
        "neighbours": "dd.measure.neighbours:neighbours",
        "architectures": "dd.measure.ranking:rank_architectures",
        "continual": "dd.measure.continual:continual",
    }
)
ASKING: Final = ("calibration", "membership", "adversarial")
"""Metrics that train nothing on the set but the networks they ask, and so can share them."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Common):
    """Measure a set of images beyond the accuracy of networks trained on it.

    Attributes:
        path: a saved set or a run folder.
        data: a card's name or `imagefolder:PATH`.
        metrics: by commas, of robust (label- and augmentation-robust scores), calibration, membership, adversarial,
            neighbours, architectures (rank correlation with full training), continual (class-incremental learning).
        model: the one it was distilled for by default.
        repeats: fresh networks; 3, and 1 for architectures.
        steps: optimiser steps.
        lr: `recipe`, `tuned` or a number; robust tunes by default.
        full_steps: of full data, in robust and architectures.
        out: a folder for one `METRIC.json` each, or one `.json` file for all; by default the run folder.
    """

    path: tyro.conf.Positional[Path]
    data: Data
    metrics: str = "calibration,neighbours"
    model: str | None = None
    repeats: int | None = None
    steps: int | None = None
    lr: str | None = None
    full_steps: int | None = None
    out: Path | None = None


@reads("measure", MeasureOptions)
def run_measure(options: MeasureOptions) -> Answer:
    """The verb: prints a table a metric, or with `--json` gives `{format, measures: {metric: …}}`."""
    from dd.run.keep import FORMAT, Place, place_of, write_measures
    from dd.run.load import load

    names = [find_name("metric", name.strip(), METRICS) for name in options.metrics.split(",")]
    together = options.out is not None and options.out.suffix == ".json"
    place = place_of(options.path, options.out, "measures.json") if together else Place()
    arguments = {name: _arguments(name, options) for name in names}
    for option, value in arguments[names[0]].items():
        check_ranges(option, value)
    small = load(options.path)
    told, shared = {}, _shared(names, small, options)
    for name in names:
        given = {**arguments[name], **(shared if name in ASKING else {})}
        answer = METRICS[name](small, options.data, out=False if together else options.out, **given)
        told[name] = answer.to_json()
        place.keep(answer, lambda path: write_measures(path, told))
        if not options.json:
            say(f"{answer}\n")
    return {"format": FORMAT, "measures": told, "json": options.json}


def _shared(names: Sequence[str], small: Any, options: MeasureOptions) -> dict[str, Any]:
    """Networks for the metrics that only ask them, trained once where there are several such metrics."""
    asking = [name for name in names if name in ASKING]
    if len(asking) < 2:
        return {}
    from dd.measure.bench import open_bench

    return {"networks": open_bench(small, options.data, **_arguments(asking[0], options)).networks()}


def _arguments(name: str, options: MeasureOptions) -> dict[str, Any]:
    """Keyword arguments of a metric; those that were not given are left to it."""
    shared = ("root", "download", "size", "aspect", "device", "seed", "threads", "progress")
    given: dict[str, Any] = {option: getattr(options, option) for option in shared}
    if name == "robust":
        given["store"] = options.store
    if name in ("robust", "architectures"):
        given["full_steps"] = options.full_steps
    if name != "neighbours":
        repeats = options.repeats if options.repeats is not None else (None if name == "architectures" else 3)
        chosen = {
            "model": options.model,
            "repeats": repeats,
            "steps": options.steps,
            "lr": None if options.lr is None else as_lr(options.lr),
        }
        given.update({key: value for key, value in chosen.items() if value is not None})
    return given
