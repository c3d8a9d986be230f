"""`distill_many`: several sets that differ in the seed only, from one buffer of experts."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dd.base.process import keeping_pages, under_own_settings
from dd.base.shapes import filled
from dd.data import Source
from dd.errors import refuse
from dd.methods import Method
from dd.run.distill import distill, seed_folder, spread_sets
from dd.run.plans import need_folder
from dd.run.resolve import announce_preset, opened, resolve_device
from dd.run.work import check_executor
from dd.synthetic import AnySet

_OPTIONS: Final = inspect.signature(distill).parameters
"""What `dd.distill` takes; every other argument is a field of the method."""


@under_own_settings
@keeping_pages
def distill_many(
    data: object,
    method: str | Method,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | Path | None = None,
    executor: Any = None,
    **arguments: Any,
) -> list[AnySet]:
    """One set a seed, each as `dd.distill` makes it: for a spread over runs, or for an ensemble.

    The seed of a run names its initialisation, order and augmentation, not its experts: these are buffered by the first
    run and read by the others. The data is loaded once, and the preset is looked up once.

    Args:
        data, method: as in `dd.distill`.
        seeds: whole numbers, each once.
        out: holds a run folder a seed, `out/seed0`, …; the same call reads what is finished there, goes on where it was
            interrupted, and with more seeds makes only those that are missing. `None` writes none.
        executor: has `submit`, as of `concurrent.futures`: its workers make experts or teachers and the sets; data and
            method are then given by name.
        **arguments: all others of `dd.distill` but `seed`.

    Returns:
        The sets in the order of `seeds`.

    Raises:
        InputError: no seed, one twice, or `seed`.
        InputError, MissingError, DivergedError, WriteError: as `dd.distill`; the sets before are in their folders.
    """
    if "seed" in arguments:
        raise refuse("seed", "left out", repr(arguments["seed"]), "Give `seeds=`.")
    if not isinstance(seeds, Sequence):
        raise refuse("seeds", "a sequence of whole numbers", repr(seeds), "For one set use `dd.distill`.")
    wrong = any(isinstance(seed, bool) or not isinstance(seed, int) for seed in seeds)
    if wrong or not seeds or len(set(seeds)) != len(seeds):
        raise refuse("seeds", "at least one whole number, each once", repr(tuple(seeds)))
    if executor is not None:
        check_executor(executor)
        need_folder(out)
    fields = {name: value for name, value in arguments.items() if name not in _OPTIONS}
    target, tier = resolve_device(arguments.get("device")), arguments.get("preset", "auto")
    run = opened(data, method, filled(Source, arguments), "clean", tier, target, fields)
    announce_preset(run, target, arguments.get("progress"))
    if executor is not None:
        asked = {"data": data, "method": method, "out": out, "executor": executor, **arguments}
        call = inspect.signature(distill).bind(**asked)
        call.apply_defaults()
        spread_sets(run, {"fields": {}, **call.arguments}, target, seeds)
    used = {*fields, *inspect.signature(Source).parameters, "preset"}
    rest = {name: value for name, value in arguments.items() if name not in used}
    return [
        distill(run.real, run.method, seed=seed, out=None if out is None else seed_folder(out, seed), **rest)
        for seed in seeds
    ]
