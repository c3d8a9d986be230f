"""Plans: a verb's call as a file, from which every machine derives the same list of work (`dd.run.work`)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from dd.base.files import dump_json, read_json, write_json
from dd.base.paths import as_path, expanded, is_there
from dd.base.schema import conform
from dd.base.version import __version__
from dd.errors import DamagedError, InputError, refuse

FORMAT: Final = 1
_OURS: Final = ("executor", "progress", "plan")
"""Arguments of a verb that say nothing of the work."""
_PLACES: Final = ("out", "store", "root")


@final
@dataclass(frozen=True)
class Plan:
    """A call of a verb, as it stands in a file.

    Attributes:
        verb: `benchmark`, `buffer`, `distill`, `evaluate` or `teach`.
        arguments: by name, as JSON has them; places in the file system are absolute.
    """

    verb: str
    arguments: Mapping[str, Any]

    @staticmethod
    def of(verb: str, arguments: Mapping[str, Any]) -> Plan:
        """The plan of a call; what is `None`, or is of this process alone, is left out.

        Raises:
            InputError: an argument that is no number, text, list or dictionary of such.
        """
        told = {name: value for name, value in arguments.items() if value is not None and name not in _OURS}
        return Plan(verb, {name: _plain(name, value) for name, value in told.items()})

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        about = {"kind": "plan", "format": FORMAT, "version": __version__}
        return {**about, "verb": self.verb, "arguments": dict(self.arguments)}

    def write(self, path: str | Path) -> Path:
        """Write the plan, and give its place; where the same one is there it stays.

        Raises:
            InputError: another plan is there.
            WriteError: the disk refuses.
        """
        path = as_path(path, "plan")
        if is_there(path):
            with contextlib.suppress(DamagedError):
                if read_json(path, "any") == self.to_json():
                    return path
            raise refuse("plan", "a new file", f"{path}, which is there already", "Remove it, or name another one.")
        write_json(path, self.to_json())
        return path

    @staticmethod
    def read(path: str | Path) -> Plan:
        """The plan of a file.

        Raises:
            MissingError: it is not there.
            DamagedError: it is damaged, or no plan, or one of another version of the library.
        """
        path = as_path(path, "plan")
        told = read_json(path, "any")  # whose it is, and its version, are told first
        if told.get("kind") != "plan":
            raise DamagedError(f"{path} is no plan of work. Write one: a verb of `ddistill` with `--plan FILE`.")
        if (found := (told.get("format"), told.get("version"))) != (FORMAT, __version__):
            raise DamagedError(
                f"{path} is a plan of version {found[1]} (format {found[0]}); this is {__version__} (format {FORMAT}), "
                "which may divide the work otherwise. Write it anew: the same verb with `--plan`."
            )
        conform(told, "plan", path)
        return Plan(told["verb"], _lists_as_tuples(told["arguments"]))

    def bound(self, verb: Callable[..., Any]) -> dict[str, Any]:
        """All arguments of a verb's call by name, defaults among them; those of `**` under its name.

        Raises:
            InputError: an argument that the verb does not have.
        """
        try:
            call = inspect.signature(verb).bind(**self.arguments)
        except TypeError as error:
            raise refuse("arguments of the plan", f"those of `{self.verb}`", str(error)) from error
        call.apply_defaults()
        return dict(call.arguments)


def _plain(name: str, value: Any) -> Any:
    """An argument as JSON has it."""
    if isinstance(value, Path) or (name in _PLACES and isinstance(value, str)):
        return str(expanded(Path(value)).absolute())
    if name == "data" and isinstance(value, str):
        kind, _, place = value.partition(":")
        return f"{kind}:{Path(place).absolute()}" if place and is_there(Path(place)) else value
    if isinstance(value, list | tuple):
        return [_plain("", one) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain("", one) for key, one in value.items()}
    try:
        dump_json(value)
    except InputError as error:
        way_out = "Give data and methods by name, and fields beside the name."
        raise refuse(
            name or "arguments", "what a file can hold where work is shared", f"a {type(value).__name__}", way_out
        ) from error
    return value


def _lists_as_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_lists_as_tuples, value))
    return {key: _lists_as_tuples(one) for key, one in value.items()} if isinstance(value, dict) else value


def need_folder(out: object) -> None:
    """Refuse shared work without a place for its parts.

    Raises:
        InputError: `out` is `None`.
    """
    if out is None:
        raise refuse("out", "a folder that all workers see, where work is shared", "none")
