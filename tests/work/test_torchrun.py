"""Two ranks of a torchrun: one log, one report, and the bytes of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.workers import AtOnce

import dd
from dd.base.files import read_json, read_jsonl
from dd.base.parts import Enough, Parts
from dd.base.seeding import child_seed
from dd.cli.main import main
from dd.errors import InputError
from dd.synthetic import digest_of
from dd.work.lists import list_units, run_units

FIELDS: dict[str, Any] = {
    "ipc": 2,
    "committee": ("convnet(norm=batch,width=8)", "convnet(norm=batch,width=6)"),
    "teacher": {"epochs": 1, "min_steps": 40},
    "iterations": 2,
    "batch": 5,
    "init": "medium",
    "candidates": 6,
    "crops": 2,
    "label_epochs": 3,
    "train": {"steps": 3, "model": "convnet(width=4)", "batch_size": 8, "accumulate": 2},
    "threads": 1,
    "device": "cpu",
    "progress": False,
}
EVALUATE: dict[str, Any] = {"repeats": 3, "baselines": ("random",), "threads": 1, "device": "cpu", "progress": False}
CODE = """
import json, sys
import dd
from dd.base.progress import say
out, store, fields, evaluate = json.loads(sys.argv[1])
small = dd.distill("digits", "sre2l++", out=out, store=store, **fields)
report = dd.evaluate(out, "digits", store=store, **evaluate)
print(len(small), [row.values for row in report.rows], flush=True)
say("one of us")
"""


def ranks(words: list[str], folder: Path, count: int = 2) -> list[subprocess.CompletedProcess[str]]:
    """A group of processes with the same words, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    own = {**os.environ, **group, "DD_HOME": str(folder / "home")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    started = [subprocess.Popen(words, env={**own, "RANK": str(rank)}, **pipes) for rank in range(count)]
    ended = []
    for process in started:
        out, error = process.communicate(timeout=300)
        ended.append(subprocess.CompletedProcess(words, process.returncode, out, error))
    return ended


def test_two_ranks_make_the_bytes_of_one(tmp_path: Path) -> None:
    alone = dd.distill("digits", "sre2l++", out=tmp_path / "alone", store=tmp_path / "one", **FIELDS)
    report = dd.evaluate(tmp_path / "alone", "digits", store=tmp_path / "one", **EVALUATE)
    told = json.dumps([str(tmp_path / "shared"), str(tmp_path / "two"), FIELDS, EVALUATE])
    first, second = ranks([sys.executable, "-c", CODE, told], tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    values = f"20 {[row.values for row in report.rows]}\n"
    assert (first.stdout, second.stdout) == (values + "one of us\n", values)
    names = [
        "synthetic.safetensors",
        *(p.relative_to(tmp_path / "alone") for p in (tmp_path / "alone").glob("labels/*/*")),
    ]
    assert len(names) > 2
    for name in names:
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert digest_of(dd.load(tmp_path / "shared")) == digest_of(alone)
    logs = [read_jsonl(tmp_path / run / "log.jsonl") for run in ("alone", "shared")]
    assert logs[0] == logs[1]
    rows = [read_json(tmp_path / run / "report.json")["rows"] for run in ("alone", "shared")]
    assert [[row["values"], row["recall"]] for row in rows[0]] == [[row["values"], row["recall"]] for row in rows[1]]
    assert not list((tmp_path / "two" / "parts").glob("*"))


TOGETHER = """
import sys
import dd
from dd.errors import DDError
models = ["convnet(width=4)", "convnet(norm=batch,width=6)"]
recipe = {"epochs": 1, "min_steps": 12, "batch_size": 100}
fields = {"device": "cpu", "threads": 1, "progress": False}
for store, count in (("two", 2), ("again", 2), ("one", 3)):
    try:
        made = dd.teach("digits", models, ranks=count, store=f"{sys.argv[1]}/{store}", **recipe, **fields)
        print(*[teacher.sha256 for teacher in made])
    except DDError as error:
        print(error)
"""


def test_a_teacher_is_trained_by_all_ranks_as_one(tmp_path: Path) -> None:
    recipe = {"epochs": 1, "min_steps": 12, "batch_size": 100}
    models = ["convnet(width=4)", "convnet(norm=batch,width=6)"]
    given: dict[str, Any] = {**recipe, "device": "cpu", "threads": 1, "progress": False}
    alone = dd.teach("digits", models, store=tmp_path / "one", **given)
    both = ranks([sys.executable, "-c", TOGETHER, str(tmp_path)], tmp_path)
    assert [one.returncode for one in both] == [0, 0], both[0].stderr + both[1].stderr
    told = [one.stdout.splitlines() for one in both]
    assert len({line for lines in told for line in lines[:2]}) == 1, "bytes of two ranks, in both stores"
    assert all("2 processes; got 3" in lines[2] for lines in told)
    teachers = tmp_path / "two" / "teachers"
    found = dd.teach("digits", models, ranks=2, store=tmp_path / "two", **given)  # one process finds them
    assert [teacher.sha256 for teacher in found] == told[0][0].split()
    here = [
        {path.name for path in folder.glob("*.safetensors")} for folder in (teachers, tmp_path / "one" / "teachers")
    ]
    assert len(here[0]) == len(here[1]) == 2
    assert not here[0] & here[1], "the number of ranks is in the key"
    start = dd.models.build(models[0], channels=1, classes=10, size=(8, 8), seed=child_seed(0, "teacher"))
    ends = [torch.cat([p.flatten() for p in teacher.module.parameters()]) for teacher in (found[0], alone[0])]
    moved = ends[1] - torch.cat([p.detach().flatten() for p in start.parameters()])
    assert float((ends[0] - ends[1]).norm()) < 1e-3 * float(moved.norm()), "without batch norms it is the same training"
    with pytest.raises(
        InputError, match=r"`teacher.ranks` must be .*, one process; got 2. Start `teach` or `distill` by `torchrun"
    ):
        dd.teach("digits", models, ranks=2, store=tmp_path / "one", **given)


ENDS = """
import os, sys
import dd
from dd.errors import DDError
recipe = {"epochs": 3, "min_steps": 12, "batch_size": 100, "ranks": 2}
import dd.teachers.train as train
before = train.network
def network(*given):
    net = before(*given)
    if os.environ["RANK"] == "1":
        net.register_forward_pre_hook(lambda *_: os._exit(9))
    return net
train.network = network
try:
    dd.teach("digits", ["convnet(width=4)"], **recipe, store=sys.argv[1], device="cpu", threads=1, progress=False)
except DDError as error:
    print(type(error).__name__, error)
"""


def test_a_rank_that_ends_in_the_training_of_a_teacher_is_told_in_a_line(tmp_path: Path) -> None:
    first, second = ranks([sys.executable, "-c", ENDS, str(tmp_path / "store")], tmp_path)
    assert second.returncode == 9
    assert first.stdout.startswith("MissingError another process of this torchrun ended before its work was done ("), (
        first.stderr
    )
    assert "What it stored stays; run all of them again." in first.stdout


OTHERWISE = """
import os, sys
import dd
from dd.errors import DDError
rank = int(os.environ["RANK"])
try:
    dd.distill("digits", "random", ipc=1 + rank, out=sys.argv[1], progress=False)
except DDError as error:
    print(type(error).__name__, error)
if rank:
    __import__("dd.base.parallel", fromlist=["x"]).__version__ = "9.9"
try:
    dd.distill("digits", "random", ipc=1, out=sys.argv[1], progress=False)
except DDError as error:
    print(type(error).__name__, error)
"""


def test_ranks_that_ask_for_different_things_are_refused(tmp_path: Path) -> None:
    for one in ranks([sys.executable, "-c", OTHERWISE, str(tmp_path / "out")], tmp_path):
        first, second = one.stdout.splitlines()
        assert first.startswith(
            "InputError `ipc` must be the same in all processes, 1 in rank 0; got 2 in rank 1. Start all of them with"
        ), one.stderr
        assert second.startswith("InputError `version` must be the same in all processes, ")
    assert not (tmp_path / "out").exists()


def test_a_set_of_teachers_of_all_ranks_is_that_of_one_process_that_finds_them(tmp_path: Path) -> None:
    fields = {**FIELDS, "teacher": {**FIELDS["teacher"], "ranks": 2}}
    told = json.dumps([str(tmp_path / "shared"), str(tmp_path / "two"), fields, {**EVALUATE, "repeats": 1}])
    both = ranks([sys.executable, "-c", CODE, told], tmp_path)
    assert [one.returncode for one in both] == [0, 0], both[0].stderr + both[1].stderr
    dd.distill("digits", "sre2l++", out=tmp_path / "alone", store=tmp_path / "two", **fields)
    made, wanted = (tmp_path / run / "synthetic.safetensors" for run in ("shared", "alone"))
    assert made.read_bytes() == wanted.read_bytes()


def test_the_parts_of_a_set_are_units_of_its_plan(tmp_path: Path) -> None:
    dd.distill("digits", "sre2l++", out=tmp_path / "alone", store=tmp_path / "store", **FIELDS)
    given = {**FIELDS, "out": tmp_path / "shared", "store": tmp_path / "store"}
    file = dd.plan("distill", tmp_path / "plan.json", data="digits", method="sre2l++", **given)
    names = [unit["name"] for unit in list_units(file) if unit["kind"] == "part"]
    kinds = [name.split("-")[1] for name in names]
    assert {kind: kinds.count(kind) for kind in kinds} == {"patches": 2, "image": 4, "labels": 9}
    run_units(file, unit="set-labels-000008", progress=False)  # makes what it needs
    done = [unit["name"] for unit in list_units(file) if unit["kind"] == "part" and unit["state"] == "done"]
    assert done == [*names[:6], "set-labels-000008"]
    run_units(file, "2/2", progress=False)
    run_units(file, "1/2", progress=False)
    assert {unit["state"] for unit in list_units(file)} == {"done"}
    assert not list((tmp_path / "store" / "parts").glob("*"))
    made, wanted = (tmp_path / run / "synthetic.safetensors" for run in ("shared", "alone"))
    assert made.read_bytes() == wanted.read_bytes()
    assert main(["verify", str(tmp_path / "shared")]) == 0


def test_the_networks_of_an_evaluation_are_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, store = tmp_path / "run", tmp_path / "store"
    dd.distill("digits", "random", ipc=1, train={"steps": 3, "model": "convnet(width=4)"}, out=run, progress=False)
    alone = dd.evaluate(run, "digits", out=False, store=store, **EVALUATE)
    words = ["evaluate", str(run), "digits", "--store", str(store), "--repeats", "3", "--baselines", "random"]
    words += ["--device", "cpu", "--threads", "1", "--quiet"]
    file = tmp_path / "plan.json"
    assert main([*words, "--plan", str(file)]) == 0
    names = [unit["name"] for unit in list_units(file)]
    assert names == [f"network-{place:06d}" for place in (0, 1, 2, *range(1000, 1006))]  # 3 draws of two
    run_units(file, "2/2", progress=False)
    assert [unit["state"] for unit in list_units(file)] == ["missing", "done"] * 4 + ["missing"]
    run_units(file, "1/2", progress=False)
    executor = AtOnce()
    found = dd.evaluate(run, "digits", out=False, store=store, executor=executor, **EVALUATE)
    assert executor.seen == []  # all are there
    assert [row.values for row in found.rows] == [row.values for row in alone.rows]
    assert [row.recall for row in found.rows] == [row.recall for row in alone.rows]
    assert not list((store / "parts").glob("*"))
    again = dd.evaluate(run, "digits", out=False, store=store, executor=executor, **EVALUATE)
    assert len(executor.seen) == 9
    assert [row.values for row in again.rows] == [row.values for row in alone.rows]
    with pytest.raises(dd.InputError, match="`small` must be a set's file or run folder, where work is shared"):
        dd.evaluate(dd.load(run), "digits", store=store, executor=executor, **EVALUATE)


def test_infer_shares_its_compensators_and_labels(tmp_path: Path) -> None:
    fields = {
        **{name: FIELDS[name] for name in ("teacher", "iterations", "threads", "device", "progress")},
        "committee": FIELDS["committee"][:1],
        "ipc": 3,
        "labels": "dynamic",
        "label_epochs": 2,
        "train": {"steps": 3, "model": "convnet(width=4)", "batch_size": 8, "loss": "kl", "mix": "none", "augment": ""},
        "store": tmp_path / "store",
    }
    dd.distill("digits", "infer", out=tmp_path / "alone", **fields)
    plan = tmp_path / "plan.json"
    dd.plan("distill", plan, data="digits", method="infer", out=tmp_path / "shared", **fields)
    assert {unit["kind"] for unit in list_units(plan)} == {"teacher", "part", "set"}
    run_units(plan, progress=False)
    made, wanted = (tmp_path / run / "synthetic.safetensors" for run in ("shared", "alone"))
    assert made.read_bytes() == wanted.read_bytes()


def test_parts_are_made_once_and_those_of_others_anew(tmp_path: Path) -> None:
    made: list[int] = []

    def make(place: int) -> dict[str, torch.Tensor]:
        made.append(place)
        return {"x": torch.tensor([place])}

    parts = Parts(tmp_path / "parts")
    assert [int(t["x"]) for t in parts.each("image", range(3), make)] == [0, 1, 2]
    assert [int(t["x"]) for t in parts.each("image", [2, 1], make)] == [2, 1]
    assert made == [0, 1, 2]
    next(parts.each("image", [1], make, ["other teachers"]))
    assert made == [0, 1, 2, 1]
    (tmp_path / "parts" / "image-000002.safetensors").write_bytes(b"cut off")
    assert [int(t["x"]) for t in parts.each("image", [2], make)] == [2]
    with pytest.raises(Enough):
        list(Parts(tmp_path / "parts", ("image", 7)).each("image", range(9), make))
    assert parts.has("image", 7)
    assert not parts.has("image", 8)
    parts.forget()
    assert not (tmp_path / "parts").exists()
    assert not Parts().shared
