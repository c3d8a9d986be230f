"""Method × verb of the command line: help, tiny runs, refusals; and no two meanings of one option."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docstring_parser import parse

import dd
from dd.cli.main import VERBS, main
from dd.cli.options import BufferOptions, EstimateOptions, EvaluateOptions
from dd.cli.teach import TeachOptions
from dd.cli.twins import DistillOptions, each_alone, twin
from dd.cost.known import estimated
from dd.methods import METHODS, kind_of
from dd.methods.cards import card, is_baseline

ROOT = Path(__file__).resolve().parents[2]
MODULE = [sys.executable, "-m", "dd"]
NET = "convnet(norm=batch, width=4)"


def words_of(fields: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """Fields as a shell says them."""
    words: list[str] = []
    for name, value in fields.items():
        option = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, dict):
            words += words_of(value, f"{option}.")
        else:
            words += [option, *map(str, value if isinstance(value, list) else [value])]
    return words


TINY = {name: words_of(card(name).tiny) for name in METHODS}


def data_of(method: str) -> str:
    return {"graphs": "digits-graphs", "nodes": "blocks"}.get(kind_of(method), "digits")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers that the methods share."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(method: str, home: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", data_of(method), method, *TINY[method], "--store", str(store), "--quiet", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    made = dd.load(answer["path"])
    assert made.method["name"] == method


@pytest.mark.parametrize("verb", ["distill", "estimate"])
@pytest.mark.parametrize("method", METHODS)
def test_help_of_every_method(verb: str, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = set()
    for words in ([data_of(method), method, "--help"], ["-h", data_of(method), method.upper()]):
        with pytest.raises(SystemExit) as stop:
            main([verb, *words])
        assert stop.value.code == 0
        told.add(capsys.readouterr().out)
    (text,) = told
    assert text.startswith(f"usage: ddistill {verb} {data_of(method)} {method} ")
    assert all(option in text for option in ("--preset", "--size", "--train.steps"))


def untold(kind: type) -> list[str]:
    """Fields of an options' dataclass, nested ones too, that its help has no text for."""
    told = {entry.arg_name: entry.description for one in kind.__mro__ for entry in parse(one.__doc__ or "").params}
    names = [field.name for field in dataclasses.fields(kind)]
    inner = [field.default for field in dataclasses.fields(kind) if dataclasses.is_dataclass(field.default)]
    return [name for name in names if not told.get(name)] + [name for one in inner for name in untold(type(one))]


@pytest.mark.parametrize("method", METHODS)
def test_help_has_a_text_for_every_field(method: str) -> None:
    assert untold(type(twin(METHODS[method]()))) == []


def test_what_is_told_together_is_told_of_each() -> None:
    doc = "One.\n\nAttributes:\n    a, b: both: these,\n        and those.\n    c: alone, b: and so.\n\nRaises: x"
    told = "    a: a, b: both: these,\n        and those.\n    b: a, b: both: these,\n        and those.\n"
    assert each_alone(doc) == doc.replace("    a, b: both: these,\n        and those.\n", told)


def options_of(*places: Callable[..., Any] | type) -> set[str]:
    """Names of keyword parameters, and of fields."""
    found = set()
    for place in places:
        if isinstance(place, type):
            found |= {field.name for field in dataclasses.fields(place)}
        else:
            parameters = inspect.signature(place).parameters.values()
            found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return found


def fields_of(method: str) -> set[str]:
    """Names that a method takes flat: its own, and those of what is nested in it."""
    value = METHODS[method]()
    names = [field.name for field in dataclasses.fields(value)]  # type: ignore[arg-type]
    nested = [getattr(value, name) for name in ("expert", "teacher", "train") if hasattr(value, name)]
    return {*names, *(field.name for part in nested for field in dataclasses.fields(part))}


@pytest.mark.parametrize("method", METHODS)
def test_no_field_has_the_name_of_an_option(method: str) -> None:
    run = options_of(dd.distill, dd.distill_many, dd.estimate, dd.Run, DistillOptions, EstimateOptions)
    assert fields_of(method) & run == set()
    # these verbs take no fields: a name that both have means the field
    others = options_of(dd.benchmark, dd.buffer, dd.teach, BufferOptions, TeachOptions, EvaluateOptions)
    same = {"ipc", "budget_bytes", "lr", "steps", "experts", "snapshots", "committee"}
    assert fields_of(method) & others <= same
    recipe = {field.name for field in dataclasses.fields(dd.TeacherRecipe)}
    assert recipe & options_of(dd.teach) == set()  # this verb takes the fields of a recipe


