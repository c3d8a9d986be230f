"""Leases: locks for file systems that keep those of a machine that is gone, or do not tell machines of each other's.

A lease is a file that one process makes and no other can make while it is there. It says who that is, and its time of
change is that of the last sign of life: a thread gives one every few seconds. One without a sign for `SIGNS` intervals,
or of a process of this machine that has ended, counts for nothing, and is taken over by renaming it, which one process
alone can do. Times are the file system's own, of files that are touched there, so clocks of machines may differ.

Two may work on one thing where a machine that was asleep for longer wakes up. It notices at its next sign
(`still_held`), and nothing is lost: files are written whole, and both write the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dd.base.files import refused, target_of
from dd.base.seals import digest
from dd.errors import refuse

SIGNS: Final = 6
"""Intervals without a sign after which a lease counts for nothing."""
SECONDS: Final = 10.0
"""Of an interval, where nobody says so: a client of NFS may be told of a change a minute late."""
_NETWORK: Final = frozenset(
    "afs beegfs ceph cifs fuse.glusterfs fuse.juicefs fuse.sshfs glusterfs gpfs lustre nfs nfs4 orangefs panfs pvfs2 "
    "smb3 smbfs wekafs".split()
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_log = logging.getLogger(__name__)


def lease_seconds(folder: Path) -> float:
    """Seconds between the signs of life of a lease in a folder; 0 where locks of the system are enough.

    `DD_LEASE_SECONDS` says so for all folders; else there are leases on network file systems.

    Raises:
        InputError: that is no number.
    """
    told = os.environ.get("DD_LEASE_SECONDS", "")
    if not told:
        return SECONDS if _is_shared(folder) else 0.0
    try:
        seconds = float(told)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise refuse("DD_LEASE_SECONDS", "seconds from 0 (no leases) to 3600", repr(told))
    return seconds


_KNOWN: Final = dict[int, bool]()


def _is_shared(folder: Path) -> bool:
    """Whether the file system of a folder, or of the nearest one above it that is there, is one of a network."""
    while True:
        try:
            device = folder.stat().st_dev
            break
        except OSError:
            if folder == folder.parent:
                return False
            folder = folder.parent
    if device not in _KNOWN:
        _KNOWN[device] = kind_of(device) in _NETWORK
    return _KNOWN[device]


def kind_of(device: int, mounts: Path = _MOUNTS) -> str:
    """The kind of a file system by its device number, as Linux lists them; empty where it does not."""
    if not hasattr(os, "major"):  # Windows
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            if before.split(" ")[2:3] == [wanted]:
                return after.split(" ")[0]
    return ""


@dataclass(eq=False)
class _Lease:
    """A lease that this process has.

    Attributes:
        path: its file.
        text: what the file says: who has it, how often there is a sign, where its process is, a word of its own.
        seconds: between signs.
        lost: whether another process has taken it over.
    """

    path: Path
    text: str
    seconds: float
    due: float = 0.0
    lost: bool = False

    def sign(self) -> None:
        """Show that this process is alive; where the file is another's, notice it."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                if file.read(1000) == self.text.encode():
                    os.utime(file.fileno() if os.utime in os.supports_fd else self.path)
                    return
        except FileNotFoundError:
            pass
        except OSError:  # the server is away: the next sign may come through
            return
        self.lost = True
        _log.warning("%s was taken over: this process had given no sign of life for too long.", self.path)

    def give_back(self) -> None:
        """Remove the file, unless it is another's."""
        with contextlib.suppress(OSError):
            if self.path.read_bytes() == self.text.encode():
                self.path.unlink()


class _Heart:
    """One thread that gives the signs of all leases of the process."""

    def __init__(self) -> None:
        self.fork()

    def fork(self) -> None:
        """In the child: no thread is there, and no lease is its own."""
        self._held: dict[Path, _Lease] = {}
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, lease: _Lease) -> None:
        with self._lock:
            lease.due = time.monotonic() + lease.seconds
            self._held[lease.path] = lease
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="dd leases", daemon=True)
                self._thread.start()
        self._changed.set()

    def remove(self, lease: _Lease) -> None:
        with self._lock:
            self._held.pop(lease.path, None)

    def holds(self, path: Path) -> bool:
        """Whether a lease was not lost; what this heart does not know of was no lease."""
        lease = self._held.get(path)
        return lease is None or not lease.lost

    def _beat(self) -> None:
        while True:
            with self._lock:
                due = [lease for lease in self._held.values() if not lease.lost and lease.due <= time.monotonic()]
                for lease in due:
                    lease.sign()
                    lease.due = time.monotonic() + lease.seconds
                after = min((lease.due for lease in self._held.values() if not lease.lost), default=None)
            self._changed.wait(None if after is None else max(0.0, after - time.monotonic()))
            self._changed.clear()


