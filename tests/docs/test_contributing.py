"""A method that is added to the letter of CONTRIBUTING.md is there in every verb."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dd
from dd.cli.main import main
from dd.methods import METHODS, cards
from dd.testing import check_method, tiny
from dd.testing.made import pictures

ROOT = Path(__file__).resolve().parents[2]
SECTION = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## To add a method")[2].partition("\n## ")[0]
)
FILE, LINE, CARD, TEST = (text for _, text in re.findall(r"```(python|toml)\n(.*?)```", SECTION, re.DOTALL))


def module(name: str, text: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four things done, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    made = module("blend_of_contributing", FILE, tmp_path)
    key, value = re.fullmatch(r'"(\w+)": "dd\.methods\.\1:(\w+)",\n', LINE).groups()  # type: ignore[union-attr]
    monkeypatch.setitem(METHODS, key, getattr(made, value))
    (tmp_path / f"{key}.toml").write_text(CARD)
    monkeypatch.setattr(cards, "FOLDERS", [*cards.FOLDERS, tmp_path])
    cards._read.cache_clear()
    return tmp_path


def test_the_example_is_small() -> None:
    lines = [line for line in FILE.splitlines() if line.strip()]
    assert len(lines) <= 30
    assert SECTION.count("```") == 8


def test_its_own_test_and_that_of_all_methods(added: Path) -> None:
    test = module("test_blend_of_contributing", TEST, added)
    test.test_of_all_images_of_a_class_it_is_their_mean()
    check_method(tiny("blend"))


def test_it_is_in_every_verb(added: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, options = pictures(), {"ipc": 2, "model": "mlp", "steps": 3, "progress": False}
    assert "blend" in dd.list_methods()
    text = dd.describe("blend")
    assert all(
        told in text for told in ("Blending. ICML 2026", "Each image is the mean", "Take this when you", "parts=3")
    )
    assert dd.cite("Blend").endswith("year = {2026}}")

    small = dd.distill(real, "blend", out="run", **options)
    assert small.method["parts"] == 3  # of its row
    before = (added / "run/synthetic.safetensors").read_bytes()
    dd.distill(real, "blend", out="run", **options)  # resumed: read again
    assert (added / "run/synthetic.safetensors").read_bytes() == before
    dd.evaluate("run", real, repeats=1, steps=2, baselines=("random",), progress=False)
    assert "blend" in dd.report("run", real).read_text(encoding="utf-8")
    with pytest.raises(dd.InputError, match=r"or one with a method `estimate\(real, device, calibrate\)`; got blend\."):
        dd.estimate(real, "blend")
    shown = {"models": "mlp", "repeats": 1, "steps": 2, "baselines": ("random",), "progress": False}
    board = dd.benchmark(real, ["blend"], ipc=2, **shown)
    assert board.row("blend", 2).values

    words = "distill digits blend --ipc 1 --parts 4 --train.model mlp --train.steps 2 --out shell --quiet --json"
    assert main(shlex.split(words)) == 0
    assert json.loads(capsys.readouterr().out)["path"].endswith("synthetic.safetensors")
    assert dd.load("shell").method["parts"] == 4
    assert main(["list", "blend"]) == 0
    assert "Means of random images" in capsys.readouterr().out


def test_it_is_in_the_pages(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import methods

    monkeypatch.setattr(methods, "METHODS", {"mtt": METHODS["mtt"], "blend": METHODS["blend"]})  # two pages are enough
    made: dict[Path, str] = methods.pages()
    told: Callable[[str], Any] = lambda name: made[ROOT / name]  # noqa: E731
    assert "real ones in each" in told("docs/methods/blend.md")
    assert "[`blend`](blend.md)" in told("docs/methods/README.md")
    assert "blend.md" in told("README.md")
    assert "- methods/blend.md" in told("mkdocs.yml")
