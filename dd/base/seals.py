"""The checksums of files: what they cover, and how they are written. Reading and writing is for `dd.base.files`.

A safetensors file has one metadata key `dd` with sorted JSON, so equal content is equal bytes:

    {"data": sha256 of all tensors' bytes, in the order of their names, "meta": what the caller keeps,
     "sha256": of the sorted JSON of `data`, `meta` and `tensors` = {name: [dtype, shape]}}

so that metadata can be read and believed without the tensors. Checksums inside JSON are those of `dd.base.jsons`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.jsons import AGAIN, SEAL, dump_json, json_value, matches, parse_json, seal
from dd.errors import DamagedError

FORMAT_KEY: Final = "dd"
_NAMES = {torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16"}
_NAMES |= {torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
TYPES: Final = {name: dtype for dtype, name in _NAMES.items()}
_ORDER = {dtype: place for place, dtype in enumerate(_NAMES)}
"""The format's own order of types: a file has the last of them first."""
Shapes = Mapping[str, tuple[torch.dtype, Sequence[int]]]
"""Type and shape of each tensor of a file."""


def digest(data: bytes | Tensor) -> str:
    """sha256 hex of bytes, or of a tensor's contiguous CPU bytes."""
    return hashlib.sha256(_bytes(data) if isinstance(data, Tensor) else data).hexdigest()


NO_DIGEST: Final = digest(b"")
"""In the place of a checksum where only its length counts."""


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def copied(tensor: Tensor) -> Tensor:
    """A copy of what is mapped, which would change with the file; Windows replaces no file that is mapped.

    Byte by byte: torch's own makes every byte of a bool that is not 0 a 1, damaged ones too.
    """
    return tensor.reshape(-1).view(torch.uint8).clone().view(tensor.dtype).view(tensor.shape)


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """What `packed_size` asks of tensors."""
    return {name: (t.dtype, list(t.shape)) for name, t in tensors.items()}


def _header(kinds: Mapping[str, Sequence[Any]], data: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    told = {"data": data, "meta": json_value(meta)}
    return {**told, SEAL: seal({**told, "tensors": kinds})}


def checked_header(path: Path, text: str, kinds: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """What the key `dd` of a file holds, compared with its checksum.

    Raises:
        DamagedError: it cannot be read, has no checksum, or was changed after it was written.
    """
    try:
        about = parse_json(text)
    except ValueError as error:
        raise DamagedError(f"{path} has unreadable metadata ({error}).") from error
    if not isinstance(about, dict) or not isinstance(about.get("meta"), dict) or not {"data", SEAL} <= about.keys():
        raise DamagedError(f"{path} has metadata without a checksum: another version wrote it. {AGAIN}")
    if not matches({"data": about["data"], "meta": about["meta"], "tensors": kinds}, about[SEAL]):
        raise DamagedError(
            f"the metadata of {path} does not match its checksum: the file was changed after it was written. {AGAIN}"
        )
    return about


def _kinds(shapes: Shapes) -> dict[str, list[Any]]:
    return {name: [_NAMES[dtype], list(shape)] for name, (dtype, shape) in shapes.items()}


def data_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 hex of the bytes of all tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(_bytes(tensors[name]))
    return total.hexdigest()


def file_digest(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """The checksum of the file that `save_tensors` writes: of its metadata and of all its tensors."""
    return str(_header(_kinds(shapes_of(tensors)), data_digest(tensors), meta)[SEAL])


def packed(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """The file that `save_tensors` writes, part by part: the header, then each tensor's own bytes."""
    shapes = shapes_of(tensors)
    yield _beginning(shapes, data_digest(tensors), meta)
    for name in _in_order(shapes):
        yield _bytes(tensors[name])


def packed_size(shapes: Shapes, meta: Mapping[str, Any]) -> int:
    """Bytes of the file that `save_tensors` writes for tensors of these types and shapes, without making them."""
    return len(_beginning(shapes, NO_DIGEST, meta)) + sum(_size(*told) for told in shapes.values())


def _beginning(shapes: Shapes, data: str, meta: Mapping[str, Any]) -> bytes:
    """What a file has before its tensors: the length of the header, and the header, filled up with blanks to 8."""
    told: dict[str, Any] = {"__metadata__": {FORMAT_KEY: dump_json(_header(_kinds(shapes), data, meta))}}
    start = 0
    for name in _in_order(shapes):
        dtype, shape = shapes[name]
        stop = start + _size(dtype, shape)
        told[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _in_order(shapes: Shapes) -> list[str]:
    """The names of a file's tensors as they lie in it."""
    return sorted(shapes, key=lambda name: (-_ORDER[shapes[name][0]], name))


def _size(dtype: torch.dtype, shape: Sequence[int]) -> int:
    return dtype.itemsize * math.prod(shape)
