"""Reading the files of tensors that `dd.base.files` writes; their checksums are compared wherever they are read.

Tensors are read and not mapped: what is mapped counts as memory beside its copy, and changes with the file.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dd.base.jsons import AGAIN, SEAL
from dd.base.paths import is_at, need_file, unreadable
from dd.base.schema import conform
from dd.base.seals import FORMAT_KEY, TYPES, checked_header, copied, data_digest
from dd.errors import DamagedError


@contextlib.contextmanager
def opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """A `safe_open` handle whose failures are this library's own errors; torch's maps all of the file at once."""
    need_file(path)
    try:
        with safe_open(path, framework=framework) as handle:
            yield handle
    except OSError as error:
        raise unreadable(path, error) from error
    except SafetensorError as error:
        raise DamagedError(
            f"{path} is not a whole safetensors file ({error}). It may be truncated or foreign; "
            "restore it or write it anew."
        ) from error


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[tuple[Any, BufferedReader]]:
    """`opened`, and the same file to be read, also where another process replaces it in between."""
    while True:
        need_file(path)
        try:
            file = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        with file, opened(path) as handle:
            if is_at(path, file.fileno()):
                yield handle, file
                return


def _read(path: Path, handle: Any, file: BufferedReader) -> dict[str, Tensor]:
    """The tensors of a file whose header `handle` has looked at: they lie within it, each in its own place."""
    try:
        length = int.from_bytes(file.read(8), "little")
        told = json.loads(file.read(length))
        tensors = {}
        for name in handle.keys():
            part = handle.get_slice(name)
            dtype, shape = TYPES[part.get_dtype()], part.get_shape()
            values = torch.empty(dtype.itemsize * math.prod(shape), dtype=torch.uint8)
            file.seek(8 + length + told[name]["data_offsets"][0])
            if file.readinto(values.numpy().data) != len(values):
                raise ValueError(f"{name} ends early")
            tensors[name] = values.view(dtype).view(shape)
    except (OSError, ValueError, LookupError) as error:
        raise DamagedError(f"the tensors of {path} cannot be read ({error!r:.80}). {AGAIN}") from error
    return tensors


def read_meta(path: Path, kind: str = "any") -> dict[str, Any]:
    """The JSON metadata of a file written by `save_tensors`, without reading its tensors; its checksum is compared.

    Raises:
        MissingError, DamagedError: not there, truncated, foreign, altered, or of another `kind` (see `dd.base.schema`).
    """
    with opened(path) as handle:
        return dict(conform(_told(path, handle)["meta"], kind, path))


def read_digest(path: Path) -> str:
    """The `file_digest` of a file, without reading its tensors; raises as `read_meta`."""
    with opened(path) as handle:
        return str(_told(path, handle)[SEAL])


def _told(path: Path, handle: Any) -> dict[str, Any]:
    """What the key `dd` of an open file holds, compared with its checksum."""
    text = (handle.metadata() or {}).get(FORMAT_KEY)
    if text is None:
        raise DamagedError(f"{path} was not written by this library: its metadata has no key `{FORMAT_KEY}`.")
    parts = {name: handle.get_slice(name) for name in handle.keys()}
    return checked_header(path, text, {name: [part.get_dtype(), part.get_shape()] for name, part in parts.items()})


def load_tensors(path: Path, kind: str = "any", sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and the metadata of a file written by `save_tensors`; the checksum of both is compared.

    Args:
        path: the file.
        kind: what its metadata must hold, of `dd.base.schema`.
        sha256: its `file_digest`, where something else names it.

    Raises:
        MissingError, DamagedError: not there, truncated, foreign, altered, another one than was named, or no such file
            of that kind.
    """
    with _whole(path) as (handle, file):
        about = _told(path, handle)
        tensors = _read(path, handle, file)
    if about["data"] != data_digest(tensors):
        raise DamagedError(
            f"the tensors of {path} do not match their checksum: the file was changed after it was written. {AGAIN}"
        )
    if sha256 not in (None, about[SEAL]):
        raise DamagedError(f"{path} is not the file that was written with what names it. {AGAIN}")
    return tensors, dict(conform(about["meta"], kind, path))


def read_rows(path: Path, name: str, rows: Sequence[int]) -> list[Tensor]:
    """Some rows of one tensor in a file; the others are not read, so the caller compares what it kept of these."""
    with opened(path, "pt") as handle:
        part = handle.get_slice(name)
        return [copied(part[row : row + 1])[0] for row in rows]
