"""Teachers: trained once, kept whole, and refused where they cannot teach this data."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import dd
from dd.errors import DamagedError, InputError
from dd.teachers import Teacher, TeacherRecipe, TeacherStore
from dd.teachers import squeeze as module
from dd.whiten import Normalise

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(90) % 3
PIXELS = torch.randint(0, 80, (90, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150  # class k is bright in channel k
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:9], LABELS[:9])))
RECIPE = TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=4, batch_size=16, augment="")


def test_trained_once_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TeacherStore(tmp_path, REAL)
    first = store.get(RECIPE)
    assert first.accuracy > 0.9
    path = store.path(RECIPE)
    made = path.read_bytes()
    monkeypatch.setattr(module, "train_teacher", lambda *a, **k: pytest.fail("trained twice"))
    again = store.get(RECIPE)
    x = REAL.train.pixels(torch.arange(6))
    assert torch.equal(first(x), again(x))
    assert first.sha256 == again.sha256
    monkeypatch.undo()
    path.unlink()
    store.get(RECIPE)
    assert path.read_bytes() == made  # same seed, same bytes
    assert store.path(RECIPE, seed=1) != path
    assert store.path(dataclasses.replace(RECIPE, epochs=5)) != path


def test_a_teacher_is_frozen_and_brings_its_own_normalisation(tmp_path: Path) -> None:
    teacher = TeacherStore(tmp_path, REAL).get(RECIPE)
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    x = REAL.train.pixels(torch.arange(4))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (REAL.mean, REAL.std))
    assert torch.allclose(teacher(x), teacher.module((x - mean) / std), atol=1e-6)


def test_damage_is_named(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path, REAL)
    store.get(RECIPE)
    path = store.path(RECIPE)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="do not match their checksum"):
        store.get(RECIPE)
    other = store.path(dataclasses.replace(RECIPE, epochs=2))
    store.get(dataclasses.replace(RECIPE, epochs=2))
    other.rename(path)
    with pytest.raises(DamagedError, match="is not teacher"):
        store.get(RECIPE)


class Constant(nn.Module):
    """Says class 0 of K, whatever it sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.eye(classes)[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(x), -1)


def test_a_teacher_that_knows_nothing_of_the_data_is_stopped(tmp_path: Path) -> None:
    same = Normalise(mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(InputError, match=r"no better than chance \(33.3 %\), with 1 different answer"):
        Teacher("constant", Constant(3), same).check(REAL.train, 3)
    with pytest.raises(InputError, match="of 3 classes; got \\[4\\]"):
        Teacher("four", Constant(4), same).check(REAL.train, 3)
    good = TeacherStore(tmp_path, REAL).get(RECIPE)

    class Turned(nn.Module):
        """The good teacher with its classes in another order."""

        def __init__(self) -> None:
            super().__init__()
            self.net = good.module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)[:, [1, 2, 0]]

    with pytest.raises(InputError, match="class order"):
        Teacher("turned", Turned(), good.transform).check(REAL.train, 3)
    broken = Constant(3)
    broken.scores.data[0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        Teacher("broken", broken, same).check(REAL.train, 3)
    assert good.check(REAL.train, 3) > 0.9


def test_refusals() -> None:
    for fields, text in (
        ({"batch_size": 1}, "`batch_size` must be at least 2"),
        ({"lr": 0.0}, "`lr` must be positive"),
        ({"optimizer": "lion"}, "`optimizer` must be `sgd` or `adam`"),
        ({"epochs": 0}, "`epochs`"),
    ):
        with pytest.raises(InputError, match=text):
            TeacherRecipe(**fields)  # type: ignore[arg-type]
