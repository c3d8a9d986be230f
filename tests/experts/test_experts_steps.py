"""FTD's flat step against its slow twin and the properties of its formula."""

from __future__ import annotations

import pytest
import torch
from reference.gsam import flat_step
from torch import Tensor

from dd.experts.steps import gsam_direction, orthogonal_part, perturbation, sgd_update
from dd.inner import Student
from dd.models import build

SHAPE = (4, 3, 8, 8)


def setting(seed: int = 0) -> tuple[Student, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    module = build("convnet(width=4)", channels=3, classes=3, size=(8, 8), seed=seed, dtype=torch.float64)
    student = Student(module)
    theta = student.initial + 0.1 * torch.randn(student.size, generator=g, dtype=torch.float64)
    return student, theta, torch.randn(SHAPE, generator=g, dtype=torch.float64), torch.arange(4) % 3


def grad_of(student: Student, x: Tensor, y: Tensor):  # type: ignore[no-untyped-def]
    def grad(theta: Tensor) -> Tensor:
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(student.loss(leaf, x, y), leaf)[0]

    return grad


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("rho", "alpha"), [(0.01, 0.3), (0.5, 1.0), (0.1, 0.0)])
def test_flat_step_equals_the_twin(adaptive: bool, rho: float, alpha: float) -> None:
    student, theta, x, y = setting()
    grad = grad_of(student, x, y)
    direction = gsam_direction(theta, grad, rho, alpha, adaptive)
    new, _ = sgd_update(theta, direction, torch.zeros_like(theta), 0.1, 0.0, 0.0)

    def listed(weights: list[Tensor]) -> list[Tensor]:
        flat = torch.cat([w.reshape(-1) for w in weights])
        return list(student.views(grad(flat)).values())

    slow = flat_step(list(student.views(theta).values()), listed, lr=0.1, rho=rho, alpha=alpha, adaptive=adaptive)
    torch.testing.assert_close(new, torch.cat([w.reshape(-1) for w in slow]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_no_perturbation_is_plain_sgd(alpha: float) -> None:
    student, theta, x, y = setting(1)
    grad = grad_of(student, x, y)
    torch.testing.assert_close(gsam_direction(theta, grad, 0.0, alpha, True), grad(theta), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("adaptive", [True, False])
def test_no_alpha_is_sam(adaptive: bool) -> None:
    student, theta, x, y = setting(2)
    grad = grad_of(student, x, y)
    moved = theta + perturbation(theta, grad(theta), 0.2, adaptive)
    torch.testing.assert_close(gsam_direction(theta, grad, 0.2, 0.0, adaptive), grad(moved))


def test_orthogonal_part() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, generator=g, dtype=torch.float64) for _ in range(2))
    v = orthogonal_part(a, b)
    assert abs(float(torch.dot(v, b))) < 1e-10
    cosine = torch.dot(a, b) / (a.norm() * b.norm())
    assert float(v.square().sum()) == pytest.approx(float(a.square().sum() * (1 - cosine**2)), rel=1e-9)
    for alpha in (0.1, 1.0):  # never changes the component along g_p
        assert float(torch.dot(b - alpha * v, b)) == pytest.approx(float(b.square().sum()), rel=1e-9)


def test_radius_of_the_perturbation() -> None:
    g = torch.Generator().manual_seed(1)
    w, d = (torch.randn(60, generator=g, dtype=torch.float64) for _ in range(2))
    w[:5] = 0
    assert float(perturbation(w, d, 0.3, False).norm()) == pytest.approx(0.3)
    e = perturbation(w, d, 0.3, True)
    assert float((e[5:] / w[5:].abs()).norm()) == pytest.approx(0.3)
    assert float(e[:5].abs().max()) == 0


def test_quadratic_loss() -> None:
    """With Hessian A, g_p = g + A ε exactly."""
    g = torch.Generator().manual_seed(2)
    root = torch.randn(8, 8, generator=g, dtype=torch.float64)
    matrix, theta = root @ root.T, torch.randn(8, generator=g, dtype=torch.float64)

    def grad(at: Tensor) -> Tensor:
        return matrix @ at

    e = perturbation(theta, grad(theta), 0.4, True)
    direction = gsam_direction(theta, grad, 0.4, 0.0, True)
    torch.testing.assert_close(direction, grad(theta) + matrix @ e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 1e-2)])
def test_sgd_update_equals_torch(momentum: float, decay: float) -> None:
    g = torch.Generator().manual_seed(3)
    start = torch.randn(9, generator=g, dtype=torch.float64)
    parameter = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=momentum, weight_decay=decay)
    theta, velocity = start, torch.zeros_like(start)
    for _ in range(4):
        direction = torch.randn(9, generator=g, dtype=torch.float64)
        parameter.grad = direction.clone()
        optimizer.step()
        theta, velocity = sgd_update(theta, direction, velocity, 0.1, momentum, decay)
    torch.testing.assert_close(theta, parameter.data)
