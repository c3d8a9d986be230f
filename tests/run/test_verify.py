"""`dd.verify` of every kind of file and folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import dd
from scripts.campaigns import jobs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run, a benchmark with a run, and a set with a label store."""
    base = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch, jobs.still():
        patch.chdir(base)
        jobs.buffered()
        jobs.benchmarked()
        jobs.labelled(0).save("set.safetensors")
    return base


def changed(path: Path, old: str, new: str) -> None:
    """The text with one number changed, as an editor would."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_all_that_is_written_can_be_verified(home: Path) -> None:
    (experts,) = {path.parent for path in home.rglob("recipe.json")}
    (teacher,) = [path for path in (home / "store").rglob("*.safetensors") if path.parent != experts]
    (run,) = {path.parent for path in (home / "out").rglob("run.json")}
    (labels,) = {path.parent for path in home.rglob("manifest.json")}
    for path, text in (
        (experts, r"2 expert\(s\)"),
        (experts / "00000.safetensors", r"4 tensor\(s\) of kind expert"),
        (teacher, "of kind teacher"),
        (home / "out", r"4 cell\(s\) and 1 run\(s\) of a benchmark"),
        (home / "out" / "leaderboard.json", "a JSON file"),
        (run, "images, 3 classes"),
        (run / "log.jsonl", r"3 row\(s\) of a log"),
        (home / "set.safetensors", "6 images, 3 classes"),
        (labels, r"\d+ record\(s\) of soft labels"),
    ):
        assert dd.verify(path).endswith("every checksum matches")
        assert dd.verify(path).startswith(f"{path}: ")
        assert re.search(text, dd.verify(path)), dd.verify(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("leaderboard.json", '"values": [\n', '"values": [\n 0.25,'),
        ("cells", '"seed": ', '"seed": 1'),
        ("run.json", '"seed": 0', '"seed": 1'),
        ("log.jsonl", '"iteration": 1', '"iteration": 7'),
    ],
)
def test_a_number_changed_by_hand_is_found_in_the_folder(
    home: Path, tmp_path: Path, name: str, old: str, new: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(home / "out", out)
    path = sorted((out / name).glob("*.json"))[0] if name == "cells" else next(out.rglob(name))
    changed(path, old, new)
    with pytest.raises(dd.DamagedError, match=rf"{path.name} does not match its checksum"):
        dd.verify(out)
