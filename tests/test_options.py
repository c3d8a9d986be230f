"""What a user says by name is in two dataclasses: verbs, command line and run folder have it from there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.jobs import DATA

import dd
from dd.base.files import read_json
from dd.base.shapes import filled
from dd.cli.benchmark import BenchmarkOptions
from dd.cli.options import BufferOptions, Common, EstimateOptions, EvaluateOptions, keywords
from dd.cli.teach import TeachOptions
from dd.cli.twins import DistillOptions
from dd.data import About, Source, about
from dd.data.kinds import is_graph_data
from dd.errors import InputError
from dd.methods import Run, RunOptions
from dd.run.resolve import load_real

VERBS: dict[Callable[..., Any], type[Common]] = {
    dd.distill: DistillOptions,
    dd.estimate: EstimateOptions,
    dd.buffer: BufferOptions,
    dd.teach: TeachOptions,
    dd.evaluate: EvaluateOptions,
    dd.benchmark: BenchmarkOptions,
}
OTHERWISE = {
    # the graphs' own split, where a set has one
    (dd.evaluate, "split"): None,
    (dd.benchmark, "split"): None,
    # of another training: that of fresh networks, which is never chosen by itself
}
SHELL = {"json", "quiet", "restart", "plan", "seeds", "workers", "path", "data", "recipe", "models", "methods"}
"""What only the command line has, or what is given to a verb by its place."""
UNUSED = {dd.estimate: {"store", "seed", "threads"}, dd.buffer: {"seed"}, dd.teach: {"seed"}}
"""Options of every verb of the command line that these have no use for."""


def names_of(verb: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keywords of a verb."""
    return {p.name: p for p in inspect.signature(verb).parameters.values() if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_signature_dataclass_and_command_line_say_the_same(verb: Callable[..., Any]) -> None:
    known, shell = names_of(verb), {f.name: f for f in dataclasses.fields(VERBS[verb])}
    everywhere = {f.name: f.default for kind in (Source, RunOptions) for f in dataclasses.fields(kind)}
    for name in known.keys() & everywhere.keys():
        assert known[name].default == OTHERWISE.get((verb, name), everywhere[name]), name
        assert shell[name].default == known[name].default, name
    wanted = set(everywhere) - {"split"} if "split" in known else {"root", "download", "size", "aspect"}
    assert wanted - {f.name for f in dataclasses.fields(RunOptions)} <= known.keys()
    extra = shell.keys() - known.keys() - SHELL - UNUSED.get(verb, set())
    assert extra <= ({"split"} if "split" not in known else set())  # hidden there
    missing = known.keys() - shell.keys() - {"resume", "progress", "out", "committee", "executor"}
    assert not missing, "say it on the command line too, in `dd/cli/options.py`"


def test_every_option_of_a_run_is_one_of_distill() -> None:
    fields = {f.name for f in dataclasses.fields(Run)} - {"parts"}  # where they are follows from the store
    assert fields <= names_of(dd.distill).keys()
    assert {f.name for f in dataclasses.fields(Source)} <= names_of(dd.distill).keys()


def test_a_hidden_option_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    from dd.cli.main import main

    with pytest.raises(SystemExit):
        main(["buffer", "digits", "digits-plain", "--split", "1"])
    assert "split" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["buffer", "--help"])
    assert "--split" not in capsys.readouterr().out


CHANGED = {"seed": 3, "precision": "fp64", "engine": "unroll", "micro_batch": 2, "reuse": 1, "compile": True}


def test_the_request_of_a_run_has_every_option_that_changes_it(tmp_path: Path) -> None:
    plain = Run().request()
    for f in dataclasses.fields(RunOptions):
        assert Run(**{f.name: CHANGED[f.name]}).request() != plain, f.name
    for other in ({"device": torch.device("meta")}, {"store": tmp_path}, {"progress": print}):
        assert Run(**other).request() == plain  # type: ignore[arg-type]
    fields = {"ipc": 1, "iterations": 1, "train": dd.TrainRecipe(steps=1, model="convnet(width=4)")}
    dd.distill(DATA, "dm", seed=5, precision="fp64", progress=False, out=tmp_path / "run", device="cpu", **fields)
    told = read_json(tmp_path / "run" / "run.json")["request"]
    assert list(told) == ["data", "method", "protocol", "seed", "precision", "engine"] or set(told) >= plain.keys()
    assert {name: told[name] for name in plain} == Run(seed=5, precision="fp64").request()


