"""The exact engines against a slow twin, finite differences and the properties that the equations promise."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from reference.matching import matching_loss
from torch import Tensor

import dd
from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint, engines, unroll, worth_compiling
from dd.models import build
from dd.transforms.dsa import DSA

ALL_OPS = "color_crop_cutout_flip_scale_rotate"
K, N_IMAGES = 3, 6


def problem(
    *,
    steps: int = 4,
    batch: int = 4,
    momentum: float = 0.0,
    soft: bool = False,
    middle: bool = False,
    augment: str = ALL_OPS,
    lr: float = 0.3,
    norm: str = "instance",
    seed: int = 0,
    mode: str = "single",
) -> Problem:
    """A small matching problem in float64: 6 images of 2×8×8, width 4, random affine parts."""
    g = torch.Generator().manual_seed(seed)
    module = build(f"convnet(width=4, norm={norm})", channels=2, classes=K, size=(8, 8), seed=seed, dtype=torch.float64)
    student = Student(module)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(student.size, generator=g, dtype=torch.float64)

    theta = student.initial + noise(0.1)
    targets = [Target(steps, theta + noise(0.05))]
    if middle:
        targets += [Target(1, theta + noise(0.05), 0.5), Target(steps - 1, theta + noise(0.05), 2.0)]
    images = torch.randn(N_IMAGES, 2, 8, 8, generator=g, dtype=torch.float64)
    labels = torch.arange(N_IMAGES) % K
    if soft:
        labels = torch.rand(N_IMAGES, K, generator=g, dtype=torch.float64).softmax(1)
    dsa = DSA(strategy=augment, mode=mode)  # type: ignore[arg-type]
    plan = []
    for _ in range(steps):
        index = torch.randperm(N_IMAGES, generator=g)[:batch]
        plan.append(InnerStep(index, dsa.draw(batch, (8, 8), g)))
    rate = torch.tensor(lr, dtype=torch.float64)
    return Problem(student, theta, targets, images, labels, rate, plan, momentum)


def slow(p: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Loss and gradients of the twin."""
    x, lr = p.images.clone().requires_grad_(), p.lr.clone().requires_grad_()
    y = p.labels.clone().requires_grad_() if p.soft else p.labels
    batches = [(s.draw(x[s.index]), y[s.index]) for s in p.steps]
    goals = {t.step: (t.weight, t.theta) for t in p.targets}
    loss = matching_loss(p.student.module, p.theta, goals, batches, lr, p.momentum)
    wanted = [x, lr, y] if p.soft else [x, lr]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return loss.detach(), found[0], found[1], found[2] if p.soft else None


def gap(a: Tensor, b: Tensor) -> float:
    """Relative difference in the 2-norm."""
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def check(answer: Matching, expected: tuple[Tensor, Tensor, Tensor, Tensor | None], tolerance: float = 1e-10) -> None:
    loss, images, lr, labels = expected
    assert gap(answer.loss, loss) <= tolerance
    assert gap(answer.images, images) <= tolerance
    assert gap(answer.lr, lr) <= tolerance
    if labels is not None:
        assert answer.labels is not None
        assert gap(answer.labels, labels) <= tolerance


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("middle", [False, True], ids=["end", "middle"])
def test_engines_equal_the_twin(momentum: float, soft: bool, middle: bool) -> None:
    p = problem(momentum=momentum, soft=soft, middle=middle)
    expected = slow(p)
    check(unroll(p), expected)
    for micro, reuse in itertools.product((None, 1, 3), (0, 1, 2, 9)):
        check(adjoint(p, micro_batch=micro, reuse=reuse), expected)


@pytest.mark.parametrize("op", [*ALL_OPS.split("_"), "", ALL_OPS])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_engines_agree_under_every_augmentation(op: str, momentum: float) -> None:
    p = problem(augment=op, mode="all", momentum=momentum, seed=1)
    exact = adjoint(p, micro_batch=3)
    check(exact, slow(p))
    check(unroll(p), slow(p))


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "none", "batch"])
def test_every_norm(norm: str) -> None:
    p = problem(norm=norm, seed=2)
    check(adjoint(p), slow(p))
    check(unroll(p), slow(p))


def test_same_end_point() -> None:
    p = problem(momentum=0.5)
    assert gap(adjoint(p).theta, unroll(p).theta) < 1e-12


def directional(p: Problem, **changes: Any) -> float:
    return float(adjoint(dataclasses.replace(p, **changes)).loss)


