"""Work lists: a verb's call as a file, and its independent units, which any number of machines make one by one.

A plan says which verb was called and how; the units follow from it, the same ones on every machine. Each is a file or a
folder of the verb itself, done when that is there, and so the verb with the same arguments finds all of them and puts
them together. Who makes a unit holds its lock, and what became of it stands in a note; both lie in `PLAN.work/`, beside
the plan. A worker that is lost leaves a note and no lock: its unit is made again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, final

from dd.base.files import append_jsonl, digest, json_text, read_json, write_json
from dd.base.leases import lease_of
from dd.base.locks import holder, locked
from dd.base.names import file_name
from dd.base.parallel import alone
from dd.base.paths import is_there
from dd.base.process import keeping_pages, own_settings
from dd.base.progress import Progress, announce
from dd.errors import DamagedError, DDError, MissingError, find_name, refuse
from dd.run.plans import Plan

TRIES: Final = 3
"""How often a unit is given to an executor that loses its worker."""


@final
@dataclass(frozen=True)
class WorkUnit:
    """One independent piece of work.

    Attributes:
        name: in its plan, and of its lock and note.
        kind: `expert`, `teacher`, `set`, `cell`, …
        folder: where its result is.
        done: whether the result is there.
        make: makes it; what it needs from other units it makes too, or waits for who does.
    """

    name: str
    kind: str
    folder: Path
    done: Callable[[], bool]
    make: Callable[[], object]


Opener = Callable[[Plan], Sequence[WorkUnit]]
"""A verb's units, from its plan."""
State = Literal["missing", "held", "done", "failed"]


@final
@dataclass(frozen=True)
class Told:
    """How it stands with a unit.

    Attributes:
        state: `missing`, `held` by a process, `done`, or `failed`.
        by: who holds it, or has tried it last.
        tries: how often it was begun.
        error: why it failed.
    """

    state: State
    by: str = ""
    tries: int = 0
    error: str = ""


@final
class Notes:
    """Locks, notes and log of a plan's units, in `PLAN.work/`."""

    def __init__(self, plan: Path) -> None:
        self.folder = plan.with_name(f"{plan.name}.work")

    def lock(self, unit: WorkUnit) -> Path:
        """The file that who makes a unit holds."""
        return self.folder / f".{file_name(unit.name)}.lock"

    def read(self, unit: WorkUnit) -> dict[str, Any]:
        """What was noted last; nothing where a note is damaged."""
        with contextlib.suppress(MissingError, DamagedError):
            return read_json(self._note(unit), "note of work")
        return {"state": "missing", "by": "", "tries": 0, "error": ""}

    def write(self, unit: WorkUnit, state: str, tries: int, error: str = "") -> None:
        """Replace the note."""
        write_json(self._note(unit), {"state": state, "by": _own_name(), "tries": tries, "error": error})

    def _note(self, unit: WorkUnit) -> Path:
        return self.folder / f"{file_name(unit.name)}.json"

    def log(self, text: str, progress: bool | Progress | None) -> None:
        """A line for people, here and in the log."""
        announce(text, progress)
        with locked(self.folder / ".log.lock", wait=True):
            append_jsonl(self.folder / "log.jsonl", [{"by": _own_name(), "text": text}])

    def told(self, unit: WorkUnit) -> Told:
        """How it stands with a unit; nothing is changed."""
        try:
            if unit.done():
                return Told("done")
        except DDError as error:
            return Told("failed", error=str(error))
        if not is_there(self.folder):
            return Told("missing")
        note = self.read(unit)
        if is_there(self.lock(unit)) or is_there(lease_of(self.lock(unit))):
            with locked(self.lock(unit)) as free:
                by = "" if free else holder(self.lock(unit))
            if by:
                return Told("held", by, note["tries"])
        state: State = "failed" if note["state"] == "failed" else "missing"
        return Told(state, note["by"], note["tries"], note["error"])


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def attempt(unit: WorkUnit, notes: Notes, progress: bool | Progress | None = None, wait: bool = False) -> Told:
    """Make a unit, unless it is done or another process holds it; a failure is noted, and told.

    Args:
        unit: what to make.
        notes: of its plan.
        progress: `False` prints nothing.
        wait: for who holds it.
    """
    with locked(notes.lock(unit), wait=wait) as free:
        if not free:
            return Told("held", holder(notes.lock(unit)))
        before = notes.read(unit)
        tries = before["tries"] + 1
        try:
            if unit.done():
                return Told("done")
            if before["state"] == "begun":
                notes.log(f"{unit.name} was begun by {before['by']}, which is gone; it is made again", progress)
            notes.write(unit, "begun", tries)
            with alone():
                unit.make()
        except Exception as error:  # of whatever kind: other units go on
            why = str(error)
            if not isinstance(error, DDError):
                why = f"{_short(error)}. DD_DEBUG=1 shows where."
                if os.environ.get("DD_DEBUG", "0") not in ("", "0"):
                    traceback.print_exc(file=sys.stderr)
            notes.write(unit, "failed", tries, why)
            notes.log(f"{unit.name} failed: {why}", progress)
            return Told("failed", _own_name(), tries, why)
        notes.write(unit, "done", tries)
        return Told("done", _own_name(), tries)


