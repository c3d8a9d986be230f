"""Kernels of our own: equal to their definitions, refused where they do not suit, told where they cannot be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dd.inner import Student
from dd.inner.fast import kernels, native
from dd.inner.fast.compile import Kernels
from dd.inner.fast.native import compiler
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


def block_arguments(shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """Name of a kernel → its arguments, by the twin's own statistics."""
    (n, c, h, w), generator = shape, torch.Generator().manual_seed(sum(shape))

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    z, zd, g, gd = 3 + 2 * randn(n, c, h, w), randn(n, c, h, w), *(randn(n, c, h // 2, w // 2) for _ in range(2))
    gamma, beta, gamma_d, beta_d = (randn(1, c, 1, 1) for _ in range(4))
    _, m, r = kernels.forward(z, gamma, beta, 1e-5)
    _, md, q = kernels.tangent_forward(z, zd, m, r, gamma, beta, gamma_d, beta_d)
    return {
        "forward": (z, gamma, beta, 1e-5),
        "backward": (z, m, r, gamma, beta, g),
        "tangent_forward": (z, zd, m, r, gamma, beta, gamma_d, beta_d),
        "tangent_backward": (z, zd, (m, r, md, q), gamma, beta, gamma_d, g, gd),
    }


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [(3, 20, 6, 8), (1, 16, 2, 2), (2, 1, 4, 4), (2, 3, 2, 6), (5, 40, 4, 2)],  # panels whole, in part, and both
)
@pytest.mark.parametrize("last", [True, False])
def test_block_kernels_equal_their_twins(shape: tuple[int, int, int, int], threads: int, last: bool) -> None:
    for name, given in block_arguments(shape, torch.float64).items():
        if last:
            given = tuple(t.contiguous(memory_format=LAST) if isinstance(t, Tensor) else t for t in given)
        found, wanted = native.block(name, *given, threads=threads), getattr(kernels, name)(*given)
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert found[0].is_contiguous(memory_format=LAST)


@needs_compiler
def test_block_kernels_in_single_precision_are_as_near_to_the_truth_as_their_twins() -> None:
    shape = (4, 24, 16, 16)
    exact = block_arguments(shape, torch.float64)
    for name, given in block_arguments(shape, torch.float32).items():
        found, twin = native.block(name, *given), getattr(kernels, name)(*given)
        for one, other, true in zip(found, twin, getattr(kernels, name)(*exact[name]), strict=True):
            bound = 1e-6 * float(true.abs().max())
            assert float((one - true).abs().max()) <= 2 * float((other - true).abs().max()) + bound, name


@needs_compiler
def test_block_kernels_do_not_hide_what_is_not_a_number() -> None:
    z, gamma, beta, eps = block_arguments((2, 3, 4, 4), torch.float32)["forward"]
    z[1, 2, 0, 0] = float("nan")
    out = native.block("forward", z, gamma, beta, eps)[0]
    assert bool(out[1, 2].isnan().all())
    assert int(out.isnan().sum()) == 4


@needs_compiler
def test_block_kernels_are_of_one_type() -> None:
    z, gamma, beta, eps = block_arguments((2, 3, 4, 4), torch.float32)["forward"]
    with pytest.raises(TypeError, match=r"forward: tensors of .*float32 on cpu.*float64 on cpu"):
        native.block("forward", z, gamma.double(), beta, eps)


@needs_compiler
def test_block_kernels_refuse_what_they_would_read_beyond() -> None:
    given = block_arguments((2, 3, 4, 6), torch.float32)
    z, m, r, gamma, beta, g = given["backward"]
    for bad in (
        ("forward", z[:, :, :3].contiguous(), gamma, beta, 1e-5),
        ("forward", z[..., :5].contiguous(), gamma, beta, 1e-5),
        ("forward", z, gamma[:, :2], beta, 1e-5),
        ("backward", z, m, r, gamma, beta, g[:1]),
        ("backward", z, m, r, gamma, beta, z),
        ("backward", z, m[:1], r, gamma, beta, g),
    ):
        with pytest.raises(ValueError, match="with even sides"):
            native.block(*bad)


@pytest.mark.usefixtures("unbuilt")
def test_a_failing_compiler_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cxx"
    broken.write_text("#!/bin/sh\necho 'In file:' >&2; echo 'error: no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(native, "compiler", lambda: str(broken))
    for _ in range(2):
        with pytest.raises(native.NotCompiledError, match=r"cxx`: error: no such option$"):
            native.library()
    assert not native.builds()
    monkeypatch.setattr(native, "compiler", lambda: None)
    with pytest.raises(native.NotCompiledError, match="no C\\+\\+ compiler"):
        native.library()


@pytest.mark.usefixtures("unbuilt")
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("printf 'error: caf\\351' >&2; exit 1", "error: caf"),  # not UTF-8
        ('for made in "$@"; do case $made in *.so) echo > $made;; esac; done', "cxx"),  # not a library
        ("cat; exit 1", "cxx"),  # reads what nobody writes
        ("sleep 30", "timed out"),
    ],
)
def test_no_compiler_is_too_strange(script: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ("far" * 60)).mkdir()  # the cause is told however long the path is
    strange = tmp_path / ("far" * 60) / "cxx"
    strange.write_text(f"#!/bin/sh\n{script}\n")
    strange.chmod(0o755)
    monkeypatch.setattr(native, "compiler", lambda: str(strange))
    monkeypatch.setattr(native, "_PATIENCE", 1)
    with pytest.raises(native.NotCompiledError, match=told):
        native.library()


@needs_compiler
@pytest.mark.usefixtures("unbuilt")
def test_a_library_without_the_kernels_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "empty.cpp"
    empty.write_text("int nothing;\n")
    monkeypatch.setattr(native, "SOURCES", (empty,))
    with pytest.raises(native.NotCompiledError, match="dd_wgrad"):
        native.library()


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
