"""Locks between processes, which end with the process that holds them, and say who that is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from dd.files import is_at, refused, target_of


@contextlib.contextmanager
def locked(path: Path, wait: bool = False, keep: bool = True) -> Iterator[bool]:
    """Hold an advisory lock on `path`; yields whether it was free, or waits. A dead process leaves no lock.

    Args:
        path: a file of its own, which says who holds it (`holder`).
        wait: until it is free.
        keep: the file afterwards, which spares the next one making it.
    """
    with contextlib.ExitStack() as stack:
        while True:
            target = target_of(path)
            with refused(path):
                file = stack.enter_context(target.open("ab", buffering=0))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if is_at(target, file.fileno()):  # or else its holder removed it while this process waited
                break
        try:
            with contextlib.suppress(OSError):  # a full disk takes the name, not the lock
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield True
        finally:
            with contextlib.suppress(OSError):  # nobody holds it any longer
                file.truncate(0) if keep else target.unlink()
            fcntl.flock(file, fcntl.LOCK_UN)


def holder(path: Path) -> str:
    """Who holds the lock on `path`: `process 4711 on host`, or `another process` where that is not known."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"
