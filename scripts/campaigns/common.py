"""What the campaigns share: a tally of trials and faults, its line of JSON, work in processes of their own, the table.

A campaign is a module of this package with `run(share: float, seed: int, only: str) -> Tally`: `share` 1 is the whole,
less is evenly spaced trials of it, and `only` is what the names of its parts must contain. Its line of JSON has

    campaign  the module's name
    trials    how many were made
    lost, bricked, silent, tracebacks, executed, hangs, memory
              trials that ended so; see `FAULTS`
    parts     trials by part: a job, a kind of file, a kind of argument
    faults    the first few of them in words
    seed, seconds, origin
              of the draw, of the whole campaign, and where it was run
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from dd.base.files import dump_json
from dd.evaluation import origin

FAULTS: Final = {
    "lost": "what was finished, or the user's own, is gone or another one",
    "bricked": "the same call cannot be made to finish any more",
    "silent": "something loads with a value other than the one written",
    "tracebacks": "an error that is not the library's own",
    "executed": "code in a file was run",
    "hangs": "no end within the time limit",
    "memory": "more than a GiB over what there was before",
}
_TOLD: Final = 20
"""Faults that a record tells in words."""


@dataclass
class Tally:
    """The count of a campaign."""

    campaign: str
    seed: int
    parts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    def trial(self, part: str, fault: str | None = None, text: str = "") -> None:
        """Count one trial of a part, and its fault, one of `FAULTS`."""
        self.parts[part] += 1
        if fault is not None:
            if fault not in FAULTS:
                raise KeyError(fault)
            self.faults[fault] += 1
            self.told.append(f"{part}: {fault}: {text}")

    @property
    def clean(self) -> bool:
        """Whether there were trials, and none had a fault."""
        return bool(self.parts) and not self.faults

    def to_json(self) -> dict[str, Any]:
        """The object of its line."""
        return {
            "campaign": self.campaign,
            "trials": self.parts.total(),
            **{fault: self.faults[fault] for fault in FAULTS},
            "parts": dict(self.parts),
            "faults": self.told[:_TOLD],
            "seed": self.seed,
            "seconds": round(time.monotonic() - self.start, 1),
            "origin": origin(self.seed, torch.device("cpu")),
            **self.more,
        }


def evenly(count: int, share: float) -> list[int]:
    """At least one and at most `count` of 0 … count − 1, evenly spaced: a share of them."""
    wanted = max(1, min(count, round(count * share)))
    return sorted({round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)}) if count else []


def differing(found: Mapping[str, bytes], whole: Mapping[str, bytes]) -> str:
    """Names of the files that are not the same in two folders."""
    names = (name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
    return ", ".join(sorted(names))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        yield Path(name).resolve()


@dataclass(frozen=True)
class Child:
    """A process that was started here.

    Attributes:
        pid: its number.
        told: the file of what it printed, a traceback last.
    """

    pid: int
    told: Path

    def wait(self) -> int:
        """Its exit status; that of a signal is negative."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def text(self) -> str:
        """What it printed."""
        return self.told.read_text(encoding="utf-8", errors="replace")


FAILED: Final = 70
"""Exit status of a child whose work raised something."""


def start(work: Callable[[], object], told: Path) -> Child:
    """Do `work` in a fork of this process, where all imports are made; torch must have one thread.

    It ends with 0, or with `FAILED` and a traceback in `told`, and no exit handler of this process is run.
    """
    assert torch.get_num_threads() == 1, "threads of OpenMP do not survive a fork"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, told)
    status = FAILED
    try:
        out = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (open(fd, "w", closefd=False, encoding="utf-8") for fd in (1, 2))
        work()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The campaigns as a Markdown table."""
    heads = ["campaign", "trials", *FAULTS, "seed", "seconds"]
    rows = [[str(record[head]) for head in heads] for record in records]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows))


def main(run: Callable[[float, int, str], Tally]) -> int:
    """The command line of one campaign: its line of JSON is the last one printed; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=(sys.modules[run.__module__].__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="part of the trials, evenly spaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="parts with this in their name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tally = run(options.share, options.seed, options.only)
    print("\n".join(tally.told), file=sys.stderr)
    print(dump_json(tally.to_json()))
    return 0 if tally.clean else 1
