"""The records: JSON lines in `results/`, a file a data set and budget; what records share is told once in a file.

    python -m scripts.records.kept FILE.json …     add records that were made elsewhere, each named as its file

A line of a file is a record with its `record` name, or `{"key": KEY, "told": VALUE}`: recipes, methods, requests and
machines, which stand before the records that point to them by `{"told": KEY}`. KEY is the start of the value's SHA-256.
A data set's records that hold several budgets (graphs, leaderboards) are in the file of its name alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from dd.base.files import json_at, write_text
from dd.base.locks import locked

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results"
RUNS: Final = HERE.parents[1] / "runs" / "records"
NAME: Final = re.compile(r'\{"record": ("[^"\\]*")')
"""How a record's line begins."""
SHARED: Final = frozenset({"method", "recipe", "request", "train", "teacher", "expert", "origin", "versions", "data"})
"""Keys whose objects are told once in a file."""


def named(pattern: str = "*", folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Records whose name matches, by name.

    Raises:
        ValueError: a name stands twice, or a line points to what was not told before it.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for name, record in read(path, pattern):
            if name in found:
                raise ValueError(f"{path}: record {name} stands twice")
            found[name] = record
    return {name: found[name] for name in sorted(found, key=lambda n: f"{n}.json")}


def read(path: Path, pattern: str = "*") -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, record) of each line whose name matches, with what it points to in its places; others are not parsed."""
    told: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        name = NAME.match(line)
        if name and not fnmatchcase(json.loads(name[1]), pattern):
            continue
        row = json.loads(line)
        if "key" in row:
            told[row["key"]] = row["told"]
        else:
            yield row.pop("record"), _whole(row, told)


def keep(name: str, record: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Add a record to the file of its data set and budget; one of the same name is replaced.

    The `command` of a report is left out: it names folders of the machine.

    Returns:
        The file.
    """
    path = folder / f"{_stem(record)}.jsonl"
    RUNS.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(RUNS / "results.lock", wait=True):
        records = dict(read(path)) if path.exists() else {}
        records[name] = _without(json.loads(json.dumps(record)), "command")
        write_text(path, text(records))  # committed, and so edited: without a checksum
    return path


def text(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The lines of a file; equal records give equal bytes."""
    told: dict[str, Any] = {}
    lines = [{"record": name, **_short(records[name], told)} for name in sorted(records)]
    rows = [*({"key": key, "told": value} for key, value in told.items()), *lines]
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _without(value: Any, name: str) -> Any:
    """The value without entries of that name, however deep."""
    if isinstance(value, dict):
        return {key: _without(held, name) for key, held in value.items() if key != name}
    return [_without(item, name) for item in value] if isinstance(value, list) else value


def spent(record: Mapping[str, Any]) -> float:
    """Seconds that distilling took: of the processor where they are recorded (one thread), else by the clock."""
    return float(record.get("distill_cpu_seconds", record["distill_seconds"]))


def _stem(record: Mapping[str, Any]) -> str:
    """`cifar10-ipc10`, `NCI1-2048-bytes`, `NCI1`: the data set, and the budget where the record has one."""
    about = record.get("job") or record.get("setting") or record.get("row") or record
    if "ipc" in about:
        return f"{about['dataset']}-ipc{about['ipc']}"
    return f"{about['dataset']}-{record['budget']}-bytes" if "budget" in record else str(about["dataset"])


def _short(value: Any, told: dict[str, Any]) -> Any:
    """The value with keys in the places of shared objects, which are added to `told`."""
    if isinstance(value, list):
        return [_short(item, told) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "told" in value:
        raise ValueError("`told` is a word of the form of records; got it in a record")
    made = {}
    for name, held in sorted(value.items()):
        short = _short(held, told)
        if name in SHARED and isinstance(held, Mapping):
            key = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:10]
            if told.setdefault(key, short) != short:
                raise ValueError(f"two values have the key {key}")
            short = {"told": key}
        made[name] = short
    return made


def _whole(value: Any, told: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_whole(item, told) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"told"}:
        if value["told"] not in told:
            raise ValueError(f"no line before it tells {value['told']}")
        return _whole(told[value["told"]], told)
    return {name: _whole(held, told) for name, held in value.items()}


def main(paths: list[str]) -> int:
    """Add records of other checkouts."""
    for path in map(Path, paths):
        print(f"{path.stem} → {keep(path.stem, json_at(path)).relative_to(HERE)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
