"""Plans of all verbs, and what is done with a plan's file: its units are listed, and a share of them is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dd.base.lazy import Table
from dd.base.paths import as_path
from dd.base.process import keeping_pages, own_settings
from dd.base.progress import Progress, reporter
from dd.errors import find_name, refuse
from dd.run.plans import Plan
from dd.run.work import Notes, Opener, Told, make_all, share_of

UNITS: Final[Table[Opener]] = Table(
    {
        "benchmark": "dd.contest.benchmark:benchmark_units",
        "buffer": "dd.run.buffer:buffer_units",
        "distill": "dd.run.distill:distill_units",
        "evaluate": "dd.contest.evaluate:evaluate_units",
        "teach": "dd.run.teach:teach_units",
    }
)
"""By verb, the units of its plans."""
PLANS: Final[Table[Callable[[Mapping[str, Any]], Plan]]] = Table(
    {
        "benchmark": "dd.contest.benchmark:plan_of_benchmark",
        "buffer": "dd.run.buffer:plan_of_buffer",
        "distill": "dd.run.distill:plan_of_sets",
        "evaluate": "dd.contest.evaluate:plan_of_evaluation",
        "teach": "dd.run.teach:plan_of_teachers",
    }
)


def plan(verb: str, file: str | Path, **arguments: Any) -> Path:
    """Write a call of a verb as a plan, of which any number of machines make shares; nothing is computed.

    `ddistill work list FILE` shows its units, and `ddistill work run FILE --only i/n` makes a share of them. Then the
    verb with the same arguments finds all of them done, and puts them together.

    Args:
        verb: `benchmark`, `buffer`, `distill` (also of several `seeds`), `evaluate` or `teach`.
        file: where the plan is written; beside it comes a folder `FILE.work` with notes on the units.
        **arguments: of the verb, `data` and what follows it by their names too. Data and methods are names.

    Returns:
        The file.

    Raises:
        InputError: an unknown verb or argument, one that a file cannot hold, no `out`, or another plan is there.
    """
    name = find_name("verb with plans", verb, PLANS)
    return PLANS[name](arguments).write(file)


def list_units(file: str | Path) -> Iterator[dict[str, Any]]:
    """Name, kind, folder and state of each unit of a plan, and who holds it, how often it was begun, why it failed.

    Raises:
        InputError, MissingError, DamagedError: the plan cannot be used, or its data is not there.
    """
    path, found = _read(file)
    notes = Notes(path)
    with own_settings():
        for unit in UNITS[found.verb](found):
            yield {
                "name": unit.name,
                "kind": unit.kind,
                "folder": str(unit.folder),
                **dataclasses.asdict(notes.told(unit)),
            }


@keeping_pages
def run_units(
    file: str | Path, only: str | None = None, unit: str | None = None, progress: bool | Progress | None = None
) -> dict[str, Told]:
    """Make a share of a plan's units; a failure is noted, and the others go on.

    Args:
        file: the plan.
        only: `i/n`: units i, i + n, … the first being 1.
        unit: this one alone.
        progress: as of every verb.

    Returns:
        By name how each of them ended, `done` or `failed`.

    Raises:
        InputError, MissingError, DamagedError: as `list_units`; another form of `only`, or an unknown unit.
    """
    path, found = _read(file)
    if only is not None and unit is not None:
        raise refuse("only", "left out beside `unit`", repr(only))
    share_of((), only)
    with own_settings(found.arguments.get("threads")):
        units = {one.name: one for one in UNITS[found.verb](found)}
        chosen = share_of(list(units.values()), only)
        if unit is not None:
            chosen = [units[find_name("unit", unit, units)]]
        return make_all(chosen, Notes(path), reporter(f"work on {path.name}", progress), progress)


def _read(file: str | Path) -> tuple[Path, Plan]:
    path = as_path(file, "plan")
    found = Plan.read(path)
    find_name("verb with plans", found.verb, UNITS)
    return path, found
