"""The pages of the methods are what their docstrings, presets and records say, and the notebooks run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dd.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import methods

    return methods


def test_pages_are_current(methods: Any) -> None:
    made = methods.pages()
    assert set((ROOT / "docs" / "methods").glob("*.md")) == set(made)
    stale = [path.name for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run `make docs`"


@pytest.fixture
def reliability(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import reliability

    return reliability


def test_the_page_of_the_campaigns_is_current(reliability: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    records = reliability.records()
    assert [record["campaign"] for record in records] == list(reliability.NAMES)
    assert (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8") == reliability.page(records), (
        "run `make docs`"
    )
    monkeypatch.setattr("sys.argv", ["reliability.py", "--check"])
    assert reliability.main() == 0
    monkeypatch.setattr(reliability, "records", lambda: records[:1])
    assert reliability.main() == 1


def test_the_page_shows_every_fault(reliability: Any) -> None:
    record = {**reliability.records()[0], "lost": 1234}
    record.pop("executed")  # a kind of fault that came after the record
    text = reliability.page([record])
    assert f"| {record['campaign']} | {record['trials']:,} | 1,234 | 0 |" in text
    assert "| not counted |" in text


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_every_field_told(methods: Any, name: str) -> None:
    text = methods.page(name)
    lines = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", text, re.MULTILINE)
    assert {"name", "train"} <= {field for field, _ in lines}
    untold = [field for field, told in lines if not told]
    assert set(untold) <= {"name"}


def test_pictures_and_links_of_the_readme_are_there_and_told() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    assert pictures
    assert all(len(told) > 20 for told, _ in pictures)
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert [target for target in links if target and not (ROOT / target).exists()] == []


def test_both_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["graphs", "trajectory_matching"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run_and_are_clean(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    for number, cell in enumerate(cells):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