_HEART: Final = _Heart()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HEART.fork)


def lease_of(path: Path) -> Path:
    """The file of the lease for a lock `path`."""
    return path.with_name(f"{path.name}.lease")


def still_held(path: Path) -> bool:
    """Whether the lock `path` of this process was not taken over; true of locks that are no leases."""
    return _HEART.holds(lease_of(path))


@contextlib.contextmanager
def leased(path: Path, seconds: float, wait: bool) -> Iterator[bool]:
    """Hold the lease for a lock `path`, with a sign every so many seconds; yields whether it was free, or waits."""
    file = lease_of(path)
    target_of(path)  # makes the folder, or says why not
    while (lease := _taken(file, seconds)) is None:
        if not wait:
            yield False
            return
        time.sleep(min(seconds, 1.0))
    _HEART.add(lease)
    try:
        yield True
    finally:
        _HEART.remove(lease)
        lease.give_back()


def _taken(file: Path, seconds: float) -> _Lease | None:
    """The lease, if it is there to be had."""
    text = "\n".join(
        [f"process {os.getpid()} on {socket.gethostname()}", f"{seconds:g}", _place(), secrets.token_hex(8)]
    )
    while True:
        with refused(file):
            try:
                with file.open("xb", buffering=0) as made:
                    made.write(text.encode())
                    os.fsync(made.fileno())
                return _Lease(file, text, seconds)
            except FileExistsError:
                pass
        if not _away(file):
            return None


def _away(file: Path) -> bool:
    """Take away the lease of a process that is gone; whether there is none any more."""
    try:
        with file.open("rb") as there:  # opened, so that a client of NFS asks its server
            text, changed = there.read(1000).decode(errors="replace"), os.fstat(there.fileno()).st_mtime
    except FileNotFoundError:
        return True
    except OSError:
        return False
    told = [*text.split("\n"), "", "", ""]
    if not _has_ended(told[0], told[2]) and _now(file) - changed <= SIGNS * _number(told[1]):
        return False
    grave = file.with_name(f".{file.name[:100]}.{digest(text.encode())[:8]}")
    try:
        os.link(file, grave)  # one process alone may take away this lease; what came after it has another name
    except FileExistsError:
        with contextlib.suppress(OSError):  # who began to, and ended on the way
            if _now(file) - grave.stat().st_ctime > SIGNS * _number(told[1]):
                grave.unlink()
        return False
    except FileNotFoundError:
        return True  # another process was faster
    except OSError:  # a file system without links
        with contextlib.suppress(OSError):
            file.unlink()
        return True
    try:
        if grave.read_bytes().decode(errors="replace") != text:  # that of who was faster still
            return False
        file.unlink()
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            grave.unlink()
    _log.warning("%s: %s is gone; it is taken over.", file, told[0] or "its process")
    return True


def _number(text: str) -> float:
    """Seconds as a lease says them; those of one that was not written to its end, the usual ones."""
    try:
        return float(text)
    except ValueError:
        return SECONDS


def _now(file: Path) -> float:
    """The time by the clock of the file system."""
    probe = file.with_name(f".{file.name[:100]}.{secrets.token_hex(4)}")
    with refused(file):
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)


def _place() -> str:
    """Where numbers of processes mean what they mean here: this start of the system, and this container of it."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _has_ended(name: str, place: str) -> bool:
    """Whether a process of this machine is known to have ended."""
    words = name.split(" ")
    if not place or place != _place() or len(words) < 2 or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def holder_of(path: Path) -> str:
    """Who has the lease for a lock `path`; empty where nobody has."""
    with contextlib.suppress(OSError):
        return lease_of(path).read_text(encoding="utf-8", errors="replace").split("\n")[0]
    return ""
