"""Files made to harm who reads them, and arguments that nobody means: each is refused in a line, or does no harm.

    python -m scripts.campaigns.hostile [--share 1] [--seed 0] [--only files]

A trial is one call in a process of its own (`hostile_files.py`, `hostile_arguments.py`). Refused: an error of the
library's own, without what steers a terminal, or exit code 1 or 2 of the command line. Silent: what must be refused
is not. Lost: a file outside the trial's folder is another one. Executed: the code in a file has left its mark.
Bricked: the good call that follows does not finish. Hangs and memory are limits (`SECONDS`, `MEMORY`); their largest
values are told as `longest_seconds` and `most_mib`.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dd.errors import DDError
from scripts.campaigns import jobs
from scripts.campaigns.common import FAILED, Child, Tally, evenly, main, scratch, start

SECONDS: Final = 60.0
"""A trial that takes longer hangs."""
MEMORY: Final = 1024
"""MiB over what the process had at its start."""
MARK: Final = "executed"
"""The file that code in a hostile file makes."""
_REFUSED, _STEERING = 72, 73
STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Trial:
    """One call.

    Attributes:
        part: kind of file or of argument.
        name: for people.
        call: made in a folder of its own.
        before: makes the files there.
        refused: whether the call must not succeed.
        after: a good call that must succeed then, in the same folder.
    """

    part: str
    name: str
    call: Callable[[], object]
    before: Callable[[], object] = jobs.nothing
    refused: bool = True
    after: Callable[[], object] | None = None


def _made(work: Callable[[], object]) -> int:
    """What the call comes to, as an exit status."""
    try:
        status: Any = work()
    except DDError as error:
        text = str(error)
        print(f"{type(error).__name__}: {text}")
        return _STEERING if STEERING.search(text) else _REFUSED
    except SystemExit as error:  # of the parser of the command line
        status = error.code
    return _REFUSED if type(status) is int and status in (1, 2) else 0


def _inside(folder: Path, work: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        (folder.parent / "base").write_text(f"{_resident()}", encoding="ascii")
        os.chdir(folder)
        os.environ["DD_HOME"] = str(folder / "home")
        warnings.simplefilter("ignore")
        try:
            status = _made(work)
        except BaseException:
            traceback.print_exc()
            status = FAILED
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    return call


def _ended(child: Child, seconds: float) -> tuple[int | None, float]:
    """(exit status or `None` where it was killed for its time, peak of its memory in MiB)."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss / 1024
        if time.monotonic() > deadline:
            os.kill(child.pid, signal.SIGKILL)
            return None, os.wait4(child.pid, 0)[2].ru_maxrss / 1024
        time.sleep(0.002)


def _resident() -> float:
    """MiB of this process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def attempt(trial: Trial, folder: Path, tally: Tally) -> None:
    """Make one trial in `folder / "inner"`, beside a file that nobody may touch, and count it."""
    inner, canary, told = folder / "inner", folder / "canary", folder / "told"
    inner.mkdir()
    canary.write_text("mine", encoding="utf-8")
    child = start(_inside(inner, trial.before), told)
    status, _ = _ended(child, 10 * SECONDS)
    if status:
        raise RuntimeError(f"{trial.name} could not be prepared: {child.text()}")
    began = time.monotonic()
    child = start(_inside(inner, trial.call), told)
    status, peak = _ended(child, SECONDS)
    seconds, text = time.monotonic() - began, child.text()
    base = float((folder / "base").read_text(encoding="ascii"))
    fault = _fault(trial, status, peak - base)
    if (inner / MARK).exists() or (folder / MARK).exists():
        fault = "executed"
    if canary.read_text(encoding="utf-8") != "mine" or {p.name for p in folder.iterdir()} - {
        "inner",
        "canary",
        "told",
        "base",
    }:
        fault = "lost"
    if fault is None and trial.after is not None:
        child = start(_inside(inner, trial.after), told)
        if _ended(child, SECONDS)[0]:
            fault, text = "bricked", child.text()
    tally.trial(trial.part, fault, f"{trial.name}: {text.strip()[-300:]}")
    for name, value in (("longest_seconds", round(seconds, 1)), ("most_mib", round(max(0.0, peak - base)))):
        tally.more[name] = max(tally.more.get(name, 0), value)
    tally.more["refused"] = tally.more.get("refused", 0) + (status == _REFUSED)


def _fault(trial: Trial, status: int | None, mib: float) -> str | None:
    if status is None:
        return "hangs"
    if mib > MEMORY:
        return "memory"
    if status == 0:
        return "silent" if trial.refused else None
    return None if status == _REFUSED else "tracebacks"


def every() -> list[Trial]:
    """All trials."""
    from scripts.campaigns import hostile_arguments, hostile_files

    return [*hostile_files.every(), *hostile_arguments.every()]


def run(share: float, seed: int, only: str = "", chosen: Sequence[Trial] | None = None) -> Tally:
    """The campaign; the trials are the same for every seed."""
    tally = Tally("hostile", seed)
    jobs.pictures(), jobs.graphs()  # made once, before the forks
    parts: dict[str, list[Trial]] = {}
    for trial in every() if chosen is None else chosen:
        if only in f"{trial.part}: {trial.name}":
            parts.setdefault(trial.part, []).append(trial)
    with scratch() as folder:
        for number, (_, trials) in enumerate(sorted(parts.items())):
            for i in evenly(len(trials), share):
                place = folder / f"{number}-{i}"
                place.mkdir()
                attempt(trials[i], place, tally)
    return tally


if __name__ == "__main__":
    raise SystemExit(main(run))
