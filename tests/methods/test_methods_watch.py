"""Runs of trajectory matching that come to nothing: each ends with an error, and what it says to do helps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.evaluation.selection import Selector
from dd.experts import make_student
from dd.methods import Run
from dd.methods.trajectory import watch

FIELDS: dict[str, Any] = {
    "expert": {"model": "convnet(width=4)", "experts": 2, "snapshots": 4, "snapshot_unit": "step", "augment": ""},
    "ipc": 1,
    "student_steps": 3,
    "expert_epochs": 1,
    "max_start_epoch": 2,
    "train": {"steps": 10},
    "iterations": 3,
}
MANY = {"candidate_every": 1}


@pytest.fixture(scope="module")
def two() -> dd.Images:
    """The digits 0 and 1."""
    digits = dd.load_images("digits").all_train()
    rows = (digits.train.labels < 2).nonzero()[:, 0][:250]
    return dd.load_images(dd.Images(train=(digits.train.pixels(rows), digits.train.labels[rows])))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def made(two: dd.Images, store: Path, **fields: Any) -> Any:
    return dd.distill(two, "mtt", **{**FIELDS, **fields}, store=store)


BROKEN: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "lr_lr": (
        {"lr_lr": 1e30},
        r"\(it started at 0\.\d+\), are not finite; 2 of 3 .*\. Lower `lr_lr`\.$",
        {"lr_lr": 1e-5},
    ),
    "lr_lr of millions": ({"lr_lr": 1e6}, r"are not finite; [12] of 3 .*\. Lower `lr_lr`\.$", {"lr_lr": 1e-5}),
    "lr_lr of thousands": ({"lr_lr": 1e3}, r"are not finite; [12] of 3 .*\. Lower `lr_lr`\.$", {"lr_lr": 1e-5}),
    "the last step size": ({"lr_lr": 1e30, "iterations": 1}, r"0 of 1 .*\. Lower `lr_lr`\.$", {"lr_lr": 1e-5}),
    "lr_init that is finite": (
        {"lr_init": 1e4},
        r"\(it started at 10000\), .*\. Lower `lr_init`\.$",
        {"lr_init": 0.01},
    ),
    "lr_init": (
        {"lr_init": 1e30},
        r"^each of 3 outer iterations changed nothing \(the last: not finite.*\)\. Lower `lr_init` \(now 1e\+30\)\.$",
        {"lr_init": 0.01},
    ),
    "lr_init and more": (
        {"lr_init": 1e30, **MANY},
        r"^each of 3 .*Lower `lr_init` \(now 1e\+30\)\.$",
        {"lr_init": 0.01},
    ),
    "lr_img": ({"lr_img": 1e30}, r"reach 1?\S+ standard deviations.*Lower `lr_img` \(now 1e\+30\)\.$", {"lr_img": 1.0}),
    "candidates": (
        {"lr_lr": 1e30, **MANY},
        r"^of 3 sets that were offered there is none .* size of .*e\+3\d\. Lower `lr_lr` or `lr_init`\.$",
        {"lr_lr": 1e-5},
    ),
    "still": (
        {"lr_init": 1e-12, "lr_lr": 0.0},
        r"not moved for 3 outer iterations.*\. Raise `lr_init`;",
        {"lr_init": 0.01},
    ),
    "skip_above": (
        {"skip_above": 1e-9},
        r"^each of 3 .* \(the last: loss above 1e-09\)\. Raise `skip_above` \(now 1e-09\), or lower `lr_init` \(now",
        {"skip_above": 100.0},
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_run_that_comes_to_nothing_says_so_and_how_it_comes_to_something(
    case: str, two: dd.Images, store: Path, tmp_path: Path
) -> None:
    fields, said, way_out = BROKEN[case]
    with pytest.raises(dd.DivergedError, match=said):
        made(two, store, **fields, out=tmp_path / "run")
    assert not (tmp_path / "run" / "synthetic.safetensors").exists()
    small = made(two, store, **{**fields, **way_out})
    assert dd.train(small, seed=0) is not None


FIELDS_VALUES: dict[str, Any] = {
    **FIELDS,
    "expert": dd.ExpertRecipe(**FIELDS["expert"]),
    "train": dd.TrainRecipe(**FIELDS["train"]),
}


def test_iterations_that_changed_nothing_are_counted_and_told_once(
    two: dd.Images, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(two, store, out=tmp_path / "all")
    losses = [json.loads(row)["loss"] for row in (tmp_path / "all" / "log.jsonl").read_text().splitlines()]
    assert "changed nothing" not in capsys.readouterr().err
    most = sorted(losses)[1]  # of three iterations one is above it, or two, since another has changed less
    made(two, store, skip_above=most, out=tmp_path / "run")
    told = capsys.readouterr().err
    count = sum("skipped" in row for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert count in (1, 2)
    assert told.count(f"{count} of 3 iterations changed nothing\n") == told.count("changed nothing") == 1
    made(two, store, skip_above=most, progress=False)
    assert "changed nothing" not in capsys.readouterr().err


def test_the_count_goes_on_where_a_run_goes_on(two: dd.Images, store: Path) -> None:
    value = dd.MTT(**{**FIELDS_VALUES, "skip_above": 1e-9})
    stream = value.distill(two, Run(store=store))
    first = next(stream)
    assert int(first.state["skipped"]) == 1
    with pytest.raises(dd.DivergedError, match="each of 3 outer iterations changed nothing"):
        list(value.distill(two, Run(store=store), first.state))
    old = {name: value for name, value in first.state.items() if name != "skipped"}  # as a version before kept it
    assert int(list(value.distill(two, Run(store=store), old))[-1].state["skipped"]) == 2


def test_a_set_of_no_right_answer_is_kept_where_networks_can_be_trained(
    two: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Selector, "_mean", lambda *_: 0.0)
    assert torch.isfinite(made(two, store, **MANY).images).all()


def test_the_step_size_that_a_recipe_says_is_named(two: dd.Images, store: Path) -> None:
    fields = {"ipc": 1, "iterations": 2, "expert": FIELDS["expert"], "train": {"steps": 10, "lr": 1e30}, **MANY}
    with pytest.raises(dd.DivergedError, match=r"of 2 sets .* none .* size of 1e\+30\. Give `train` a lower `lr`\.$"):
        dd.distill(two, "dm", **fields, store=store)
    dd.distill(two, "dm", **{**fields, "train": {"steps": 10, "lr": 0.01}}, store=store)


def test_the_way_to_move_is_the_field_that_can_move_it(two: dd.Images, store: Path) -> None:
    far = {**FIELDS_VALUES, "iterations": 60}
    with pytest.raises(dd.DivergedError, match=r"not moved for 50 .*\. Raise `lr_init`; the last"):
        list(dd.MTT(**far, lr_init=1e-12, lr_lr=0.0).distill(two, Run(store=store)))
    with pytest.raises(
        dd.DivergedError, match=r"10 outer iterations in a row .*\. Lower `lr_img` or `lr_init`; the last"
    ):
        list(dd.MTT(**far, lr_init=1e30, lr_lr=0.0).distill(two, Run(store=store)))


def test_whether_a_network_can_be_trained_is_tried_and_not_only_guessed(
    two: dd.Images, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = made(two, store)
    student = make_student(FIELDS_VALUES["expert"], two, 0)
    for lr, fine in ((0.01, True), (1e12, False)):
        for steps in (4, 200):
            for other in ({}, {"schedule": "cosine"}, {"batch_size": 1}):
                recipe = dataclasses.replace(small.recipe, lr=lr, steps=steps, **other)
                assert watch.trains(student, dataclasses.replace(small, recipe=recipe), Run()) is fine
    adam = dataclasses.replace(small.recipe, optimizer="adamw", lr=1e12)
    assert watch.trains(student, dataclasses.replace(small, recipe=adam), Run())
    asked: list[float] = []
    monkeypatch.setattr(watch, "trains", lambda student, small, run: bool(asked.append(small.recipe.lr)))
    made(two, store)
    assert asked == []  # of what is in the ordinary nobody asks
    with pytest.raises(dd.DivergedError, match="are not finite; 0 of 3"):
        made(two, store, lr_init=20.0, lr_lr=0.0)
    assert asked == [20.0]
