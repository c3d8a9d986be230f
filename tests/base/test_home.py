"""Where files go, and that it is said when they first do."""

from __future__ import annotations

from pathlib import Path

import pytest

import dd
from dd.base.home import default_store, home

TINY = {
    "ipc": 1,
    "candidates": 4,
    "crops": 1,
    "label_epochs": 1,
    "teacher": {"model": "mlp", "epochs": 2, "min_steps": 60},
    "committee": ("convnet(width=8,depth=1,norm=batch)",),
    "train": {"steps": 1},
}


def test_the_first_of_argument_variable_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "kept"))
    assert home("expert_trajectories") == tmp_path / "kept" / "expert_trajectories"
    assert home("datasets", tmp_path) == tmp_path
    monkeypatch.delenv("DD_HOME")
    monkeypatch.setattr("dd.base.home._checkout", lambda kind: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home("datasets") == tmp_path / ".cache" / "dd" / "datasets"


def test_the_default_store_is_named_when_it_is_first_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "kept"))
    said = f"experts and teachers are kept in {tmp_path / 'kept' / 'expert_trajectories'}; `store=` (`--store`) names"
    dd.distill("digits", "random", ipc=1)  # needs none
    assert "kept in" not in capsys.readouterr().err
    dd.distill("digits", "rded", **TINY)  # type: ignore[arg-type]
    assert said in capsys.readouterr().err
    dd.distill("digits", "rded", **TINY)  # type: ignore[arg-type]
    assert "kept in" not in capsys.readouterr().err


def test_a_store_that_was_named_or_a_quiet_run_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path))
    assert default_store(tmp_path / "own", None) == tmp_path / "own"
    assert default_store(None, False) == tmp_path / "expert_trajectories"
    assert capsys.readouterr().err == ""
