"""The adjoint's own promises: replay, micro-batches, reuse, step-size identity, independence of the coordinates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint, unroll
from dd.models import build
from dd.transforms.dsa import DSA, Draw

ALL_OPS = "color_crop_cutout_flip_scale_rotate"
N_IMAGES = 7


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(steps: int = 3, batch: int = N_IMAGES, **fields: Any) -> Problem:
    """7 images of 3×8×8, a ConvNet of width 4, one DSA option a step, float64."""
    g = torch.Generator().manual_seed(3)
    module = build("convnet(width=4)", channels=3, classes=3, size=(8, 8), seed=0, dtype=torch.float64)
    student = Student(module)
    theta = student.initial + 0.1 * noise(student.size)
    dsa = DSA(ALL_OPS)
    plan = [InnerStep(torch.randperm(N_IMAGES, generator=g)[:batch], dsa.draw(batch, (8, 8), g)) for _ in range(steps)]
    base: dict[str, Any] = {
        "student": student,
        "theta": theta,
        "targets": [Target(steps, theta + 0.05 * noise(student.size, seed=1))],
        "images": noise(N_IMAGES, 3, 8, 8, seed=2),
        "labels": torch.arange(N_IMAGES) % 3,
        "lr": torch.tensor(0.2, dtype=torch.float64),
        "steps": plan,
    }
    return Problem(**{**base, **fields})


def close(a: Matching, b: Matching, tolerance: float = 1e-10) -> None:
    for one, other in ((a.loss, b.loss), (a.images, b.images), (a.lr, b.lr), (a.theta, b.theta)):
        assert float((one - other).norm()) <= tolerance * float(other.norm())


class Recorder:
    """A draw that keeps what it gave out, by row of the whole batch."""

    def __init__(self, draw: Draw, seen: dict[int, list[Tensor]], rows: Sequence[int] | None = None) -> None:
        self.draw, self.seen = draw, seen
        self.of = list(range(draw.n)) if rows is None else rows

    def __call__(self, x: Tensor) -> Tensor:
        out = self.draw(x)
        for row, picture in zip(self.of, out.detach(), strict=True):
            self.seen.setdefault(row, []).append(picture.clone())
        return out

    def rows(self, index: slice) -> Recorder:
        return Recorder(self.draw.rows(index), self.seen, self.of[index])


@pytest.mark.parametrize(("micro", "reuse", "times"), [(None, 0, 2), (3, 0, 2), (1, 0, 2), (3, 5, 1)])
def test_second_pass_sees_the_same_bytes(micro: int | None, reuse: int, times: int) -> None:
    """Every picture of every step is drawn twice, alike to the bit; with its graph kept it is drawn once."""
    p = problem()
    seen: list[dict[int, list[Tensor]]] = [{} for _ in p.steps]
    recorded = [InnerStep(s.index, cast(Draw, Recorder(s.draw, kept))) for s, kept in zip(p.steps, seen, strict=True)]
    close(adjoint(dataclasses.replace(p, steps=recorded), micro, reuse), unroll(p))
    for step, kept in zip(p.steps, seen, strict=True):
        whole = step.draw(p.images[step.index])
        assert sorted(kept) == list(range(N_IMAGES))
        for row, pictures in kept.items():
            assert len(pictures) == times
            assert all(torch.equal(picture, whole[row]) for picture in pictures)


@pytest.mark.parametrize("micro", [1, 2, 3, 4, 6])
def test_micro_batches_sum_to_the_gradient(micro: int) -> None:
    """Equal to rounding for nets without batch statistics, the ragged last micro-batch weighted by its size."""
    p = problem(steps=1)
    step, (x, y) = p.steps[0], (p.images[p.steps[0].index], p.labels[p.steps[0].index])
    total = torch.zeros_like(p.theta)
    for start in range(0, N_IMAGES, micro):
        rows = slice(start, min(start + micro, N_IMAGES))
        leaf = p.theta.clone().requires_grad_()
        loss = p.student.loss(leaf, step.draw.rows(rows)(x[rows]), y[rows])
        total += (rows.stop - rows.start) / N_IMAGES * torch.autograd.grad(loss, leaf)[0]
    leaf = p.theta.clone().requires_grad_()
    (whole,) = torch.autograd.grad(p.student.loss(leaf, step.draw(x), y), leaf)
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(adjoint(p, micro_batch=micro).theta, p.theta - p.lr * whole, rtol=1e-13, atol=1e-15)


def test_an_image_drawn_twice_in_a_step_gets_both_parts() -> None:
    p = problem(steps=2)
    twice = [InnerStep(torch.tensor([0, 1, 1, 2, 0, 0, 3]), s.draw) for s in p.steps]
    again = dataclasses.replace(p, steps=twice)
    for micro in (None, 2):
        close(adjoint(again, micro), unroll(again))


def test_matching_points_at_one_step_add_up() -> None:
    p = problem(momentum=0.9)
    pair = [Target(3, p.targets[0].theta, 0.5), Target(3, p.theta + 0.02 * noise(p.student.size, seed=5), 2.0)]
    close(adjoint(dataclasses.replace(p, targets=pair)), unroll(dataclasses.replace(p, targets=pair)))


def test_later_steps_than_the_last_matching_point_do_nothing() -> None:
    p = problem(steps=4)
    early = [Target(2, p.targets[0].theta)]
    answer = adjoint(dataclasses.replace(p, targets=early))
    short = adjoint(dataclasses.replace(p, targets=early, steps=p.steps[:2]))
    assert torch.equal(answer.loss, short.loss)
    torch.testing.assert_close(answer.images, short.images, rtol=1e-12, atol=1e-18)
    assert float(answer.lr) == pytest.approx(float(short.lr), rel=1e-12)


class Turned:
    """A student in other coordinates of parameter space: ℓ'(θ') = ℓ(Qᵀ θ')."""

    def __init__(self, student: Student, q: Tensor) -> None:
        self.student, self.q, self.size = student, q, student.size

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.student.loss(self.q.T @ theta, x, y)


@pytest.mark.parametrize("engine", [adjoint, unroll])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_orthogonal_coordinates_change_nothing(engine: Callable[[Problem], Matching], momentum: float) -> None:
    p = problem(momentum=momentum)
    q, _ = torch.linalg.qr(noise(p.student.size, p.student.size, seed=6))
    turned = dataclasses.replace(
        p,
        student=cast(Student, Turned(p.student, q)),
        theta=q @ p.theta,
        targets=[Target(t.step, q @ t.theta, t.weight) for t in p.targets],
    )
    answer, expected = engine(turned), engine(p)
    close(dataclasses.replace(answer, theta=q.T @ answer.theta), expected)


def test_loss_is_the_ratio_of_the_means() -> None:
    """The published code divides both sums by P."""
    p = problem()
    answer, goal = adjoint(p), p.targets[0].theta
    ratio = torch.nn.functional.mse_loss(answer.theta, goal) / torch.nn.functional.mse_loss(p.theta, goal)
    assert float(answer.loss) == pytest.approx(float(ratio), rel=1e-13)


class Straight:
    """A student whose gradient does not depend on θ: ℓ(θ; x) = ⟨θ, M Σ_pixels tanh(x)⟩."""

    def __init__(self, size: int, pixels: int) -> None:
        self.size = size
        self.matrix = noise(size, pixels, seed=8) / pixels

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        del y
        return torch.dot(theta, self.matrix @ x.flatten(1).tanh().mean(0))


def identity(p: Problem) -> tuple[float, float]:
    """dL/dβ, and −⟨λ_N, G⟩ with G the sum of all inner gradients."""
    answer, target = adjoint(p), p.targets[0]
    total = (p.theta - answer.theta) / p.lr
    return float(answer.lr), -float(torch.dot(2 * p.scale(target) * (answer.theta - target.theta), total))


def test_step_size_gradient_of_a_student_without_curvature() -> None:
    """Σ ⟨λ_{i+1}, g_i⟩ = ⟨λ_N, G⟩ holds where the Hessian vanishes, and not for a network."""
    p = problem()
    straight = dataclasses.replace(p, student=cast(Student, Straight(p.student.size, 192)))
    exact, short = identity(straight)
    assert exact == pytest.approx(short, rel=1e-10)
    close(adjoint(straight), unroll(straight))
    exact, short = identity(p)
    assert exact != pytest.approx(short, rel=1e-3)


def test_arguments_that_need_a_gradient_are_taken_as_numbers() -> None:
    p = problem(momentum=0.5)
    tracked = dataclasses.replace(
        p,
        theta=p.theta.clone().requires_grad_(),
        images=p.images.clone().requires_grad_(),
        lr=p.lr.clone().requires_grad_(),
    )
    for answer in (adjoint(tracked), unroll(tracked)):
        close(answer, adjoint(p))
        assert not any(t.requires_grad for t in (answer.loss, answer.images, answer.lr, answer.theta))


def test_same_problem_same_bytes() -> None:
    one, two = (adjoint(problem(), micro_batch=3, reuse=2) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.lr, two.lr)


def test_float32_stays_float32() -> None:
    p = problem()
    student = Student(build("convnet(width=4)", channels=3, classes=3, size=(8, 8), seed=0))
    single = dataclasses.replace(
        p,
        student=student,
        theta=p.theta.float(),
        targets=[Target(3, p.targets[0].theta.float())],
        images=p.images.float(),
        lr=p.lr.float(),
    )
    answer = adjoint(single, micro_batch=3)
    assert {t.dtype for t in (answer.loss, answer.images, answer.lr, answer.theta)} == {torch.float32}
    assert float((answer.images.double() - adjoint(p).images).norm() / adjoint(p).images.norm()) < 1e-3


def frozen_loss(p: Problem, beta: float) -> float:
    """L at β where the gradients of all steps before the truncation are those that the problem's own β led to."""
    known: list[Tensor] = []
    total = 0.0
    for lr in (float(p.lr), beta):
        theta, velocity, total = p.theta, torch.zeros_like(p.theta), 0.0
        for i, step in enumerate(p.steps):
            leaf = theta.detach().requires_grad_()
            loss = p.student.loss(leaf, step.draw(p.images[step.index]), p.labels[step.index])
            (g,) = torch.autograd.grad(loss, leaf)
            if lr == float(p.lr) and len(known) < len(p.steps):
                known.append(g)
            velocity = p.momentum * velocity + (known[i] if i < p.first else g)
            theta = theta - lr * velocity
            total += sum(float(p.scale(t) * (theta - t.theta).square().sum()) for t in p.targets if t.step == i + 1)
    return total


@pytest.mark.parametrize("keep", [1, 2, 3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("places", [(4,), (1, 2, 4)])
def test_truncation_holds_early_gradients_and_lets_the_step_size_multiply_them(
    keep: int, momentum: float, places: tuple[int, ...]
) -> None:
    p = problem(steps=4, truncate=keep, momentum=momentum)
    goals = [Target(s, p.theta + 0.05 * noise(p.student.size, seed=s), 1 / s) for s in places]
    p = dataclasses.replace(p, targets=goals)
    found, h = adjoint(p, micro_batch=3), 1e-6
    close(found, unroll(p))
    slope = (frozen_loss(p, 0.2 + h) - frozen_loss(p, 0.2 - h)) / (2 * h)
    assert float(found.lr) == pytest.approx(slope, rel=1e-6)
    early = {int(i) for s in p.steps[: p.first] for i in s.index} - {
        int(i) for s in p.steps[p.first :] for i in s.index
    }
    assert all(not found.images[i].any() for i in early)
