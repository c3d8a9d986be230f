"""Foreign `.npy` and `.npz` files: numbers alone; objects, which are pickles, never."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np

from dd.base.bounds import check_memory
from dd.base.foreign import NPY
from dd.base.paths import need_file, reading
from dd.errors import DamagedError, DDError

_RATIO: Final = 200
"""Times that an archive may expand: pictures and labels pack far less."""
_SMALL: Final = 2**26
"""Bytes that an archive may hold however it is packed."""


def read_numpy(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a `.npy` file, or the arrays of a `.npz` file by name.

    Raises:
        MissingError: no such file.
        DamagedError: objects or texts, a header that is none or says more than the file has, an archive that expands
            more than pictures do, or is not whole. Nothing was run.
        InputError: it is larger than the memory of this machine.
    """
    need_file(path)
    head = reading(path, _head)
    try:
        found = _one(path) if head == NPY else _archive(path)
    except DDError:
        raise
    except Exception as error:  # headers, archives and packed data each have errors of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
        raise DamagedError(
            f"{path} must hold arrays of numbers, and be whole; got: {reason}. Objects are pickles, which can run "
            "code, so they are never read here: save numbers by `numpy.save` or `numpy.savez`."
        ) from error
    for name, array in found.items() if isinstance(found, dict) else [("", found)]:
        if array.dtype.kind not in "biuf":
            raise DamagedError(f"{path} must hold arrays of numbers; got {array.dtype} {name}".rstrip() + ".")
    return found


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(NPY))


def _one(path: Path) -> np.ndarray:
    """Mapped first: a header that says more than the file has is refused before there is memory for it."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_memory(f"what {path} holds", [mapped.size], "Save fewer images.", itemsize=mapped.itemsize)
    return np.array(mapped)


def _archive(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        held = sum(entry.file_size for entry in archive.infolist())
    there = path.stat().st_size
    if held > max(_SMALL, _RATIO * there):
        raise DamagedError(
            f"{path} says to hold {held:,} bytes in {there:,}, which are no pictures. Load it where you trust it, and "
            "save it anew by `numpy.savez`."
        )
    check_memory(f"what {path} holds", [held], "Save fewer images.", itemsize=1)
    with np.load(path, allow_pickle=False) as archive:
        found = {name: archive[name] for name in archive.files}
    return {
        name: array for name, array in found.items() if isinstance(array, np.ndarray)
    }  # a text beside them is bytes
