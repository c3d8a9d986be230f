"""Run folders: for one run and one process at a time; what is not theirs stays, and what is damaged is made anew."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base.files import append_jsonl, read_json, read_jsonl, write_json
from dd.base.locks import locked
from dd.errors import DamagedError, InputError, MissingError
from dd.methods import RandomReal, Step
from dd.run import distill, folder
from dd.run.folder import OWN, PICTURES, RunFolder

OWN_REQUEST = {"seed": 0, "method": {"ipc": 1}}
REAL = dd.load_images("digits")
METHOD = dd.MTT(
    ipc=1,
    expert=dd.ExpertRecipe(
        model="mlp", augment="", batch_size=16, experts=1, snapshots=3, snapshot_every=2, snapshot_unit="step"
    ),
    iterations=4,
    student_steps=2,
    expert_epochs=1,
    max_start_epoch=3,
    lr_img=1.0,
    train=dd.TrainRecipe(steps=2),
)


def run(out: Path, seed: int = 0, **options: Any) -> dd.SyntheticImages:
    store = out.parent / "store"
    return dd.distill(REAL, METHOD, seed=seed, out=out, store=store, **{"progress": False, "device": "cpu", **options})


def interrupted(out: Path) -> Path:
    """A run that was stopped in its third iteration."""

    def stop(done: int, total: int, text: str) -> None:
        if "loss" in text and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out, progress=stop)
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def entered(folder: Path, request: dict[str, Any] = OWN_REQUEST, resume: bool = True) -> None:
    with RunFolder(folder, request, {}, resume):
        pass


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"seed": 0, "method": {"ipc": 2}}, r"method.ipc: 1 there, 2 asked for"),
        ({"seed": 0, "method": {"ipc": 1, "label_bytes": None}}, r"method.label_bytes: nothing there, None asked for"),
        ({"method": {"ipc": 1}}, r"seed: 0 there, nothing asked for"),
        (
            {"seed": 0, "method": {"batch": 1, "ipc": 2, "name": "mtt"}},
            r"method.name: nothing there, 'mtt' asked for; method.batch: .*",
        ),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path: Path, asked: dict[str, object], text: str) -> None:
    entered(tmp_path)
    with pytest.raises(InputError, match=rf"holds another run \({text}\)\. Name another folder"):
        entered(tmp_path, asked)
    with RunFolder(tmp_path, OWN_REQUEST, {}, resume=True) as folder:
        assert not folder.finished


# Files that are not the run's


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", [*OWN, *PICTURES])
def test_a_folder_with_files_of_that_name_and_no_run_is_refused(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / name).write_bytes(b"the user's own")
    text = rf"`out` must be a new folder, or one of a run; got .* which has {name} and no run.json. Name another folder"
    with pytest.raises(InputError, match=text):
        entered(tmp_path, resume=resume)
    assert content(tmp_path) == {name: b"the user's own"}
    (tmp_path / name).rename(tmp_path / "moved away")
    entered(tmp_path, resume=resume)
    assert set(content(tmp_path)) == {"moved away", "run.json"}


def test_other_files_are_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"mine")
    (tmp_path / ".notes.txt.0123abcd.part").write_bytes(b"mine")
    (tmp_path / ".synthetic.safetensors.0123abcd.part").write_bytes(b"of a killed writer")
    (tmp_path / ".synthetic.safetensors.backup.part").write_bytes(b"mine")
    entered(tmp_path)
    assert set(content(tmp_path)) == {
        "notes.txt",
        ".notes.txt.0123abcd.part",
        ".synthetic.safetensors.backup.part",
        "run.json",
    }


def test_a_users_own_set_survives_both_doors(tmp_path: Path) -> None:
    run(tmp_path / "made").save(tmp_path / "own" / "synthetic.safetensors")
    before = content(tmp_path / "own")
    for resume in (True, False):
        with pytest.raises(InputError, match=r"which has synthetic.safetensors and no run.json"):
            run(tmp_path / "own", resume=resume)
    (tmp_path / "many").mkdir()
    (tmp_path / "own").rename(tmp_path / "many" / "seed1")
    with pytest.raises(InputError, match=r"seed1, which has synthetic.safetensors and no run.json"):
        dd.distill_many(REAL, METHOD, seeds=(1,), out=tmp_path / "many", store=tmp_path / "store", progress=False)
    assert content(tmp_path / "many" / "seed1") == before


# A damaged run.json


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-20]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("[1, 2]"),
        lambda file: file.unlink(),
    ],
    ids=["truncated", "empty", "foreign", "removed"],
)
def test_run_json_is_made_anew_from_the_checkpoint(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    run(tmp_path / "whole")
    out = interrupted(tmp_path / "cut")
    damage(out / "run.json")
    with pytest.raises(InputError, match=r"holds another run \(seed: 0 there, 1 asked for\)"):
        run(out, seed=1)
    iterations: list[int] = []
    run(out, progress=lambda done, total, text: iterations.append(done) if "loss" in text else None)
    assert iterations == [3, 4]
    for name in ("synthetic.safetensors", "log.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    told, whole = (read_json(folder / "run.json") for folder in (out, tmp_path / "whole"))
    assert {**told, "seconds": 0} == {**whole, "seconds": 0}


def test_a_damaged_run_json_of_a_finished_run_costs_no_set(tmp_path: Path) -> None:
    small = run(tmp_path / "out")
    (tmp_path / "out" / "run.json").write_text('{"request": ')
    before = content(tmp_path / "out")
    text = r"run.json that cannot be used .*The set there is whole: `dd.load` reads it. Name another folder, or give "
    with pytest.raises(DamagedError, match=text + "resume=False"):
        run(tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert torch.equal(dd.load(tmp_path / "out").images, small.images)
    run(tmp_path / "out", seed=1, resume=False)
    assert dd.load(tmp_path / "out").provenance["seed"] == 1


def test_the_set_of_another_run_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        run(tmp_path / f"{seed}", seed=seed)
    (tmp_path / "1" / "synthetic.safetensors").replace(tmp_path / "0" / "synthetic.safetensors")
    with pytest.raises(DamagedError, match=r"run.json is not of the set beside it \(seed: 0 there, 1 in the set\)"):
        run(tmp_path / "0", seed=0)
    assert run(tmp_path / "0", seed=0, resume=False).provenance["seed"] == 0  # the way out


def test_the_way_out_of_a_damaged_run_json_leads_out(tmp_path: Path) -> None:
    small = run(tmp_path)
    told = (tmp_path / "run.json").read_text()
    for damage in ("{", told.replace('"seed": 0', '"seed": 1'), "{}"):
        (tmp_path / "run.json").write_text(damage)
        for read in (dd.verify, lambda path: dd.evaluate(path, "digits", progress=False)):
            with pytest.raises(DamagedError, match=r"Restore it, or distil again with resume=False") as caught:
                read(tmp_path)
            assert "emove it" not in str(caught.value)
        with pytest.raises(DamagedError, match="give resume=False") as caught:
            run(tmp_path)
        assert "emove it" not in str(caught.value)
        assert torch.equal(run(tmp_path, resume=False).images, small.images)
        assert dd.verify(tmp_path)


def test_a_run_without_a_set_says_how_to_go_on(tmp_path: Path) -> None:
    out = interrupted(tmp_path)
    for read in (dd.verify, dd.load, lambda path: dd.evaluate(path, "digits", progress=False)):
        with pytest.raises(MissingError, match=r"no set in .*: its run was not finished.* The same `distill` goes on"):
            read(out)
    run(out)
    assert dd.verify(out)


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_json_of_nobody_is_kept(tmp_path: Path, resume: bool) -> None:
    for text in ("{", '{"name": "my own"}'):
        (tmp_path / "run.json").write_text(text)
        (tmp_path / "log.jsonl").write_text("mine")
        with pytest.raises(DamagedError, match="Name another folder, or move what is there away"):
            entered(tmp_path, resume=resume)
        assert content(tmp_path) == {"run.json": text.encode(), "log.jsonl": b"mine"}


# Going on


def test_log_rows_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    out = interrupted(tmp_path / "cut")
    append_jsonl(out / "log.jsonl", [{"iteration": 3, "loss": 1.0}, {"iteration": 4, "loss": 2.0}])
    with (out / "log.jsonl").open("a") as log:
        log.write('{"iteration": 5')
    run(out)
    assert (out / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_a_checkpoint_of_the_run_that_was_replaced_is_never_gone_on_from(tmp_path: Path) -> None:
    run(tmp_path / "whole", seed=1)
    out = interrupted(tmp_path / "cut")
    write_json(out / "run.json", {**read_json(tmp_path / "whole" / "run.json"), "finished": False})
    run(out, seed=1)  # as after a stop just when resume=False had named the new run
    for name in ("synthetic.safetensors", "log.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_state_after_the_last_step_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = RunFolder.checkpoint

    def counted(self: RunFolder, step: Step, *rest: Any) -> None:
        seen.append(step.iteration)
        original(self, step, *rest)

    monkeypatch.setattr(RunFolder, "checkpoint", counted)
    run(tmp_path / "out")
    assert seen == [1, 2, 3]


# One process at a time


def test_a_run_that_is_refused_costs_the_one_that_it_was_to_replace_nothing(tmp_path: Path) -> None:
    """Its report, page and log were gone, and its own request refused, before the new method had looked at the data."""
    out = tmp_path / "run"
    run(out)
    dd.evaluate(out, REAL, repeats=1, steps=1, baselines=(), progress=False)

    def there() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir()}

    before = there()

    class Late:
        kind, name = "images", "late"

        def describe(self) -> dict[str, Any]:
            return {"name": self.name}

        def distill(self, *_: Any) -> Any:
            raise InputError("`ipc` must be smaller.")
            yield

    for method in (Late(), RandomReal(ipc=1, factor=3), RandomReal(ipc=10**4)):
        with pytest.raises(InputError):
            dd.distill(REAL, method, out=out, resume=False, progress=False)  # type: ignore[arg-type]
        assert there() == before
    run(out)
    assert run(out, seed=1, resume=False).provenance["seed"] == 1
    assert "report.json" not in there()


def test_the_second_process_is_refused_with_the_first(tmp_path: Path) -> None:
    with RunFolder(tmp_path, OWN_REQUEST, {}, resume=True):
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        for resume in (True, False):
            with pytest.raises(InputError, match=rf"is in use by {holder}\. Wait until it has finished, or name"):
                entered(tmp_path, resume=resume)
    entered(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_finished_run_is_read_while_another_process_is_at_it(tmp_path: Path) -> None:
    small = run(tmp_path / "out")
    with locked(tmp_path / "out" / ".run.lock"):
        assert torch.equal(run(tmp_path / "out").images, small.images)


def test_an_interrupted_run_leaves_no_lock(tmp_path: Path) -> None:
    out = interrupted(tmp_path / "out")
    assert not list(out.glob(".*"))


# Verification


def test_verify_compares_the_run_with_its_set(tmp_path: Path) -> None:
    for seed in (0, 1):
        run(tmp_path / str(seed), seed=seed)
    assert "every checksum matches" in dd.verify(tmp_path / "0")
    shutil.copy(tmp_path / "1" / "synthetic.safetensors", tmp_path / "0" / "synthetic.safetensors")
    with pytest.raises(DamagedError, match=r"is not of the set beside it \(seed: 0 there, 1 in the set\)"):
        dd.verify(tmp_path / "0")
    told = read_json(tmp_path / "1" / "run.json")
    told["request"]["method"]["iterations"] = 5
    write_json(tmp_path / "1" / "run.json", told)
    with pytest.raises(DamagedError, match=r"\(method.iterations: 5 there, 4 in the set\)\. Restore the one"):
        dd.verify(tmp_path / "1")
    for text, message in (("[]", "was not written by this library"), ('{"sha256": "by hand"}', "run.json is no run's")):
        (tmp_path / "1" / "run.json").write_text(text)
        with pytest.raises(DamagedError, match=message):
            dd.verify(tmp_path / "1")
    assert len(read_jsonl(tmp_path / "1" / "log.jsonl")) == 4


@pytest.mark.parametrize("when", ["while it is synced", "after it was written"])
def test_ctrl_c_while_the_log_is_written_leaves_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    run(tmp_path / "whole")
    struck = []

    def strike() -> None:
        if not struck:
            struck.append(True)
            raise KeyboardInterrupt

    def written(path: Path, rows: Any) -> None:
        append_jsonl(path, rows)
        strike()

    def synced(descriptor: int) -> None:
        log = tmp_path / "cut" / "log.jsonl"
        if log.exists() and os.path.samestat(os.fstat(descriptor), log.stat()):
            strike()

    if when == "after it was written":
        monkeypatch.setattr(folder, "append_jsonl", written)
    else:
        monkeypatch.setattr(os, "fsync", synced)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    assert struck
    told = [row["iteration"] for row in read_jsonl(tmp_path / "cut" / "log.jsonl")]
    assert told == list(range(1, len(told) + 1))
    run(tmp_path / "cut")
    for name in ("log.jsonl", "synthetic.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_rows_that_were_written_twice_are_there_once_after_going_on(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    log = interrupted(tmp_path / "cut") / "log.jsonl"
    log.write_bytes(log.read_bytes() * 2)
    run(tmp_path / "cut")
    assert log.read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_ctrl_c_while_a_preview_is_written_offers_no_candidate_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = dataclasses.replace(METHOD, candidate_every=1)
    given: dict[str, Any] = {"store": tmp_path / "store", "progress": False, "device": "cpu"}
    dd.distill(REAL, value, out=tmp_path / "whole", **given)
    seen = []

    def preview(step: Step, *_: object) -> None:
        seen.append(step.iteration)
        if len(seen) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(distill, "_preview", preview)
    with pytest.raises(KeyboardInterrupt):
        dd.distill(REAL, value, out=tmp_path / "cut", **given)
    dd.distill(REAL, value, out=tmp_path / "cut", **given)
    selections = [read_json(tmp_path / name / "run.json", "run")["selection"] for name in ("cut", "whole")]
    assert selections[0] == selections[1]
    for name in ("log.jsonl", "synthetic.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
