"""Foreign `.pt` files. They are pickles, and a pickle can run code: torch's tensors-only reader or none."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final, final

import torch

from dd.errors import DamagedError, MissingError


@final
class Skipped:
    """Stands where a file holds a NumPy number beside its tensors; keeps nothing of what the pickle says of it."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_SKIPPED: Final = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


def read_pt(path: Path, mapped: bool = False) -> Any:
    """What a `.pt` file holds, on the CPU; `Skipped` in the place of its NumPy numbers.

    Args:
        path: the file.
        mapped: leave tensors on disk until they are used, where the format allows it.

    Raises:
        MissingError: no such file.
        DamagedError: it holds anything but tensors and plain containers, or is not whole. Nothing was run.
    """
    if not path.is_file():
        raise MissingError(f"no file {path}")
    try:
        mapped = mapped and zipfile.is_zipfile(path)  # the format before torch 1.6 is read whole
        with torch.serialization.safe_globals([(Skipped, name) for name in _SKIPPED]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # the reader has no error class of its own
        text = str(error).split("WeightsUnpickler error:")[-1].strip() or type(error).__name__
        reason = text.splitlines()[0].rstrip(".")
        raise DamagedError(
            f"{path} must hold tensors and plain lists or dicts alone, and be whole; got: {reason}. A pickle "
            "of other objects can run code, so it is never read here. Where you trust it, save its tensors with "
            "`torch.save`, or its images as PNG files, and import those."
        ) from error
