"""The page on parties is what its records say, and their script measures what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.methods import TrajectoryMatching
from scripts.records import kept
from scripts.records.make import federated, run
from scripts.records.tables import __main__ as tables
from scripts.records.tables.federated import federated_records, federated_table

ROOT = Path(__file__).resolve().parents[2]


def test_every_set_of_the_table_was_measured_with_the_same_images_and_steps() -> None:
    records = federated_records()
    assert len(records) >= 2
    for record in records:
        rows = record["rows"]
        assert rows.keys() == {"merged", "all data", "random", "one party"}
        assert {row["steps"] for row in rows.values()} == {federated.STEPS}
        same = [rows[name] for name in ("merged", "all data", "random")]
        assert {(row["images"], row["bytes"]["images"], row["bytes"]["labels"]) for row in same} == {(100, 25_600, 800)}
        assert record["origin"].keys() >= {"machine", "commit", "versions", "threads", "seed"}
    assert len({record["deal"] for record in records}) == len(records)
    page = (ROOT / "docs" / "federated.md").read_text(encoding="utf-8")
    assert "\n".join(federated_table(records)) in page
    assert tables.filled(page) == page
    assert federated_table([]) == []


def test_parts_are_disjoint_and_whole() -> None:
    whole = dd.load_images("digits")
    parts = federated.deal(whole, 0)
    items: list[Any] = [dd.load_images(part).all_train().train.items for part in parts]
    assert whole.train.items is not None
    assert torch.equal(torch.cat(items).sort().values, whole.train.items.sort().values)
    assert {part.mean for part in parts} == {whole.mean}


def test_a_record_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = kept.keep
    monkeypatch.setattr(kept, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(kept, "named", lambda pattern="*": {})
    monkeypatch.setattr(kept, "keep", lambda name, record: keep(name, record, tmp_path / "results"))
    recipe = dd.ExpertRecipe(model="convnet(width=4)", experts=1, snapshots=2, snapshot_every=1, snapshot_unit="step")

    def mtt(ipc: int) -> TrajectoryMatching:
        few = {"iterations": 1, "student_steps": 1, "expert_epochs": 1, "max_start_epoch": 1}
        return dd.MTT(ipc=ipc, expert=recipe, train=dd.TrainRecipe(steps=2), **few)

    for name, value in (("mtt", mtt), ("PARTIES", 2), ("DEALS", 1), ("STEPS", 2)):
        monkeypatch.setattr(federated, name, value)
    run.once("federated-digits-0", lambda: federated.measure(0, tmp_path / "store"))
    found = dict(kept.read(tmp_path / "results" / "digits.jsonl"))["federated-digits-0"]
    assert {name: row["images"] for name, row in found["rows"].items()} == {
        "merged": 20,
        "all data": 20,
        "random": 20,
        "one party": 10,
    }
    assert dd.load(tmp_path / "runs" / "federated-0" / "party1").provenance["dataset"] == "party 1"
