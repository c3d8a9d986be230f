"""What a decoupled method cannot do is said before a teacher is trained, and what is said helps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.methods.decoupled.recover import Recover
from dd.teachers import TeacherStore
from dd.testing.made import pictures

FEW: dict[str, Any] = {
    "ipc": 1,
    "committee": ("convnet(width=4,norm=batch)",),
    "teacher": {"epochs": 1, "min_steps": 30},
}
STUDENT = {"steps": 4, "model": "convnet(width=4)"}
STORED = {**FEW, "label_epochs": 2, "train": {**STUDENT, "batch_size": 2}}
DYNAMIC = {**STORED, "ipc": 2, "labels": "dynamic", "iterations": 1, "train": {**STUDENT, "augment": "", "mix": "none"}}
STATIC = {**FEW, "ipc": 2, "iterations": 1, "train": STUDENT}
PLAIN = {"committee": ("mlp",)}
NORMS = r"`committee` must be of networks with batch norms that keep running statistics, for {}; got mlp\. "

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], str, dict[str, Any]]] = {
    "factor": ("rded", STORED, {"factor": 3}, r"\(1, 2, 4, 8\); got 3\. Give `factor=2`\.", {"factor": 2}),
    "factor of cvdd": (
        "cvdd",
        {**STORED, "iterations": 0, "train": {**STORED["train"], "accumulate": 1}},
        {"init": "medium", "factor": 16},
        r"\(1, 2, 4, 8\); got 16\. Give `factor=8`\.",
        {"factor": 2},
    ),
    "ipc and factor": (
        "rded",
        STORED,
        {"ipc": 2, "factor": 8},
        r"`ipc` must be at most 0 with factor=8, .* 64 patches each, .*: class '?0'? has 36; got 2\. Lower `factor`\.",
        {"factor": 4},
    ),
    "ipc": ("rded", STORED, {"ipc": 3, "factor": 4}, r"at most 2 .*; got 3\. Lower `ipc` or `factor`\.", {"ipc": 2}),
    "candidates": (
        "rded",
        STORED,
        {"ipc": 2, "factor": 4, "candidates": 5},
        r"`candidates` must be at least 32, .*; got 5\. Give `candidates=32`\.",
        {"candidates": 32},
    ),
    "label_bytes": (
        "infer",
        DYNAMIC,
        {"label_bytes": 1},
        r"`label_bytes` must be None, or at least \d+, the labels of the smallest batch; got 1\. Raise it",
        {"label_bytes": 500},
    ),
    "label_bytes of rded": (
        "rded",
        STORED,
        {"label_bytes": 1},
        "`label_bytes` must be None, or",
        {"label_bytes": None},
    ),
    "norms": (
        "sre2l",
        {**STORED, "iterations": 1},
        PLAIN,
        NORMS.format("recovery") + "Use a batch-norm",
        {"iterations": 0},
    ),
    "norms of labels": (
        "sre2l++",
        {**STORED, "iterations": 0, "train": {**STORED["train"], "batch_size": 4, "accumulate": 1}},
        PLAIN,
        NORMS.format("bn_mode='batch'") + "Label with `bn_mode='running'`",
        {"bn_mode": "running"},
    ),
    "batches of one": (
        "sre2l++",
        {**STORED, "iterations": 0},
        {"train": {**STORED["train"], "batch_size": 1, "accumulate": 1}},
        r"`train.batch_size` must be at least 2, .*; got 1. Give 2",
        {"train": {**STORED["train"], "batch_size": 2, "accumulate": 1}},
    ),
    "norms of infer": ("infer", STATIC, PLAIN, NORMS.format("compensators"), {"compensators": 0}),
    "constants": (
        "rded",
        STORED,
        {"teacher": {"mean": (0.5,), "std": (0.2,)}},
        "`teacher.mean` must be 3 numbers, one a channel; got 1",
        {"teacher": FEW["teacher"]},
    ),
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the teachers that are asked for."""
    found: list[str] = []
    get = TeacherStore.get
    monkeypatch.setattr(
        TeacherStore, "get", lambda self, recipe, **more: (found.append(recipe.model), get(self, recipe, **more))[1]
    )
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_before_a_teacher_is_trained(case: str, trained: list[str], tmp_path: Path) -> None:
    name, fields, wrong, said, way_out = CASES[case]
    for make in (dd.distill, dd.estimate):
        more = {"store": tmp_path} if make is dd.distill else {}
        with pytest.raises(dd.InputError, match=said):
            make(pictures(), name, **{**fields, **wrong}, **more)  # type: ignore[operator]
    assert trained == []
    assert len(dd.distill(pictures(), name, **{**fields, **wrong, **way_out}, store=tmp_path)) > 0
    assert trained


def test_a_member_that_is_given_is_tried_before_another_is_trained(trained: list[str], tmp_path: Path) -> None:
    knows_nothing = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    torch.nn.init.zeros_(knows_nothing[1].weight)
    method = Recover(committee=(*FEW["committee"], knows_nothing), iterations=0)
    with pytest.raises(dd.InputError, match=r"teacher Sequential classifies .* no better than chance"):
        dd.distill(pictures(), method, store=tmp_path)
    assert trained == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tau": 0}, "`tau` must be positive; got 0"),
        ({"label_tau": 0.0}, "`label_tau` must be positive; got 0"),
        ({"lr": 0.0}, "`lr` must be positive; got 0.0. `iterations=0` is for"),
        ({"priors": (-1.0,)}, "`priors` must be a finite number of at least 0; got -1"),
        ({"priors": (101.0,)}, "`priors` must be accuracies in per cent, at most 100; got 101"),
        ({"priors": 5}, "`priors` must be 1 numbers, one a member; got 5"),
        *(({"class_ids": ids}, "`class_ids` must be different whole") for ids in ((-1, 0), (0, 0), (), 5, (True, 2))),
        *(
            ({"scale": s}, "`scale` must be empty, or 0 < low")
            for s in ((0.5, 0.1), (0.0, 1.0), (0.1, 2.0), (0.1,), 3, "ab")
        ),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(dd.InputError, match=re.escape(said)):
        Recover(**fields)


@pytest.mark.parametrize(
    ("name", "labels", "train", "got", "way_out"),
    [
        (
            "infer",
            "dynamic",
            {},
            'augment="crop_flip", mix="mixup"',
            'Give train={"augment": "", "mix": "none"}; in a shell: --train.augment "" --train.mix none.',
        ),
        (
            "infer",
            "dynamic",
            {"augment": ""},
            'mix="mixup"',
            'Give train={"mix": "none"}; in a shell: --train.mix none.',
        ),
        (
            "sre2l",
            "stored",
            {"augment": "flip"},
            'augment="flip"',
            'Give train={"augment": ""}; in a shell: --train.augment "".',
        ),
    ],
)
def test_views_that_labels_have_already_are_named(
    name: str, labels: str, train: dict[str, str], got: str, way_out: str
) -> None:
    text = f"`train` must be without `augment` and `mix` with {labels} labels; got {got}."
    with pytest.raises(dd.InputError, match=re.escape(text) + ".*" + re.escape(way_out) + "$"):
        dd.distill(pictures(), name, **{**FEW, "labels": labels, "iterations": 1, "train": train})