def test_finite_differences_in_pixels_and_step_size() -> None:
    p = problem(momentum=0.9, seed=3)
    answer = adjoint(p)
    direction = torch.randn(p.images.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    h = 1e-5
    rise = directional(p, images=p.images + h * direction) - directional(p, images=p.images - h * direction)
    assert rise / (2 * h) == pytest.approx(float((answer.images * direction).sum()), rel=1e-6)
    rise = directional(p, lr=p.lr + h) - directional(p, lr=p.lr - h)
    assert rise / (2 * h) == pytest.approx(float(answer.lr), rel=1e-6)


def test_no_step_gives_one_and_no_gradient() -> None:
    p = problem(lr=0.0, middle=True)
    answer = adjoint(p)
    assert float(answer.loss) == pytest.approx(1.0 + 0.5 + 2.0)
    assert float(answer.images.abs().max()) == 0
    single = adjoint(problem(lr=0.0))
    assert float(single.loss) == pytest.approx(1.0, abs=1e-15)


def test_hitting_the_target_gives_zero() -> None:
    p = problem()
    end = adjoint(p).theta
    hit = adjoint(dataclasses.replace(p, targets=[Target(4, end)]))
    assert float(hit.loss) == 0
    assert float(hit.images.abs().max()) == 0
    assert float(hit.lr) == 0


def test_loss_is_a_ratio() -> None:
    """Dividing numerator and denominator by P changes nothing, nor does a common orthogonal transform."""
    p = problem()
    answer = adjoint(p)
    goal = p.targets[0].theta
    q, _ = torch.linalg.qr(torch.randn(len(goal), len(goal), generator=torch.Generator().manual_seed(0)).double())
    top, bottom = (q @ (answer.theta - goal)).square().mean(), (q @ (p.theta - goal)).square().mean()
    assert float(top / bottom) == pytest.approx(float(answer.loss), rel=1e-12)


def test_images_not_drawn_get_exactly_zero() -> None:
    p = problem(batch=2, steps=2)
    drawn = torch.cat([s.index for s in p.steps]).unique()
    rest = [i for i in range(N_IMAGES) if i not in drawn.tolist()]
    for answer in (adjoint(p), unroll(p)):
        assert rest
        assert float(answer.images[rest].abs().max()) == 0
        assert (answer.images[drawn].flatten(1).norm(dim=1) > 0).all()
    full = adjoint(problem(batch=N_IMAGES))
    assert (full.images.flatten(1).norm(dim=1) > 0).all()


def test_permuting_the_set_permutes_the_gradient() -> None:
    p = problem(batch=N_IMAGES)
    order = torch.randperm(N_IMAGES, generator=torch.Generator().manual_seed(5))
    back = torch.argsort(order)
    moved = dataclasses.replace(
        p,
        images=p.images[order],
        labels=p.labels[order],
        steps=[InnerStep(back[s.index], s.draw) for s in p.steps],
    )
    assert gap(adjoint(moved).images, adjoint(p).images[order]) < 1e-12


def test_step_size_gradient_is_minus_the_sum_of_products() -> None:
    """dβ = −Σ ⟨λ_{i+1}, g_i⟩ with λ from autograd through the unrolled loop."""
    p = problem(steps=3)
    theta, lr = p.theta.clone().requires_grad_(), p.lr
    path, gradients = [theta], []
    for step in p.steps:
        loss = p.student.loss(path[-1], step.draw(p.images[step.index]), p.labels[step.index])
        gradients.append(torch.autograd.grad(loss, path[-1], create_graph=True)[0])
        path.append(path[-1] - lr * gradients[-1])
    target = p.targets[0]
    total = p.scale(target) * (path[-1] - target.theta).square().sum()
    adjoints = torch.autograd.grad(total, path[1:])
    by_hand = -sum(torch.dot(a, g.detach()) for a, g in zip(adjoints, gradients, strict=True))
    assert gap(adjoint(p).lr, torch.as_tensor(by_hand)) < 1e-12


def test_detached_unroll_is_another_gradient() -> None:
    """Holding every θ_i fixed (TESLA's formula) is not the exact gradient for N > 1, and is for N = 1."""
    for steps in (1, 4):
        p = problem(steps=steps, augment="")
        x = p.images.clone().requires_grad_()
        theta = p.theta
        pieces = []
        for step in p.steps:
            leaf = theta.detach().requires_grad_()
            loss = p.student.loss(leaf, x[step.index], p.labels[step.index])
            pieces.append(torch.autograd.grad(loss, leaf, create_graph=True)[0])
            theta = theta - p.lr * pieces[-1].detach()
        target = p.targets[0]
        end = p.theta - p.lr * torch.stack(pieces).sum(0)
        (detached,) = torch.autograd.grad(p.scale(target) * (end - target.theta).square().sum(), x)
        difference = gap(detached, adjoint(p).images)
        assert (difference < 1e-12) == (steps == 1)


def saved_bytes(p: Problem, engine: Any) -> int:
    """Most bytes that autograd graphs hold at once while `engine` runs."""
    alive = peak = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, peak
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive += self.size
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        engine(p)
    return peak


def test_graph_memory_is_flat_in_the_number_of_steps() -> None:
    few, many = problem(steps=3, batch=N_IMAGES), problem(steps=12, batch=N_IMAGES)

    def lean(p: Problem) -> Matching:
        return adjoint(p, reuse=0)

    assert saved_bytes(many, lean) <= 1.02 * saved_bytes(few, lean)
    assert saved_bytes(many, unroll) > 3 * saved_bytes(few, unroll)

    def micro(p: Problem) -> Matching:
        return adjoint(p, micro_batch=2, reuse=0)

    assert saved_bytes(many, micro) < 0.6 * saved_bytes(many, lean)


def test_nothing_given_is_changed() -> None:
    p = problem()
    before = [t.clone() for t in (p.theta, p.images, p.lr, p.targets[0].theta)]
    adjoint(p)
    unroll(p)
    for kept, now in zip(before, (p.theta, p.images, p.lr, p.targets[0].theta), strict=True):
        assert torch.equal(kept, now)
        assert not now.requires_grad


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"steps": []}, "`steps` must be at least one student step"),
        ({"targets": []}, "`targets` must be at least one matching point"),
        ({"targets": [Target(9, torch.zeros(3))]}, r"`target.step` must be in 1…4"),
        ({"theta": torch.zeros(3, dtype=torch.float64)}, r"`theta` must be \[P\] with P ="),
    ],
)
def test_refusals(change: dict[str, Any], text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        dataclasses.replace(problem(), **change)


def test_engine_refusals() -> None:
    p = problem()
    with pytest.raises(dd.InputError, match="`target` must be different from the start"):
        adjoint(dataclasses.replace(p, targets=[Target(4, p.theta.clone())]))
    with pytest.raises(dd.InputError, match="`micro_batch` must be None or at least 1"):
        adjoint(p, micro_batch=0)
    with pytest.raises(dd.InputError, match="`reuse` must be None or at least 0"):
        adjoint(p, reuse=-1)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engines, "compiler_present", lambda device: True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


CONVNET = build("convnet(width=32)", channels=3, classes=10, size=(32, 32), seed=0)


def test_compiling_pays_where_it_saves_more_than_it_costs(compiler: None) -> None:
    preset = 150 * 15 * 50  # pictures of the preset of CIFAR-10 at ten images a class
    assert worth_compiling(CONVNET, (32, 32), preset, "cpu")
    assert worth_compiling(CONVNET, (32, 32), 150 * 20 * 10, "cpu")  # at one image a class
    values = 32 * (32 * 32 + 16 * 16 + 8 * 8)
    least = math.ceil(engines.BUILD / (values * engines._SAVED["matching"]))
    assert worth_compiling(CONVNET, (32, 32), least, "cpu")
    assert not worth_compiling(CONVNET, (32, 32), least - 1, "cpu")
    assert not worth_compiling(CONVNET, (32, 32), least, "cpu", "gradient")  # a plain step has less to save
    assert worth_compiling(CONVNET, (64, 64), least // 4 + 1, "cpu")
    torch.set_num_threads(4)
    assert not worth_compiling(CONVNET, (32, 32), least - 1, "cpu")  # the road, and so the digits, know no thread
    assert worth_compiling(CONVNET, (32, 32), least, "cpu")


def test_compiling_is_for_known_networks_and_where_there_is_a_compiler(
    compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worth_compiling(CONVNET, (32, 32), 10**9, "cuda")
    assert not worth_compiling(CONVNET, (32, 32), 10**4, "cuda")
    assert not worth_compiling(torch.nn.Linear(2, 2), (32, 32), 10**9, "cpu")
    assert not worth_compiling(CONVNET, (30, 30), 10**9, "cpu")  # odd maps
    monkeypatch.setattr(engines, "compiler_present", lambda device: False)
    assert not worth_compiling(CONVNET, (32, 32), 10**9, "cpu")
