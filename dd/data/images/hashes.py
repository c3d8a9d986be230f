"""sha256 of the files of a tree, each read once: what is known of unchanged files is kept in the store.

A file counts as unchanged where its path, size, inode and times of modification and of change (to the nanosecond) are
those of the last time. The second cannot be set, so a file that is overwritten in place with as many bytes and given
its old time again is seen; one that changes twice within a tick of the file system's clock is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch

from dd.base.files import digest, load_tensors, save_tensors
from dd.base.home import home
from dd.data.images.pictures import unreadable
from dd.errors import DamagedError, WriteError

_META: Final = {"hashes": "sha256[:16] by name, size, mtime_ns, ctime_ns, inode"}
BYTES: Final = 16
_BLOCK: Final = 64  # files a task of a thread

Marks = tuple[int, int, int, int]
Known = tuple[list[str], np.ndarray, np.ndarray]  # names, int64 [N, 4] of size, times and inode, uint8 [N, 16]


def file_hashes(base: Path, names: Sequence[str], threads: int = 1) -> list[str]:
    """The first 32 hex digits of the sha256 of each file.

    The store keeps them, a file a tree, under `datasets/hashes`. One that is damaged, or a store that cannot be
    written, costs time and nothing else; of two processes that write at once, the later one's rows are kept.

    Args:
        base: root of the tree.
        names: paths relative to it.
        threads: how many files are read at a time.

    Raises:
        DamagedError: a file that cannot be read; named.
    """
    real = Path(os.path.realpath(base))
    cache = home("datasets") / "hashes" / f"{digest(os.fsencode(real))[:16]}.safetensors"
    known = _load(cache)
    paths = [os.path.join(base, name) for name in names]
    stats = np.array([_stat(path) for path in paths], dtype=np.int64).reshape(-1, 4)
    hashes = np.zeros((len(names), BYTES), dtype=np.uint8)
    place = {name: row for row, name in enumerate(known[0])}
    rows = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    fresh = rows >= 0
    fresh[fresh] = (known[1][rows[fresh]] == stats[fresh]).all(axis=1)
    hashes[fresh] = known[2][rows[fresh]]
    if missing := np.flatnonzero(~fresh).tolist():
        for i, (marks, value) in zip(missing, _read([paths[i] for i in missing], threads), strict=True):
            stats[i], hashes[i] = marks, np.frombuffer(value, dtype=np.uint8)
        with contextlib.suppress(WriteError):
            _save(cache, _with_others(real, (list(names), stats, hashes), known))
    return [row.tobytes().hex() for row in hashes]


def _read(paths: Sequence[str], threads: int) -> list[tuple[Marks, bytes]]:
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    with ThreadPoolExecutor(max(1, threads)) as pool:  # hashing and reading leave the interpreter to others
        return [row for block in pool.map(lambda block: [_hash(path) for path in block], blocks) for row in block]


def _hash(path: str) -> tuple[Marks, bytes]:
    """What the file was just before it was read, and its hash."""
    try:
        with open(path, "rb", buffering=0) as file:
            marks = _marks(os.fstat(file.fileno()))
            return marks, hashlib.file_digest(file, "sha256").digest()[:BYTES]
    except OSError as error:
        raise unreadable(f"image {path}", error) from error


def _stat(path: str) -> Marks:
    try:
        found = os.stat(path)
    except OSError as error:
        raise unreadable(f"image {path}", error) from error
    if not stat.S_ISREG(found.st_mode):  # a FIFO would be waited for
        raise DamagedError(f"image {path} is no regular file. Remove it, or put the picture itself there.")
    return _marks(found)


def _marks(of: os.stat_result) -> Marks:
    return of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino & (2**63 - 1)


def _with_others(base: Path, new: Known, old: Known) -> Known:
    """The new rows, and the old ones of folders that were not looked at and are still there."""
    seen = {os.path.dirname(name) for name in new[0]}
    others = {folder for folder in {os.path.dirname(name) for name in old[0]} - seen if (base / folder).is_dir()}
    keep = [row for row, name in enumerate(old[0]) if os.path.dirname(name) in others]
    names = new[0] + [old[0][row] for row in keep]
    return names, np.concatenate([new[1], old[1][keep]]), np.concatenate([new[2], old[2][keep]])


def _load(path: Path) -> Known:
    nothing: Known = [], np.zeros((0, 4), np.int64), np.zeros((0, BYTES), np.uint8)
    try:
        tensors, meta = load_tensors(path, "any")
        text, stats, hashes = (tensors[name].numpy() for name in ("names", "stats", "hashes"))
    except (OSError, KeyError):  # not there, not readable, not whole
        return nothing
    names = os.fsdecode(text.tobytes()).split("\0")
    whole = stats.shape == (len(names), 4) and hashes.shape == (len(names), BYTES)
    return (names, stats, hashes) if meta == _META and whole else nothing


def _save(path: Path, known: Known) -> None:
    names, stats, hashes = known
    text = np.frombuffer(os.fsencode("\0".join(names)), dtype=np.uint8).copy()
    tensors = {"names": text, "stats": stats, "hashes": hashes}
    save_tensors(path, {name: torch.from_numpy(x) for name, x in tensors.items()}, _META)
