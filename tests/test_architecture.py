"""The house's rules that a machine can read: which room may import which, sizes, and folders without packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dd"
FILES = sorted(PACKAGE.rglob("*.py"))

# room → rooms it must never import
FORBIDDEN = {
    "data": {"models", "augment", "whiten", "experts", "inner", "synthetic", "methods", "evaluation", "api"},
    "models": {"data", "experts", "inner", "synthetic", "methods", "evaluation", "api"},
    "inner": {"experts", "synthetic", "methods", "evaluation", "api"},
    "synthetic": {"experts", "methods", "evaluation", "api"},
    "experts": {"synthetic", "methods", "evaluation", "api"},
    "teachers": {"experts", "inner", "synthetic", "methods", "evaluation", "api"},
    "methods": {"evaluation", "measure", "api", "cli"},
    "evaluation": {"experts", "methods", "measure", "api", "cli"},
    "presets": {"api", "cli", "evaluation"},
    "measure": {"cli"},
}


def imports(path: Path) -> set[str]:
    """Rooms of `dd` that a file imports at any level, those for type checkers included."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("dd.")}
    return rooms


def room(path: Path) -> str:
    """`dd/data/card.py` → `data`; `dd/api.py` → `api`."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_go_one_way(path: Path) -> None:
    wrong = imports(path) & FORBIDDEN.get(room(path), set())
    assert not wrong, f"{path} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_global_seed_no_cuda_call_no_pickle(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ".cuda()" not in text
    assert "import pickle" not in text
    if path.name != "seeding.py":
        assert "manual_seed" not in text or "torch.Generator" in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "torch":
                assert any(k.arg == "weights_only" for k in node.keywords), f"{path}:{node.lineno}"


# file → calls that it may make: /proc is no file, and others' downloads are moved into their place
WRITES = {"_measure.py": {"write_text"}, "graph_sources.py": {"rename"}}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_is_the_only_writer(path: Path) -> None:
    allowed = WRITES.get(path.name, set())
    methods = {"write_text", "write_bytes", "unlink", "rename", "touch", "rmtree", "savetxt", "imsave"} - allowed
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if path.name in ("files.py", "locks.py") or not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        assert not (isinstance(node.func, ast.Attribute) and name in methods), f"{path}:{node.lineno} {name}"
        assert not (name == "open" and any(mode in ("w", "wb", "a", "ab", "x", "xb", "r+b") for mode in modes))


@pytest.mark.parametrize("folder", ["datasets", "expert_trajectories"])
def test_data_folders_are_no_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()  # would shadow Hugging Face's `datasets`


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, path
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{path}:{node.lineno} {node.name} has {lines} lines"


def test_few_types_are_passed_over_and_each_says_why() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if "type: ignore" in line
    ]
    assert len(found) <= 5, found
