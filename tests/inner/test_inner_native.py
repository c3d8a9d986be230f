"""The weight gradient's own kernel: equal to the definition, refused where it does not suit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dd.inner import Student
from dd.inner.fast import native
from dd.inner.fast.compile import Kernels, compiler
from dd.inner.fast.network import FastNet
from dd.models import build

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
LAST = torch.channels_last


def pair(n: int, c: int, k: int, size: tuple[int, int], padding: int) -> tuple[Tensor, Tensor]:
    """(g, x) in single precision, channels-last."""
    generator = torch.Generator().manual_seed(n + c + k)
    x = torch.randn(n, c, *size, generator=generator)
    grow = 2 * padding - 2
    g = torch.randn(n, k, size[0] + grow, size[1] + grow, generator=generator)
    return g.contiguous(memory_format=LAST), x.contiguous(memory_format=LAST)


def slow(g: Tensor, x: Tensor, padding: int) -> Tensor:
    """The definition in float64: one sum over pictures and pixels a shift."""
    padded = F.pad(x.double(), [padding] * 4)
    height, width = g.shape[2:]
    made = torch.empty(g.shape[1], x.shape[1], 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + height, j : j + width]
            made[:, :, i, j] = torch.einsum("nkyx,ncyx->kc", g.double(), window)
    return made


@needs_compiler
@pytest.mark.parametrize(
    ("n", "c", "k", "size", "padding"),
    [
        (5, 16, 16, (6, 8), 1),
        (3, 17, 33, (4, 4), 1),
        (1, 24, 8, (9, 5), 0),
        (9, 20, 48, (2, 2), 2),
        (4, 1, 1, (3, 3), 1),
    ],
)
def test_equals_the_definition(n: int, c: int, k: int, size: tuple[int, int], padding: int) -> None:
    g, x = pair(n, c, k, size, padding)
    found, wanted = native.weight_gradient(g, x, padding), slow(g, x, padding)
    assert found.shape == (k, c, 3, 3)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    w = torch.zeros(k, c, 3, 3)
    library = torch.nn.grad.conv2d_weight(x, w.shape, g, padding=padding)
    torch.testing.assert_close(found, library, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@needs_compiler
def test_suits_one_thread_of_single_precision_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    g, x = pair(2, 16, 16, (4, 4), 1)
    w = torch.zeros(16, 16, 3, 3)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert native.suits(g, x, w)
    assert not native.suits(g.double(), x.double(), w)
    assert not native.suits(g.contiguous(), x, w)
    assert not native.suits(*pair(2, 3, 16, (4, 4), 1), torch.zeros(16, 3, 3, 3))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not native.suits(g, x, w)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not native.suits(g, x, w)


def test_a_failing_compiler_is_told_and_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cxx"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    native.library.cache_clear()
    try:
        monkeypatch.setattr(native, "compiler", lambda: str(broken))
        with pytest.warns(UserWarning, match=r"could not build wgrad.cpp; slower without: no such option"):
            assert native.library() is None
        native.library.cache_clear()
        monkeypatch.setattr(native, "compiler", lambda: None)
        assert native.library() is None
    finally:
        native.library.cache_clear()


@needs_compiler
def test_network_takes_it_where_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr("dd.inner.fast.network.suits", lambda *_: True)
    monkeypatch.setattr(
        "dd.inner.fast.network.weight_gradient", lambda *a: used.append(1) or native.weight_gradient(*a)
    )
    student = Student(build("convnet(width=16, depth=2)", channels=3, classes=3, size=(8, 8), seed=0))
    own, library = FastNet(student, Kernels(compiled=True)), FastNet(student, Kernels(compiled=False))
    g, x = pair(4, 16, 16, (4, 4), 1)
    w = own.weights(student.initial)[0][1].conv
    for want in ((True, True), (False, True)):
        found, wanted = own.back(1, g, x, w, want), library.back(1, g, x, w, want)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4)
        if want[0]:
            torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=0)
    assert len(used) == 2
    own.back(1, g, x, w, (True, False))
    assert len(used) == 2
