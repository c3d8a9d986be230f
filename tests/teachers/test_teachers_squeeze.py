"""Teachers: trained once, kept whole, and refused where they cannot teach this data."""

from __future__ import annotations

import dataclasses
import logging
import math
import multiprocessing
import threading
import warnings
from pathlib import Path

import pytest
import torch
from reference.pictures import lazily
from torch import nn

import dd
from dd.base.files import load_tensors, save_tensors
from dd.data import TensorSplit
from dd.data.images import reading
from dd.errors import DamagedError, InputError
from dd.teachers import Teacher, TeacherRecipe, TeacherStore, train_teacher, tried_on
from dd.teachers.teacher import accuracy
from dd.transforms.whiten import Normalise

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(90) % 3
PIXELS = torch.randint(0, 80, (90, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
for k in range(3):
    PIXELS[LABELS == k, k] += 150  # class k is bright in channel k
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:9].flip(-1), LABELS[:9])))
RECIPE = TeacherRecipe(model="convnet(width=4, depth=1, norm=batch)", epochs=4, batch_size=16, augment="")


SAME = Normalise(mean=(0.0,) * 3, std=(1.0,) * 3)


def test_trained_once_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TeacherStore(tmp_path, REAL)
    first = store.get(RECIPE)
    assert first.accuracy > 0.9
    path = store.path(RECIPE)
    made = path.read_bytes()
    monkeypatch.setattr("dd.teachers.squeeze.train_teacher", lambda *a, **k: pytest.fail("trained twice"))
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


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_are_read_when_asked_for_teach_the_same(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(reading, "FEW", 3)
    recipe, read = dataclasses.replace(RECIPE, augment="crop_flip"), lazily(REAL, workers)
    one, other = (train_teacher(recipe, real, SAME).state_dict() for real in (REAL, read))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert REAL.test is not None
    assert read.test is not None
    teacher = Teacher("t", train_teacher(recipe, REAL, SAME), SAME)
    assert accuracy(teacher, read.test) == accuracy(teacher, REAL.test)
    assert not multiprocessing.active_children()


def test_a_teacher_is_frozen_and_brings_its_own_normalisation(tmp_path: Path) -> None:
    teacher = TeacherStore(tmp_path, REAL).get(RECIPE)
    assert not teacher.module.training
    assert not any(p.requires_grad for p in teacher.module.parameters())
    x = REAL.train.pixels(torch.arange(4))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (REAL.mean, REAL.std))
    assert torch.allclose(teacher(x), teacher.module((x - mean) / std), atol=1e-6)


