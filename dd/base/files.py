"""The only writer of this library: temporary name, sync, rename; checksums; locks; safetensors with sorted JSON.

A file is either the old one or the whole new one, also after a power cut: files and folders are synced in the order in
which they are written. Only regular files are written: a link stays, and its target is
replaced; a folder, FIFO, socket or device is refused (`target_of`). A replaced file keeps its permissions; other hard
links to it keep the old content, as the new one is another file. Nothing here reads or writes a pickle.

Every file that is read again has a checksum of all that is in it, metadata included (`dd.base.seals`), which is
compared wherever it is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from torch import Tensor

from dd.base.jsons import dump_json as dump_json
from dd.base.jsons import json_text as json_text
from dd.base.jsons import json_value as json_value
from dd.base.jsons import jsonl_text, row_of, unsealed
from dd.base.paths import KINDS, MOST_LOG, is_at, is_there, json_at, read_bytes
from dd.base.schema import conform
from dd.base.seals import digest as digest
from dd.base.seals import file_digest as file_digest
from dd.base.seals import packed
from dd.base.seals import packed_size as packed_size
from dd.base.seals import shapes_of as shapes_of
from dd.base.tensors import load_tensors as load_tensors
from dd.base.tensors import read_digest as read_digest
from dd.base.tensors import read_meta as read_meta
from dd.base.tensors import read_rows as read_rows
from dd.base.texts import printable
from dd.errors import DamagedError, WriteError

try:
    import fcntl

    FLOCK = True
except ImportError:  # Windows
    FLOCK = False
WINDOWS: Final = os.name == "nt"

_WAYS_OUT = {errno.ENAMETOOLONG: "Give it a shorter name", None: "Give it another name"}
_WAYS_OUT |= dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "Name another folder")


def target_of(path: Path) -> Path:
    """The regular file that a write to `path` makes or replaces, its folder made: of a link, what it leads to.

    A link to what is not there is followed too, as by `open`, but no folder is made behind it: the disk may be away.

    Raises:
        WriteError: a folder, FIFO, socket or device is there, or a file that may not be written; links go in a circle;
            the folder cannot be made.
    """
    with refused(path):
        is_link = path.is_symlink()
        if not is_link:
            _make_folder(path.parent)
        target = Path(os.path.realpath(path)) if is_link else path
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise
            return target
    what = f"it is a link to {target}, which" if is_link else "it"
    if kind != stat.S_IFREG:
        raise WriteError(
            f"could not write {path}: {what} is {KINDS.get(kind, 'something else')} and not a regular file. "
            "Name another file; what is there is never replaced."
        )
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise WriteError(
            f"could not write {path}: Permission denied, {what} is read-only. Make it writable or name another file; "
            "what was there before is intact."
        )
    return target


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the disk refuses at `path` into this library's own error."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, WriteError) or (isinstance(error, ValueError) and "\0" not in str(path)):
            raise
        way_out = _WAYS_OUT.get(getattr(error, "errno", None), "Free some space or name another folder")
        what = getattr(error, "strerror", None) or error
        raise WriteError(f"could not write {path}: {what}. {way_out}; what was there before is intact.") from error


Data = bytes | Callable[[], Iterable[bytes | memoryview]]
"""What a file holds, or what gives it part by part, as often as it is called."""


def write_bytes(path: Path, data: Data) -> None:
    """Write `path` whole or not at all; folders are made. What `path` may be, and what is kept, says the module.

    Raises:
        WriteError: see `target_of`, or the disk is full or the folder cannot be written; an earlier file is untouched.
    """
    target = target_of(path)
    with refused(path):
        while not _replaced(target, data):
            pass
        _sync_folder(target.parent)


def _replaced(target: Path, data: Data) -> bool:
    """Put a new file in the place of `target`; whether it was there to be put."""
    temporary, file = _begun(target)
    try:
        with file:
            _keep_mode(file.fileno(), target)
            for part in (data,) if isinstance(data, bytes) else data():
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if FLOCK:
                os.replace(temporary, target)
        there = FLOCK or temporary.exists()
        if there and not FLOCK:  # Windows renames no open file, and once it is closed another process may sweep it
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return there


def _begun(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `target`, locked as long as it is open, so that `sweep` leaves it alone."""
    while True:
        temporary = beside(target, f"{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        if not FLOCK:
            return temporary, file
        fcntl.flock(file, fcntl.LOCK_EX)
        if is_at(temporary, file.fileno()):  # or else it was swept between the two
            return temporary, file
        file.close()


def beside(path: Path, ending: str) -> Path:
    """The hidden file `.NAME.ending` beside a file; names have at most 255 bytes."""
    name = path.name if len(path.name.encode()) + len(ending) < 250 else path.name[:50]
    return path.with_name(f".{name}.{ending}")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Let what was made, renamed or removed in a folder last, on systems that can sync one."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path, names: str) -> None:
    """Remove what killed writers left unfinished in a folder; what is being written is left alone.

    Args:
        folder: need not be there.
        names: regular expression of the files that were to be written; others are left alone.
    """
    part = re.compile(rf"\.({names})\.[0-9a-f]{{8}}\.part")
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # gone, or held by its writer
            if FLOCK and part.fullmatch(path.name):
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            elif WINDOWS and part.fullmatch(path.name):  # which removes no open file
                path.unlink()


def _keep_mode(descriptor: int, target: Path) -> None:
    """Give a new file, made as the umask says, the permissions of the one that it replaces."""
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode & 0o777
        if hasattr(os, "fchmod") and mode != stat.S_IMODE(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, mode)


def remove(path: Path) -> None:
    """Remove a regular file if it is there: of a link, what it leads to, so that the next write goes there again.

    Raises:
        WriteError: see `target_of`, or the disk refuses.
    """
    if path.exists() or path.is_symlink():
        target = target_of(path)
        with refused(path):
            target.unlink(missing_ok=True)


def clear(folder: Path, names: str, keep: Collection[str] = ()) -> None:
    """Remove files from a folder, and what killed writers left of such; then the folder itself, if nothing is left.

    Args:
        folder: need not be there.
        names: regular expression of the files; others are left alone.
        keep: names of those that stay.

    Raises:
        WriteError: the disk refuses.
    """
    sweep(folder, names)
    for path in sorted(folder.glob("*")):
        if re.fullmatch(names, path.name) and path.name not in keep:
            remove(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_writable(path: Path) -> None:
    """Refuse a file that `write_bytes` could not write, before there is something to lose; nothing is made.

    Raises:
        WriteError: see `target_of`; its folder, or the nearest one above it that is there, cannot be written.
    """
    with refused(path):
        target = path
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
            target = target_of(path)
        above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise WriteError(f"could not write {path}: {above} is no folder. Name another one.")
    if not os.access(above, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise WriteError(f"could not write {path}: {above} cannot be written. Name another folder.")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for UTF-8 text; what steers a terminal or is no UTF-8 is written as escapes (`dd.base.texts`)."""
    write_bytes(path, printable(text).encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_bytes` for `json_text`."""
    write_text(path, json_text(value))


def read_json(path: Path, kind: str = "any") -> dict[str, Any]:
    """The object in a file of `write_json`; its checksum is compared, and left out.

    Who changes a file knowingly writes `"sha256": "by hand"` into it, and it is taken where its form is right.

    Args:
        path: the file.
        kind: what it must hold, of `dd.base.schema`.

    Raises:
        MissingError, DamagedError: not there, not JSON, without a checksum, changed since it was written, or no such
            file of that kind.
    """
    return dict(conform(unsealed(path, json_at(path)), kind, path))


def read_foreign_json(path: Path, kind: str = "json") -> Any:
    """The value in a JSON file that others wrote, without a checksum; else as `read_json`."""
    return conform(json_at(path), kind, path)


def append_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add one JSON line a row; all of them or none.

    Raises:
        WriteError: see `target_of`, or the disk is full or the folder cannot be written; earlier lines are untouched.
    """
    rest = memoryview(jsonl_text(rows).encode())
    target = target_of(path)
    with refused(path), target.open("ab", buffering=0) as file:  # unbuffered: nothing is written after a failure
        start = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:  # a full disk, or Ctrl-C while the disk syncs
            file.truncate(start)
            raise


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """`write_bytes` for the lines that `append_jsonl` adds."""
    write_text(path, jsonl_text(rows))


def read_jsonl(path: Path, kind: str = "any") -> list[dict[str, Any]]:
    """The rows of a JSON-lines file up to the first unfinished one: a killed run may leave such lines at the end.

    Raises:
        DamagedError: a line before a whole one does not match its checksum, or a row is of another `kind`.
    """
    if not is_there(path):
        return []
    rows = [
        row_of(line) for line in read_bytes(path, MOST_LOG).split(b"\n")
    ]  # not `splitlines`, which also splits in a text
    whole = [row for row in rows if row is not None]
    if rows[: len(whole)] != whole:
        raise DamagedError(
            f"line {rows.index(None) + 1} of {path} does not match its checksum: it was changed after it was written. "
            "Restore the file, or move it away: it is a log, and all else works without it."
        )
    return [conform(row, kind, path, f"line {place}") for place, row in enumerate(whole, 1)]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata as one safetensors file; equal content gives equal bytes. Nothing is copied."""
    write_bytes(path, lambda: packed(tensors, meta))
