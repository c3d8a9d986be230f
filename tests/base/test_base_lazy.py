"""Tables whose entries are loaded when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dd.base import lazy
from dd.base.lazy import Table
from dd.cli.measure import METRICS
from dd.cost.known import ESTIMATES
from dd.methods import METHODS
from dd.models import GNNS, MODELS

TEXT = '''"""Of a module."""

def one() -> int:
    """First line.

        Indented.
    """
    return 1

class Two:
    pass
'''


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table[Callable[..., Any]]]:
    (tmp_path / "lazy_example.py").write_text(TEXT)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Table({"one": "lazy_example:one", "two": "lazy_example:Two"})
    sys.modules.pop("lazy_example", None)


def test_names_load_nothing_and_an_entry_its_module(table: Table[Callable[..., Any]]) -> None:
    assert (list(table), len(table), "one" in table, "three" in table) == (["one", "two"], 2, True, False)
    assert "lazy_example" not in sys.modules
    assert table["one"]() == 1
    assert table["two"] is sys.modules["lazy_example"].Two
    assert table.get("three") is None
    with pytest.raises(KeyError, match="three"):
        table["three"]


def test_an_entry_can_be_put_and_taken_away(table: Table[Callable[..., Any]]) -> None:
    table["three"], table["one"] = int, str
    assert (table["three"], table["one"], list(table)) == (int, str, ["one", "two", "three"])
    del table["one"], table["two"]
    assert dict(table) == {"three": int}
    assert "lazy_example" not in sys.modules


def test_a_docstring_is_read_from_the_source_as_python_has_it(
    table: Table[Callable[..., Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = {name: table.doc(name) for name in table}
    assert "lazy_example" not in sys.modules
    assert read == {"one": "First line.\n\nIndented.", "two": ""}
    monkeypatch.setattr(lazy, "_source", lambda module: None)  # as where only compiled files were shipped
    assert table.doc("one") == read["one"]
    assert "lazy_example" in sys.modules
    table["one"] = len
    assert table.doc("one") == "Return the number of items in a container."


@pytest.mark.parametrize("known", [METHODS, MODELS, GNNS, METRICS, ESTIMATES])
def test_every_entry_of_the_library_is_there(known: Table[Callable[..., Any]]) -> None:
    assert all(map(callable, known.values()))


def test_estimates_are_of_classes_that_are_there() -> None:
    for path in ESTIMATES:
        module, _, name = path.partition(":")
        made = getattr(import_module(module), name)
        assert f"{made.__module__}:{made.__qualname__}" == path


@pytest.mark.parametrize("name", ["nothing", "no.thing", "base.nothing", "", "__nothing__"])
def test_a_package_has_no_other_names(name: str) -> None:
    assert not hasattr(import_module("dd"), name)