def test_a_recipe_with_constants_of_its_own(tmp_path: Path) -> None:
    store, own = TeacherStore(tmp_path, REAL), dataclasses.replace(RECIPE, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    teacher = store.get(own)
    assert store.path(own) != store.path(RECIPE)
    assert teacher.transform == store.get(own).transform == Normalise(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    wanted = train_teacher(RECIPE, REAL, teacher.transform)
    for one, other in zip(teacher.module.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(one, other)
    assert TeacherRecipe(**own.to_json()) == own
    with pytest.raises(InputError, match="`mean, std` must be both or neither"):
        TeacherRecipe(mean=(0.5,))
    with pytest.raises(InputError, match="`std` must be above 0"):
        TeacherRecipe(mean=(0.5,), std=(0.0,))
    for wrong in (0.5, (), ("a",), "ab"):
        with pytest.raises(InputError, match=r"`mean` must be (numbers|a finite number)"):
            TeacherRecipe(mean=wrong, std=(1.0,))  # type: ignore[arg-type]


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


def test_weights_of_another_network_are_refused_whatever_their_checksum(tmp_path: Path) -> None:
    store = TeacherStore(tmp_path, REAL)
    store.get(RECIPE)
    path = store.path(RECIPE)
    tensors, meta = load_tensors(path)
    name = next(iter(tensors))
    for others, told in (
        ({**tensors, name: torch.zeros(2, 2)}, meta),
        ({k: t for k, t in tensors.items() if k != name}, meta),
        (tensors, {**meta, "std": [0.0, 1.0, 1.0]}),
        (tensors, {k: v for k, v in meta.items() if k != "mean"}),
    ):
        save_tensors(path, others, told)
        named = r"does not hold this teacher \(.*\)\. Remove it|is no teacher: `mean` must be .*\. Move it away"
        with pytest.raises(DamagedError, match=rf"({named}); it will be made anew"):
            store.get(RECIPE)


class Constant(nn.Module):
    """Says class 0 of K, whatever it sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.eye(classes)[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(x), -1)


def test_a_teacher_that_knows_nothing_of_the_data_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no better than chance \(33.3 %\), with 1 different answer"):
        Teacher("constant", Constant(3), SAME).check(REAL.train, 3)
    with pytest.raises(InputError, match="of 3 classes; got \\[4\\]"):
        Teacher("four", Constant(4), SAME).check(REAL.train, 3)
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
        Teacher("broken", broken, SAME).check(REAL.train, 3)
    assert good.check(REAL.train, 3) > 0.9


def test_modules_that_cannot_be_teachers() -> None:
    with pytest.raises(
        InputError, match=r"teacher empty, whose scores is on the device meta. Make it on a real device"
    ):
        Teacher("empty", Constant(3).to("meta"), SAME)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what it gives up
        traced = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"scripted or traced. Give the module"):
        Teacher("traced", traced, SAME)


def test_what_is_known_by_heart_alone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    real = dd.load_images((noise, torch.arange(40) % 2))
    with caplog.at_level(logging.WARNING):
        TeacherStore(tmp_path, REAL).get(RECIPE)
        assert caplog.text == ""  # nine held-out images of three classes, all right
        TeacherStore(tmp_path, real).get(dataclasses.replace(RECIPE, min_steps=200))
    assert "knows its training images; of 4 held-out ones it classifies" in caplog.text


def test_a_teacher_has_its_least_number_of_steps() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=2, min_steps=30)
    assert (recipe.per_epoch(90), recipe.per_epoch(81), recipe.per_epoch(1)) == (6, 5, 1)  # of 81, one is left out
    assert (recipe.rounds(90), recipe.rounds(81), recipe.rounds(1000)) == (5, 6, 2)
    told: list[tuple[int, int]] = []
    count = len(REAL.train)
    train_teacher(recipe, REAL, SAME, progress=lambda done, total, text: told.append((done, total)))
    assert told[-1] == (recipe.rounds(count), recipe.rounds(count))
    assert recipe.key("data") != dataclasses.replace(recipe, min_steps=31).key("data")


class Told(nn.Module):
    """Answers what the first pixel says."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.eye(classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores[(255 * x[:, 0, 0, 0]).round().long()]


def told(labels: list[int], answers: list[int], classes: int) -> float:
    """`check` of a teacher that gives these answers to images of these labels."""
    pixels = torch.tensor(answers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    plain = Normalise(mean=(0.0,), std=(1.0,))
    return Teacher("told", Told(classes), plain).check(TensorSplit(pixels, torch.tensor(labels)), classes)


def test_better_than_chance_is_an_exact_test() -> None:
    """Of 2 classes × 20, P(X ≥ 28) = 0.008 and P(X ≥ 27) = 0.019 for X ~ B(40, 1/2)."""
    half = [0] * 20 + [1] * 20
    assert told(half, [0] * 14 + [1] * 6 + [1] * 14 + [0] * 6, 2) == 28 / 40
    with pytest.raises(InputError, match=r"67.5 % of 40 real images, no better than chance \(50.0 %\)"):
        told(half, [0] * 14 + [1] * 6 + [1] * 13 + [0] * 7, 2)


def test_of_unequal_classes_one_answer_never_passes_and_a_weak_teacher_does() -> None:
    labels = [0] * 190 + [1] * 10
    with pytest.raises(InputError, match=r"95.0 % of 200 real images, no better than chance \(95.0 %\), with 1 diff"):
        told(labels, [0] * 200, 2)
    answers = [0] * 184 + [1] * 6 + [1] * 8 + [0] * 2  # 96 %, where one answer has 95 %
    assert told(labels, answers, 2) == 192 / 200
    with pytest.raises(InputError, match="no better than chance"):
        told(labels, [1] * 10 + [0] * 190, 2)


def test_too_few_images_to_tell_are_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert told([0, 0, 1, 1], [0, 0, 1, 1], 2) == 1.0
    assert "4 images are too few to tell whether teacher told knows the classes" in caplog.text
    for answers in ([1, 1, 0, 0], [0, 0, 0, 0]):
        with pytest.raises(InputError, match="no better than chance"):
            told([0, 0, 1, 1], answers, 2)


def test_a_few_held_out_images_are_not_asked() -> None:
    assert REAL.val is not None
    assert len(REAL.val) == 9
    assert tried_on(REAL) is REAL.train
    many = dd.Images(train=(PIXELS, LABELS), val=(PIXELS[:50], LABELS[:50]))
    assert tried_on(many) is many.val


def test_one_trained_here_is_spoken_of_as_such(tmp_path: Path) -> None:
    store, lazy = TeacherStore(tmp_path, REAL), dataclasses.replace(RECIPE, lr=1e-9, min_steps=1)
    text = r"trained here, for 20 steps on 81 images: give more `epochs` or `min_steps`, another `lr` \(now 1e-09\)"
    with pytest.raises(InputError, match=text) as error:
        store.get(lazy)
    assert "class order" not in str(error.value)
    assert store.get(dataclasses.replace(lazy, lr=0.05)).accuracy > 0.5


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_a_teacher_is_a_copy() -> None:
    net = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(192, 3)), nn.BatchNorm1d(3).eval()).train()
    net(torch.zeros(2, 3, 8, 8))  # weight norm keeps a weight with a history, which deepcopy refuses
    modes = [part.training for part in net.modules()]
    teacher = Teacher("copy", net, SAME)
    assert [part.training for part in net.modules()] == modes
    assert all(p.requires_grad for p in net.parameters())
    assert not teacher.module.training
    x = PIXELS[:4] / 255
    before = teacher(x)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    assert torch.equal(teacher(x), before)

    class Locked(nn.Flatten):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    class Copied(Locked):
        def __deepcopy__(self, memo: object) -> nn.Module:
            return Copied()

    with pytest.raises(InputError, match=r"`module` must be one that can be copied.*give it a method `__deepcopy__`"):
        Teacher("locked", nn.Sequential(Locked(), nn.Linear(192, 3)), SAME)
    Teacher("copied", nn.Sequential(Copied(), nn.Linear(192, 3)), SAME)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda x: {"out": x}, r"`teacher bad` must be a network that gives logits \[n, 3\]; got a dict. Wrap it"),
        (lambda x: (x, x), "got a tuple"),
        (lambda x: x @ torch.zeros(9), r"takes pictures \[3, 8, 8\] and gives logits \[n, 3\]; got RuntimeError"),
    ],
)
def test_what_gives_no_logits_is_no_teacher(answer: object, text: str) -> None:
    class Bad(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return answer(x)  # type: ignore[operator]

    with pytest.raises(InputError, match=text):
        Teacher("bad", Bad(), SAME).check(REAL.train, 3)


def test_refusals() -> None:
    for fields, text in (
        ({"batch_size": 1}, "`batch_size` must be at least 2"),
        ({"lr": 0.0}, "`lr` must be positive"),
        ({"optimizer": "lion"}, "`optimizer` must be `sgd` or `adam`"),
        ({"epochs": 0}, "`epochs`"),
        ({"min_steps": 0}, "`min_steps`"),
    ):
        with pytest.raises(InputError, match=text):
            TeacherRecipe(**fields)  # type: ignore[arg-type]
