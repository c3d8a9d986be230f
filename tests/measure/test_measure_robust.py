"""`dd.robustness`: which trainings its scores are made of, tuned alike, drawn anew, and its refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.evaluation import data as toy
from torch import nn

import dd
from dd.base.seeding import child_seed
from dd.data import Images
from dd.errors import InputError
from dd.evaluation import LR_GRID, NetworkLearner, learners
from dd.measure.bench import open_bench
from dd.measure.robustness import augmentation_robust_score, label_robust_score, robustness
from dd.methods import Run
from dd.methods.decoupled.recover import Recover
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

SHIFT = Normalise((0.4,), (0.3,))
FAST: dict[str, Any] = {"repeats": 2, "progress": False, "device": "cpu", "lr": "recipe", "full_steps": 6}


def data(count: int = 20) -> Images:
    """Toy data that is harder to tell apart."""
    return toy(count, noise=90)


def small(soft: bool = False, **fields: Any) -> SyntheticImages:
    """2 images a class, the first ones of the training split."""
    real = data()
    rows = torch.cat([real.class_index(k)[:2] for k in range(3)])
    labels: torch.Tensor = real.train.labels[rows]
    if soft:
        labels = torch.full((6, 3), 0.1).scatter(1, labels[:, None], 0.8)
    recipe = TrainRecipe(**{"model": "mlp", "steps": 4, "lr": 0.05, "augment": "crop_flip", **fields})
    return SyntheticImages(
        images=SHIFT.forward(real.train.pixels(rows)),
        labels=labels,
        classes=real.classes,
        recipe=recipe,
        transform=SHIFT,
        method={"name": "mine"},
    )


def test_scores_are_those_of_its_trainings() -> None:
    found = robustness(small(soft=True), data(), weight=0.3, gamma=0.7, **FAST)
    by = {t.name: t.accuracy.values for t in found.trainings}
    assert [*by] == ["full_hard", "hard", "own", "random", "own_plain", "random_plain"]
    assert all(len(values) == 2 for values in by.values())
    for i in range(2):
        assert found.lrs.values[i] == label_robust_score(
            full_hard=by["full_hard"][i], hard=by["hard"][i], own=by["own"][i], random=by["random"][i], weight=0.3
        )
        assert found.ars is not None
        assert found.ars.values[i] == augmentation_robust_score(
            own_augmented=by["own"][i],
            random_augmented=by["random"][i],
            own_plain=by["own_plain"][i],
            random_plain=by["random_plain"][i],
            weight=0.7,
        )
        assert found.hlr.values[i] == by["full_hard"][i] - by["hard"][i]
        assert found.ior.values[i] == by["own"][i] - by["random"][i]
    assert {t.name: t.steps for t in found.trainings} == {"full_hard": 6, **dict.fromkeys([*by][1:], 4)}
    assert "no teachers can label random images: they carry their classes" in found.notes
    again = robustness(small(soft=True), data(), weight=0.3, gamma=0.7, **FAST)
    assert (again.trainings, again.lrs) == (found.trainings, found.lrs)
    assert "label-robust score" in str(found)
    compat = robustness(small(soft=True), data(), ddranking_compat=True, **FAST)
    assert compat.lrs.values[0] == label_robust_score(
        full_hard=by["full_hard"][0],
        hard=by["hard"][0],
        own=by["own"][0],
        random=by["random"][0],
        ddranking_compat=True,
    )


def test_trainings_are_those_of_the_one_loop() -> None:
    value, real = small(), data()
    found = robustness(value, real, **FAST)
    bench = open_bench(value, real, repeats=2, device="cpu")
    learner = NetworkLearner()
    plain = dataclasses.replace(value, recipe=dataclasses.replace(value.recipe, augment=""))
    assert real.test is not None
    by = {t.name: t.accuracy.values for t in found.trainings}
    assert [*by] == ["full_hard", "hard", "random", "own_plain", "random_plain"]  # `own` is `hard`
    for i, seed in enumerate(bench.seeds()):
        assert by["hard"][i] == learner.fit(value, seed).score(real.test)
        assert by["own_plain"][i] == learner.fit(plain, seed).score(real.test)
        assert by["random"][i] == learner.fit(bench.random(i), seed).score(real.test)
        whole = bench.real_images(real.train)
        assert len(whole) == len(real.train)
        assert by["full_hard"][i] == NetworkLearner(steps=6).fit(whole, seed).score(real.test)
    first, second = bench.random(0), bench.random(1)
    assert torch.bincount(first.split.labels).tolist() == [2, 2, 2]
    assert not torch.equal(first.split.pixels(), second.split.pixels())


def test_a_set_of_random_images_is_worth_what_random_is() -> None:
    """Invariants 36 and 37: the random set itself has IOR 0, and with full data as good as the set LRS is 0.2689."""
    bench = open_bench(small(), data(), repeats=1, device="cpu")
    chosen = bench.random(0)
    own = dataclasses.replace(small(), images=SHIFT.forward(chosen.split.pixels()), labels=chosen.split.labels)
    options = {**FAST, "repeats": 1}
    hard = robustness(own, data(), **options).trainings[1].accuracy.mean
    found = robustness(own, data(), full=hard, **options)
    assert found.ior.values == (0.0,)
    assert found.lrs.mean == pytest.approx(0.26894142)
    assert found.ars is not None
    assert found.ars.mean == pytest.approx(0.26894142)
    assert "full_hard" not in [t.name for t in found.trainings]


class Judge(nn.Module):
    """A teacher that knows the classes by the brightness of the upper half."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        bright = self.norm(z)[:, 0, :4].mean((1, 2))
        return torch.stack([-4 * (bright - c) ** 2 for c in (-0.62, 0.56, 1.73)], 1)


