"""The options of a run and those of its method: a twin of the method's own dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from dd.cli.options import Planned
from dd.data import Ipc
from dd.methods import RunOptions
from dd.methods.trajectory.given import Init, Word
from dd.models import as_spec
from dd.synthetic import NodeRecipe, TreeRecipe


@dataclass(frozen=True, kw_only=True)
class DistillOptions(RunOptions, Planned):
    """Options of the run; the method's fields follow.

    Attributes:
        out: run folder: set, log, checkpoint; the same command goes on where it was interrupted.
        preset: `paper` (published row), `cpu` (two-core budget) or `auto`.
        protocol: `clean` chooses the iterate on held-out training data, `paper` on the test set.
        restart: replace what is in `out`.
        sieve: train networks on so many of the sets that a method offers on the way, the best by ridge regression.
        seeds: make a set for each of these seeds, in `out`/seed0, …, from one buffer of experts.
    """

    out: Path | None = None
    preset: Literal["auto", "paper", "cpu"] = "auto"
    protocol: Literal["clean", "paper"] = "clean"
    restart: bool = False
    seeds: tuple[int, ...] = ()
    split: int | str = 0
    sieve: int | None = None

    @property
    def resume(self) -> bool:
        """Whether to go on from what is in `out`."""
        return not self.restart


def twin(value: Any) -> Any:
    """A dataclass like `value`'s with its values as defaults and types that a command line can read."""
    hints = typing.get_type_hints(type(value), include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for f in dataclasses.fields(value):
        held = getattr(value, f.name)
        if dataclasses.is_dataclass(held) and f.name != "model":
            inner = twin(held)
            fields.append((f.name, type(inner), dataclasses.field(default=inner)))
        elif f.name == "committee":
            fields.append((f.name, tuple[str, ...], dataclasses.field(default=tuple(str(as_spec(m)) for m in held))))
        elif hints[f.name] == Ipc:
            fields.append((f.name, int, dataclasses.field(default=held)))
        elif hints[f.name] == Init:
            fields.append((f.name, Word | Path, dataclasses.field(default=held)))
        elif f.name == "model":
            text = held if isinstance(value, NodeRecipe | TreeRecipe) else str(as_spec(held))
            fields.append((f.name, str, dataclasses.field(default=text)))
        elif f.name not in ("name", "title", "source"):
            fields.append((f.name, hints[f.name], dataclasses.field(default=held)))
    made = dataclasses.make_dataclass(type(value).__name__, fields, frozen=True, kw_only=True)
    made.__doc__ = each_alone(inspect.getdoc(type(value)) or "")
    return made()


_TOGETHER: Final = re.compile(r"    (\w+(?:, \w+)+): ")


def each_alone(doc: str) -> str:
    """A docstring in which attributes that are told together have a line each, with the names that it tells of.

    A command line's help looks for each by its own name.

    Args:
        doc: without the indentation of its code.
    """
    lines, found = doc.splitlines(), []
    while lines:
        entry = [lines.pop(0)]
        names = _TOGETHER.match(entry[0])
        while names and lines and lines[0].startswith("     "):
            entry.append(lines.pop(0))
        for name in names[1].split(", ") if names else ():
            found += [f"    {name}: {entry[0].strip()}", *entry[1:]]
        found += [] if names else entry
    return "\n".join(found)


def changes(before: Any, after: Any) -> dict[str, Any]:
    """Fields of `after` that differ from `before`, nested ones as dicts."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(before):
        a, b = getattr(before, f.name), getattr(after, f.name)
        if dataclasses.is_dataclass(a):
            if inner := changes(a, b):
                found[f.name] = inner
        elif a != b:
            found[f.name] = b
    return found
