"""The package's front: every name that is promised is there, and nothing else is shown."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dd
from dd.methods import METHODS
from dd.methods.cards import is_baseline

ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
MODULES = ["dd", *(found.name for found in pkgutil.walk_packages(dd.__path__, "dd.") if found.ispkg)]


def names_of(node: ast.AST, own: str) -> dict[str, str]:
    """Name → module of the imports inside a node; those of a package's own modules are given as themselves."""
    found = [part for part in ast.walk(node) if isinstance(part, ast.ImportFrom) and part.module != own]
    return {alias.name: str(part.module) for part in found for alias in part.names}


@pytest.mark.parametrize("name", MODULES)
def test_every_promised_name_is_there_once(name: str) -> None:
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):  # a room whose files are its names
        kinds = [type(node) for node in ast.parse(inspect.getsource(module)).body]
        assert kinds == [ast.Expr, ast.ImportFrom, ast.ImportFrom, ast.If], "a docstring and a door, or `__all__`"
        return
    promised = list(module.__all__)
    assert len(promised) == len(set(promised))
    space: dict[str, object] = {}
    exec(f"from {name} import *", space)
    assert set(promised) == space.keys() - {"__builtins__"}
    assert all(space[one] is getattr(module, one) for one in promised)


@pytest.mark.parametrize("name", [name for name in MODULES if hasattr(importlib.import_module(name), "__all__")])
def test_checkers_and_readers_see_the_names_that_are_loaded_when_they_are_asked_for(name: str) -> None:
    module = importlib.import_module(name)
    (guarded,) = (n for n in ast.parse(inspect.getsource(module)).body if isinstance(n, ast.If))
    assert ast.unparse(guarded.test) == "TYPE_CHECKING"
    (table,) = (n for node in guarded.orelse for n in ast.walk(node) if isinstance(n, ast.Dict))
    homes = {one: home for home, names in ast.literal_eval(table).items() for one in names.split()}
    assert homes == names_of(ast.Module(guarded.body, []), name)
    assert homes.keys() - {"__version__"} == set(module.__all__)
    assert homes.keys() <= set(dir(module))
    for one, home in homes.items():
        assert getattr(module, one) is getattr(importlib.import_module(home), one)


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


FROM = """import sys
def loaded(*names):
    return [name for name in names if name in sys.modules]
"""
"""The head of a program for a process of its own."""
LATER = (
    "torchvision kornia torch_geometric scipy sklearn matplotlib pandas tyro jinja2 rdkit timm datasets "
    "huggingface_hub tensorboard dd.cli"
).split()
"""What only some calls need."""


def run(code: str) -> list[str]:
    """The lines that a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", FROM + code], capture_output=True, text=True, check=False, env=ENV)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_a_call_does_not_need_is_not_loaded() -> None:
    code = f"""
import dd
print(loaded("torch", "numpy", "PIL", "tqdm", "dd.data.images.images", *{LATER}))
dd.distill, dd.evaluate
print(loaded("torch"), loaded("dd.measure.robustness", "dd.exchange.export", "dd.testing", *{LATER}))
"""
    assert run(code) == ["[]", "['torch'] []"]


def test_modules_are_within_reach_of_the_package() -> None:
    code = """
import dd
print(dd.errors.refuse.__module__, dd.testing.check_method.__name__, dd.run.merge.__name__)
print(dd.methods.presets.preset.__name__, dd.data.images.load.__name__, dd.base.seeding.child.__module__)
print(dd.methods.METHODS is dd.methods.table.METHODS, dd.models.MODELS["mlp"].__module__)
import dd.transforms
print(dd.transforms.dsa.DSA is dd.DSA)
"""
    assert run(code) == [
        "dd.errors check_method dd.run.merge",
        "preset dd.data.images.load dd.base.seeding",
        "True dd.models.images.classic",
        "True",
    ]


@pytest.mark.parametrize("module", [dd, dd.methods, dd.run])
def test_a_name_that_is_not_there_is_said_as_python_does(module: Any) -> None:
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nonesuch'") as refused:
        _ = module.nonesuch
    assert (refused.value.name, refused.value.obj) == ("nonesuch", module)
    with pytest.raises(ImportError, match="cannot import name 'nonesuch'"):
        exec(f"from {module.__name__} import nonesuch")
    assert not hasattr(module, "__wrapped__")


def test_values_go_to_a_process_that_has_loaded_nothing() -> None:
    """As to the workers of `spawn`."""
    told = [dd.TrainRecipe(steps=7), dd.DSA("flip"), dd.MTT(ipc=2), dd.distill, dd.InputError("no")]
    code = f"import pickle\nprint([repr(one) for one in pickle.loads({pickle.dumps(told)!r})])"
    (line,) = run(code)
    plain = lambda text: re.sub(r" at 0x\w+", "", text)  # noqa: E731
    assert plain(line) == plain(str([repr(one) for one in told]))
