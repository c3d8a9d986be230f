"""Work lists: plans, their units, shares of them, executors; what is made is what one process makes, to the byte."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from reference.workers import AtOnce, Killing

import dd
from dd.base.files import read_json, read_jsonl
from dd.base.leases import lease_of, still_held
from dd.base.locks import locked
from dd.cli.main import main
from dd.run.plans import Plan
from dd.run.work import Notes, WorkUnit
from dd.work.lists import UNITS, list_units, run_units

EXPERT: dict[str, Any] = {
    "model": "convnet(width=4)",
    "augment": "",
    "batch_size": 16,
    "experts": 2,
    "snapshots": 3,
    "snapshot_every": 2,
    "snapshot_unit": "step",
}
MTT: dict[str, Any] = {
    "ipc": 1,
    "expert": EXPERT,
    "iterations": 2,
    "student_steps": 2,
    "expert_epochs": 1,
    "max_start_epoch": 3,
    "train": {"steps": 2},
    "device": "cpu",
    "threads": 1,
    "progress": False,
}
BOARD: dict[str, Any] = {
    "methods": ["infer"],  # which ipc 1 is too small for: a row that says so
    "ipc": 1,
    "models": ["mlp"],
    "repeats": 1,
    "steps": 2,
    "seeds": 3,
    "baselines": ["random", "class_mean"],
    "device": "cpu",
    "threads": 1,
    "progress": False,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states(file: Path) -> dict[str, str]:
    return {unit["name"]: unit["state"] for unit in list_units(file)}


def sets_in(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.rglob("synthetic.safetensors")}


def test_shares_make_experts_and_sets_and_the_verb_finds_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dd.distill_many("digits", "mtt", seeds=(0, 1), out=home / "alone", store=home / "one", **MTT)
    given = {**MTT, "seeds": (0, 1), "out": "shared", "store": "two"}
    file = dd.plan("distill", "plan.json", data="digits", method="mtt", **given)
    assert not (home / "shared").exists()
    assert states(file) == dict.fromkeys(["expert-00000", "expert-00001", "seed0", "seed1"], "missing")
    told = run_units(file, "1/2", progress=False)
    assert {name: one.state for name, one in told.items()} == {"expert-00000": "done", "seed0": "done"}
    assert states(file) == {"expert-00000": "done", "expert-00001": "done", "seed0": "done", "seed1": "missing"}
    run_units(file, "2/2", progress=False)
    assert sets_in(home / "shared") == sets_in(home / "alone")
    monkeypatch.setattr("dd.run.distill._run", None)  # nothing is made any more
    assert len(dd.distill_many("digits", "mtt", seeds=(0, 1), out="shared", store="two", **MTT)) == 2


def test_a_pool_loses_a_worker_and_nothing_else(home: Path) -> None:
    dd.distill_many("digits", "mtt", seeds=(0, 1), out=home / "alone", store=home / "one", **MTT)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        killing = Killing(pool, "expert-00001", home / "flag")
        dd.distill_many("digits", "mtt", seeds=(0, 1), out=home / "shared", store=home / "two", executor=killing, **MTT)
    assert sets_in(home / "shared") == sets_in(home / "alone")
    log = next((home / "shared").glob("plan-*.work")) / "log.jsonl"
    told = " ".join(row["text"] for row in read_jsonl(log))
    assert "expert-00001: its worker was lost (BrokenProcessPool" in told
    assert "the executor takes no more work (BrokenProcessPool" in told


def test_texts_alone_are_submitted_and_a_lost_unit_is_tried_again(home: Path) -> None:
    class Losing(AtOnce):
        def submit(self, function: Any, *given: Any) -> Any:
            if len(self.seen) < 2:
                self.seen.append(given)
                return type("Lost", (), {"result": lambda self: (_ for _ in ()).throw(OSError("gone"))})()
            return super().submit(function, *given)

    executor = Losing()
    dd.benchmark("digits", out="board", executor=executor, **BOARD)
    units = [unit for _, unit in executor.seen]
    assert units[:2] == units[-2:]  # the lost ones
    assert len(units) == 9 + 2
    assert all(isinstance(text, str) for given in executor.seen for text in given)
    cells = {path.name: read_json(path)["values"] for path in (home / "board" / "cells").iterdir()}
    dd.benchmark("digits", out="alone", **BOARD)
    assert cells == {path.name: read_json(path)["values"] for path in (home / "alone" / "cells").iterdir()}


def test_buffers_and_teachers_by_an_executor(home: Path) -> None:
    recipe = home / "own.toml"
    recipe.write_text('model = "convnet(width=4)"\naugment = ""\nbatch_size = 16\nexperts = 2\nsnapshots = 2\n')
    given: dict[str, Any] = {"snapshots": 1, "threads": 1, "progress": False}
    alone = dd.buffer("digits", str(recipe), store=home / "one", **given)
    shared = dd.buffer("digits", str(recipe), store=home / "two", executor=AtOnce(), **given)
    assert [shared.path(s).read_bytes() for s in (0, 1)] == [alone.path(s).read_bytes() for s in (0, 1)]
    executor = AtOnce()
    given = {"epochs": 1, "min_steps": 30, "store": home / "two", "threads": 1, "progress": False}
    made = dd.teach("digits", ["convnet(norm=batch,width=8)"], executor=executor, **given)
    assert len(executor.seen) == 1
    assert made[0].sha256 == dd.teach("digits", ["convnet(norm=batch,width=8)"], **given)[0].sha256


def test_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "digits", "random", "--ipc", "1", "--seeds", "0", "1", "2", "--out", "out", "--quiet"]
    assert main([*words, "--plan", "plan.json"]) == 0
    assert "`ddistill work list plan.json`" in capsys.readouterr().out
    assert not (home / "out").exists()
    assert main(["work", "run", "plan.json", "--only", "2/3", "--quiet"]) == 0
    assert capsys.readouterr().out == "1 unit of plan.json is done\n"
    assert main(["work", "list", "plan.json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(unit["name"], unit["kind"], unit["state"]) for unit in told] == [
        ("seed0", "set", "missing"),
        ("seed1", "set", "done"),
        ("seed2", "set", "missing"),
    ]
    assert told[1]["folder"] == str(home / "out" / "seed1")
    assert main(["work", "run", "plan.json", "--unit", "seed2", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == ["seed2"]
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["sets"]) == 3


def random_plan(file: str = "plan.json", **changes: Any) -> Path:
    given = {"data": "digits", "method": "random", "ipc": 1, "seeds": (0, 1), "out": "out", **changes}
    return dd.plan("distill", file, **given)


def test_who_holds_a_unit_is_told_and_others_go_on(home: Path) -> None:
    file = random_plan()
    notes = Notes(file)
    with locked(notes.folder / ".seed0.lock"):
        told = {unit["name"]: unit for unit in list_units(file)}
        assert told["seed0"]["state"] == "held"
        assert told["seed0"]["by"].startswith("process ")
        assert told["seed1"]["state"] == "missing"
    assert states(file)["seed0"] == "missing"


def test_a_unit_whose_worker_is_gone_is_made_again_and_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = random_plan()
    notes = Notes(file)
    unit = next(one for one in __import__("dd.run.distill", fromlist=["x"]).distill_units(Plan.read(file)))
    notes.write(unit, "begun", 1)
    assert run_units(file)["seed0"].tries == 2
    assert "seed0 was begun by process" in capsys.readouterr().err
    assert [row["text"].split(" by ")[0] for row in read_jsonl(notes.folder / "log.jsonl")] == ["seed0 was begun"]


def test_a_failure_is_noted_and_others_go_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = random_plan()
    other = dd.distill("digits", "random", ipc=2, out="out/seed0", progress=False)
    assert main(["work", "run", str(file), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "not done is 1 of 2 units; first seed0: `out` = " in error
    assert "holds another run (ipc: 2 there, 1 asked for)" in error.replace("method.", "")
    assert states(file) == {"seed0": "failed", "seed1": "done"}
    assert dd.load("out/seed0") == other


@pytest.mark.parametrize("only", ["5/4", "0/4", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_shares_that_are_none(home: Path, only: str) -> None:
    with pytest.raises(dd.InputError, match=r"`only` must be `i/n`, the i-th of n shares, with 1 ≤ i ≤ n; got"):
        run_units(random_plan(), only)


def test_a_fault_of_whatever_kind_is_noted_and_others_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(unit: WorkUnit) -> WorkUnit:
        def make() -> None:
            raise RuntimeError("out of memory")

        return dataclasses.replace(unit, make=make) if unit.name == "seed0" else unit

    before = UNITS["distill"]
    monkeypatch.setattr("dd.work.lists.UNITS", {"distill": lambda plan: [broken(unit) for unit in before(plan)]})
    file = random_plan()
    told = run_units(file)
    assert told["seed0"].error == "RuntimeError: out of memory. DD_DEBUG=1 shows where."
    assert (told["seed0"].state, told["seed1"].state) == ("failed", "done")
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("DD_DEBUG", "1")
    run_units(file)
    assert "Traceback" in capsys.readouterr().err


def test_a_submit_that_gives_nothing_is_told_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Nothing:
        def submit(self, *_: Any) -> None:
            return None

    made = dd.distill_many("digits", "random", ipc=1, seeds=(0, 1), out="out", executor=Nothing())
    assert len(made) == 2
    told = "the executor takes no more work (TypeError: `submit` gave a NoneType, which has no `result`); 2 units"
    assert capsys.readouterr().err.count(told) == 1
    with pytest.raises(dd.InputError, match=r"`executor` must be an object with `submit"):
        dd.distill_many("digits", "random", ipc=1, out="out", executor=Nothing)


@pytest.mark.parametrize("only", [3, 0.5, (1, 2), b"1/2"])
def test_shares_that_are_no_text(home: Path, only: Any) -> None:
    with pytest.raises(dd.InputError, match=r"`only` must be `i/n`, the i-th of n shares, with 1 ≤ i ≤ n; got"):
        run_units(random_plan(), only)


def test_who_holds_a_lease_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_LEASE_SECONDS", "10")
    file = random_plan()
    lease = lease_of(Notes(file).folder / ".seed0.lock")
    lease.parent.mkdir()
    lease.write_text("process 1 on elsewhere\n10\nanother start\nword")
    told = {unit["name"]: unit for unit in list_units(file)}
    assert (told["seed0"]["state"], told["seed0"]["by"]) == ("held", "process 1 on elsewhere")
    assert told["seed1"]["state"] == "missing"
    lease.unlink()
    assert states(file)["seed0"] == "missing"


def test_plans_that_are_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = random_plan()
    assert random_plan() == file  # the same one
    with pytest.raises(dd.InputError, match=r"`plan` must be a new file; got plan.json, which is there already. Remo"):
        random_plan(ipc=2)
    with pytest.raises(dd.InputError, match=r"unknown unit 'seed7'; known: seed0, seed1"):
        run_units(file, unit="seed7")
    with pytest.raises(dd.InputError, match="`only` must be left out beside `unit`"):
        run_units(file, "1/2", "seed0")
    with pytest.raises(dd.MissingError):
        run_units("none.json")
    monkeypatch.setattr("dd.run.plans.__version__", "9.9")
    with pytest.raises(dd.DamagedError, match=r"is a plan of version .* \(format 1\); this is 9.9 .* Write it anew"):
        run_units(file)
    monkeypatch.undo()
    monkeypatch.chdir(home)
    text = file.read_text()
    file.write_text(text.replace("random", "rondam"))
    with pytest.raises(dd.DamagedError, match="does not match its checksum"):
        run_units(file)
    dd.distill("digits", "random", ipc=1, out="own", progress=False)
    with pytest.raises(dd.DamagedError, match=r"run.json is no plan of work. Write one: a verb of `ddistill` with"):
        run_units("own/run.json")


def test_calls_that_cannot_be_shared(home: Path) -> None:
    pictures = dd.testing.made.pictures()
    given: dict[str, Any] = {"ipc": 1, "progress": False}
    with pytest.raises(dd.InputError, match=r"`executor` must be an object with `submit\(function, \*arguments\)`; "):
        dd.distill("digits", "random", out="out", executor=3, **given)
    with pytest.raises(dd.InputError, match="`out` must be a folder that all workers see, where work is shared"):
        dd.distill_many("digits", "random", executor=AtOnce(), **given)
    with pytest.raises(dd.InputError, match=r"`data` must be what a file can hold where work is shared; got an Im"):
        dd.distill(pictures, "random", out="out", executor=AtOnce(), **given)
    with pytest.raises(dd.InputError, match="`resume` must be left out where work is shared"):
        random_plan(resume=False)
    with pytest.raises(dd.InputError, match=r"`arguments of the plan` must be those of `buffer`; got .*'expert'"):
        dd.plan("buffer", "b.json", data="digits", recipe="ftd-alpha0.3-zca", expert=3)
    with pytest.raises(dd.InputError, match="unknown verb with plans 'measure'; known: benchmark, buffer, distill, ev"):
        dd.plan("measure", "b.json")


def test_data_that_is_not_there_fails_in_a_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = random_plan(data="cifar10", root="nowhere")
    assert main(["work", "run", str(file)]) == 1
    assert capsys.readouterr().err.startswith("ddistill work: the files of 'cifar10' are not there; looked for")


def test_a_run_that_was_taken_over_stops(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_LEASE_SECONDS", "0.05")
    lease = lease_of(home / "out" / ".run.lock")

    def taken(step: Any, *_: Any) -> None:
        lease.write_text("process 1 on elsewhere\n60\nanother start\nword")
        end = time.monotonic() + 20
        while still_held(home / "out" / ".run.lock") and time.monotonic() < end:
            time.sleep(0.01)

    monkeypatch.setattr("dd.evaluation.selection.Selector.offer", taken)
    with pytest.raises(
        dd.MissingError, match="out was taken over by process 1 on elsewhere: this process had given no"
    ):
        dd.distill("digits", "mtt", out=home / "out", **{**MTT, "iterations": 40})
    assert not (home / "out" / "checkpoint.safetensors").exists()
    assert lease.exists()
