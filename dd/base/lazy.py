"""What is loaded when it is first asked for: the names of a package, and the entries of a table.

So `import dd` and the command line's `--help` and `list` load no torch. A package lists its names three times: as
imports for type checkers, in `__all__` and with their homes for `door`; `tests/test_init.py` compares the three.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeVar

T = TypeVar("T")

_BESIDE: Final = ":"
"""Between a module and a name in it."""


def door(
    package: str, public: Sequence[str], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562): its names and its modules, loaded when they are asked for.

    What was loaded is kept in the package, so that each name is asked for once.

    Args:
        package: its `__name__`.
        public: its `__all__`.
        homes: by module the names that come from it, by blanks.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}
    module = modules_of(package)

    def load(name: str) -> Any:
        if name not in home_of:
            return module(name)
        value = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        """The public names; modules are there too, and are not listed."""
        own = vars(sys.modules[package])
        return sorted({*public, *home_of, *(name for name in own if name.startswith("__") and name.endswith("__"))})

    return load, names


def modules_of(package: str) -> Callable[[str], Any]:
    """`__getattr__` of a package whose files are its names: `dd.run.merge` is there after `import dd`."""

    def load(name: str) -> Any:
        full = f"{package}.{name}"
        if name.startswith("__") or "." in name or find_spec(full) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        return import_module(full)  # which keeps it in the package

    return load


class Table(MutableMapping[str, T]):
    """Name → object of a module, which is imported when the object is asked for; the names alone import nothing.

    Args:
        homes: by name `module:object`.
    """

    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes, self._held = dict(homes), dict[str, T]()

    def __getitem__(self, name: str) -> T:
        if name not in self._held:
            module, _, inside = self._homes[name].partition(_BESIDE)
            self._held[name] = getattr(import_module(module), inside)
        return self._held[name]

    def __setitem__(self, name: str, value: T) -> None:
        self._homes.setdefault(name, "")
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        del self._homes[name]
        self._held.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def doc(self, name: str) -> str:
        """The docstring of an entry, of the source where its module is not loaded; empty where it has none."""
        module, _, inside = self._homes[name].partition(_BESIDE)
        if name not in self._held and module not in sys.modules and (source := _source(module)) is not None:
            for node in ast.parse(source).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == inside:
                    return ast.get_docstring(node) or ""
        return inspect.getdoc(self[name]) or ""


def _source(module: str) -> str | None:
    """The text of a module; `None` where it has none, as where only compiled files were shipped."""
    spec = find_spec(module)
    read = getattr(spec.loader if spec else None, "get_source", None)
    return None if read is None else read(module)
