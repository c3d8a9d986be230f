"""The pages of the methods are what their docstrings, presets and records say, and the notebooks run."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dd
from dd.cli.faults import PROJECT
from dd.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import methods

    return methods


def test_pages_are_current(methods: Any) -> None:
    made = methods.pages()
    assert {*(ROOT / "docs" / "methods").glob("*.md"), ROOT / "README.md", ROOT / "mkdocs.yml"} == set(made)
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


def links_of(path: Path) -> list[str]:
    """Targets of the links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))


def test_pictures_and_links_of_the_readme_are_there_and_told() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    assert pictures
    assert all(len(told) > 20 for told, _ in pictures)
    links = links_of(ROOT / "README.md")
    own = [target for target in links if "://" not in target]  # on PyPI they are whole: see setup.py
    assert [target for target in own if not (ROOT / target).exists()] == []
    assert not [target for target in links if target.startswith(PROJECT)]  # leads nowhere until there is a project page
    assert len(own) > 20


def test_the_readme_is_read_in_three_minutes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (
        len(re.sub(r"(<!-- (?:methods|records).*?-->).*?(?=<!-- )", r"\1\n", text, flags=re.DOTALL).splitlines()) <= 100
    )
    assert len(text.splitlines()) <= 150  # a method is a line
    assert not re.search(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b", text)  # a commit


def test_links_between_pages_of_the_manual_lead_somewhere() -> None:
    """What `make site` refuses too; here without its packages."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    for page in pages:
        own = [target.partition("#") for target in links_of(page) if "://" not in target]
        for target, _, anchor in own:
            there = page.parent / target if target else page
            assert there.exists(), (page, target)
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
            names = {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}
            assert not anchor or anchor in names, (page, target, anchor)
        assert not [target for target in links_of(page) if target.startswith(PROJECT)]


def test_the_manual_is_built_so_that_a_broken_link_fails() -> None:
    (line,) = re.findall(r"mkdocs (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert line == "build --strict"  # with `--quiet` warnings are not counted, and nothing fails
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "links: {anchors: warn, absolute_links: warn, unrecognized_links: warn, not_found: warn}" in settings


def test_every_page_has_its_place_in_the_manual() -> None:
    told = set(re.findall(r"([\w/+-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert told == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def test_every_public_name_is_in_the_reference_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: dd\.(\w+)$", text, re.MULTILINE)) == sorted(dd.__all__)


def test_the_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["graphs", "looking", "trajectory_matching"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run_and_carry_their_outputs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import notebooks

    def kinds(notebook: Any) -> list[list[tuple[str, list[str]]]]:
        return [
            [(made["output_type"], sorted(made.get("data", ()))) for made in cell["outputs"]]
            for cell in notebook["cells"]
            if cell["cell_type"] == "code"
        ]

    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert kept["nbformat"] == 4
    assert path.stat().st_size < notebooks.MOST
    made = notebooks.executed(path)
    assert kinds(kept) == kinds(made), "run `python scripts/docs/notebooks.py`"
    assert {kind for cell in kinds(kept) for kind, _ in cell} <= {"stream", "execute_result"}
    assert "text/html" in str(kinds(kept))
    assert "data:image/png;base64," in path.read_text(encoding="utf-8")
    assert "/tmp/" not in path.read_text(encoding="utf-8")


PLACEHOLDERS = {"dd.X", "dd.a.b", "dd.Blend"}
"""Names that stand for any, and that of the method which CONTRIBUTING adds."""


def texts() -> Iterator[tuple[Path, str]]:
    """What a reader reads: pages, notebooks, code with its docstrings, scripts, settings; no records."""
    for folder in ("dd", "docs", "scripts", "datasets", "expert_trajectories", "tests", "."):
        for path in sorted(ROOT.glob(f"{folder}/*" if folder == "." else f"{folder}/**/*")):
            plain = path.suffix in (".md", ".py", ".toml", ".yml", ".ipynb", ".sh", ".cff") or path.name == "Makefile"
            if plain and path.is_file() and "store" not in path.parts:
                yield path, path.read_text(encoding="utf-8")
    yield ROOT / ".ci" / "run", (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def is_there(name: str) -> bool:
    """Whether `dd.a.b` can be reached: modules by import, then attributes and the fields of a class."""
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:depth]))
        except ModuleNotFoundError:
            continue
        for part in parts[depth:]:
            if not hasattr(found, part):
                return part in getattr(found, "__dataclass_fields__", ()) and part == parts[-1]
            found = getattr(found, part)
        return True
    return False


def test_every_name_of_the_library_that_a_text_has_is_there() -> None:
    """Modules were moved: a text that names one by its old place leads nowhere."""
    told: dict[str, set[str]] = {}
    for path, text in texts():
        for name in re.findall(r"`(dd(?:\.[A-Za-z]\w*)+)[`(]", text):
            told.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    assert len(told) > 100
    gone = {name: sorted(where) for name, where in told.items() if name not in PLACEHOLDERS and not is_there(name)}
    assert not gone


@pytest.mark.parametrize("name", ["dd.augment", "dd.distill.none", "dd.base.none", "dd.RunOptions"])
def test_a_name_that_is_nowhere_is_seen(name: str) -> None:
    assert not is_there(name)
    assert all(map(is_there, ("dd.distill", "dd.base.seeding.child", "dd.TrainRecipe.steps", "dd.methods._cards")))


def test_every_file_of_the_checkout_that_a_text_has_is_there() -> None:
    """Paths from the root, in backticks; not those of the example that CONTRIBUTING adds, nor of stores."""
    gone = {}
    for path, text in texts():
        for name in re.findall(r"`((?:dd|docs|scripts|tests|datasets|expert_trajectories)/[\w./-]+)`", text):
            example = (
                "blend" in name
                or "NAME" in name
                or "/store" in name
                or name == "datasets/hashes"
                or "tests" in path.parts
            )
            if not example and not (ROOT / name).exists():
                gone[name] = path.relative_to(ROOT).as_posix()
    assert not gone
