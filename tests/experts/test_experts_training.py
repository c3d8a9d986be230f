"""Training of experts: the trajectory of a plain loop, seeded, at the cadence, finite."""

from __future__ import annotations

import functools
import multiprocessing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.experts import REAL, STEPS_PER_EPOCH, Store, recipe, take, trainer
from reference.pictures import lazily
from reference.training import sgd
from torch import Tensor, nn

import dd
from dd.base import files
from dd.base.seeding import child
from dd.data.images import reading
from dd.errors import DivergedError
from dd.experts import ExpertTrainer, make_student
from dd.transforms.whiten import make_transform


class Dropping(nn.Module):
    """A network with dropout, as a layer or by a call that no one can see."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int], hidden: bool) -> None:
        super().__init__()
        self.drop = nn.Identity() if hidden else nn.Dropout(0.5)
        self.hidden, self.last = hidden, nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x.flatten(1))
        return self.last(nn.functional.dropout(x, 0.5, self.training) if self.hidden else x)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"augment": "color_crop_cutout_flip_scale_rotate", "augment_mode": "all"},
        {"step": "gsam", "rho": 0.0, "alpha": 0.7},
        {"step": "gsam", "rho": 0.0, "adaptive": False, "momentum": 0.9},
        {"whiten": True},
    ],
    ids=["sgd", "momentum", "dsa", "gsam of radius 0", "gsam of radius 0, not adaptive", "zca"],
)
def test_trajectory_is_that_of_the_plain_loop(fields: dict[str, Any]) -> None:
    value = recipe(**fields, snapshot_unit="step", lr=0.02)
    transform, student = make_transform(REAL, value.whiten), make_student(value, REAL, seed=3)
    batches = []
    for step in range(2 * STEPS_PER_EPOCH):
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        rows = torch.randperm(27, generator=child(3, "order", epoch))[4 * place : 4 * (place + 1)]
        draw = value.dsa().draw(len(rows), (8, 8), child(3, "draw", step))
        batches.append((draw(transform.forward(REAL.train.pixels(rows))), REAL.train.labels[rows]))
    assert [len(x) for x, _ in batches[:STEPS_PER_EPOCH]] == [4] * 6 + [3]
    twin = sgd(student.module, batches, [0.02] * len(batches), value.momentum, value.weight_decay)
    made = take(value, len(twin), seed=3)
    for slow, fast in zip(twin, made, strict=True):
        torch.testing.assert_close(fast.theta, slow, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_are_read_when_asked_for_make_the_same_trajectory(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """From the start and from a snapshot within an epoch, by processes that are started once an expert."""
    monkeypatch.setattr(reading, "FEW", 3)
    value = recipe(snapshot_unit="step", snapshot_every=5, momentum=0.9)
    theirs = trainer(value, lazily(REAL, workers))
    made, starts, usual = take(value, 5), list[int](), reading._in_workers
    monkeypatch.setattr(reading, "_in_workers", lambda *given: starts.append(given[2]) or usual(*given))
    for start in (None, made[1]):
        starts.clear()
        found = list(islice(theirs.snapshots(0, start), 3))
        assert sum(count == workers for count in starts) <= 1
        for one, other in zip(made[0 if start is None else 2 :], found, strict=False):
            assert one.step == other.step
            assert torch.equal(one.theta, other.theta)
            assert torch.equal(one.velocity, other.velocity)
            assert one.accuracy == other.accuracy
    assert not multiprocessing.active_children()


def test_gsam_of_a_radius_is_another_trajectory() -> None:
    plain, flat = (take(recipe(step=step, rho=0.5), 2)[1] for step in ("sgd", "gsam"))
    assert float((plain.theta - flat.theta).abs().max()) > 1e-3


def test_snapshot_0_is_the_seeded_initialisation() -> None:
    for seed in (0, 1):
        first = take(recipe(), 1, seed=seed)[0]
        assert first.step == 0
        assert torch.equal(first.theta, make_student(recipe(), REAL, seed).initial)
        assert not first.velocity.any()
    assert not torch.equal(make_student(recipe(), REAL, 0).initial, make_student(recipe(), REAL, 1).initial)


@pytest.mark.parametrize(("unit", "every", "per"), [("step", 1, 1), ("step", 3, 3), ("epoch", 1, 7), ("epoch", 2, 14)])
def test_snapshots_come_at_the_cadence_and_are_copies(unit: str, every: int, per: int) -> None:
    found = take(recipe(snapshot_unit=unit, snapshot_every=every), 5)
    assert [s.step for s in found] == [per * k for k in range(5)]
    assert len({files.digest(s.theta) for s in found}) == 5
    assert len({s.theta.data_ptr() for s in found}) == 5
    assert all(s.theta.dtype == torch.float32 and not s.theta.requires_grad for s in found)


def test_cadence_does_not_change_the_trajectory() -> None:
    fine = {s.step: s.theta for s in take(recipe(snapshot_unit="step"), 15)}
    for snapshot in take(recipe(), 3):
        assert torch.equal(snapshot.theta, fine[snapshot.step])


def test_accuracy_is_that_of_held_out_images_never_of_the_test() -> None:
    assert REAL.val is not None
    value, transform = recipe(lr=0.2), make_transform(REAL, False)
    student = make_student(value, REAL, 0)
    found = take(value, 4)
    for snapshot in found:
        logits = student.logits(snapshot.theta, transform.forward(REAL.val.pixels()))
        assert snapshot.accuracy == int((logits.argmax(1) == REAL.val.labels).sum()) / 3
    bare = dd.Images(train=REAL.train, val=None, test=None, classes=3)
    assert next(trainer(value, bare).snapshots(0)).accuracy != next(trainer(value, bare).snapshots(0)).accuracy  # NaN


@pytest.mark.parametrize("hidden", [True, False])
def test_networks_that_draw_are_repeatable_and_leave_the_global_stream(hidden: bool) -> None:
    model = dd.Model(functools.partial(Dropping, hidden=hidden), name="dropping")
    value = recipe(model=model, snapshot_unit="step", step="gsam", rho=0.1)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    whole = take(value, 4)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    rest = take(value, 2, whole[1])
    assert torch.equal(rest[1].theta, whole[3].theta)
    if not hidden:  # a student is a function of θ
        student, x = make_student(value, REAL, 0), REAL.test.pixels() if REAL.test else torch.empty(0)
        assert torch.equal(student.logits(student.initial, x), student.logits(student.initial, x))


def test_divergence_names_the_expert() -> None:
    text = r"expert 2 of recipe 'custom' is not finite after \d+ steps\. Lower `lr` \(now 1e\+38\)"
    with pytest.raises(DivergedError, match=text):
        take(recipe(lr=1e38), 3, seed=2)


def test_divergence_keeps_what_was_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ExpertTrainer._step

    def step(self: ExpertTrainer, *rest: Any) -> tuple[Tensor, Tensor]:
        theta, velocity = original(self, *rest)
        return (theta if rest[-1] < 2 else theta * torch.nan), velocity

    monkeypatch.setattr(ExpertTrainer, "_step", step)
    store = Store(tmp_path, recipe(snapshot_unit="step"))
    with pytest.raises(DivergedError, match="after 3 steps"):
        store.fill()
    assert store.length(0) == 3
    assert all(bool(torch.isfinite(theta).all()) for theta in store.read(0, range(3)))
