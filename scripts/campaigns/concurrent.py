"""Processes that make the same call in one folder at the same time: in the end it is as of one alone.

    python -m scripts.campaigns.concurrent [--share 1] [--seed 0]

A trial is a start. The processes of a round are let go together, each after a delay of at most `DELAY` seconds drawn
from the seed. One that is refused (`refused` of them) must be told who holds the folder. Lost: the folder is not as one
call alone leaves it. Bricked: a process ends with another error of the library, or none finishes. Tracebacks: any other
error.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dd
from dd.errors import DDError
from scripts.campaigns import jobs
from scripts.campaigns.common import Child, Tally, differing, main, scratch, start
from scripts.campaigns.crash import done, inside, state
from scripts.campaigns.jobs import EXPERTS, NET, OUT, STORE, TEACHER, pictures

ROUNDS: Final = 3
DELAY: Final = 0.05
_IN_USE: Final = re.compile(
    r"`out` = \S+ is in use by (process \d+ on \S+|another process)\. Wait until it has finished"
)
_REFUSED, _KNOWN = 72, 73


@dataclass(frozen=True)
class Shared:
    """Calls on one folder.

    Attributes:
        name: for people.
        calls: one a process; the folder must end as one of them alone leaves it.
        before: what is done there before.
    """

    name: str
    calls: Sequence[Callable[[], object]]
    before: Callable[[], object] = jobs.nothing


def every() -> list[Shared]:
    """Calls of all verbs that share a folder."""
    path, old, new = Path("set.safetensors"), jobs.labelled(0), jobs.labelled(1)
    mtt, rded = jobs.distilled(jobs.method("mtt")), jobs.distilled(jobs.method("rded"))
    many = lambda: dd.distill_many(pictures(), jobs.method("mtt"), seeds=(0, 1), out=OUT, store=STORE, progress=False)  # noqa: E731
    return [
        Shared("distill mtt", [mtt] * 3, jobs.buffered),
        Shared("distill rded", [rded] * 3, jobs.buffered),
        Shared("distill with no experts yet", [mtt] * 3),
        Shared("distill_many", [many] * 3, jobs.buffered),
        Shared("buffer", [lambda: dd.buffer(pictures(), EXPERTS, store=STORE, progress=False)] * 3),
        Shared("teach", [lambda: dd.teach(pictures(), NET, recipe=TEACHER, store=STORE, progress=False)] * 3),
        Shared("benchmark", [jobs.benchmarked] * 3, jobs.buffered),
        Shared("save", [lambda: old.save(path), lambda: new.save(path), lambda: old.hard().save(path)]),
    ]


def _told(call: Callable[[], object]) -> Callable[[], None]:
    """The call, whose errors of the library are told by the exit status."""

    def work() -> None:
        try:
            call()
        except DDError as error:
            print(error, flush=True)
            os._exit(_REFUSED if _IN_USE.search(str(error)) else _KNOWN)

    return work


def _started(shared: Shared, folder: Path, draw: random.Random) -> list[Child]:
    """All processes of a round, let go together."""
    closed, opened = os.pipe()
    children = []
    for place, call in enumerate(shared.calls):
        delay = draw.uniform(0, DELAY)

        def work(call: Callable[[], object] = call, delay: float = delay) -> None:
            os.close(opened)
            os.read(closed, 1)  # until the last end that can be written to is closed
            time.sleep(delay)
            inside(folder, _told(call))()

        children.append(start(work, folder.with_name(f"{folder.name}.{place}")))
    os.close(closed)
    os.close(opened)
    return children


def play(shared: Shared, folder: Path, alone: Sequence[dict[str, bytes]], draw: random.Random, tally: Tally) -> None:
    """One round."""
    children = _started(shared, folder, draw)
    ends = [(child.wait(), child) for child in children]
    names = {f"process {child.pid} on {socket.gethostname()}" for child in children} | {"another process"}
    found = state(folder)
    whole = found in alone
    finished = any(status == 0 for status, _ in ends)
    for status, child in ends:
        fault, text = None, child.text()
        if status not in (0, _REFUSED, _KNOWN):
            fault = "tracebacks"
        elif status == _KNOWN or not finished:
            fault = "bricked"
        elif status == _REFUSED and (match := _IN_USE.search(text)) and match[1] not in names:
            fault = "silent"
        elif not whole:
            fault, text = "lost", f"another {differing(found, alone[0])}"
        tally.more["refused"] += status == _REFUSED
        tally.trial(shared.name, fault, text)


def run(share: float, seed: int, only: str = "", chosen: Sequence[Shared] | None = None) -> Tally:
    """The campaign."""
    tally, draw = Tally("concurrent", seed, more={"refused": 0}), random.Random(seed)
    for shared in every() if chosen is None else chosen:
        if only not in shared.name:
            continue
        with scratch() as root:
            (first := root / "first").mkdir()
            done(first, shared.before)
            alone = []
            for place, call in enumerate(shared.calls):
                shutil.copytree(first, root / f"alone{place}")
                done(root / f"alone{place}", call)
                alone.append(state(root / f"alone{place}"))
            for number in range(max(1, round(ROUNDS * share))):
                shutil.copytree(first, root / f"round{number}")
                play(shared, root / f"round{number}", alone, draw, tally)
    return tally


if __name__ == "__main__":
    raise SystemExit(main(run))
