"""Reading what a path leads to: the one place where the errors of the system become this library's own.

What is not there is a `MissingError`; what is there and is something else, or cannot be read, a `DamagedError`; what
can be no path an `InputError`. Each says why: a folder where a file is expected, a file above it, a link that leads
nowhere or in a circle. Only regular files are read, so a FIFO never makes a reader wait.
"""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from dd.base.jsons import AGAIN, parse_json
from dd.errors import DamagedError, DDError, MissingError, refuse

T = TypeVar("T")

KINDS: Final = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
"""What may be at a path, by its kind."""
KINDS.update({stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"})
MOST_TEXT: Final = 2**25
"""Bytes of a JSON file that is read: parsed, they are up to 25 times as many."""
MOST_LOG: Final = 2**27
"""Of a log, whose lines are parsed one at a time."""
MOST_TOML: Final = 2**20
_DOTS: Final = 200
"""In a line of TOML: the parser's time grows with the square of the parts of a key."""
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def as_path(value: object, argument: str = "path") -> Path:
    """A path that a user gave.

    Raises:
        InputError: an empty text, one with a NUL byte, or something else than a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise refuse(argument, "a path", repr(value)[:60])
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise refuse(argument, "the name of a file or folder", repr(text)[:60], "For this folder give '.'.")
    return Path(value)


def expanded(path: Path) -> Path:
    """A path with `~` as the home folder, as a shell reads it: that of a user who is not known stays as it is."""
    return Path(os.path.expanduser(path))


def kind_at(path: Path) -> str | None:
    """`a file`, `a folder`, … : what is at a path, links followed; `None` where nothing is.

    Raises:
        DamagedError: it cannot be looked at, as a folder above it cannot be, or links go in a circle.
        InputError: no path at all.
    """
    try:
        return KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in _ABSENT:
            return None
        raise unreadable(path, error) from error


def is_there(path: Path) -> bool:
    """Whether there is something at a path; raises as `kind_at`."""
    return kind_at(path) is not None


def is_file(path: Path) -> bool:
    """Whether a regular file is at a path; raises as `kind_at`."""
    return kind_at(path) == "a file"


def is_folder(path: Path) -> bool:
    """Whether a folder is at a path; raises as `kind_at`."""
    return kind_at(path) == "a folder"


def need_file(path: Path, what: str = "file", way_out: str = "") -> Path:
    """The path, where a regular file is there.

    Args:
        path: of the file.
        what: it is, for the message.
        way_out: for the message.

    Raises:
        MissingError: nothing is there.
        DamagedError: something else is, or it cannot be looked at.
        InputError: no path at all.
    """
    return _need(path, "a file", what, way_out)


def need_folder(path: Path, what: str = "folder", way_out: str = "") -> Path:
    """The path, where a folder is there; else as `need_file`, but for a file there, which is no folder: missing."""
    return _need(path, "a folder", what, way_out)


def _need(path: Path, wanted: str, what: str, way_out: str) -> Path:
    found = kind_at(path)
    if found is None:
        raise MissingError(_said(f"no {what} {path}{why_absent(path)}", way_out))
    if found != wanted:
        error = DamagedError if wanted == "a file" else MissingError
        raise error(_said(f"no {what} {path}: it is {found}, not {wanted}", way_out))
    return path


def _said(text: str, way_out: str) -> str:
    return f"{text}. {way_out}" if way_out else text


def why_absent(path: Path) -> str:
    """Why nothing is at a path, to follow its name in a message; nothing where that is all there is to say."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return ": the name is too long"
    for place in (path, *path.parents):
        try:
            found = place.lstat().st_mode
        except OSError:
            continue
        if stat.S_ISLNK(found):
            return f": {place} is a link to {os.readlink(place)}, which is not there"
        above = place != path and not stat.S_ISDIR(found)
        return f": {place} is {KINDS.get(stat.S_IFMT(found), 'something else')}, not a folder" if above else ""
    return ""


def unreadable(path: Path, error: Exception, what: str = "") -> DDError:
    """The library's own error for one of the system's at a path.

    Args:
        path: what was to be read.
        error: what the system said.
        what: it is, for the message.
    """
    if isinstance(error, DDError):
        return error
    number = getattr(error, "errno", None)
    if isinstance(error, UnicodeDecodeError):
        return DamagedError(f"{path} is not a text in UTF-8 ({error.reason} at byte {error.start}). Save it as one.")
    if number is None:
        return refuse("path", "the name of a file or folder", f"{str(path)[:60]!r} ({error})")
    if number in _ABSENT:
        return MissingError(f"no {what or 'file'} {path}{why_absent(path)}")
    if number == errno.ELOOP:
        return DamagedError(f"{path} cannot be read: its links go in a circle. Remove the link, or name another file.")
    way_out = "Make it readable, or name another one." if number in (errno.EACCES, errno.EPERM) else ""
    return DamagedError(f"{path} cannot be read ({getattr(error, 'strerror', error)}). {way_out}".rstrip())


def reading(path: Path, read: Callable[[Path], T], what: str = "file", way_out: str = "") -> T:
    """What `read` makes of a regular file; its errors of the system become the library's own.

    Args:
        path: of the file.
        read: what is done with it.
        what, way_out: as in `need_file`.

    Raises:
        MissingError, DamagedError, InputError: as `need_file`; and what the system refuses.
    """
    need_file(path, what, way_out)
    try:
        return read(path)
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, what) from error


def read_bytes(path: Path, most: int = MOST_TEXT, what: str = "file") -> bytes:
    """The bytes of a text file, of `most` at most; raises as `reading`, and `DamagedError` where there are more."""

    def read(file: Path) -> bytes:
        with file.open("rb") as stream:
            data = stream.read(min(most, os.fstat(stream.fileno()).st_size) + 1)  # what is asked for is allocated
        if len(data) > most:
            raise DamagedError(f"{file} has more than the {most:,} bytes that such a file can have. Name another one.")
        return data

    return reading(path, read, what)


def read_text(path: Path, what: str = "file") -> str:
    """The text of a file in UTF-8; raises as `reading`."""
    return reading(path, lambda file: file.read_text(encoding="utf-8"), what)


def json_at(path: Path) -> Any:
    """The value in a JSON file, whatever it is.

    Raises:
        MissingError, DamagedError, InputError: as `reading`; or it is not JSON.
    """
    data = read_bytes(path)
    try:
        return parse_json(data.decode())
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON ({error}). {AGAIN}") from error


def read_toml(path: Path, what: str = "file") -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        MissingError, DamagedError, InputError: as `reading`; or it is not TOML.
    """
    data = read_bytes(path, MOST_TOML, what)
    try:
        if any(line.count(b".") > _DOTS for line in data.split(b"\n")):
            raise RecursionError
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else error
        raise DamagedError(f"{path} is not TOML ({why}).") from error


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def names_in(folder: Path, pattern: str = "*") -> list[Path]:
    """What lies in a folder and has a name like `pattern`, sorted; nothing where the folder is not there.

    Raises:
        DamagedError, InputError: it cannot be read; see `kind_at`.
    """
    if not is_folder(folder):
        return []
    try:
        os.listdir(folder)  # `glob` passes over a folder that cannot be read
        return sorted(folder.glob(pattern))
    except OSError as error:
        raise unreadable(folder, error) from error
