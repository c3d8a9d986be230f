"""The table of rounding is what its records say, and their script measures what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.testing.made import pictures
from scripts.records import kept
from scripts.records.make import run, storage
from scripts.records.tables.storage import differences, storage_records, storage_table


def test_records_are_of_one_method_and_each_of_its_own_seed() -> None:
    records = storage_records()
    assert len({record["seed"] for record in records}) == len(records)
    for record in records:
        assert {len(v) for form in record["forms"].values() for v in (form["val"], form["test"])} == {storage.NETWORKS}
        sizes = [record["forms"][name]["bytes"]["images"] for name in ("fp32", "fp16", "uint8")]
        assert [sizes[0] // size for size in sizes] == [1, 2, 4]


def test_differences_are_paired_by_set() -> None:
    origin = {"machine": "m", "threads": 1, "versions": {"torch": "2"}, "commit": "c"}
    records: list[dict[str, Any]] = [
        {
            "forms": {
                "fp32": {"val": [a, a + 0.02], "test": [a], "bytes": {"images": 400}},
                "fp16": {"val": [a, a + 0.02], "test": [a], "bytes": {"images": 200}},
                "uint8": {"val": [a - d, a + 0.02 - d], "test": [a - d], "bytes": {"images": 100}},
            },
            **{"method": {"name": "mtt"}, "dataset": "d", "ipc": 1, "origin": origin},
            **{"distill_cpu_seconds": 60.0, "networks_cpu_seconds": 60.0},
        }
        for a, d in ((0.3, 0.01), (0.7, 0.03))
    ]
    assert differences(records, "uint8", "val") == pytest.approx([-0.01, -0.03])
    lines = storage_table(records)
    assert "| `fp16` | 200 | 51.00 | +0.00 ± 0.00 | 50.00 | +0.00 ± 0.00 |" in lines
    assert "| `uint8` | 100 | 49.00 | -2.00 ± 12.71 | 48.00 | -2.00 ± 12.71 |" in lines  # t(1) = 12.71, s / √2 = 1
    assert lines[-1].endswith("4 minutes of processor time.")
    begun = {**records[0], "distill_cpu_seconds": None}  # before this call
    told = "3 minutes of processor time, without the distillation of 1 set(s) that were begun in an earlier call."
    assert storage_table([begun, records[1]])[-1].endswith(told)
    assert storage_table(records[:1])[4].endswith("| -1.00 | 29.00 | -1.00 |")
    assert storage_table([])[0].startswith("Not measured yet")


def test_a_record_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = kept.keep
    monkeypatch.setattr(kept, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(kept, "named", lambda pattern="*": {})
    monkeypatch.setattr(kept, "keep", lambda name, record: keep(name, record, tmp_path / "results"))
    recipe = dd.ExpertRecipe(
        model="convnet(width=4, depth=1)", experts=1, snapshots=2, snapshot_every=1, snapshot_unit="step"
    )
    few: dict[str, Any] = {"iterations": 1, "student_steps": 1, "expert_epochs": 1, "max_start_epoch": 1}
    value = dd.MTT(ipc=1, storage="fp32", expert=recipe, train=dd.TrainRecipe(steps=2), **few)
    monkeypatch.setattr(storage, "method", lambda: value)
    run.once(storage.name_of(0), lambda: storage.measure(pictures(), 0, tmp_path / "work"))
    found = dict(kept.read(tmp_path / "results" / "cifar10-ipc10.jsonl"))["storage-cifar10-ipc10-mtt-0"]
    small: Any = dd.load(tmp_path / "work" / "storage-cifar10-ipc10-mtt-0")
    assert {name: form["bytes"] for name, form in found["forms"].items()} == {
        name: small.pack(name).nbytes._asdict() for name in ("fp32", "fp16", "uint8")
    }
    assert torch.isfinite(small.images).all()


def test_what_was_measured_is_kept_though_it_could_not_be_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, kept_records = [], dict[str, Any]()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    def make() -> dict[str, Any]:
        made.append(1)
        return {"value": float("nan")}

    monkeypatch.setattr(kept, "RUNS", tmp_path)
    monkeypatch.setattr(kept, "named", lambda pattern="*": {})
    monkeypatch.setattr(kept, "keep", full)
    with pytest.raises(OSError, match="No space"):
        run.once("one", make)
    monkeypatch.setattr(kept, "keep", kept_records.__setitem__)
    run.once("one", make)
    assert made == [1]
    assert math.isnan(kept_records["one"]["value"])
    assert kept_records["one"]["wall_seconds"] >= 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == []
