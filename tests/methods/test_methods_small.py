"""Methods with teachers on few images: a set at the end, and no false word about the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dd
from dd.errors import InputError

TINY: dict[str, Any] = {
    "committee": ("convnet(norm=batch, width=8)",),
    "label_epochs": 1,
    "preset": "cpu",
    "progress": False,
    "train": {"steps": 2},
}


def few(classes: int, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` digits of the first classes."""
    train = dd.load_images("digits").train
    rows = (train.labels < classes).nonzero().flatten()
    if classes == 2:
        rows = torch.cat([(train.labels == k).nonzero().flatten()[: count // 2] for k in range(2)])
    rows = rows[:count]
    return (255 * train.pixels(rows)).round().to(torch.uint8), train.labels[rows]


@pytest.mark.parametrize(("classes", "count"), [(2, 40), (10, 93)])
def test_every_method_with_teachers_ends_with_a_set(classes: int, count: int, tmp_path: Path) -> None:
    data = few(classes, count)
    for name in ("sre2l", "cda", "delt", "sre2l++", "cvdd", "rded", "infer"):
        fields = {**TINY, "ipc": 4 if name == "infer" else 2, "store": tmp_path}
        small = dd.distill(data, name, **fields, **({} if name == "rded" else {"iterations": 1}))
        assert len(small.classes) == classes
        assert len(small) >= 2 * classes
    (teacher,) = dd.teach(data, TINY["committee"], store=tmp_path, epochs=5)  # those of the preset
    assert teacher.check(dd.load_images(data).train, classes) > 0.8


def test_a_micro_batch_of_one_picture_is_refused_before_a_teacher_is_trained(tmp_path: Path) -> None:
    data, fields = few(2, 40), {**TINY, "store": tmp_path, "iterations": 1, "ipc": 1}
    text = r"`train.accumulate` must be below 2, so that a micro-batch of 2 pictures has two or more; got 2. Give train"
    with pytest.raises(InputError, match=text):
        dd.distill(data, "sre2l++", **fields)
    assert not list(tmp_path.rglob("*.safetensors"))
    dd.distill(data, "sre2l++", **{**fields, "train": {"steps": 2, "accumulate": 1}})
