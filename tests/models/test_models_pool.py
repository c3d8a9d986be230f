"""The ConvNet's mean pool: torch's own to the last bit, whatever road it takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from dd.models.images import pool
from dd.models.images.pool import MeanPool

STOCK = nn.AvgPool2d(2)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=g) * torch.randn(shape, generator=g).exp()).to(dtype)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3), (32, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", [2**19, 64, 1])
def test_equal_to_torchs_to_the_last_bit(
    size: tuple[int, int], dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_BLOCK", block)
    x, found = noise(3, 5, *size, dtype=dtype), []
    for layer in (MeanPool(), STOCK):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        (g,) = torch.autograd.grad((y**3).sum(), leaf, create_graph=True)
        (gg,) = torch.autograd.grad((g**2).sum(), leaf)
        found.append((y, g, gg))
    for mine, its in zip(*found, strict=True):
        assert torch.equal(mine, its)


def test_gradients_by_differences() -> None:
    x = noise(2, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(MeanPool(), (x,))
    assert torch.autograd.gradgradcheck(MeanPool(), (x,))


def test_infinities_and_nan_come_through_alike() -> None:
    x = noise(1, 2, 4, 4)
    x[0, 0, 0, 0], x[0, 1, 2, 2], x[0, 1, 2, 3] = float("nan"), float("inf"), -float("inf")
    torch.testing.assert_close(MeanPool()(x), STOCK(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "x",
    [
        noise(2, 3, 8, 8).contiguous(memory_format=torch.channels_last),
        noise(2, 3, 8, 8)[:, ::2],
        noise(2, 3, 8, 8, dtype=torch.bfloat16),
        noise(3, 8, 8),
        torch.zeros(0, 3, 8, 8),
    ],
    ids=["channels-last", "strided", "bfloat16", "one picture", "empty"],
)
def test_other_maps_go_by_torchs(x: Tensor) -> None:
    mine, its = MeanPool()(x), STOCK(x)
    assert torch.equal(mine, its)
    assert mine.stride() == its.stride()


def test_transforms_tracers_and_compilers_read_torchs() -> None:
    x = noise(4, 2, 3, 8, 8)
    assert torch.equal(torch.func.vmap(MeanPool())(x), torch.stack([STOCK(one) for one in x]))
    (tangent,) = torch.func.jvp(MeanPool(), (x[0],), (x[1],))[1:]
    torch.testing.assert_close(tangent, STOCK(x[1]))
    with forward_ad.dual_level():
        dual = MeanPool()(forward_ad.make_dual(x[0], x[1]))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, STOCK(x[1]))
    exported = torch.export.export(MeanPool(), (x[0],))
    assert "avg_pool2d" in str(exported.graph)
    assert torch.equal(torch.jit.script(MeanPool())(x[0]), STOCK(x[0]))


def test_a_map_too_small_is_refused_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="too small"):
        MeanPool()(noise(1, 2, 1, 4))
