"""The package's front: every name that is promised is there, and nothing else is shown."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import dd
from dd.methods import METHODS
from dd.methods.cards import is_baseline

MODULES = ["dd", *(found.name for found in pkgutil.walk_packages(dd.__path__, "dd.") if found.ispkg)]


@pytest.mark.parametrize("name", MODULES)
def test_every_promised_name_is_there_once(name: str) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):  # a room whose files are its names
        assert len(ast.parse(inspect.getsource(module)).body) == 1, "a docstring, or `__all__`"
        return
    promised = list(module.__all__)
    assert len(promised) == len(set(promised))
    space: dict[str, object] = {}
    exec(f"from {name} import *", space)
    assert set(promised) == space.keys() - {"__builtins__"}
    assert all(space[one] is getattr(module, one) for one in promised)


def test_dir_shows_the_public_names_alone() -> None:
    assert {name for name in dir(dd) if not (name.startswith("__") and name.endswith("__"))} == set(dd.__all__)
    assert {"__version__", "__all__", "__doc__"} <= set(dir(dd))
    assert dd.methods.METHODS is METHODS  # submodules stay within reach


def test_what_makes_a_method_of_a_paper_is_public() -> None:
    made = {factory.__name__ for name, factory in METHODS.items() if not is_baseline(name)}
    assert made & set(dd.methods.__all__) <= set(dd.__all__)


def test_data_of_other_libraries_come_in_by_the_front() -> None:
    rows = [{"image": None, "label": 1}]
    assert len(dd.from_hf(rows)) == 1
    with pytest.raises(dd.MissingError):
        dd.from_webdataset("no/such/shard.tar")


def test_the_command_line_and_pictures_are_loaded_where_they_are_used() -> None:
    code = (
        "import sys, dd; print([n for n in sys.modules if n.split('.')[0] in ('tyro', 'matplotlib') or n == 'dd.cli'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
