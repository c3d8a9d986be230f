"""The check of a GPU: what it writes where time is over, parts fail or processes hang, and what it carries."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import dd

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts import gpu_check

    return gpu_check


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "gpu_check.json").read_text())


def test_without_time_every_result_says_so(check: Any, tmp_path: Path) -> None:
    assert check.main(["--device", "cpu", "--seconds", "0", "--out", str(tmp_path), "--methods", "dm,rded"]) == 0
    found = read(tmp_path)
    assert found["complete"]
    assert found["machine"]["packages"]["torch"] != "missing"
    parts = found["parts"]
    told = [parts["tests"]["pytest"], *(parts["methods"][name] for name in ("dm", "rded"))]
    told += [parts["published"]["mtt cifar10 ipc 1"], parts["benches"][check.BENCHES["cpu"][0]]]
    assert all(one["failed"].startswith("not reached") for one in told)


def test_a_part_that_fails_is_told_and_the_others_go_on(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(found: Any, *_: Any) -> None:
        found.tell("first", {"seconds": 1}, "benches")
        assert not read(tmp_path)["complete"]
        raise RuntimeError("out of memory")

    monkeypatch.setitem(check.PARTS, "benches", broken)
    words = ["--device", "cpu", "--seconds", "0", "--out", str(tmp_path), "--methods", "dm"]
    assert check.main([*words, "--parts", "benches,published"]) == 0
    found = read(tmp_path)["parts"]
    assert found["benches"]["failed"] == "RuntimeError: out of memory"
    assert found["benches"]["first"] == {"seconds": 1}
    assert "mtt cifar10 ipc 1" in found["published"]


def test_no_gpu_is_told(check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main(["--out", str(tmp_path)]) == 1
    assert "torch sees no cuda here" in read(tmp_path)["failed"]


ANSWERING = """
import json, sys, time
for line in sys.stdin:
    job = json.loads(line)
    if job["job"] == "hang":
        time.sleep(600)
    if job["job"] == "die":
        raise SystemExit(3)
    print(json.dumps({"did": job["job"]}), flush=True)
"""


def test_a_process_that_hangs_or_dies_costs_one_job(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(ANSWERING)
    real = subprocess.Popen

    def started(words: list[str], **options: Any) -> Any:
        return real([sys.executable, str(script)], **{**options, "cwd": None})

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(check, "GRACE", 2.0)
    worker = check.Worker([])
    assert worker.do({"job": "a"}, check.Deadline(60)) == {"did": "a"}
    assert worker.do({"job": "hang", "seconds": 0.1}, check.Deadline(60))["failed"].startswith("no answer within")
    assert worker.do({"job": "b"}, check.Deadline(60)) == {"did": "b"}
    assert worker.do({"job": "die"}, check.Deadline(60)) == {"failed": "its process ended with 3"}
    assert worker.do({"job": "c"}, check.Deadline(60)) == {"did": "c"}
    worker.end()


def test_an_alarm_is_as_ctrl_c(check: Any) -> None:
    with pytest.raises(KeyboardInterrupt), check.interrupted(0.05):
        time.sleep(30)
    with check.interrupted(30):
        pass


def test_a_command_that_is_cut_off_says_what_it_had_said(check: Any) -> None:
    found = check.command(["sh", "-c", "echo so far; sleep 600"], 1)
    assert found["failed"] == "cut off after 1 s"
    assert found["output"] == "so far\n"
    assert check.command(["sh", "-c", "exit 2"], 60)["failed"] == "exit code 2"


def test_bad_options_are_refused(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        (["--parts", "speed"], "unknown part 'speed'; known: tests, benches"),
        (["--device", "tpu"], "--device must be `cuda`, `cuda:N` or `cpu`; got 'tpu'"),
        (["--at-once", "0"], "--at-once must be at least 1"),
        (["--out", "/dev/null"], "--out must be a folder that can be written; /dev/null: File exists"),
        (["--out", "/dev/null/there"], "--out must be a folder that can be written; /dev/null/there: Not a dir"),
    ):
        with pytest.raises(SystemExit):
            check.parsed(words)
        assert text in capsys.readouterr().err
    from scripts import gpu_carry

    with pytest.raises(SystemExit):
        gpu_carry.parsed(["--out", "/dev/null"])
    assert "--out must be a folder that can be written; /dev/null" in capsys.readouterr().err


def test_shares_leave_time_to_start(check: Any) -> None:
    assert sum(check.SHARES.values()) <= 0.97
    assert set(check.SHARES) == set(check.PARTS)
    for benches in check.BENCHES.values():
        assert all((ROOT / "scripts" / "bench" / f"{bench.split()[0]}.py").is_file() for bench in benches)


def test_pictures_are_carried_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts.gpu_carry import pack_pictures, unpack_pictures

    pixels = torch.randint(0, 256, (240, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(240) % 2
    real = dd.Images(train=(pixels, labels), test=(pixels.flip(0).contiguous(), labels))
    pack_pictures(real, tmp_path / "a" / "pictures.npz", {"train": 75, "test": 25})
    found = unpack_pictures(tmp_path / "a" / "pictures.npz", size=8)
    for name, count in (("train", 75), ("test", 25)):
        split = getattr(real, name)
        rows = torch.cat([(split.labels == k).nonzero().flatten()[:count] for k in range(2)])
        assert torch.equal(found[name][0], split.subset(rows).images)
        assert torch.equal(found[name][1], split.labels[rows])


def test_what_is_missing_is_installed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts import gpu_carry

    for name in ("kornia_rs-0.1-cp312-cp312-linux_x86_64.whl", "tqdm-4-py3-none-any.whl", "pytest-9-py3-none-any.whl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpu_carry, "WHEELS", {**gpu_carry.WHEELS, "kornia-rs": "no_such_module"})
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, check: calls.append(words))
    assert [Path(one).name for one in gpu_carry.install(tmp_path, tmp_path / "site")] == [
        "kornia_rs-0.1-cp312-cp312-linux_x86_64.whl"
    ]
    assert "--no-index" in calls[0]


@pytest.mark.slow  # a minute: every part in small
def test_the_rehearsal_measures_every_part(tmp_path: Path) -> None:
    words = ["sh", "scripts/gpu_check.sh", "--device", "cpu", "--seconds", "240", "--out", str(tmp_path)]
    subprocess.run([*words, "--methods", "dm,rded,mtt"], cwd=ROOT, check=True, capture_output=True)
    parts = read(tmp_path)["parts"]
    assert "failed" not in parts["tests"]["pytest"]
    assert all(parts["methods"][name]["finished"] for name in ("dm", "rded", "mtt"))
    assert parts["published"]["mtt cifar10 ipc 1"]["iterations"][0] > 0
