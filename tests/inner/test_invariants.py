"""Invariants of trajectory matching that hold whatever the engine: extremes of L, stored windows, replayed draws."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import dd
from dd.base.seeding import child
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint, unroll
from dd.models import build
from dd.transforms.dsa import DSA, OPTIONS
from dd.transforms.whiten import make_transform

F64 = torch.float64
N_IMAGES, CLASSES = 6, 3
Engine = Callable[[Problem], Matching]
ENGINES: list[Engine] = [adjoint, partial(adjoint, micro_batch=2, reuse=0), unroll]
engines = pytest.mark.parametrize("engine", ENGINES, ids=["adjoint", "micro-batches", "unroll"])


def noise(*shape: int, name: str) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=child(0, name))


def problem(steps: int = 4, option: str = "none", **fields: Any) -> Problem:
    """6 images of 2×8×8 in three classes, a ConvNet of width 4, batches of 4."""
    student = Student(build("convnet(width=4)", channels=2, classes=CLASSES, size=(8, 8), seed=0, dtype=F64))
    theta = student.initial + 0.1 * noise(student.size, name="theta")
    dsa = DSA(option, flip_prob=0.7)
    plan = []
    for i in range(steps):
        index = torch.randperm(N_IMAGES, generator=child(0, "index", i))[:4]
        plan.append(InnerStep(index, dsa.draw(4, (8, 8), child(0, "draw", i))))
    base: dict[str, Any] = {
        "student": student,
        "theta": theta,
        "targets": [Target(steps, theta + 0.05 * noise(student.size, name="goal"))],
        "images": noise(N_IMAGES, 2, 8, 8, name="images"),
        "labels": torch.arange(N_IMAGES) % CLASSES,
        "lr": torch.tensor(0.2, dtype=F64),
        "steps": plan,
    }
    return Problem(**{**base, **fields})


def points(p: Problem, count: int) -> list[Target]:
    """Matching points at the last `count` steps, each with a target of its own and weight 1."""
    last = len(p.steps)
    return [Target(last - k, p.theta + 0.05 * noise(p.student.size, name=f"goal {k}")) for k in range(count)]


class Indifferent:
    """A student whose loss is the same for every θ and every picture, so that every g_i = 0."""

    def __init__(self, size: int) -> None:
        self.size = size

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        del y
        return 0.0 * theta.sum() * x.sum()


@engines
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_standing_still_gives_the_number_of_matching_points(engine: Engine, momentum: float, count: int) -> None:
    p = problem(momentum=momentum)
    p = dataclasses.replace(p, targets=points(p, count))
    for still in (
        dataclasses.replace(p, lr=torch.zeros((), dtype=F64)),
        dataclasses.replace(p, student=cast(Student, Indifferent(p.student.size))),
    ):
        answer = engine(still)
        assert float(answer.loss) == pytest.approx(count, rel=1e-14)
        assert float(answer.images.abs().max()) == 0
        assert torch.equal(answer.theta, p.theta)
    assert float(answer.lr) == 0


@engines
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_hitting_every_matching_point_gives_zero_and_no_gradient(engine: Engine, momentum: float) -> None:
    p = problem(momentum=momentum)
    hit = []
    for k in (2, 4):
        short = dataclasses.replace(p, steps=p.steps[:k], targets=[Target(k, p.targets[0].theta)])
        hit.append(Target(k, engine(short).theta))
    answer = engine(dataclasses.replace(p, targets=hit))
    assert float(answer.loss) < 1e-26
    assert float(answer.images.abs().max()) < 1e-12
    assert abs(float(answer.lr)) < 1e-10


@engines
def test_loss_and_gradient_add_over_matching_points(engine: Engine) -> None:
    p = problem(lr=torch.tensor(0.02, dtype=F64))
    both = points(p, 2)
    one, two = (engine(dataclasses.replace(p, targets=[target])) for target in both)
    answer = engine(dataclasses.replace(p, targets=both))
    assert float(answer.loss) == pytest.approx(float(one.loss + two.loss), rel=1e-12)
    torch.testing.assert_close(answer.images, one.images + two.images, rtol=1e-10, atol=1e-14)
    assert min(float(one.loss), float(two.loss)) > 0


def real() -> dd.Images:
    """3 classes of 1×8×8, 27 images for training."""
    labels = torch.arange(CLASSES).repeat(10)
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=child(0, "real"), dtype=torch.uint8)
    images[:, :, :4] = (images[:, :, :4] // 4 + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return dd.load_images(dd.Images(train=(images, labels), test=(images[:6].flip(-1), labels[:6])))


@pytest.mark.parametrize("step", ["sgd", "gsam"])
def test_every_stored_window_has_a_distance(tmp_path: Path, step: Any) -> None:
    """D > 0 for every pair of snapshots of every expert (a view of live weights would make D = 0)."""
    recipe = ExpertRecipe(model="convnet(width=4)", lr=0.05, batch_size=9, experts=2, snapshots=4, step=step)
    data = real()
    store = ExpertStore(tmp_path, recipe, data)
    store.ensure(make_transform(data, recipe.whiten))
    starts = []
    for seed in range(2):
        rows = store.read(seed, range(5))
        assert torch.equal(rows[0], make_student(recipe, data, seed).initial.float())
        for a, b in itertools.combinations(rows, 2):
            assert float((a - b).double().square().sum()) > 0
        starts.append(rows[0])
    assert not torch.equal(*starts)


@pytest.mark.parametrize("option", OPTIONS)
def test_pixel_gradient_through_each_option_is_the_slope(option: str) -> None:
    """Central differences of L through replayed draws, in the pixels and in β."""
    p = problem(option=option, lr=torch.tensor(0.1, dtype=F64))
    direction, h = noise(*p.images.shape, name="direction"), 1e-5
    rise = adjoint(dataclasses.replace(p, images=p.images + h * direction)).loss
    fall = adjoint(dataclasses.replace(p, images=p.images - h * direction)).loss
    answer = adjoint(p, micro_batch=3, reuse=0)
    slope = float((answer.images * direction).sum())
    assert float(rise - fall) / (2 * h) == pytest.approx(slope, rel=1e-5)
    rise = adjoint(dataclasses.replace(p, lr=p.lr + h)).loss
    fall = adjoint(dataclasses.replace(p, lr=p.lr - h)).loss
    assert float(rise - fall) / (2 * h) == pytest.approx(float(answer.lr), rel=1e-5)


@pytest.mark.parametrize("option", OPTIONS)
def test_micro_batches_replay_their_rows_of_the_draw(option: str) -> None:
    """Both passes, whole or in micro-batches, see the same pictures: equal L, equal gradients, each time."""
    p = problem(option=option)
    whole, again = adjoint(p), adjoint(p)
    assert torch.equal(whole.images, again.images)
    parts = adjoint(p, micro_batch=1, reuse=0)
    assert float(parts.loss) == pytest.approx(float(whole.loss), rel=1e-12)
    torch.testing.assert_close(parts.images, whole.images, rtol=1e-9, atol=1e-13)


@engines
def test_pixels_that_a_draw_removes_get_no_gradient(engine: Engine) -> None:
    """Cut out in the only step that sees it, a pixel does not count."""
    p = problem(steps=1, option="cutout")
    step = p.steps[0]
    mask = step.draw(torch.ones(4, 2, 8, 8, dtype=F64))
    gradient = engine(p).images[step.index]
    assert float(gradient[mask == 0].abs().max()) == 0
    assert float((gradient[mask == 1] != 0).double().mean()) > 0.99
