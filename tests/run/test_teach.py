"""`teach`: teachers are trained once, `distill` finds them, wrong words are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dd
from dd.errors import InputError
from dd.synthetic import TrainRecipe
from dd.teachers import TeacherRecipe

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(120) % 3
PIXELS = torch.randint(0, 80, (120, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150
REAL = dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:30].flip(-1), LABELS[:30]))
NET = "convnet(width=4, depth=1, norm=batch)"


def test_a_teacher_is_trained_once_and_found_by_distill(tmp_path: Path) -> None:
    first = dd.teach(REAL, NET, epochs=4, batch_size=16, augment="", store=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "teachers").glob("*.safetensors")}
    assert len(files) == 1
    again = dd.teach(REAL, [NET], recipe=TeacherRecipe(epochs=4, batch_size=16, augment=""), store=tmp_path)
    assert again[0].sha256 == first[0].sha256
    assert first[0].accuracy > 0.5
    small = dd.distill(
        REAL,
        "rded",
        ipc=1,
        committee=[NET],
        teacher={"epochs": 4, "batch_size": 16, "augment": ""},
        candidates=10,
        label_epochs=2,
        train={"model": NET, "steps": 2},
        store=tmp_path,
    )
    assert isinstance(small, dd.SyntheticImages)
    assert small.store is not None
    assert small.store.made["members"][0]["sha256"] == first[0].sha256
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "teachers").glob("*.safetensors")} == files


def test_refusals() -> None:
    with pytest.raises(InputError, match="unknown field of TeacherRecipe 'epoch'"):
        dd.teach(REAL, NET, epoch=3)
    with pytest.raises(InputError, match="`models` must be at least one name"):
        dd.teach(REAL, [])
    with pytest.raises(InputError, match="unknown model 'resnot'"):
        dd.teach(REAL, "resnot")
    for models in (torch.nn.Linear(2, 2), [torch.nn.Linear(2, 2)], torch.nn.Sequential(torch.nn.Linear(2, 2))):
        with pytest.raises(InputError, match=r"`models` must be names of networks; got a .*committee=\[module\]"):
            dd.teach(REAL, models)  # type: ignore[arg-type]


def test_a_hard_recipe_of_soft_labels() -> None:
    soft = TrainRecipe(loss="kl", mix="mixup", temperature=20.0, steps=7)
    hard = soft.hard()
    assert (hard.loss, hard.mix, hard.augment, hard.steps) == ("ce", "none", "crop_flip", 7)
    assert hard.hard() is hard
    assert TrainRecipe(augment="flip").hard().augment == "flip"
