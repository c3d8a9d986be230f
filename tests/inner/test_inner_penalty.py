"""The penalty's gradient by tangents equals autograd's, twice differentiated."""

from __future__ import annotations

import pytest
import torch

from dd.experts.smooth import PENALTY_FORMS, gradient_penalty
from dd.inner import Student
from dd.inner.fast import FastNet, Kernels, penalty_gradient
from dd.models import build


@pytest.mark.parametrize("form", PENALTY_FORMS)
@pytest.mark.parametrize("size", [(8, 8), (16, 8)])
def test_equals_autograd_twice_in_float64(form: str, size: tuple[int, int]) -> None:
    net = build("convnet(width=6, depth=2)", channels=3, classes=4, size=size, seed=1, dtype=torch.float64)
    student = Student(net)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, *size, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (5,), generator=generator)
    theta = student.initial + 0.1 * torch.randn(student.size, generator=generator, dtype=torch.float64)
    leaf = theta.clone().requires_grad_()
    value = gradient_penalty(student, leaf, x, y, form)  # type: ignore[arg-type]
    (slow,) = torch.autograd.grad(value, leaf)
    fast_value, fast = penalty_gradient(
        FastNet(student, Kernels(False)), theta, x, y if form == "label" else None, form == "sample"
    )
    assert float(fast_value) == pytest.approx(float(value.detach()), rel=1e-12)
    assert float((fast - slow).norm() / slow.norm()) < 1e-10


def test_picture_without_gradient_adds_nothing() -> None:
    net = build("convnet(width=4, depth=1)", channels=1, classes=2, size=(4, 4), seed=0, dtype=torch.float64)
    student = Student(net)
    theta = student.initial.clone()
    student.views(theta)["classifier.weight"].zero_()  # no score depends on the picture: q = 0
    value, gradient = penalty_gradient(
        FastNet(student, Kernels(False)), theta, torch.rand(3, 1, 4, 4).double(), None, False
    )
    assert float(value) == 1.0
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) == 0.0