def test_a_dataclass_is_filled_by_name() -> None:
    def verb(data: object, *, seed: int = 1, root: str | None = None, **fields: Any) -> tuple[Source, Run]:
        given = locals()
        return filled(Source, given), filled(Run, given, seed=seed + 1)

    source, run = verb("digits", root="here", ipc=3)
    assert source == Source(root="here")
    assert run.seed == 2
    assert keywords(source, verb) == {"root": None} | {"root": "here"}


def test_an_unknown_option_of_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown option of `report` 'rot'; known: aspect, download, root"):
        dd.report(tmp_path, rot="x")


PAIR = (np.zeros((20, 1, 5, 5), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None], np.arange(20) % 2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "Own Set" / part / name).mkdir(parents=True)
            for i in range(10):
                tint = 20 * i + (5 if name == "b" else 0) + (3 if part == "test" else 0)
                Image.new("RGB", (8, 8), (tint, 255 - tint, tint // 2)).save(
                    tmp_path / "Own Set" / part / name / f"{i}.png"
                )
    return tmp_path / "Own Set"


def test_what_data_are_is_known_before_they_are_read(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    graphs = dd.load_graphs("digits-graphs")
    forms: list[object] = ["digits", "DIGITS", DATA, PAIR, dd.Images(train=PAIR, name="x\n"), graphs, "Digits-Graphs"]
    forms += [f"imagefolder:{pictures}", "imagefolder:."]
    for data in forms:
        real, known = load_real(data), about(data)
        assert (known.kind, known.name) == (real.kind, real.name), data
        assert known.kind == ("graphs" if is_graph_data(data) else "images")
    assert [about(data).card for data in forms[:4]] == [True, True, False, False]
    assert about(dataclasses.replace(graphs, name="NCI1")).name == "NCI1"
    with pytest.raises(InputError, match=r"unknown data set 'digit'; known: .*Did you mean digits"):
        about("digit")
    assert about("smiles:some/mine.csv#y") == About("graphs", "mine")


def test_a_folder_with_the_name_of_a_row_has_that_row_on_the_command_line_too(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dd.cli.main import main

    place = pictures.rename(pictures.with_name("cifar10"))
    with pytest.raises(SystemExit):
        main(["distill", f"imagefolder:{place}", "mtt", "--preset", "cpu", "--help"])
    shown = capsys.readouterr().out
    assert f"(default: {dd.methods.presets.preset('mtt', 'cifar10', 10, 'cpu').fields['student_steps']})" in shown


@pytest.mark.parametrize(
    ("made", "argument"),
    [
        (lambda: dd.MTT(expert={"whiten": True}), "expert"),
        (lambda: dd.DM(expert={"whiten": True}), "expert"),
        (lambda: dd.DM(expert=None), "expert"),
        (lambda: dd.DM(train={"steps": 5}), "train"),
        (lambda: dd.INFER(teacher=5), "teacher"),
        (lambda: dd.DM(statistic=np.array([1, 2])), "statistic"),
        (lambda: dd.MTT(labels=np.array([1, 2])), "labels"),
        (lambda: dd.INFER(compensators=np.array([1, 2])), "compensators"),
        (lambda: dd.TrainRecipe(loss=np.array([1, 2])), "loss"),
        (lambda: dd.ExpertRecipe(step=np.array([1, 2])), "step"),
        (lambda: dd.ExpertRecipe(penalty_form=np.array([1, 2])), "penalty_form"),
        (lambda: dd.ExpertRecipe(augment_mode=np.array([1, 2])), "mode"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_asked(made: Any, argument: str) -> None:
    """A dict in place of a recipe ended in an AttributeError, an array in place of a word in numpy's ValueError."""
    with pytest.raises(InputError, match=f"`{argument}` must be|unknown {argument}"):
        made()
