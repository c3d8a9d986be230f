"""The house's rules that a machine can read: rooms and their order, sizes, one writer, folders without packages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dd"
FILES = sorted(PACKAGE.rglob("*.py"))

ROOMS = (
    "base data models transforms inner synthetic teachers experts methods evaluation cost run pages contest work "
    "measure exchange cli testing"
).split()
"""From the ground up: a room may import those before it, and nothing after it; the door (`dd`) opens them all."""
DOOR = {"__init__", "__main__"}
GROUND = {"errors": "base"}
"""Files beside the rooms that belong to one."""
EXCUSED = {("cli/main.py", "dd"): "the verbs are the door's"}
"""(file, what it imports) → why it may, although that is above it."""


def room(module: str) -> str:
    """`dd.data.card` → `data`; `dd.errors` → `base`; `dd` → `__init__`."""
    first = [*module.split("."), "__init__"][1]
    return GROUND.get(first, first)


PLACE = re.compile(r"dd(\.\w+)+(:\w+)?")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import of `dd` in a file, lazy ones and those for type checkers included.

    So are modules that a text names, `dd.a.b` or `dd.a.b:name`, as in the tables of `dd.base.lazy`.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "dd")
        elif isinstance(node, ast.ImportFrom) and node.module == "dd":
            yield from ((node.lineno, f"dd.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dd":
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and PLACE.fullmatch(node.value):
            yield node.lineno, node.value.partition(":")[0]


def test_modules_in_texts_are_imports(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        'import dd.base\nTABLE = {"a": "dd.models.table:MODELS", "b": "of dd.run"}\n_in("dd.cli.verbs", "run")\n'
    )
    assert sorted(imports(path)) == [(1, "dd.base"), (2, "dd.models.table"), (3, "dd.cli.verbs")]


def module_of(path: Path) -> str:
    """The name of a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_file_is_in_a_room_and_the_hall_is_small() -> None:
    beside = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(beside) <= 5, beside
    inside = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert inside == set(ROOMS), inside ^ set(ROOMS)


def test_arrows_go_down() -> None:
    wrong = []
    for path in FILES:
        own = room(module_of(path))
        for line, name in imports(path):
            if own not in DOOR and (room(name) in DOOR or ROOMS.index(room(name)) > ROOMS.index(own)):
                if (str(path.relative_to(PACKAGE)), name) not in EXCUSED:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} {own} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_excuse_is_left_over() -> None:
    used = {(str(path.relative_to(PACKAGE)), name) for path in FILES for _, name in imports(path)}
    assert not EXCUSED.keys() - used


def test_no_module_hides_a_public_name() -> None:
    """`dd.estimate` is a verb or a module, not whichever was imported last; the same in every room."""
    for folder in [PACKAGE, *(path.parent for path in PACKAGE.rglob("*/__init__.py"))]:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        own = module_of(folder / "__init__.py")  # its modules may be given as themselves
        found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module != own]
        given = {alias.asname or alias.name for node in found for alias in node.names}
        modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
        assert not given & modules, f"{folder}: {sorted(given & modules)}"


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Every call in a file, and the last word of what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_no_global_seed_no_cuda_call_no_pickle() -> None:
    wrong = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        wrong += [f"{path}: {word}" for word in (".cuda()", "import pickle") if word in text]
        if path.name != "seeding.py" and "manual_seed" in text and "torch.Generator" not in text:
            wrong.append(f"{path}: manual_seed")
        for node, name in calls(path):
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            torchs = name == "load" and isinstance(owner, ast.Name) and owner.id == "torch"
            if torchs and all(k.arg != "weights_only" for k in node.keywords):
                wrong.append(f"{path}:{node.lineno} torch.load without weights_only")
    assert not wrong, "\n".join(wrong)


WRITERS = {"base/files.py", "base/leases.py", "base/locks.py"}
WRITES = {
    "cost/meter.py": {"write_text"},  # /proc is no file
    "data/graphs/sources.py": {"rename"},  # others' downloads are moved into their place
}
WRITING = {"write_text", "write_bytes", "unlink", "rename", "touch", "rmtree", "savetxt", "imsave"}


def test_files_is_the_only_writer() -> None:
    wrong = []
    for path in FILES:
        name_of = str(path.relative_to(PACKAGE))
        if name_of in WRITERS:
            continue
        for node, name in calls(path):
            if isinstance(node.func, ast.Attribute) and name in WRITING - WRITES.get(name_of, set()):
                wrong.append(f"{name_of}:{node.lineno} {name}")
            modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
            if name == "open" and any(mode in ("w", "wb", "a", "ab", "x", "xb", "r+b") for mode in modes):
                wrong.append(f"{name_of}:{node.lineno} open")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_short() -> None:
    wrong = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            wrong.append(f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > 60:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_few_types_are_passed_over() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if "type: ignore" in line
    ]
    assert len(found) <= 5, found


@pytest.mark.parametrize("folder", ["datasets", "expert_trajectories"])
def test_data_folders_are_no_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()  # would shadow Hugging Face's `datasets`
