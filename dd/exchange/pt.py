"""Foreign `.pt` files. They are pickles, and a pickle can run code: torch's tensors-only reader or none."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from dd.base.bounds import check_memory
from dd.base.foreign import archive_entries
from dd.base.paths import need_file
from dd.errors import DamagedError, DDError


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
        DamagedError: it holds anything but plain dense tensors and plain containers, more than the file has bytes
            for, or is not whole. Nothing was run.
        InputError: it is larger than the memory of this machine.
    """
    need_file(path)
    try:
        if not mapped:
            way_out = "Save fewer of its tensors with `torch.save`."
            check_memory(f"what {path} holds", [path.stat().st_size], way_out, itemsize=1)
        _check_archive(path)
        value = _read(path, mapped)
        for tensor in _tensors(value):
            if reason := _odd(tensor):
                raise DamagedError(
                    f"{path} holds {reason}; plain dense tensors alone are read. Save them by "
                    "`torch.save(tensor.to_dense().contiguous().clone(), …)`."
                )
    except OSError as error:
        if isinstance(error, DDError):
            raise
        raise DamagedError(f"{path} cannot be read ({error.strerror}).") from error
    return value


def _check_archive(path: Path) -> None:
    """Refuse an archive that says to hold more bytes than the file has: torch writes its entries as they are."""
    held = sum(entry.file_size for entry in archive_entries(path))  # 0: before torch 1.6, or what it will not read
    if held > path.stat().st_size:
        raise DamagedError(
            f"{path} is packed: it says to hold {held:,} bytes in {path.stat().st_size:,}. `torch.save` packs nothing; "
            "load it where you trust it, and save it anew."
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of plain containers once, whatever refers to what how often."""
    waiting, seen = [value], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple | set):
            waiting += one


def _odd(tensor: Tensor) -> str:
    """What a tensor is, in words, where it is none that can be read as it is; else nothing."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "a nested tensor" if tensor.is_nested else f"a tensor of the layout {tensor.layout}"
    if tensor.is_quantized or tensor.is_complex():
        return "a quantised tensor" if tensor.is_quantized else "a tensor of complex numbers"
    if tensor.device.type != "cpu":
        return f"a tensor on the device `{tensor.device.type}`, without its numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a view of shape {list(tensor.shape)} that shows {tensor.untyped_storage().nbytes():,} bytes repeatedly"
    return ""


def _read(path: Path, mapped: bool) -> Any:
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
