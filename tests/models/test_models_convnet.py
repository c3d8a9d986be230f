"""The ConvNet: published parameter counts, a twin in plain functions, odd sizes, refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dd.errors import InputError
from dd.models import Block, ConvNet, build, convnet, count_parameters
from dd.models.images.convnet import NORMS, default_depth


def make(text: str = "convnet", channels: int = 3, classes: int = 10, px: int = 32) -> ConvNet:
    """A built ConvNet of square pictures."""
    net = build(text, channels=channels, classes=classes, size=(px, px), seed=0)
    assert isinstance(net, ConvNet)
    return net


def pictures(*shape: int) -> Tensor:
    """Noise `[N, C, H, W]`."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# The published table of backbones: classes, px, depth, P.
TABLE = [
    (10, 32, 3, 320_010),
    (100, 32, 3, 504_420),
    (200, 64, 4, 857_160),
    (10, 128, 5, 615_690),
    (10, 256, 6, 763_530),
    (1000, 64, 4, 2_496_360),
]


@pytest.mark.parametrize(("classes", "px", "depth", "expected"), TABLE)
def test_parameter_counts_of_the_published_table(classes: int, px: int, depth: int, expected: int) -> None:
    with torch.device("meta"):
        net = convnet(3, classes, (px, px))
    assert len(net.blocks) == depth
    assert net.classifier.in_features == 2048
    assert count_parameters(net) == expected


def test_depth_three_at_64_px_is_the_net_of_the_trap() -> None:
    # "ConvNet" at 64 px without D4: the blocks of the first row, but linear on 128·8·8: 1.94 M
    expected = (320_010 - 2049 * 10) + (128 * 8 * 8 + 1) * 200
    assert count_parameters(make("convnet(depth=3)", classes=200, px=64)) == expected == 1_938_120


@pytest.mark.parametrize(
    ("size", "depth"),
    [((8, 8), 1), ((28, 28), 3), ((32, 32), 3), ((64, 64), 4), ((128, 128), 5), ((256, 256), 6), ((2, 9), 1)],
)
def test_default_depth(size: tuple[int, int], depth: int) -> None:
    assert default_depth(size) == depth


def plain_forward(net: ConvNet, x: Tensor) -> Tensor:
    """The ConvNet by its parameters in order: conv weight and bias, norm weight and bias, …, linear."""
    theta = list(net.parameters())
    while len(theta) > 2:
        weight, bias, scale, shift, *theta = theta
        x = F.conv2d(x, weight, bias, padding=1)
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / (var + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]
        x = x.clamp(min=0)
        x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    weight, bias = theta
    return x.reshape(len(x), -1) @ weight.T + bias


def test_twin_in_plain_functions() -> None:
    net = build("convnet(width=8)", channels=3, classes=5, size=(16, 16), seed=3, dtype=torch.float64)
    assert isinstance(net, ConvNet)
    with torch.no_grad():
        for p in net.parameters():  # so that the affine part of the norms is seen
            p += 0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype)
    x = pictures(4, 3, 16, 16).double()
    torch.testing.assert_close(net(x), plain_forward(net, x), rtol=1e-12, atol=1e-12)


def test_the_relu_writes_over_its_input_and_gradients_are_those_of_one_that_does_not() -> None:
    net = build("convnet(width=4, depth=2)", channels=3, classes=3, size=(8, 8), seed=0)
    places: list[tuple[int, int]] = []
    for block in net.blocks:
        block.act.register_forward_hook(lambda _, x, y: places.append((x[0].data_ptr(), y.data_ptr())))
    x, found = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for over in (True, False):
        for block in net.blocks:
            block.act.inplace = over
        found.append(torch.autograd.grad(net(x).square().sum(), list(net.parameters())))
    assert [before == after for before, after in places] == [True, True, False, False]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_structure_can_be_walked() -> None:
    net = make("convnet(width=8, norm=none, pool=none)", px=8)
    for block in net.blocks:
        assert isinstance(block, Block)
        assert isinstance(block.conv, torch.nn.Conv2d)
        assert isinstance(block.norm, torch.nn.Identity)
        assert isinstance(block.pool, torch.nn.Identity)
    assert net.classifier.in_features == 8 * 8 * 8


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pool", ["avg", "max", "none"])
def test_every_norm_and_pool(norm: str, pool: str) -> None:
    net = make(f"convnet(width=8, norm={norm}, pool={pool})", px=16)
    x = pictures(3, 3, 16, 16)
    out = net(x)
    assert out.shape == (3, 10)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.blocks[0].conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        same = torch.equal(net.train()(x), net.eval()(x))
    assert same == (norm != "batch")


@pytest.mark.parametrize("norm", ["instance", "layer", "group"])
def test_norms_have_a_scale_and_a_shift_a_channel(norm: str) -> None:
    net = make(f"convnet(width=8, depth=1, norm={norm})", px=8)
    assert net.blocks[0].norm.num_groups == {"instance": 8, "layer": 1, "group": 4}[norm]
    assert net.blocks[0].norm.weight.shape == (8,)


def test_one_channel_28_acts_as_32() -> None:
    net = make(channels=1, px=28)
    assert net.blocks[0].conv.padding == (3, 3)
    assert net.classifier.in_features == 2048
    assert count_parameters(net) == 320_010 - 2 * 9 * 128
    padded = make(channels=1, px=32)
    assert padded.blocks[0].conv.padding == (1, 1)
    x = pictures(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(net(x), padded(F.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize("size", [(20, 28), (28, 28), (33, 17), (9, 40)])
def test_odd_and_oblong_sizes(size: tuple[int, int]) -> None:
    net = build("convnet(width=8)", channels=3, classes=4, size=size, seed=0)
    depth = default_depth(size)
    assert isinstance(net, ConvNet)
    assert net.classifier.in_features == 8 * (size[0] >> depth) * (size[1] >> depth)
    assert net(pictures(2, 3, *size)).shape == (2, 4)


def test_rows_do_not_depend_on_each_other() -> None:
    net = make("convnet(width=16)", px=16)
    x = pictures(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(x)[1:2], net(x[1:2]))


@pytest.mark.parametrize(
    ("text", "px", "match"),
    [
        ("convnet(depth=5)", 16, "pooled to nothing"),
        ("convnet(depth=0)", 32, "`depth` must be a whole number of at least 1"),
        ("convnet(width=0)", 32, "`width`"),
        ("convnet(width=1.5)", 32, "`width`"),
        ("convnet(width=true)", 32, "`width`"),
        ("convnet(norm=group, width=6)", 32, "multiple of 4"),
        ("convnet(norm=instancenorm)", 32, "unknown norm.*batch, group, instance, layer, none"),
        ("convnet(pool=sum)", 32, "unknown pool.*avg, max, none"),
        ("convnet(pool=none)", 1, "one value a group"),
    ],
)
def test_refusals(text: str, px: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make(text, px=px)
