"""The checksums of files: what they cover, and how they are written. Reading and writing is for `dd.base.files`.

A safetensors file has one metadata key `dd` with sorted JSON, so equal content is equal bytes:

    {"data": sha256 of all tensors' bytes, in the order of their names, "meta": what the caller keeps,
     "sha256": of the sorted JSON of `data`, `meta` and `tensors` = {name: [dtype, shape]}}

so that metadata can be read and believed without the tensors. A JSON object has a key `sha256` beside its own, of the
sorted JSON of all others; a line of a log the first 16 digits of the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.texts import printable
from dd.errors import DamagedError, InputError, refuse

FORMAT_KEY: Final = "dd"
SEAL: Final = "sha256"
BY_HAND: Final = "by hand"
AGAIN: Final = "Restore it, or remove it and run again what made it."
_NAMES = {torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16"}
_NAMES |= {torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
_ORDER = {dtype: place for place, dtype in enumerate(_NAMES)}
"""The format's own order of types: a file has the last of them first."""
_ROW_DIGITS = 16
DEPTH: Final = 64
"""Lists and objects inside each other in JSON, at most."""
_DEEP = f"lists or objects more than {DEPTH} deep"
Shapes = Mapping[str, tuple[torch.dtype, Sequence[int]]]
"""Type and shape of each tensor of a file."""


def digest(data: bytes | Tensor) -> str:
    """sha256 hex of bytes, or of a tensor's contiguous CPU bytes."""
    return hashlib.sha256(_bytes(data) if isinstance(data, Tensor) else data).hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def copied(tensor: Tensor) -> Tensor:
    """A copy of what is mapped, which would change with the file; Windows replaces no file that is mapped.

    Byte by byte: torch's own makes every byte of a bool that is not 0 a 1, damaged ones too.
    """
    return tensor.reshape(-1).view(torch.uint8).clone().view(tensor.dtype).view(tensor.shape)


def dump_json(value: Any, indent: int | None = None) -> str:
    """Sorted JSON. What is no UTF-8 in a file name, and what steers a terminal, is escaped, and read back as it was.

    Raises:
        InputError: NaN or infinity, which other readers refuse, or a value that JSON has no word for.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise refuse("value", "finite numbers, texts, lists and objects for JSON", f"another one ({error})") from error
    return printable(text)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text as this library writes it: finite numbers, each key once, at most `DEPTH` deep.

    Raises:
        ValueError: says what is wrong.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(_DEEP) from None
    level = [value]
    for _ in range(DEPTH):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(_DEEP)


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.60} twice in one object")
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.20} is no finite number")
    return number


def seal(value: Any) -> str:
    """sha256 hex of a value's sorted JSON, as it is when it was written and read again."""
    return digest(dump_json(json_value(value)).encode(errors="surrogatepass"))


def json_value(value: Any) -> Any:
    """A value as it is when it was written and read again: lists for tuples, texts for keys."""
    try:
        return parse_json(dump_json(value))
    except ValueError as error:
        raise refuse("value", "what JSON can hold", str(error)) from error


def json_text(value: Mapping[str, Any]) -> str:
    """Readable sorted JSON of an object with its checksum, as `read_json` wants it."""
    if SEAL in value:
        raise refuse("value", f"without a key `{SEAL}`, which is the file's own", f"{value[SEAL]!r}")
    return dump_json({**json_value(value), SEAL: seal(value)}, indent=2) + "\n"


def _matches(value: Any, told: Any, digits: int = 64) -> bool:
    """Whether `told` is the seal of what was read; a value that is never written, such as NaN, has none."""
    try:
        return bool(told == seal(value)[:digits])
    except InputError:
        return False


def unsealed(path: Path, value: Any) -> dict[str, Any]:
    """What `json_text` was given, of the value that was read from a file.

    Raises:
        DamagedError: no object with a checksum, or changed since it was written.
    """
    if not isinstance(value, dict) or SEAL not in value:
        raise DamagedError(
            f"{path} was not written by this library: it is no object with a key `{SEAL}`. If it is one that you wrote "
            f'or changed, add `"{SEAL}": "{BY_HAND}"` to it. {AGAIN}'
        )
    told = value.pop(SEAL)
    if told != BY_HAND and not _matches(value, told):
        raise DamagedError(
            f"{path} does not match its checksum: it was changed after it was written. {AGAIN} If you "
            f'changed it and mean it, let it say `"{SEAL}": "{BY_HAND}"`.'
        )
    return value


def jsonl_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """One line of sorted JSON a row, each with its checksum."""
    return "".join(dump_json({**json_value(row), SEAL: seal(row)[:_ROW_DIGITS]}) + "\n" for row in rows)


_LINE: Final = 2**22
"""Bytes of a row."""


def row_of(line: bytes) -> dict[str, Any] | None:
    """The row of a line, `None` where it is not whole, or longer than any that is written."""
    if len(line) > _LINE:
        return None
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and _matches(row, row.pop(SEAL, None), _ROW_DIGITS) else None


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
    if not _matches({"data": about["data"], "meta": about["meta"], "tensors": kinds}, about[SEAL]):
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
    return str(_header_of(tensors, meta)[SEAL])


def header_text(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> str:
    """What the key `dd` of the file that `save_tensors` writes holds."""
    return dump_json(_header_of(tensors, meta))


def _header_of(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Any]:
    return _header(_kinds(shapes_of(tensors)), data_digest(tensors), meta)


def packed_size(shapes: Shapes, meta: Mapping[str, Any]) -> int:
    """Bytes of the file that `save_tensors` writes for tensors of these types and shapes, without making them."""
    kinds = _kinds(shapes)
    told: dict[str, Any] = {"__metadata__": {FORMAT_KEY: dump_json(_header(kinds, digest(b""), meta))}}
    start = 0
    for name, (dtype, shape) in sorted(shapes.items(), key=lambda item: (-_ORDER[item[1][0]], item[0])):
        stop = start + dtype.itemsize * math.prod(shape)
        told[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = len(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-text // 8) * 8 + start
