"""`ddistill work`: the units of a plan are listed, or a share of them is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dd.base.progress import say
from dd.base.texts import count
from dd.cli.options import Answer, reads
from dd.errors import MissingError


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """List the units of a plan as JSON lines, or make a share of them.

    Attributes:
        action: `list` or `run`.
        plan: a file that a verb wrote with `--plan`.
        only: of `run`: a share `i/n`: units i, i + n, … the first being 1; all of them by default.
        unit: of `run`: this one alone.
        json: print one JSON object.
        quiet: no progress bars, no announcements.
    """

    action: tyro.conf.Positional[Literal["list", "run"]]
    plan: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PLAN")]
    only: str | None = None
    unit: str | None = None
    json: bool = False
    quiet: bool = False


@reads("work", WorkOptions)
def run_work(options: WorkOptions) -> Answer:
    """The verb: a line a unit, or what was made."""
    from dd.base.jsons import dump_json
    from dd.base.process import tune_process
    from dd.work.lists import list_units, run_units

    if options.action == "list":
        found = list_units(options.plan)
        if options.json:
            return {"units": list(found), "json": True}
        for unit in found:
            say(dump_json(unit))
        return {"json": False}
    tune_process()
    told = run_units(options.plan, options.only, options.unit, False if options.quiet else None)
    failed = {name: one.error for name, one in told.items() if one.state != "done"}
    if failed:
        name = next(iter(failed))
        raise MissingError(
            f"not done {'are' if len(failed) > 1 else 'is'} {len(failed)} of {count(len(told), 'unit')}; first {name}: "
            f"{failed[name]} The same command tries again."
        )
    answer: dict[str, Any] = {"plan": str(options.plan), "done": list(told), "json": options.json}
    if not options.json:
        say(f"{count(len(told), 'unit')} of {options.plan} {'is' if len(told) == 1 else 'are'} done")
    return answer


def planned(verb: str, file: Path, silent: bool, **arguments: Any) -> Answer:
    """Write a verb's plan in place of its work, and say how it goes on."""
    from dd.work.lists import plan

    place = plan(verb, file, **arguments)
    if not silent:
        say(f"plan in {place}: `ddistill work list {place}`, `ddistill work run {place} --only 1/2` …")
    return {"plan": str(place), "json": silent}
