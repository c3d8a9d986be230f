"""JSON as this library writes and reads it, and the checksum in it (`dd.base.seals`). Reads and writes no file.

A JSON object has a key `sha256` beside its own, of the sorted JSON of all others; a line of a log the first 16 digits
of the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from dd.base.texts import printable
from dd.errors import DamagedError, InputError, refuse

SEAL: Final = "sha256"
BY_HAND: Final = "by hand"
AGAIN: Final = "Restore it, or remove it and run again what made it."
_ROW_DIGITS = 16
DEPTH: Final = 64
"""Lists and objects inside each other in JSON, at most."""
_DEEP = f"lists or objects more than {DEPTH} deep"


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
    return hashlib.sha256(dump_json(json_value(value)).encode(errors="surrogatepass")).hexdigest()


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


def matches(value: Any, told: Any, digits: int = 64) -> bool:
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
    if told != BY_HAND and not matches(value, told):
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
    return row if isinstance(row, dict) and matches(row, row.pop(SEAL, None), _ROW_DIGITS) else None
