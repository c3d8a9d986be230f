"""The fast path against its slow twins: autograd of one block, the unrolled loop, the generic adjoint."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from dd.base.seeding import child
from dd.errors import InputError
from dd.inner import InnerStep, Problem, Student, Target, adjoint, unroll
from dd.inner.fast import NotCompiledError, adjoint_fast, kernels, native, supported
from dd.inner.fast import compile as compiling
from dd.models import build
from dd.transforms.dsa import DSA

F64 = torch.float64


def randn(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=child(0, name, *shape))


def block(z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    y = torch.nn.functional.group_norm(z, z.shape[1], gamma.flatten(), beta.flatten(), 1e-5)
    return torch.nn.functional.avg_pool2d(y.relu(), 2)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch.func.jvp, 2.14
def test_kernels_equal_autograd_of_the_block() -> None:
    z, gamma, beta = randn(3, 4, 6, 8), 1 + 0.3 * randn(1, 4, 1, 1, name="g"), 0.3 * randn(1, 4, 1, 1, name="b")
    zd, gamma_d, beta_d = randn(3, 4, 6, 8, name="zd"), randn(1, 4, 1, 1, name="gd"), randn(1, 4, 1, 1, name="bd")
    g_out, gd_out = randn(3, 4, 3, 4, name="go"), randn(3, 4, 3, 4, name="gdo")
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)  # noqa: E731

    def pull(z: Tensor, gamma: Tensor, beta: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        return torch.func.vjp(block, z, gamma, beta)[1](g)

    out, m, r = kernels.forward(z, gamma, beta, 1e-5)
    close(out, block(z, gamma, beta))
    g_z, d_gamma, d_beta = kernels.backward(z, m, r, gamma, beta, g_out)
    for mine, true in zip((g_z, d_gamma.sum(0), d_beta.sum(0)), pull(z, gamma, beta, g_out), strict=True):
        close(mine, true.reshape(mine.shape))
    out_d, md, q = kernels.tangent_forward(z, zd, m, r, gamma, beta, gamma_d, beta_d)
    close(out_d, torch.func.jvp(block, (z, gamma, beta), (zd, gamma_d, beta_d))[1])
    found = kernels.tangent_backward(z, zd, (m, r, md, q), gamma, beta, gamma_d, g_out, gd_out)
    _, true_d = torch.func.jvp(pull, (z, gamma, beta, g_out), (zd, gamma_d, beta_d, gd_out))
    close(found[0], g_z)
    for mine, true in zip((found[1], found[2].sum(0), found[3].sum(0)), true_d, strict=True):
        close(mine, true.reshape(mine.shape))


def problem(soft: bool = False, momentum: float = 0.0, middle: bool = False, size: int = 8, batch: int = 5) -> Problem:
    net = build("convnet(width=6, depth=2)", channels=3, classes=3, size=(size, size), seed=1, dtype=F64)
    student = Student(net)
    theta = student.initial + 0.1 * randn(student.size, name="theta")
    n, steps = 7, 3
    labels: Tensor = torch.arange(n) % 3
    if soft:
        labels = randn(n, 3, name="y").softmax(1)
    dsa = DSA(mode="all")
    inner = [
        InnerStep(
            torch.randperm(n, generator=child(0, "o", i))[:batch], dsa.draw(batch, (size, size), child(0, "d", i))
        )
        for i in range(steps)
    ]
    targets = [Target(steps, theta + 0.1 * randn(student.size, name="target"))]
    if middle:
        targets.append(Target(2, theta + 0.1 * randn(student.size, name="middle"), 0.5))
    return Problem(
        student, theta, targets, randn(n, 3, size, size), labels, torch.tensor(0.3, dtype=F64), inner, momentum
    )


@pytest.mark.parametrize("reuse", [None, 0, 2])
@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3])
@pytest.mark.parametrize(("soft", "momentum", "middle"), [(False, 0.0, False), (True, 0.9, True)])
def test_equals_the_unrolled_loop(
    micro_batch: int | None, reuse: int | None, soft: bool, momentum: float, middle: bool
) -> None:
    p = problem(soft, momentum, middle)
    fast, slow, generic = adjoint_fast(p, micro_batch, reuse, compiled=False), unroll(p), adjoint(p)
    for name in ("loss", "images", "lr", "theta", *(("labels",) if soft else ())):
        for twin in (slow, generic):
            torch.testing.assert_close(getattr(fast, name), getattr(twin, name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "changes", [{"gradient": "detached"}, {"truncate": 1}, {"truncate": 2}, {"labels_constant": True}]
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_options_equal_the_unrolled_loop(changes: dict[str, Any], momentum: float) -> None:
    p = dataclasses.replace(problem(True, momentum, True), **changes)
    slow = unroll(p)
    for found in (adjoint_fast(p, 2, 1, compiled=False), adjoint(p, 2, 3), adjoint(p, None, 0)):
        for name in ("loss", "images", "lr", "theta"):
            torch.testing.assert_close(getattr(found, name), getattr(slow, name), rtol=1e-10, atol=1e-12)
        if p.labels_constant:
            assert found.labels is None
            assert slow.labels is None
        else:
            torch.testing.assert_close(found.labels, slow.labels, rtol=1e-10, atol=1e-12)


def test_truncation_at_its_ends() -> None:
    p = problem()
    whole, last = adjoint(p), adjoint(dataclasses.replace(p, truncate=1))
    torch.testing.assert_close(adjoint(dataclasses.replace(p, truncate=3)).images, whole.images, rtol=0, atol=0)
    drawn = p.steps[-1].index
    others = torch.ones(len(p.images), dtype=torch.bool).index_fill(0, drawn, False)
    assert (last.images[others] == 0).all()
    detached = adjoint(dataclasses.replace(p, gradient="detached"))
    only = dataclasses.replace(p, steps=p.steps[-1:], targets=[Target(1, p.targets[0].theta)])
    assert (whole.images - detached.images).norm() > 1e-3 * whole.images.norm()
    for other in ("detached", "exact"):  # N = 1: the two are one
        torch.testing.assert_close(adjoint(dataclasses.replace(only, gradient=other)).images, unroll(only).images)


def test_detached_tends_to_exact_linearly_in_the_step_size() -> None:
    gaps = []
    for lr in (0.02, 0.01):
        p = dataclasses.replace(problem(), lr=torch.tensor(lr, dtype=F64))
        exact, detached = adjoint(p).images, adjoint(dataclasses.replace(p, gradient="detached")).images
        gaps.append(float((exact - detached).norm() / exact.norm()))
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.1)


def test_knows_what_it_knows() -> None:
    def net(text: str, size: int = 8) -> bool:
        return supported(build(text, channels=3, classes=3, size=(size, size), seed=0), (size, size))

    assert net("convnet(width=4)")
    assert not net("convnet(width=4, norm=batch)")
    assert not net("convnet(width=4, pool=max)")
    assert not net("convnet(width=4, depth=2)", 10)  # 10 → 5 is odd
    odd = problem(size=10)
    with pytest.raises(InputError, match="generic"):
        adjoint_fast(odd, compiled=False)


def test_grey_28_pixels_are_padded_by_the_first_convolution() -> None:
    net = build("convnet(width=3)", channels=1, classes=2, size=(28, 28), seed=1, dtype=F64)
    student = Student(net)
    assert supported(net, (28, 28))
    steps = [InnerStep(torch.arange(2), DSA("none").draw(2, (28, 28), child(0, "d"))) for _ in range(2)]
    target = [Target(2, student.initial + 0.1)]
    p = Problem(student, student.initial, target, randn(2, 1, 28, 28), torch.tensor([0, 1]), torch.tensor(0.1), steps)
    fast, slow = adjoint_fast(p, compiled=False), unroll(p)
    torch.testing.assert_close(fast.images, slow.images, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(fast.lr, slow.lr, check_dtype=False, rtol=1e-6, atol=1e-9)


@pytest.mark.skipif(native.compiler() is None, reason="no compiler")
def test_compiled_kernels_equal_plain_ones() -> None:
    p = problem(soft=True, momentum=0.9, middle=True)
    plain, made = adjoint_fast(p, 3, compiled=False), adjoint_fast(p, 3, compiled=True)
    torch.testing.assert_close(made.images, plain.images, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(made.labels, plain.labels, rtol=1e-10, atol=1e-12)


@pytest.mark.slow  # what a GPU's kernels are compiled by, here for a CPU
@pytest.mark.skipif(native.compiler() is None, reason="no compiler")
def test_kernels_by_torch_compile_equal_plain_ones() -> None:
    z, gamma, beta, g = randn(3, 4, 6, 8), randn(1, 4, 1, 1, name="g"), randn(1, 4, 1, 1, name="b"), randn(3, 4, 3, 4)
    _, m, r = kernels.forward(z, gamma, beta, 1e-5)
    for name, given in {"forward": (gamma, beta, 1e-5), "backward": (m, r, gamma, beta, g)}.items():
        made = compiling._compiled(name, tuple(z.shape), z.stride(), z.dtype, "cpu")
        for one, other in zip(made(z, *given), getattr(kernels, name)(z, *given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "told"),
    [("backend='inductor' raised:\nOSError: full\n\nSet X", "OSError: full"), ("", "ValueError")],
)
def test_why_a_kernel_cannot_be_compiled_is_one_line(text: str, told: str) -> None:
    def make() -> Any:
        raise ValueError(text)

    with pytest.raises(NotCompiledError) as error:
        compiling._Compiled(make)()
    assert str(error.value) == told


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_process_that_is_forked_while_a_thread_compiles_can_compile() -> None:
    begun, done = threading.Event(), threading.Event()

    def compiles() -> None:
        with native.lock():
            begun.set()
            done.wait()

    thread = threading.Thread(target=compiles)
    thread.start()
    begun.wait()
    process = multiprocessing.get_context("fork").Process(target=compiling._Compiled(lambda: abs), args=(-1,))
    process.start()
    process.join(20)
    done.set()
    thread.join()
    code = process.exitcode
    process.kill()
    assert code == 0
