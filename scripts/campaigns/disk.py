"""A disk that is full, over its quota, broken or read-only at any moment of a job: one line, and nothing is lost.

    python -m scripts.campaigns.disk [--share 1] [--seed 0]

A trial makes one call of the system fail (`_ERRORS` at `_KINDS` of events, `POINTS` of each job), once or from there
on; or it is a limit of the size of a file, or a small disk of its own, where this may be mounted (`mounted` of them).
Then `intact` is asked, and what was there must be as it was, or as the finished job leaves it; and the job is run again
with space. Tracebacks: the job ended with anything but a `WriteError` of one line. Lost and bricked are as in
`crash.py`. Silent: the job is done without a word, and its folder is another one. `refused` of the trials ended with a
`WriteError`, or with a warning where the file is a copy of what the call answers.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from dd.errors import WriteError
from scripts.campaigns import jobs
from scripts.campaigns.common import Tally, differing, evenly, main, scratch, start
from scripts.campaigns.crash import count, done, inside, run_again, state, without_parts
from scripts.campaigns.events import Events
from scripts.campaigns.jobs import Job

POINTS: Final = 12
"""Failing calls a job, evenly spaced over all of them."""
_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_KINDS: Final = frozenset(
    ("open", "write", "half written", "flush", "fsync", "replace", "mkdir", "truncate", "ftruncate", "unlink")
)
_FREES: Final = frozenset(("truncate", "ftruncate", "unlink"))
"""Calls that a full disk still does."""
_PAGE: Final = 4096
_REFUSED, _WARNED, _WORDY = 72, 73, 74


class Failing(Events):
    """Makes an event fail.

    Args:
        folder: events elsewhere do not count.
        at: the number of the event.
        code: the error.
        lasting: whether all later events fail too, but those that free space where that is what is missing.
    """

    def __init__(self, folder: Path, at: int, code: int, lasting: bool) -> None:
        super().__init__(folder)
        self._at, self._code, self._lasting = at, code, lasting

    def __call__(self, kind: str, where: Any) -> None:
        """An event happens, or fails."""
        number, path = len(self.seen), self._path(where)
        super().__call__(kind, where)
        if path is None or kind not in _KINDS or not (number == self._at or (self._lasting and number > self._at)):
            return
        if number == self._at or kind not in _FREES or self._code in (errno.EIO, errno.EROFS):
            raise OSError(self._code, os.strerror(self._code), path)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file grows over so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _told(job: Job, around: AbstractContextManager[object]) -> None:
    """Run a job; what it ended with is told by the exit status."""
    with warnings.catch_warnings(record=True) as told:
        try:
            with around:
                job.run()
        except WriteError as error:
            print(error, flush=True)
            head, *more = str(error).splitlines()
            os._exit(_REFUSED if head.startswith("could not write") and (not more or error.answer) else _WORDY)
    for one in told:
        print(one.message, flush=True)
    if any("could not write" in str(one.message) for one in told):
        os._exit(_WARNED)


def _spaces(folder: Path, files: Sequence[str]) -> int:
    return sum(-(-(folder / name).stat().st_size // _PAGE) + 1 for name in files)


@contextmanager
def _small_disk(at: Path, pages: int) -> Iterator[bool]:
    """A disk of so many pages at a new folder; whether it could be mounted."""
    at.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={pages * _PAGE}", "tmpfs", str(at)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(at)], check=True)
        at.rmdir()


class _Trials:
    """The trials of one job.

    Args:
        job: what is run.
        root: for its folders.
        tally: where they are counted.
    """

    def __init__(self, job: Job, root: Path, tally: Tally) -> None:
        self._job, self._root, self._tally, self._first = job, root, tally, root / "first"
        self._first.mkdir()
        done(self._first, job.before)
        shutil.copytree(self._first, root / "whole")
        self.events = count(job, root / "whole")
        self._before, self._whole = state(self._first), state(root / "whole")
        self.new = [name for name, data in self._whole.items() if self._before.get(name) != data]

    def fail(self, event: int, code: int, lasting: bool) -> None:
        """A call fails."""
        folder, (kind, path) = self._root / "trial", self.events[event]
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._first, folder)

        @contextmanager
        def around() -> Iterator[None]:
            Failing(folder, event, code, lasting).watch()
            yield

        how = f"{errno.errorcode[code]}{' from' if lasting else ' at'} event {event} ({kind} {path})"
        self._run(folder, around(), how)

    def limit(self, share: float) -> None:
        """No file may grow over a part of the largest that is new."""
        folder = self._root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._first, folder)
        size = int(share * max((len(self._whole[name]) for name in self.new), default=0))
        self._run(folder, limited(size), f"files of at most {size} bytes")

    def small_disk(self, share: float) -> None:
        """A disk with room for a part of what is new."""
        folder = self._root / "small"
        pages = _spaces(self._first, list(self._before)) + int(share * _spaces(self._root / "whole", self.new)) + 4
        with _small_disk(folder, pages) as mounted:
            if mounted:
                shutil.copytree(self._first, folder, dirs_exist_ok=True)
                self._tally.more["mounted"] += 1
                self._run(folder, nullcontext(), f"a disk of {pages} pages", lambda: _grow(folder))

    def _run(
        self, folder: Path, around: AbstractContextManager[object], how: str, then: Callable[[], object] = jobs.nothing
    ) -> None:
        child = start(inside(folder, lambda: _told(self._job, around)), folder.with_suffix(".told"))
        status, text = child.wait(), child.text()
        fault: str | None = None
        self._tally.more["refused"] += status in (_REFUSED, _WARNED)
        found = without_parts(state(folder))
        harmed = [n for n, data in self._before.items() if found.get(n) not in (data, self._whole.get(n))]
        if status not in (0, _REFUSED, _WARNED):
            fault = "tracebacks"
        elif harmed:
            fault, text = "lost", f"{', '.join(harmed)} is another one"
        elif status == 0 and (other := differing(found, self._whole)):
            fault, text = "silent", f"done, with another {other}"
        if fault is None:
            then()
            fault, text = run_again(self._job, folder, self._whole)
        self._tally.trial(self._job.name, fault, f"{how}: {text}")


def _grow(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


def run(share: float, seed: int, only: str = "", chosen: Sequence[Job] | None = None) -> Tally:
    """The campaign; the seed says which error comes at which point."""
    tally = Tally("disk", seed, more={"refused": 0, "mounted": 0})
    for job in jobs.every() if chosen is None else chosen:
        if only not in job.name:
            continue
        with scratch() as root:
            trials = _Trials(job, root, tally)
            points = [number for number, (kind, _) in enumerate(trials.events) if kind in _KINDS]
            few = evenly(len(points), POINTS / max(POINTS, len(points)))
            for place in evenly(len(few), share):
                code = _ERRORS[(seed + place) % len(_ERRORS)]
                trials.fail(points[few[place]], code, lasting=(seed + place) // len(_ERRORS) % 2 == 0)
            trials.limit(0.5)
            if share == 1:
                trials.small_disk(0.5)
    return tally


if __name__ == "__main__":
    raise SystemExit(main(run))
