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
    keep, named = kept.keep, kept.named
    monkeypatch.setattr(kept, "keep", lambda name, record: keep(name, record, tmp_path / "results"))
    monkeypatch.setattr(kept, "named", lambda name="*": named(name, tmp_path / "results"))
    words = ["mtt", "digits", "1", "--experts", "2", "--iterations", "6", "--every", "2", "--threads", "1"]
    return published.parsed([*words, "--work", str(tmp_path / "work")])


def test_record_tells_departures_curve_and_maximum(options: Any, tmp_path: Path) -> None:
    assert published.main(options) == 0
    told = kept.named()["published-digits-ipc1-mtt"]
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
    assert len(read_jsonl(options.work / "run" / published.LOG)) == 3


def test_another_run_replaces_no_record_unasked_and_takes_no_curve(
    options: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published.main(options) == 0
    (first,) = kept.named().values()
    options.seed = 1
    assert published.main(options) == 2
    assert "`--replace` must be given where there is another record published-digits-ipc1-mtt (2 experts, 6 iter" in (
        capsys.readouterr().err
    )
    options.replace = True
    assert published.main(options) == 2  # the run folder is another run's
    assert "--restart" in capsys.readouterr().err
    options.restart = True
    assert published.main(options) == 0
    (second,) = kept.named().values()
    assert second["origin"]["seed"] == 1
    assert [point["mean"] for point in first["test_curve"]] != [point["mean"] for point in second["test_curve"]]


def test_a_run_goes_on_from_another_with_more_experts(options: Any, tmp_path: Path) -> None:
    assert published.main(options) == 0
    (first,) = kept.named().values()
    last = first["selection"]["iteration"]
    small, before = dd.load(options.work / "run"), (options.work / "run").rename(tmp_path / "before")
    options.init, options.experts, options.iterations, options.replace = before, 3, 4, True
    value = published.made(options)
    assert (value.init.small, value.lr_init) == (small, small.recipe.lr)  # type: ignore[union-attr]
    assert published.main(options) == 0
    (second,) = kept.named().values()
    assert second["departures"]["iterations"] == [50, last + 4]
    assert [(run["experts"], run["iterations"]) for run in second["before"]] == [(2, last)]
    assert [point["iteration"] for point in second["test_curve"]] == [*range(2, last + 1, 2), last + 2, last + 4]
    assert second["distill_seconds"] > first["distill_seconds"]
    (run, own) = published.earlier(options.work / "run")
    assert (run["iterations"], own["experts"]) == (last, 3)


@pytest.mark.parametrize("words", [["--experts", "0"], ["--every", "-3"], ["--threads", "x"], ["--seed", "-1"]])
def test_numbers_are_checked_first(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        published.parsed(["mtt", "digits", "1", "--work", "w", *words])
    assert f"argument {words[0]}: must be a whole number of at least " in capsys.readouterr().err


def test_what_cannot_be_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["mtt", "cifar10", "7"], ["mtt", "cifar10", "1", "--root", str(tmp_path), "--replace"]):
        assert published.main(published.parsed([*words, "--work", str(tmp_path / "w"), "--threads", "1"])) == 2
    unknown, missing = capsys.readouterr().err.split("\n", 1)
    assert "`preset='paper'`" in unknown
    assert "cifar10" in missing


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