def share_of(units: Sequence[WorkUnit], only: str | None) -> list[WorkUnit]:
    """Units i, i + n, … of `only` = `i/n`, the first being 1; all where it is `None`.

    Raises:
        InputError: no two whole numbers with 1 ≤ i ≤ n.
    """
    if only is None:
        return list(units)
    first, _, count = only.partition("/") if isinstance(only, str) else ("", "", "")
    whole = all(part.isdecimal() and len(part) < 10 for part in (first, count))
    if not whole or not 1 <= int(first) <= int(count):
        raise refuse("only", "`i/n`, the i-th of n shares, with 1 ≤ i ≤ n", repr(only))
    return list(units[int(first) - 1 :: int(count)])


def make_all(
    units: Iterable[WorkUnit], notes: Notes, report: Progress, progress: bool | Progress | None = None
) -> dict[str, Told]:
    """Make units one after the other; those that another process holds come last, and are waited for."""
    rest, told = list(units), dict[str, Told]()
    total = len(rest)
    while rest:
        busy = []
        for unit in rest:
            found = attempt(unit, notes, progress)
            if found.state == "held":
                busy.append(unit)
                continue
            told[unit.name] = found
            report(len(told), total, f"{unit.name} {found.state}")
        if len(busy) == len(rest):
            time.sleep(0.5)
        rest = busy
    return told


@lru_cache(maxsize=1)
def _opened(opener: Opener, path: str, text: str) -> tuple[WorkUnit, ...]:
    """The units of a plan's file, which a worker opens once for all that it is given; `text` is what the file says."""
    del text
    return tuple(opener(Plan.read(path)))


@keeping_pages
def make_named(path: str, name: str, opener: Opener) -> str:
    """Make one unit of a plan's file, in a worker of an executor.

    Args:
        path: of the plan.
        name: of the unit.
        opener: the verb's.

    Returns:
        Why it failed; empty where it is done.
    """
    try:
        plan = Plan.read(path)
        with own_settings(plan.arguments.get("threads")):
            units = {unit.name: unit for unit in _opened(opener, path, json_text(plan.to_json()))}
            unit = units[find_name("unit", name, units)]
            return attempt(unit, Notes(Path(path)), progress=False, wait=True).error
    except DDError as error:
        return str(error)


def check_executor(executor: object) -> None:
    """Refuse what does not take work.

    Raises:
        InputError: it has no `submit`.
    """
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        way_out = "Give a concurrent.futures.ProcessPoolExecutor, or see docs/scale.md."
        raise refuse(
            "executor", "an object with `submit(function, *arguments)`", f"a {type(executor).__name__}", way_out
        )


def spread(
    executor: Any,
    make: Callable[[str, str], str],
    plan: Plan,
    folder: Path,
    units: Sequence[WorkUnit],
    report: Progress,
    progress: bool | Progress | None = None,
) -> None:
    """Have an executor's workers make what is not done; what they leave is left to the caller.

    Args:
        executor: has `submit`; only texts are submitted.
        make: a function of a module, `make_named` of a verb: (plan's path, unit's name) → why it failed.
        plan: is written into `folder`, named by its content.
        folder: that all workers see.
        units: of the plan.
        report: called after each unit.
        progress: `False` prints nothing.
    """
    check_executor(executor)
    path = plan.write(folder.absolute() / f"plan-{digest(json_text(plan.to_json()).encode())[:8]}.json")
    place, notes = str(path), Notes(path)
    rest = [unit.name for unit in units if not _is_done(unit)]
    done, total = 0, len(rest)
    for _ in range(TRIES):
        futures, lost = [], list[str]()
        for name in rest:
            try:
                future = executor.submit(make, place, name)
                if not hasattr(future, "result"):
                    raise TypeError(f"`submit` gave a {type(future).__name__}, which has no `result`")
                futures.append((name, future))
            except Exception as error:  # of whatever kind an executor has for one that is broken
                left = len(rest) - len(futures)
                notes.log(f"the executor takes no more work ({_short(error)}); {left} units are left", progress)
                break
        broken = len(futures) < len(rest)
        for name, future in futures:
            try:
                failure = future.result()
            except Exception as problem:
                notes.log(f"{name}: its worker was lost ({_short(problem)}); it is tried again", progress)
                lost.append(name)
                continue
            done += 1
            if failure:
                notes.log(f"{name} failed in a worker: {failure}", progress)
            report(done, total, name)
        rest = lost
        if broken or not rest:
            return


def _is_done(unit: WorkUnit) -> bool:
    """Whether a unit is done; what is wrong with its result is said by who makes it."""
    with contextlib.suppress(DDError):
        return unit.done()
    return False


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
