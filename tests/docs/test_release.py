"""What a release says of itself is one story: packaging, changelog, citation, workflow. `make dist-check` tries it."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dd.cli.faults import PROJECT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments of `setup`."""
    found: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **words: found.update(words))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def test_version_and_date_are_the_same_everywhere(told: dict[str, Any]) -> None:
    first = re.search(
        r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert first
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert told["version"] == first[1]
    assert f"\nversion: {first[1]}\ndate-released: {first[2]}\n" in citation
    assert f"\nurl: {PROJECT}\n" in citation


def test_the_text_on_pypi_leads_somewhere_without_the_checkout(told: dict[str, Any]) -> None:
    links = re.findall(r"\]\(([^)]+)\)", told["long_description"])
    assert f"{PROJECT}docs/cifar10-ipc1.png" in links
    assert [link for link in links if "://" not in link] == []
    addresses = [*told["project_urls"].values(), told["url"]]
    assert all(address.startswith(PROJECT) for address in addresses)
    assert all((ROOT / address.removeprefix(PROJECT)).exists() for address in addresses)
    assert "Programming Language :: Python :: 3.11" in told["classifiers"]
    assert len(set(told["classifiers"])) == len(told["classifiers"])


def test_the_check_of_a_release_asks_for_every_file_of_the_packages(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import dist_check

    names = ["dd/a/b.py", "datasets/x.toml", "expert_trajectories/y.toml", "tests/test_a.py", "README.md"]
    assert dist_check.installed(names) == ["dd/a/b.py", "dd/_cards/x.toml", "dd/_recipes/y.toml"]
    data = {path.suffix for path in (ROOT / "dd").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    patterns = " ".join(told["package_data"]["dd"])
    assert [end for end in data - {".py"} if end not in patterns and end] == []


def test_the_workflow_runs_what_is_run_here() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"- run: (.*)", text) == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make")]
    assert commands == ["make test", "make check", "make site"]


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no checkout")
def test_no_link_and_no_environment_is_committed() -> None:
    """A link `.venv` in a commit takes the place of the environment of whoever checks that commit out."""
    run = ["git", "-C", str(ROOT), "ls-files", "--stage"]
    rows = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(rows) > 100
    assert [row for row in rows if row.startswith("120000") or "\t.venv" in row] == []
