"""`dd.membership`: sane on members themselves and on strangers, balanced shadows, refusals."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

import dd
from dd.base.files import dump_json
from dd.data import Images
from dd.errors import InputError
from dd.measure.bench import open_bench, some_rows
from dd.measure.membership import halves, membership
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

SHIFT = Normalise((0.3,), (0.35,))
FAST: dict[str, Any] = {"repeats": 2, "progress": False, "device": "cpu"}
NOISE = 0.35
RECIPE = TrainRecipe(model="mlp", steps=40, lr=0.1, weight_decay=0.0, batch_size=512)


def parts(count: int = 160, noise: float = NOISE) -> tuple[Images, SyntheticImages, SyntheticImages]:
    """(data, a set of its members themselves, a set of strangers): thirds of noisy digits, shuffled."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))[: 3 * count]
    pixels = torch.from_numpy(found.images).float()[order, None] / 16
    pixels = (pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    labels = torch.from_numpy(found.target).long()[order]
    (a, b, c), (la, lb, lc) = pixels.split(count), labels.split(count)
    real = dd.Images(train=(a, la), test=(b, lb), classes=10, name="digits")

    def of(images: torch.Tensor, classes: torch.Tensor) -> SyntheticImages:
        return SyntheticImages(
            images=SHIFT.forward(images),
            labels=classes,
            classes=real.classes,
            recipe=RECIPE,
            transform=SHIFT,
            method={"name": "copies"},
            provenance={"protocol": "paper"},  # nothing is held out: all of train are members
        )

    return real, of(a, la), of(c, lc)


def test_members_are_told_and_strangers_are_not() -> None:
    real, own, strangers = parts()
    options: dict[str, Any] = {**FAST, "repeats": 1, "shadows": 6, "fprs": (0.05,), "shadow_lr": 0.1}
    ours, theirs = membership(own, real, **options), membership(strangers, real, **options)
    assert (ours.members, ours.others) == (160, 160)
    assert ours.advantage_error == pytest.approx(math.sqrt(1 / 320))
    assert ours.accuracy["members"].mean > 0.9  # overfitted
    assert ours.accuracy["others"].mean < 0.8
    for name in ("loss", "lira"):
        told, chance = ours.row(name), theirs.row(name)
        assert told.advantage.mean > 4 * ours.advantage_error, name
        assert told.auroc.mean > 0.5 + 4 * ours.auroc_error, name
        # at chance: within three standard errors, of one network since networks share the images
        assert abs(chance.advantage.mean) < 3 * theirs.advantage_error, name
        assert abs(chance.auroc.mean - 0.5) < 3 * theirs.auroc_error, name
        assert told.tpr[0.05].mean > chance.tpr[0.05].mean
    assert ours.row("lira").auroc.mean > ours.row("loss").auroc.mean  # knowing how hard an image is helps


def test_answer_is_seeded_and_prints() -> None:
    real, own, _ = parts(60)
    own = dataclasses.replace(own, recipe=dataclasses.replace(RECIPE, steps=5))
    options: dict[str, Any] = {**FAST, "shadows": 4, "images": 40}
    found = membership(own, real, **options)
    assert found.rows == membership(own, real, **options).rows
    assert found.rows != membership(own, real, seed=1, **options).rows
    assert dump_json(found.to_json())
    assert (found.members, found.others, found.row("lira").auroc.n) == (40, 40, 2)
    lines = str(found).splitlines()
    assert lines[0] == "copies on digits, mlp: membership of 40 training images against 40 others"
    assert "TPR % at 0.1 % FPR" in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == ["loss", "lira", "chance"]
    net = found.accuracy["members"].values[0]
    target = open_bench(own, real, **FAST).networks()[0]
    assert net == target.score(some_rows(real.train, 40, 0, "members"))
    assert [r["attack"] for r in membership(own, real, shadows=0, **FAST).to_json()["attacks"]] == ["loss"]


def test_shadows_see_halves_and_every_image_is_unknown_to_half() -> None:
    inside = halves(11, 6, seed=0)
    assert inside.sum(1).tolist() == [5, 6] * 3
    assert inside.sum(0).tolist() == [3] * 11
    assert not torch.equal(inside[0], inside[2])


def test_a_method_can_be_run_for_every_shadow() -> None:
    real, own, _ = parts(60)
    own = dataclasses.replace(own, recipe=dataclasses.replace(RECIPE, steps=3))
    asked: list[tuple[int, int]] = []

    def distil(half: Images, seed: int) -> SyntheticImages:
        asked.append((len(half.train), seed))
        return own

    membership(own, real, shadows=4, distil=distil, **FAST)
    assert [count for count, _ in asked] == [60] * 4
    assert len({seed for _, seed in asked}) == 4
    with pytest.raises(InputError, match="`distil` must return an image set"):
        membership(own, real, shadows=4, distil=lambda half, seed: half, **FAST)  # type: ignore[arg-type, return-value]


def test_refusals() -> None:
    real, own, _ = parts(60)
    for given, text in (
        ({"shadows": 5}, "`shadows` must be 0, or an even number of at least 4"),
        ({"against": "train"}, "`against` must be `test` or `val`"),
        ({"against": "val"}, "holds out no validation split"),
    ):
        with pytest.raises(InputError, match=text):
            membership(own, real, **FAST, **given)  # type: ignore[arg-type]
