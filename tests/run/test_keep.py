"""What is measured of a run is kept in its folder, `out=` says where else, and no number is lost to the disk."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base import files
from dd.base.files import read_json
from dd.cli.main import main
from dd.cli.measure import METRICS
from dd.errors import InputError, MissingError, WriteError
from dd.evaluation import NetworkLearner
from dd.run.folder import MEASURES
from dd.run.keep import place_of
from dd.synthetic.file import Kept, mark_kept

FAST: dict[str, Any] = {"models": ["mlp"], "repeats": 1, "steps": 2, "baselines": (), "progress": False}
GRAPHS: dict[str, Any] = {**FAST, "models": ["gin(width=4)"]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A set of random digits, distilled into `run` below the current folder."""
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return dd.distill("digits", "random", ipc=1, out="run", progress=False)


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_report_after_evaluate_as_the_readme_says(run: Any) -> None:
    report = dd.evaluate(run, "digits", **{**FAST, "baselines": ("random",)})
    assert read_json(Path("run/report.json")) == report.to_json()
    assert report.command == "ddistill evaluate run digits --models mlp --baselines random --repeats 1 --steps 2"
    page = dd.report("run")
    assert page == Path("run/index.html")
    assert report.command in page.read_text()


def test_python_and_shell_write_the_same(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "run", "digits", "--models", "mlp", "--repeats", "1", "--steps", "2", "--json", "--quiet"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert read_json(Path("run/report.json")) == told
    first = Path("run/index.html").read_text()
    assert "<pre" in first
    report = dd.evaluate("run", "digits", **{**FAST, "baselines": None})
    again = read_json(Path("run/report.json"))
    assert report.command == told["command"]
    for kept in (told, again):
        for row in kept["rows"]:
            row.pop("seconds")
    assert again == told


def test_the_command_of_a_report_evaluates_again(run: Any) -> None:
    report = dd.evaluate(run, "digits", lr=0.5, seed=3, **{**FAST, "baselines": None})
    assert report.command is not None
    assert main([*report.command.split()[1:], "--quiet"]) == 0
    assert read_json(Path("run/report.json"))["rows"][0]["values"] == list(report.rows[0].values)


@pytest.mark.parametrize(
    "given", [{"data": "images"}, {"size": (8, 8)}, {"baselines": ()}], ids=["own data", "two sides", "no baselines"]
)
def test_no_command_where_no_shell_can_say_it(run: Any, given: dict[str, Any]) -> None:
    data: Any = dd.load_images("digits") if given.pop("data", None) else "digits"
    assert dd.evaluate(run, data, **{**FAST, "baselines": ("random",), **given}).command is None
    assert "ddistill evaluate" not in Path("run/index.html").read_text()


def test_a_later_evaluation_replaces_the_report(run: Any) -> None:
    dd.evaluate(run, "digits", **FAST)
    other = dd.evaluate(run, "digits", **{**FAST, "steps": 3})
    assert read_json(Path("run/report.json")) == other.to_json()


def test_an_evaluation_that_is_replaced_is_named_and_one_on_other_data_is_kept(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = {**FAST, "progress": None}
    first = dd.evaluate(run, "digits", **loud)
    assert "replaced" not in capsys.readouterr().err
    score = f"accuracy {100 * first.mean:.1f} % with mlp on digits (test)"
    dd.evaluate(run, "digits", **loud)
    assert f"report.json is replaced; it had {score}." in capsys.readouterr().err
    assert not Path("run/report-1.json").exists()
    found = dd.load_images("digits")
    train = dd.Images(train=found.train, test=found.train, classes=found.classes, name="mine")
    with pytest.warns(UserWarning, match="made from"):
        dd.evaluate(run, train, **loud)
    assert f"what it had is kept as run/report-1.json: {score}." in capsys.readouterr().err
    assert read_json(Path("run/report-1.json"))["rows"][0]["values"] == list(first.rows[0].values)
    assert read_json(Path("run/report.json"))["split"] == "training data"
    dd.evaluate(run, "digits", **FAST)
    assert read_json(Path("run/report-2.json"))["split"] == "training data"
    assert capsys.readouterr().err == ""
    dd.verify("run")
    Path("run/report-mine.json").write_text("{}")
    dd.distill("digits", "random", ipc=1, seed=1, out="run", resume=False, progress=False)
    assert names("run") == {"synthetic.safetensors", "run.json", "log.jsonl", "report-mine.json"}


def test_sets_that_know_their_run(run: Any) -> None:
    finished = dd.distill("digits", "random", ipc=1, out="run", progress=False)
    for small in (run, finished, dd.load("run"), copy.deepcopy(run), run.attach(dd.load_images("digits").train)):
        assert small.kept is not None
        assert small.kept.current
        assert place_of(small, None, "report.json").path == Path("run/report.json")


def test_sets_that_are_of_no_run(run: Any) -> None:
    changed = dataclasses.replace(run, images=-run.images)
    for small in (dd.load("run/synthetic.safetensors"), changed, "run/synthetic.safetensors"):
        assert place_of(small, None, "report.json").path is None
    before = names("run")
    assert dd.evaluate("run/synthetic.safetensors", "digits", **FAST).command is None
    assert names("run") == before


def test_a_run_that_was_replaced_or_removed_is_no_longer_the_sets(run: Any) -> None:
    dd.evaluate(run, "digits", **FAST)
    dd.calibration(run, "digits", repeats=1, steps=2, progress=False)
    other = dd.distill("digits", "random", ipc=1, seed=1, out="run", resume=False, progress=False)
    assert names("run") == {"synthetic.safetensors", "run.json", "log.jsonl"}  # the old numbers went with the old set
    dd.evaluate(run, "digits", **FAST)
    assert not Path("run/report.json").exists()
    with pytest.raises(InputError, match=r"`out` must be a folder of its own, or this set's run folder; got run"):
        dd.evaluate(run, "digits", out="run", **FAST)
    dd.evaluate(other, "digits", **FAST)
    assert Path("run/report.json").exists()
    Path("run/synthetic.safetensors").unlink()
    assert not other.kept.current


def test_soft_labels_made_hard_are_another_set(run: Any) -> None:
    soft = dataclasses.replace(run, labels=torch.eye(10)[run.labels])
    mark_kept(soft, run.kept)
    assert soft.kept is not None
    assert soft.hard().kept is None


def test_the_run_is_no_part_of_the_file(run: Any, tmp_path: Path) -> None:
    run.save("a.safetensors")
    dd.load("a.safetensors").save("b.safetensors")
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert Path("a.safetensors").read_bytes() == Path("run/synthetic.safetensors").read_bytes()
    assert dd.load("a.safetensors").kept is None
    assert str(tmp_path) not in repr(run)


def test_out_is_a_folder_a_file_or_nowhere(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = names("run")
    report = dd.evaluate(run, "digits", out="elsewhere", **FAST)
    assert read_json(Path("elsewhere/report.json")) == report.to_json()
    assert names("elsewhere") == {"report.json"}
    dd.evaluate(run, "digits", out="new/r.json", **FAST)
    assert names("new") == {"r.json"}
    dd.evaluate(run, "digits", out=False, **FAST)
    assert names("run") == before
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    dd.evaluate(run, "digits", **FAST)
    assert (tmp_path / "run" / "report.json").exists()
    assert not (tmp_path / "deeper" / "run").exists()


def test_out_means_the_same_in_the_shell(run: Any) -> None:
    words = ["digits", "--repeats", "1", "--steps", "2", "--quiet"]
    assert main(["evaluate", "run", *words, "--models", "mlp", "--out", "folder"]) == 0
    assert names("folder") == {"report.json"}
    assert main(["measure", "run", *words, "--model", "mlp", "--out", "folder"]) == 0
    assert names("folder") == {"report.json", "calibration.json", "neighbours.json"}
    assert main(["measure", "run", *words, "--model", "mlp", "--out", "all.json"]) == 0
    assert list(read_json(Path("all.json"))["measures"]) == ["calibration", "neighbours"]
    assert not {"report.json", "calibration.json"} & names("run")
    assert main(["measure", "run", *words, "--model", "mlp"]) == 0
    found = read_json(Path("run/calibration.json"))
    assert found["measures"]["calibration"] == read_json(Path("all.json"))["measures"]["calibration"]


def test_every_measure_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    assert set(MEASURES) == set(METRICS)
    for name in ("neighbours", "calibration"):
        answer = METRICS[name](run, "digits", progress=False, **({} if name == "neighbours" else {"steps": 2}))
        kept = read_json(Path("run") / f"{name}.json")
        assert kept == {"format": 1, "measures": {name: json.loads(json.dumps(answer.to_json()))}}
    for name, measure in METRICS.items():
        with pytest.raises(InputError, match="`out` must be a folder"):
            measure(run, "digits", out=7)
        with pytest.raises(WriteError, match=rf"could not write run.run.json.{name}.json: .* is no folder"):
            measure(run, "digits", out=Path("run/run.json") / f"{name}.json")


def test_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"depth": 1, "patterns": "single", "out": "trees", "progress": False}
    summary = dd.distill("digits-graphs", "mirage", budget_bytes=4096, **given)
    report = dd.evaluate(summary, "digits-graphs", **{**GRAPHS, "baselines": ("node_count",)})
    assert read_json(Path("trees/report.json")) == report.to_json()
    assert dd.report("trees").read_text().count("ddistill") == 2
    assert summary.with_recipe(steps=3).kept is None


def test_a_folder_that_cannot_be_written_is_found_before_training(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, scores = os.access, NetworkLearner.scores
    monkeypatch.setattr(files.os, "access", lambda path, mode, **_: Path(path).name != "run" and real(path, mode))
    monkeypatch.setattr("dd.evaluation.NetworkLearner.scores", lambda *_: pytest.fail("trained"))
    with pytest.raises(WriteError, match=r"could not write run.report\.json: .*run cannot be written\. Name another"):
        dd.evaluate(run, "digits", out="run", **FAST)
    assert main(["evaluate", "run", "digits", "--out", "run/x.json", "--quiet"]) == 1
    monkeypatch.setattr("dd.evaluation.NetworkLearner.scores", scores)
    with pytest.warns(UserWarning, match=r"not kept: .* Give `out=`"):  # nobody asked to write into it
        report = dd.evaluate(run, "digits", **FAST)
    assert report.rows
    assert dd.evaluate(run, "digits", out="mine", **FAST).rows  # the way out
    assert names("mine") == {"report.json"}


def test_a_full_disk_costs_no_numbers(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(WriteError, match=r"No space left on device(.|\n)*random +mlp") as failed:
        dd.evaluate(run, "digits", **FAST)
    assert isinstance(failed.value.answer, dd.EvalReport)
    with pytest.raises(WriteError, match=r"calibration on 360 test images"):
        dd.calibration(run, "digits", repeats=1, steps=2, progress=False)
    assert main(["evaluate", "run", "digits", "--models", "mlp", "--repeats", "1", "--steps", "2", "--quiet"]) == 1
    assert "accuracy %" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "got"), [(7, "7"), (True, "True"), ("note.txt", "note.txt")])
def test_what_out_cannot_be(run: Any, out: Any, got: str) -> None:
    Path("note.txt").write_text("mine")
    with pytest.raises(InputError, match=rf"`out` must be a folder.*got {got}"):
        dd.evaluate(run, "digits", out=out, **FAST)
    assert Path("note.txt").read_text() == "mine"


def test_an_answer_replaces_answers_alone(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    for name in ("mine/report.json", "package.json"):
        Path(name).write_text('{"my": "own"}')
    text = r"`out` must be a new file, or an answer that a later one replaces; got {}, which is neither"
    for out, name in (
        ("mine", "mine/report.json"),
        ("package.json", "package.json"),
        ("run/run.json", "run/run.json"),
    ):
        before = Path(name).read_bytes()
        with pytest.raises(InputError, match=text.format(name)):
            dd.evaluate(run, "digits", out=out, **FAST)
        with pytest.raises(InputError, match=text.format(name)):
            dd.neighbours(run, "digits", out=name, progress=False)
        assert Path(name).read_bytes() == before
    assert main(["measure", "run", "digits", "--metrics", "neighbours", "--out", "package.json"]) == 2
    assert "which is neither" in capsys.readouterr().err
    Path("empty.json").touch()
    for out in ("empty.json", "empty.json", "run"):
        dd.evaluate(run, "digits", out=out, **FAST)
    dd.neighbours(run, "digits", out="empty.json", progress=False)
    Path("run/report.json").write_text("{")  # the run's own, damaged: made anew
    dd.evaluate(run, "digits", **FAST)
    assert dd.verify("run")


@pytest.mark.parametrize("name", ["run/synthetic.safetensors", "run/report.json", "run/log.jsonl", "run"])
def test_a_page_replaces_pages_alone(run: Any, name: str) -> None:
    dd.evaluate(run, "digits", **FAST)
    Path("run/log.jsonl").write_text("mine")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    with pytest.raises(InputError, match=rf"`out` must be a .*; got {name}, which is"):
        dd.report("run", out=name)
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_link_to_the_run_folder_is_the_run_folder(run: Any) -> None:
    Path("link").symlink_to("run")
    dd.evaluate(run, "digits", out="link", **FAST)
    assert {"report.json", "index.html"} <= names("run")


def test_a_run_is_evaluated_from_a_folder_that_was_removed(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    dd.evaluate(run, "digits", **FAST)
    monkeypatch.chdir(tmp_path)
    assert "report.json" in names("run")


def test_report_of_a_run_that_was_not_evaluated_says_how(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingError, match=r"Run `dd.evaluate\(\"run\", data\)`, or `ddistill evaluate run DATA`"):
        dd.report("run")
    assert main(["report", "run"]) == 1
    assert "`ddistill evaluate run DATA` in a shell" in capsys.readouterr().err
    dd.evaluate("run", "digits", **FAST)  # the way out
    assert main(["report", "run"]) == 0


def test_a_folder_without_a_set_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*synthetic\.safetensors"):
        Kept.of(tmp_path)
    with pytest.raises(MissingError, match=r"no set of this library in .* Name its file; or put it there"):
        dd.load(tmp_path)
