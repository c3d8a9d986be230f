"""The layers' first-order gradient against autograd on the loss."""

from __future__ import annotations

import pytest
import torch

from dd.inner import Student
from dd.inner.fast import FastNet, Kernels, compiler_present, loss_gradient
from dd.models import build


@pytest.mark.parametrize(("count", "micro"), [(6, 3), (7, 3), (2, 32), (5, 1)])
@pytest.mark.parametrize("soft", [False, True])
def test_equals_autograd(count: int, micro: int, soft: bool) -> None:
    g = torch.Generator().manual_seed(0)
    module = build("convnet(width=4)", channels=2, classes=3, size=(8, 16), seed=0, dtype=torch.float64)
    student = Student(module)
    theta = student.initial + 0.1 * torch.randn(student.size, generator=g, dtype=torch.float64)
    x = torch.randn(count, 2, 8, 16, generator=g, dtype=torch.float64)
    y = torch.rand(count, 3, generator=g, dtype=torch.float64).softmax(1) if soft else torch.arange(count) % 3
    leaf = theta.clone().requires_grad_()
    (twin,) = torch.autograd.grad(student.loss(leaf, x, y), leaf)
    found = loss_gradient(FastNet(student, Kernels(False)), theta, x, y, micro)
    torch.testing.assert_close(found, twin, rtol=1e-10, atol=1e-12)


def test_the_same_bytes_for_any_number_of_threads() -> None:
    student = Student(build("convnet(width=4)", channels=3, classes=3, size=(16, 16), seed=0))
    x, y, found = torch.randn(70, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(70) % 3, []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(loss_gradient(FastNet(student, Kernels(False)), student.initial, x, y, 32))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.skipif(not compiler_present(), reason="no compiler")
def test_compiled_layers() -> None:
    student = Student(build("convnet(width=8)", channels=3, classes=3, size=(16, 16), seed=0))
    x, y = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    plain, compiled = (
        loss_gradient(FastNet(student, Kernels(kernels)), student.initial, x, y) for kernels in (False, True)
    )
    assert float((plain - compiled).norm() / plain.norm()) < 1e-4
