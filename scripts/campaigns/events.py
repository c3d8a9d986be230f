"""Every input or output event below a folder, numbered, and the end of the process at one of them.

An event is the moment before a file is opened for writing, before, in the middle of and after a write, before a flush,
sync, truncation, lock, rename, link, removal, and the making of a folder. What is on the disk after one event is what
is there before the next, so that ends at all of them are ends at every state that a killed process can leave.

A power cut takes more: what was written to a file and not synced, and what was made or renamed in a folder that was
not synced afterwards (`Unsynced`). What was removed stays so, which is the worst that a disk may do.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ENDED: Final = 77
"""Exit status of a process that ended at its event."""
_PATHS: Final = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link", "symlink")
_FILES: Final = ("fsync", "fdatasync", "ftruncate")


class Unsynced:
    """What a power cut would take back.

    Args:
        aside: a folder on the same disk, for what was replaced.
    """

    def __init__(self, aside: Path) -> None:
        self._aside = str(aside)
        self._lengths: dict[str, int] = {}
        self._folders: list[tuple[str, Callable[[], object]]] = []
        self._real = {name: getattr(os, name) for name in (*_PATHS, "truncate")}

    def opened(self, path: str, is_new: bool, size: int) -> None:
        """A file is there, of which `size` bytes are safe."""
        self._lengths[path] = size
        if is_new:
            self._later(path, lambda: self._real["unlink"](path))

    def synced(self, path: str) -> None:
        """A file or a folder was synced."""
        if os.path.isdir(path):
            self._folders = [(folder, undo) for folder, undo in self._folders if folder != path]
        elif os.path.exists(path):
            self._lengths[path] = os.path.getsize(path)

    def before(self, name: str, path: str, to: str) -> None:
        """A rename or a new folder is about to be."""
        real = self._real
        if name in ("replace", "rename"):
            copy = self._copy(to)
            self._lengths[to] = self._lengths.pop(path, os.path.getsize(path))
            self._later(to, lambda: (real["rename"](to, path), copy and real["link"](copy, to)))
        elif name == "mkdir" and not os.path.exists(path):
            self._later(path, lambda: real["rmdir"](path))

    def cut(self) -> None:
        """The power is cut."""
        for path, size in self._lengths.items():
            if os.path.isfile(path) and os.path.getsize(path) > size:
                self._real["truncate"](path, size)
        for _, undo in reversed(self._folders):
            with contextlib.suppress(OSError):  # of a folder that is not empty, its files are safe, and so is it
                undo()

    def _later(self, path: str, undo: Callable[[], object]) -> None:
        self._folders.append((os.path.dirname(path), undo))

    def _copy(self, path: str) -> str | None:
        if not os.path.isfile(path):
            return None
        copy = os.path.join(self._aside, str(len(self._folders)) + "-" + str(time.perf_counter_ns()))
        self._real["link"](path, copy)
        return copy


class Events:
    """Patches this process: call it in a fork.

    Args:
        folder: events elsewhere do not count.
        end_at: number of the event at which the process ends, from 0; `None` for none.
        unsynced: for an end by a power cut, and not by a signal.
        ctrl_c: `KeyboardInterrupt` is raised at the event, once, and the process does what it does then.

    Attributes:
        seen: (kind, path below the folder) of each event.
    """

    def __init__(
        self, folder: Path, end_at: int | None = None, unsynced: Unsynced | None = None, ctrl_c: bool = False
    ) -> None:
        self._folder, self._end_at, self._unsynced, self._ctrl_c = str(folder), end_at, unsynced, ctrl_c
        self.seen: list[tuple[str, str]] = []

    def __call__(self, kind: str, where: Any) -> None:
        """An event happens."""
        path = self._path(where)
        if path is None:
            return
        if len(self.seen) == self._end_at and self._ctrl_c:
            self._end_at = None
            raise KeyboardInterrupt
        if len(self.seen) == self._end_at:
            if self._unsynced is not None:
                self._end_at = None
                self._unsynced.cut()
            os._exit(ENDED)
        self.seen.append((kind, path))

    def _path(self, where: Any) -> str | None:
        """The path below the folder, or `None`."""
        full = _full(where)
        return full[len(self._folder) + 1 :] if full.startswith(self._folder + os.sep) else None

    def watch(self) -> None:
        """Put the numbered calls in place of the real ones, until the process ends."""
        for name in (*_PATHS, *_FILES):
            setattr(os, name, self._before(name, getattr(os, name)))
        fcntl.flock = self._before("flock", fcntl.flock)
        os.write = self._halves(os.write)
        opened = io.open

        def watched(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or self._path(file) is None:
                return opened(file, mode, *args, **options)
            if isinstance(file, int):
                return _Watched(opened(file, mode, *args, **options), self)
            self("open", file)
            is_new = not os.path.exists(file)
            made = opened(file, mode, *args, **options)
            if self._unsynced is not None:
                self._unsynced.opened(_full(file), is_new, os.path.getsize(file))
            return _Watched(made, self)

        io.open = builtins.open = watched  # type: ignore[assignment]
        real = os.open

        def open_fd(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self("open", path)
            return real(path, flags, *args, **options)

        os.open = open_fd

    def _before(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(where: Any, *args: Any, **options: Any) -> Any:
            self(name, where)
            full = _full(where)
            if self._unsynced is None or not full.startswith(self._folder):
                return real(where, *args, **options)
            if name in _PATHS and os.path.lexists(full) != (name == "mkdir"):
                self._unsynced.before(name, full, _full(args[0]) if name in ("replace", "rename") else "")
            result = real(where, *args, **options)
            if name in ("fsync", "fdatasync"):
                self._unsynced.synced(full)
            return result

        return call

    def _halves(self, real: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def write(fd: int, data: Any) -> int:
            self("write", fd)
            done = real(fd, data[: len(data) // 2])
            self("half written", fd)
            return done + real(fd, data[done:])

        return write


def _full(where: Any) -> str:
    """The absolute path of a path, a descriptor or a file."""
    if hasattr(where, "fileno"):
        where = where.fileno()
    return os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else os.path.abspath(where)


class _Watched:
    """A file whose writes are events; everything else is the file's own."""

    def __init__(self, file: Any, event: Events) -> None:
        self._file, self._event = file, event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def write(self, data: Any) -> int:
        """Half of it, flushed; then the rest."""
        self._event("write", self._file)
        half = len(data) // 2
        done = self._file.write(data[:half])
        self._file.flush()
        self._event("half written", self._file)
        return int(done) + int(self._file.write(data[half:]))

    def flush(self) -> None:
        """An event."""
        self._event("flush", self._file)
        self._file.flush()

    def truncate(self, size: int | None = None) -> int:
        """An event."""
        self._event("truncate", self._file)
        return int(self._file.truncate(size))

    def close(self) -> None:
        """An event, since a buffer may be written."""
        if not self._file.closed:
            self._event("close", self._file)
        self._file.close()
