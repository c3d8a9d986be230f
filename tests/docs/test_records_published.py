"""The script that runs a published row: its log of candidates, going on, the hours, and what the record says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import dd
from dd.base.files import read_jsonl
from dd.methods import Run
from dd.methods.presets import Preset
from scripts.records import kept
from scripts.records.make import published

EXPERT = dd.ExpertRecipe(model="convnet(width=4)", augment="", experts=3, snapshots=3, batch_size=64)
ROW = Preset(
    method="mtt",
    dataset="digits",
    ipc=1,
    tier="paper",
    published={"mean": 0.5, "source": "a table"},
    fields={
        "ipc": 1,
        "expert": EXPERT,
        "iterations": 50,
        "candidate_every": 5,
        "student_steps": 2,
        "expert_epochs": 1,
        "max_start_epoch": 2,
        "lr_img": 1.0,
        "train": dd.TrainRecipe(steps=2),
    },
)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(published, "preset", lambda *_: ROW)
    monkeypatch.setattr(kept, "RUNS", tmp_path / "runs")
    keep = kept.keep
    monkeypatch.setattr(kept, "keep", lambda name, record: keep(name, record, tmp_path / "results"))
    words = ["mtt", "digits", "1", "--experts", "2", "--iterations", "6", "--every", "2", "--threads", "1"]
    return published.parsed([*words, "--work", str(tmp_path / "work")])


def test_record_tells_departures_curve_and_maximum(options: Any, tmp_path: Path) -> None:
    assert published.main(options) == 0
    told = kept.named(folder=tmp_path / "results")["published-digits-ipc1-mtt"]
    assert told["departures"]["experts"] == [3, 2]
    assert told["departures"]["iterations"] == [50, 6]
    assert told["row"]["published"]["mean"] == 0.5
    assert [point["iteration"] for point in told["test_curve"]] == [2, 4, 6]
    assert told["maximum_on_test"]["mean"] == max(point["mean"] for point in told["test_curve"])
    assert told["report"]["protocol"] == "clean"
    assert str(options.work) not in str(told)
    assert "validation split" in told["report"]["selection"]
    assert "random" in str([row["set"] for row in told["report"]["rows"]][1:])
    assert published.main(options) == 0  # all is there: nothing is tested twice
    assert len(read_jsonl(options.work / "candidates.jsonl")) == 3


def test_it_stops_in_time_and_goes_on_to_the_same_set(options: Any, tmp_path: Path) -> None:
    value, real = published.made(options), dd.load_images("digits")
    given: dict[str, Any] = {"store": options.work / "store", "progress": False}
    whole = dd.distill(real, value, **given)
    log = tmp_path / "candidates.jsonl"
    first = published.Watched(value, log, 0.0)
    out = tmp_path / "run"
    for _ in range(6):
        try:
            made = dd.distill(real, first, out=out, **given)
        except KeyboardInterrupt:
            continue
        break
    made = dd.distill(real, published.Watched(value, log, time.monotonic() + 600), out=out, **given)
    assert made.images.equal(whole.images)
    assert [row["iteration"] for row in read_jsonl(log)] == [2, 4, 6]
    options.hours = 0.0
    options.work = tmp_path / "other"
    assert published.main(options) == 1


def test_watching_changes_no_set(options: Any, tmp_path: Path) -> None:
    value, real = published.made(options), dd.load_images("digits")
    run = Run(store=options.work / "store")
    watched = published.Watched(value, tmp_path / "log.jsonl", time.monotonic() + 600)
    ends = [list(method.distill(real, run))[-1] for method in (value, watched)]
    assert ends[0].state["images"].equal(ends[1].state["images"])
    assert watched.describe() == value.describe()
