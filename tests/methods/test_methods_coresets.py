"""Herding and k-center: hand-worked choices, what they are defined by, the teacher made once, refusals."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

import dd
from dd.errors import InputError
from dd.methods import Herding, KCenter, Run
from dd.methods.real.coresets import cover, herd
from dd.teachers import TeacherRecipe

LINE = torch.tensor([[0.0], [1.0], [2.0], [9.0]])  # mean 3
TEACHER = TeacherRecipe(model="convnet(width=8, norm=batch)", epochs=2)


def test_hand_worked() -> None:
    assert herd(LINE, 3).tolist() == [2, 1, 3]  # |2-3| least; then (2+1)/2, |1.5-3| < |5.5-3|; then (3+9)/3
    assert cover(LINE, 3).tolist() == [2, 3, 0]  # nearest to the mean; farthest from 2; then 0 (2 away) before 1


def test_all_rows_once() -> None:
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    for rule in (herd, cover):
        assert sorted(rule(points, 12).tolist()) == list(range(12))
        assert sorted(rule(torch.zeros(5, 2), 5).tolist()) == list(range(5))  # equal points are different rows


def test_herding_goes_to_the_mean_and_k_center_covers() -> None:
    points = torch.randn(14, 2, generator=torch.Generator().manual_seed(1)).double()
    chosen = herd(points, 5)
    best_first = min(range(14), key=lambda i: float((points[i] - points.mean(0)).norm()))
    assert int(chosen[0]) == best_first

    def radius(rows: list[int]) -> float:
        return float(torch.cdist(points, points[rows]).min(1).values.max())

    least = min(radius(list(rows)) for rows in combinations(range(14), 3))
    assert radius(cover(points, 3).tolist()) <= 2 * least + 1e-9  # the greedy bound


@pytest.mark.parametrize("make", [Herding, KCenter])
def test_sets_are_real_images_of_their_class_and_need_no_seed(make: type, tmp_path: Path) -> None:
    real = dd.load_images("digits")
    method = make(ipc=2, teacher=TEACHER)
    sets = []
    for seed in (0, 1):
        (step,) = method.distill(real, Run(seed=seed, store=tmp_path))
        sets.append(step.candidates[0].set)
    assert torch.equal(sets[0].images, sets[1].images)
    assert sets[0].labels.tolist() == [k for k in range(10) for _ in range(2)]
    own = real.train.pixels(real.class_index(3)).flatten(1)
    chosen = sets[0].pixels()[6:8].flatten(1)
    assert float((chosen[:, None] - own).abs().amax(2).amin(1).max()) < 1e-5
    assert len(list((tmp_path / "teachers").glob("*.safetensors"))) == 1


def test_the_door_knows_them(tmp_path: Path) -> None:
    small = dd.distill(
        "digits", "herding", ipc=1, teacher={"epochs": 1, "min_steps": 1}, store=tmp_path, progress=False
    )
    assert len(small) == 10
    assert small.method["choose"] == "herding"


def test_refusals() -> None:
    with pytest.raises(InputError, match="`choose` must be `herding` or `k_center`; got 'nearest'"):
        Herding(choose="nearest")
    with pytest.raises(InputError, match="`ipc` must be a whole number"):
        KCenter(ipc=0)
    with pytest.raises(InputError, match="`ipc` must be at most"):
        next(iter(KCenter(ipc=10_000).distill(dd.load_images("digits"), Run())))
