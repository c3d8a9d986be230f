"""What a file is that others wrote, told by its first bytes, and the verb that reads it; nothing of it is executed."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from dd.base.paths import MOST_TEXT, is_file, is_folder, names_in, reading
from dd.base.seals import FORMAT_KEY

NOTE: Final = "set.json"
"""The file beside class folders that says of a set what pictures cannot; readers of pictures pass over it."""
NPY: Final = b"\x93NUMPY"
_STATISTICS: Final = "mean=…, std=…"
_PICTURES: Final = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


class Foreign(NamedTuple):
    """A file that is no set of this library.

    Attributes:
        what: it is, in words.
        verb: what reads it: `import_pt` or `import_numpy`.
        way_out: how it becomes a set.
    """

    what: str
    verb: str
    way_out: str


def foreign(path: Path) -> Foreign | None:
    """What the file of others is; `None` where it is one of this library, or nobody knows.

    Raises:
        MissingError, DamagedError, InputError: no regular file, or one that cannot be read.
    """
    return reading(path, _told)


def pictures(folder: Path) -> str:
    """How a folder of class folders with pictures becomes a set; empty where it is none."""
    for place in (folder, folder / "train"):
        if is_file(place / NOTE):
            return f"`dd.import_folder({str(place)!r})` reads the pictures there."
        inside = [one for one in names_in(place) if is_folder(one)]
        if any(file.suffix.lower() in _PICTURES for one in inside for file in names_in(one)):
            return f"`dd.import_folder({str(place)!r}, {_STATISTICS})` reads the pictures there."
    return ""


def two_lines(read: str, write: str) -> str:
    """The two lines that make a file of one pair, for a message; I and L stand for its names of images and labels."""
    return f"These two lines make it one, with its own names for I and L: `{read}`, `{write}`."


def _told(path: Path) -> Foreign | None:
    with path.open("rb") as file:
        head = file.read(9)
    if head[:2] == b"PK":
        return _archive(path)
    if head[:6] == NPY:
        return _numpy(path, "an array of NumPy")
    if re.match(rb"\x80[\x02-\x05]", head):
        return _torch(path, "a pickle, as early versions of `torch.save` wrote it")
    return _safetensors(path) if head[8:9] == b"{" and path.suffix == ".safetensors" else None


def archive_entries(path: Path) -> list[zipfile.ZipInfo]:
    """What a zip archive says to hold; nothing where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return []


def _archive(path: Path) -> Foreign | None:
    names = [entry.filename for entry in archive_entries(path)]
    if any(name.endswith("/data.pkl") for name in names):
        return _torch(path, "a file of `torch.save`")
    return _numpy(path, "an archive of NumPy arrays") if any(name.endswith(".npy") for name in names) else None


def _torch(path: Path, what: str) -> Foreign:
    return Foreign(what, "import_pt", f"`dd.import_pt({str(path)!r}, {_STATISTICS})` reads it.")


def _numpy(path: Path, what: str) -> Foreign:
    return Foreign(what, "import_numpy", f"`dd.import_numpy({str(path)!r}, {_STATISTICS})` reads it.")


def _safetensors(path: Path) -> Foreign | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(min(length, MOST_TEXT))
    try:
        told = json.loads(text)
        own = FORMAT_KEY in told.get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None
    if own:
        return None
    read, write = (
        f"t = safetensors.torch.load_file({str(path)!r})",
        "torch.save([t[I], t[L]], 'set.pt')",
    )
    way_out = f"{two_lines(read, write)} Then `dd.import_pt('set.pt', {_STATISTICS})` reads it."
    return Foreign("a safetensors file of others", "", way_out)
