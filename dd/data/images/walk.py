"""The pictures of a tree of class folders: every real folder once, and a word on what is left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from dd.data.images.checks import some
from dd.data.images.pictures import extensions
from dd.errors import DamagedError, refuse, warn

Samples = list[tuple[str, int]]  # path relative to the root of the tree, label

# What systems and programs put beside pictures, and texts that describe them: left out without a word, as hidden files.
_LITTER: Final = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}
_SIDECARS: Final = {".csv", ".html", ".json", ".jsonl", ".log", ".md", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"}

SPLIT_FOLDERS: Final = {"train", "test", "val", "valid", "validation", "training", "testing", "evaluation", "holdout"}
"""Folders of these names are splits, not classes."""
_OTHERS: Final = ("training", "testing", "dev", "eval", "evaluation", "holdout")
"""What splits are called elsewhere."""

_AGAIN: Final = "linked folder that is read already or lies above"
_SPLIT: Final = "folder beside the splits"
_RENAME: Final = "Rename it if it is one: train, test, and val (valid, validation)."
_WAY_OUT: Final = "Convert pictures to PNG or another format that Pillow reads, and put them into class folders."

_File = tuple[str, str, str, bool]  # folder, name, path of both, whether it is a plain file


@final
class LeftOut:
    """What lies in a tree and is not read, by kind."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """One more, `name` relative to the root of the tree."""
        self._found.setdefault(kind, []).append(name)

    def __str__(self) -> str:
        return "; ".join(
            f"{len(names)} × {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for kind, names in sorted(self._found.items())
        )

    def warn(self, base: Path) -> None:
        """One warning with counts and a few names, if there is anything to say."""
        if self._found:
            ways = [_WAY_OUT] if set(self._found) - {_AGAIN, _SPLIT} else []
            text = " ".join([f"{self}.", *ways, *([_RENAME] if _SPLIT in self._found else [])])
            warn(f"{sum(map(len, self._found.values()))} left out of {base}: {text}")


def other_splits(base: Path, names: Sequence[str], left: LeftOut) -> None:
    """Add the folders of `base` to `left` that look like splits by their names, and are none of `names`."""
    read = {_identity(base / name) for name in names if (base / name).is_dir()}
    for entry in _entries(str(base)):
        like_one = entry.name.lower() in (*names, *_OTHERS)
        if like_one and _is_folder(entry) and _identity(entry.path) not in read:
            left.add(_SPLIT, entry.name)


def has_splits(base: Path) -> bool:
    """Whether a folder of `base` looks like a split by its name."""
    return any(entry.name.lower() in SPLIT_FOLDERS and _is_folder(entry) for entry in _entries(str(base)))


def class_folders(base: Path, folder: str, left: LeftOut) -> tuple[str, ...]:
    """Names of the folders in `base/folder`, sorted; hidden ones are no classes, nor are links to a folder above.

    Files in formats of pictures that lie beside the folders are added to `left`.
    """
    above, readable, names = _lineage(base / folder), extensions(), []
    for entry in _entries(str(base / folder)):
        if not _is_folder(entry):
            if os.path.splitext(entry.name)[1].lower() in readable:
                left.add("beside the class folders", os.path.join(folder, entry.name))
        elif _identity(entry.path) in above:
            left.add(_AGAIN, os.path.join(folder, entry.name))
        else:
            names.append(entry.name)
    return tuple(names)


def pictures_in(base: Path, folder: str, label: Mapping[str, int], left: LeftOut) -> Samples:
    """Files that Pillow reads in `base/folder/<class>`, at any depth, in the order of `label`, then of their paths.

    A link to a folder is followed unless that folder is read anyway or lies above. Extensions are those of
    `pictures.extensions`, in either case; what else there is comes to `left`, but for hidden files, texts (`.txt`,
    `.json`, …) and litter (`Thumbs.db`, `__MACOSX`, …).

    Raises:
        InputError: a class without pictures.
        DamagedError: a folder that cannot be read.
    """
    samples, empty, readable = Samples(), list[str](), extensions()
    for name, files in _Walk(base, left).classes(folder, list(label)).items():
        kept = [path for _, _, path, plain in sorted(files) if _is_picture(path, plain, readable, left)]
        samples += [(path, label[name]) for path in kept]
        if not kept:
            empty.append(name)
    if empty:
        kinds = ", ".join(sorted(readable & {".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".avif"}))
        raise refuse(
            f"class folders of {base / folder}",
            f"folders with images ({kinds} or another format that Pillow reads)",
            f"none in {some(empty)}" + (f"; left out: {left}" if str(left) else ""),
            "Add images or remove the folder from every split.",
        )
    return samples


def _is_picture(name: str, plain: bool, readable: frozenset[str], left: LeftOut) -> bool:
    """Whether a file is read; what is neither that nor a text is added to `left`."""
    extension = os.path.splitext(name)[1].lower()
    if extension in readable and plain:
        return True
    if extension in readable:
        left.add("no regular file", name)
    elif extension not in _SIDECARS:
        left.add(extension or "without an extension", name)
    return False


class _Walk:
    """Every real folder of a split once: real ones first, so that each has its own name and class, then linked ones."""

    def __init__(self, base: Path, left: LeftOut) -> None:
        self._base, self._left = base, left
        self._seen: set[tuple[int, int]] = set()

    def classes(self, folder: str, names: Sequence[str]) -> dict[str, list[_File]]:
        roots = {name: str(self._base / folder / name) for name in names}
        self._seen = _lineage(self._base / folder) | {_identity(root) for root in roots.values()}
        links = {name: list[str]() for name in names}
        found = {name: self._scan(root, links[name]) for name, root in roots.items()}
        for name, waiting in links.items():
            for link in waiting:  # grows: a linked folder may have links of its own
                if not self._was_seen(link):
                    found[name] += self._scan(link, waiting)
        return found

    def _scan(self, root: str, links: list[str]) -> list[_File]:
        files, waiting = list[_File](), [root]
        while waiting:
            folder = waiting.pop()
            self._seen.add(_identity(folder))
            short = os.path.relpath(folder, self._base)
            for entry in _entries(folder):
                if not _is_folder(entry):
                    files.append((short, entry.name, os.path.join(short, entry.name), _is_plain(entry)))
                elif entry.is_symlink():
                    links.append(entry.path)
                elif not self._was_seen(entry.path):
                    waiting.append(entry.path)
        return files

    def _was_seen(self, folder: str) -> bool:
        if _identity(folder) not in self._seen:
            return False
        self._left.add(_AGAIN, os.path.relpath(folder, self._base))
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_plain(entry: os.DirEntry[str]) -> bool:
    """No FIFO, socket or device; a broken link is plain, as it is complained of when it is read."""
    if entry.is_symlink():
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()


def _entries(folder: str) -> Sequence[os.DirEntry[str]]:
    """What is in a folder, by name, but for hidden things and litter."""
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _LITTER]
    except OSError as error:
        raise DamagedError(f"folder {folder} cannot be read ({error.strerror}).") from error
    return sorted(shown, key=lambda entry: entry.name)


def _identity(folder: str | Path) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def _lineage(folder: Path) -> set[tuple[int, int]]:
    """A real folder and all above it."""
    real = Path(os.path.realpath(folder))
    return {_identity(place) for place in (real, *real.parents)}