def test_random_images_get_labels_of_the_sets_own_teachers(tmp_path: Path) -> None:
    real = data()
    teacher = dd.Teacher("judge", Judge(), Normalise((0.3,), (0.2,)))
    train = TrainRecipe(model="mlp", steps=4, lr=0.01, optimizer="adamw", loss="kl", batch_size=3)
    options: dict[str, Any] = {"ipc": 1, "iterations": 1, "labels": "stored", "label_epochs": 2}
    method = Recover(committee=(teacher,), train=train, **options)
    made = list(method.distill(real, Run(store=tmp_path)))[-1].candidates[0].set
    assert isinstance(made, SyntheticImages)
    assert made.store is not None
    with_teachers = robustness(made, real, committee=[teacher], store=tmp_path, full=0.9, **FAST)
    by = {t.name: t for t in with_teachers.trainings}
    assert [*by] == ["hard", "own", "random", "random_augmented", "own_plain", "random_plain"]
    bench = open_bench(made, real, repeats=2, device="cpu")
    assert real.test is not None
    for i, seed in enumerate(bench.seeds()):
        run = Run(seed=child_seed(0, "draw", i), store=tmp_path)
        other = list(method.of_random_images().distill(real, run))[-1].candidates[0].set
        assert isinstance(other, SyntheticImages)
        assert by["random"].accuracy.values[i] == NetworkLearner().fit(other, seed).score(real.test)
        assert by["own"].accuracy.values[i] == NetworkLearner().fit(made, seed).score(real.test)
        hard = NetworkLearner().fit(bench.random(i), seed).score(real.test)
        assert by["random_augmented"].accuracy.values[i] == hard
    assert with_teachers.ars is not None
    first = [by[name].accuracy.values[0] for name in ("hard", "random_augmented", "own_plain", "random_plain")]
    assert with_teachers.ars.values[0] == augmentation_robust_score(
        own_augmented=first[0], random_augmented=first[1], own_plain=first[2], random_plain=first[3]
    )
    assert any("ARS with classes" in note for note in with_teachers.notes)
    without = robustness(made, real, full=0.9, **FAST)
    assert any("they carry their classes" in note for note in without.notes)


def test_step_sizes_are_tuned_alike_on_val_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = data(), []

    def score(net: Any, split: Any, transform: Any, device: Any) -> float:
        seen.append(split.fingerprint)
        return 0.9 if abs(net.lr - 0.1) < 1e-9 else 0.5

    def fit(value: Any, net: Any, recipe: TrainRecipe, seed: int, device: Any, forward: Any) -> Any:
        net.lr = recipe.lr
        return net

    monkeypatch.setattr(learners, "fit", fit)
    monkeypatch.setattr(learners, "accuracy", score)
    found = robustness(small(soft=True), real, **{**FAST, "lr": "tuned"})
    assert {t.lr for t in found.trainings} == {0.1}
    assert real.val is not None
    assert seen == [real.val.fingerprint] * (6 * len(LR_GRID))


def test_no_augmentation_no_ars_unless_one_is_chosen() -> None:
    found = robustness(small(augment=""), data(), full=0.9, **{**FAST, "repeats": 1})
    assert found.ars is None
    assert [t.name for t in found.trainings] == ["hard", "random"]
    chosen = robustness(small(augment=""), data(), full=0.9, augment="crop", **{**FAST, "repeats": 1})
    names = ["hard", "random", "own_augmented", "random_augmented", "own_plain", "random_plain"]
    assert [t.name for t in chosen.trainings] == names
    by = {t.name: t.accuracy.values for t in chosen.trainings}
    assert by["own_plain"] == by["hard"]
    assert by["random_plain"] == by["random"]


def test_full_data_is_trained_until_it_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def enough(learner: Any, real: Any, val: Any, seed: int, most: int) -> tuple[int, bool]:
        asked.append(most)
        return 9, False

    monkeypatch.setattr("dd.measure.bench.enough_steps", enough)
    found = robustness(small(), data(), **{**FAST, "repeats": 1, "full_steps": None})
    assert asked == [32]
    assert found.trainings[0].steps == 9
    assert any("still gained at 9 steps" in note for note in found.notes)


def test_refusals() -> None:
    for given, text in (
        ({"full": 56.5}, r"`full` must be a fraction"),
        ({"weight": 2.0}, r"`weight` must be a fraction"),
        ({"repeats": 0}, "`repeats` must be a whole number"),
        ({"lr": "best"}, "`lr` must be `recipe`, `tuned` or a number"),
        ({"augment": "blur"}, "unknown augmentation"),
        ({"steps": 0}, "`steps` must be"),
    ):
        with pytest.raises(InputError, match=text):
            robustness(small(), data(), **{**FAST, **given})
