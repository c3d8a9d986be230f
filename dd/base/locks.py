"""Locks between processes, which end with the process that holds them, and say who that is.

They are `flock`s of the file that names the holder; on file systems of a network, and where `DD_LEASE_SECONDS` says so,
leases (`dd.base.leases`), which end with a machine too. Where Python has no `fcntl`, as on Windows, they are those of
the package `filelock`, on a file `NAME.held` beside it: the system's on Windows; elsewhere the file says which process
made it, and counts for nothing once that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from dd.base.files import FLOCK, refused, target_of
from dd.base.leases import SECONDS, holder_of, lease_seconds, leased
from dd.base.paths import is_at

if FLOCK:
    import fcntl
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a lock of the system is not there either
        import filelock


_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without `flock` answer."""


def locked(path: Path, wait: bool = False, keep: bool = True) -> AbstractContextManager[bool]:
    """Hold an advisory lock on `path`; yields whether it was free, or waits. A dead process leaves no lock.

    Args:
        path: a file of its own, which says who holds it (`holder`).
        wait: until it is free.
        keep: the file afterwards, which spares the next one making it.
    """
    if seconds := lease_seconds(path.parent):
        return leased(path, seconds, wait)
    return (_by_flock if FLOCK else _by_package)(path, wait, keep)


@contextlib.contextmanager
def _by_flock(path: Path, wait: bool, keep: bool) -> Iterator[bool]:
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
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                yield stack.enter_context(leased(path, SECONDS, wait))
                return
            if is_at(target, file.fileno()):  # or else its holder removed it while this process waited
                break
        try:
            with contextlib.suppress(OSError):  # a full disk takes the name, not the lock
                file.truncate(0)
                file.write(_own_name())
            yield True
        finally:
            with contextlib.suppress(OSError):  # nobody holds it any longer
                file.truncate(0) if keep else target.unlink()
            fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def _by_package(path: Path, wait: bool, keep: bool) -> Iterator[bool]:
    target = target_of(path)
    lock = filelock.FileLock(target.with_name(f"{target.name}.held"), thread_local=False)
    with refused(path):
        taken = _taken(lock, wait)
    if not taken:
        yield False
        return
    try:
        with contextlib.suppress(OSError):
            target.write_bytes(_own_name())
        yield True
    finally:
        with contextlib.suppress(OSError):
            target.write_bytes(b"") if keep else target.unlink()
        lock.release()


def _taken(lock: Any, wait: bool) -> bool:
    """Whether the lock is ours; the first attempt only removes that of a dead process."""
    for _ in range(2):
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=-1 if wait else 0)
            return True
    return False


def _own_name() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}".encode()


def holder(path: Path) -> str:
    """Who holds the lock on `path`: `process 4711 on host`, or `another process` where that is not known."""
    with contextlib.suppress(OSError):
        if name := holder_of(path) or path.read_text(encoding="utf-8", errors="replace"):
            return name
    return "another process"
