"""A process that is ended at every input or output event of a job, and the job run again: the bytes of an unbroken one.

    python -m scripts.campaigns.crash [--share 1] [--seed 0]

Each job (`jobs.py`) is run whole once, which counts its events (`events.py`). Then, in a fresh copy of what was there
before, it is ended at one event, by a signal, by a power cut and by Ctrl-C (`HOW`), `intact` is asked, and it is run
again. Of a share of the trials, each is by the next of these. Lost: other bytes than those of the unbroken job, or
`intact` refuses. Bricked: the second run does not finish.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from scripts.campaigns import jobs
from scripts.campaigns.common import FAILED, Tally, differing, evenly, main, scratch, start
from scripts.campaigns.events import ENDED, Events, Unsynced
from scripts.campaigns.jobs import Job

_NOT_INTACT: Final = 71
HOW: Final = ("ended", "power cut", "Ctrl-C")
"""How a process ends at an event."""


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; locks are none."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if not name.endswith(".lock")}


def inside(folder: Path, work: Callable[[], object]) -> Callable[[], None]:
    """Work with `folder` as the current one, and with clocks that stand still."""

    def call() -> None:
        os.chdir(folder)
        with jobs.still():
            work()

    return call


def done(folder: Path, work: Callable[[], object]) -> None:
    """Do it in a process of its own, or raise what it printed."""
    child = start(inside(folder, work), folder.with_suffix(".told"))
    if child.wait():
        raise RuntimeError(child.text())


def count(job: Job, folder: Path) -> list[tuple[str, str]]:
    """Run a job whole in `folder`; its events."""
    told = folder.with_suffix(".events")

    def work() -> None:
        events = Events(folder)
        events.watch()
        job.run()
        seen = list(events.seen)
        told.write_text(json.dumps(seen), encoding="utf-8")

    done(folder, work)
    return [(kind, path) for kind, path in json.loads(told.read_text(encoding="utf-8"))]


def _again(job: Job) -> None:
    try:
        job.intact()
    except BaseException:
        traceback.print_exc()
        os._exit(_NOT_INTACT)
    job.run()


def end(job: Job, folder: Path, event: int, whole: dict[str, bytes], how: str) -> tuple[str | None, str]:
    """End a job at one event, in a copy of what was there before, and run it again: (fault or `None`, in words)."""
    aside = folder.with_suffix(".aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()

    def work() -> None:
        Events(folder, event, Unsynced(aside) if how == "power cut" else None, ctrl_c=how == "Ctrl-C").watch()
        job.run()

    child = start(inside(folder, work), folder.with_suffix(".told"))
    status = child.wait()
    stopped = how == "Ctrl-C" and (status == 0 or child.text().rstrip().endswith("KeyboardInterrupt"))
    if status != ENDED and not stopped:
        return "lost", f"not the same events twice: status {status}\n{child.text()}"
    return run_again(job, folder, whole)


def run_again(job: Job, folder: Path, whole: dict[str, bytes]) -> tuple[str | None, str]:
    """Ask `intact` after an end, and run a job again: (fault or `None`, in words)."""
    child = start(inside(folder, lambda: _again(job)), folder.with_suffix(".told"))
    status = child.wait()
    if status == _NOT_INTACT:
        return "lost", child.text()
    if status:
        return "bricked", child.text() if status == FAILED else f"status {status}\n{child.text()}"
    found = without_parts(state(folder), job.leaves)
    if found == whole:
        return None, ""
    return "lost", f"another {differing(found, whole)}"


def without_parts(found: dict[str, bytes], names: str = ".*") -> dict[str, bytes]:
    """What is in a folder without unfinished files of these names."""
    part = re.compile(rf"\.({names})\.[0-9a-f]{{8}}\.part")
    return {name: data for name, data in found.items() if not part.fullmatch(Path(name).name)}


def try_ends(job: Job, tally: Tally, share: float) -> None:
    """End one job at a share of its events."""
    with scratch() as root:
        (first := root / "first").mkdir()
        done(first, job.before)
        shutil.copytree(first, root / "whole")
        events = count(job, root / "whole")
        whole = state(root / "whole")
        for place, event in enumerate(evenly(len(events), share)):
            kind, path = events[event]
            for how in HOW if share == 1 else (HOW[place % len(HOW)],):
                shutil.rmtree(root / "trial", ignore_errors=True)
                shutil.copytree(first, root / "trial")
                fault, text = end(job, root / "trial", event, whole, how)
                for told in ("power cut", "Ctrl-C"):
                    tally.more[f"{told}s"] += how == told
                tally.trial(job.name, fault, f"{how} at event {event} ({kind} {path}): {text}")


def run(share: float, seed: int, only: str = "", chosen: Sequence[Job] | None = None) -> Tally:
    """The campaign; every trial is a point that all seeds share."""
    tally = Tally("crash", seed, more={"power cuts": 0, "Ctrl-Cs": 0})
    for job in jobs.every() if chosen is None else chosen:
        if only in job.name:
            try_ends(job, tally, share)
    return tally


if __name__ == "__main__":
    raise SystemExit(main(run))