def test_the_side_in_pixels_is_not_the_number_of_voters(home: Path, store: Path) -> None:
    words = ["distill", "digits", "rded", *TINY["rded"], "--store", str(store), "--quiet", "--out", "run"]
    assert main([*words, "--size", "12", "--voters", "3"]) == 0
    made = dd.load("run")
    assert made.images.shape[2:] == (12, 12)
    assert made.method["voters"] == 3


def test_the_bytes_that_are_told_are_of_stored_labels_too(
    home: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were those of the file alone, a fifth of what the set takes."""
    assert main(["distill", "digits", "rded", *TINY["rded"], "--store", str(store), "--out", "run"]) == 0
    files = [Path("run/synthetic.safetensors"), *Path("run").glob("labels/**/*")]
    there = sum(path.stat().st_size for path in files if path.is_file())
    assert there > files[0].stat().st_size
    assert f"({there:,} bytes)" in capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_an_estimate(method: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert method in estimated()
    assert main(["estimate", data_of(method), method, *TINY[method], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] == pytest.approx(sum(told["stages"].values()))
    assert told["seconds"] > 0
    assert told["peak_bytes"] > 0
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_the_published_row_or_an_error_that_lists_those_there_are(
    method: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = [row["dataset"] for row in card(method).rows if row["tier"] == "paper"]
    listed = published or ["mtt, ftd, ast"]  # the data sets that have a row, or the methods that have one
    for verb in ("distill", "estimate"):
        assert main([verb, data_of(method), method, "--preset", "paper"]) == 2
        error = capsys.readouterr().err
        assert "`preset='paper'` must be asked for a" in error
        assert all(name in error for name in listed)
        with pytest.raises(dd.InputError, match="`preset='paper'` must be asked for a"):
            getattr(dd, verb)(data_of(method), method, preset="paper")
    if not is_baseline(method):
        assert main(["benchmark", data_of(method), "--methods", method, "--preset", "paper", "--workers", "1"]) == 2
        assert "`preset='paper'` must be asked for a" in capsys.readouterr().err
    assert not list(home.rglob("*.safetensors"))


def test_every_verb_in_a_process_of_its_own(home: Path) -> None:
    """`distill` too: `test_cli.py` starts, stops and resumes it in processes; here its run is made in this one."""
    few = ["--repeats", "1", "--steps", "2", "--quiet"]
    (home / "tiny.toml").write_text('model = "convnet(width=4)"\nsnapshots = 1\nexperts = 1\naugment = ""\n')
    assert main(["distill", "digits", "random", *TINY["random"], "--out", "run", "--quiet"]) == 0
    report = ["report", "run"]
    first = [
        ["evaluate", "run", "digits", *few],
        ["benchmark", "digits-graphs", "--methods", "mirage", "--baselines", "random", *few, "--workers", "1"],
        ["buffer", "digits", "tiny.toml", "--quiet"],
        ["teach", "digits", NET, "--recipe.epochs", "2", "--quiet"],
        ["estimate", "digits", "MTT", "--ipc=1"],
        ["measure", "run", "digits", "--metrics", "neighbours", "--quiet"],
        ["verify", "run"],
        ["merge", "run", "--out", "merged.safetensors"],
        ["list", "rded"],
    ]
    assert {"distill", "work", *(words[0] for words in [*first, report])} == VERBS.keys()  # work: tests/work
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = partial(subprocess.run, env=environment, capture_output=True, text=True, check=False)
    for stage in (first, [report]):
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(command, [[*MODULE, *words, "--json"] for words in stage]))
        for words, one in zip(stage, done, strict=True):
            assert one.returncode == 0, (words, one.stderr)
            assert isinstance(json.loads(one.stdout), dict), words
    assert (home / "run" / "index.html").exists()
    rows = json.loads((home / "runs" / "digits-graphs-benchmark" / "leaderboard.json").read_text())["rows"]
    assert [(row["set"], row.get("refused")) for row in rows if row["networks"]] == [("random", None), ("mirage", None)]
