"""ResNet-18, VGG-11, AlexNet, LeNet, MLP: counts by hand, shapes, modes, gradients, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import ModelSpec, build, count_parameters


def make(text: str, channels: int = 3, px: int = 32, classes: int = 10) -> nn.Module:
    """A built network of square pictures."""
    return build(text, channels=channels, classes=classes, size=(px, px), seed=0)


def count(text: str, channels: int = 3, px: int = 32, classes: int = 10) -> int:
    """P of the same network, without making its numbers."""
    with torch.device("meta"):
        return count_parameters(ModelSpec.parse(text).make(channels, classes, (px, px)))


def pictures(*shape: int) -> Tensor:
    """Noise `[N, C, H, W]`."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def conv(inputs: int, width: int, kernel: int, bias: bool = True) -> int:
    """Parameters of a convolution."""
    return inputs * width * kernel**2 + (width if bias else 0)


def linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer with bias."""
    return inputs * outputs + outputs


def resnet18_count(channels: int, classes: int, last: int) -> int:
    """By hand: stem, four stages of two blocks (three with a projection), a linear layer of `last` inputs."""
    total = conv(channels, 64, 3, bias=False) + 2 * 64
    inputs = 64
    for width in (64, 128, 256, 512):
        total += conv(inputs, width, 3, bias=False) + 3 * conv(width, width, 3, bias=False) + 4 * 2 * width
        if inputs != width:
            total += conv(inputs, width, 1, bias=False) + 2 * width
        inputs = width
    return total + linear(last, classes)


def vgg11_count(channels: int, classes: int) -> int:
    """By hand: eight convolutions, each with a scale and shift a channel, and a linear layer."""
    widths = (64, 128, 256, 256, 512, 512, 512, 512)
    inputs = (channels, *widths[:-1])
    return sum(conv(i, w, 3) + 2 * w for i, w in zip(inputs, widths, strict=True)) + linear(512, classes)


def alexnet_count(channels: int, classes: int) -> int:
    """By hand: five convolutions without norm and a linear layer on 192·4·4."""
    convolutions = conv(channels, 128, 5) + conv(128, 192, 5) + conv(192, 256, 3) + conv(256, 192, 3)
    return convolutions + conv(192, 192, 3) + linear(192 * 16, classes)


def lenet_count(channels: int, classes: int) -> int:
    """By hand: two convolutions and three linear layers."""
    convolutions = conv(channels, 6, 5) + conv(6, 16, 5)
    return convolutions + linear(400, 120) + linear(120, 84) + linear(84, classes)


def mlp_count(values: int, classes: int) -> int:
    """By hand: 128, 128, K."""
    return linear(values, 128) + linear(128, 128) + linear(128, classes)


@pytest.mark.parametrize("px", [32, 64])
def test_parameter_counts_by_hand(px: int) -> None:
    # the 64 px variants shrink earlier, so only the MLP grows
    assert count("resnet18", px=px) == resnet18_count(3, 10, 512)
    assert count("resnet18(norm=batch)", px=px) == resnet18_count(3, 10, 512)
    assert count("resnet18_ap", px=px) == resnet18_count(3, 10, 512 * 16)
    assert count("vgg11", px=px) == vgg11_count(3, 10)
    assert count("alexnet", px=px) == alexnet_count(3, 10)
    assert count("lenet", px=px) == lenet_count(3, 10)
    assert count("mlp", px=px) == mlp_count(3 * px * px, 10)


def test_parameter_counts_of_one_channel_28() -> None:
    # every net but the ResNets (3×3 last map) and the MLP (no padding) treats it as 32×32
    assert count("resnet18", 1, 28) == resnet18_count(1, 10, 512)
    assert count("resnet18_ap", 1, 28) == resnet18_count(1, 10, 512 * 9)
    assert count("vgg11", 1, 28) == vgg11_count(1, 10)
    assert count("alexnet", 1, 28) == alexnet_count(1, 10)
    assert count("lenet", 1, 28) == lenet_count(1, 10)
    assert count("mlp", 1, 28) == mlp_count(28 * 28, 10)


def test_torchvision_resnet18_has_the_same_stages() -> None:
    # torchvision's: 11 689 512 with K = 1000 and a 7×7 stem
    ours = count("resnet18(norm=batch)", classes=1000)
    assert ours == 11_689_512 - conv(3, 64, 7, bias=False) + conv(3, 64, 3, bias=False)


MODELS = ["resnet18", "resnet18_ap", "vgg11", "alexnet", "lenet", "mlp"]


@pytest.mark.parametrize("model", MODELS)
def test_modes_agree_and_gradients_flow(model: str) -> None:
    px = 32 if model == "vgg11" else 16
    net = make(model, px=px)
    x = pictures(2, 3, px, px).requires_grad_()
    out = net.train()(x)
    assert out.shape == (2, 10)
    with torch.no_grad():
        assert torch.equal(out, net.eval()(x))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    weights = [p.grad for p in net.parameters() if p.ndim > 1]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in weights)
    assert x.grad is not None
    assert (x.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(("model", "px"), [("resnet18", 16), ("vgg11", 32)])
def test_batch_norm_makes_modes_differ(model: str, px: int) -> None:
    net = make(f"{model}(norm=batch)", px=px)
    x = pictures(4, 3, px, px)
    with torch.no_grad():
        assert not torch.equal(net.eval()(x), net.train()(x))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(40, 36), (66, 70)])
def test_sizes_nobody_published(model: str, size: tuple[int, int]) -> None:
    net = build(model, channels=2, classes=7, size=size, seed=0)
    with torch.no_grad():
        assert net(pictures(2, 2, *size)).shape == (2, 7)


def test_resnet_average_is_the_published_4x4_pool() -> None:
    net = make("resnet18", px=28)
    x = pictures(1, 3, 28, 28)
    with torch.no_grad():
        last = net.stages(net.act(net.norm(net.conv(x))))  # type: ignore[operator]
        assert last.shape == (1, 512, 4, 4)
        published = nn.functional.avg_pool2d(last, 4).flatten(1)
        torch.testing.assert_close(net(x), net.classifier(published))  # type: ignore[operator]


def test_pooled_resnet_has_no_stride_at_32_px() -> None:
    strides = {m.stride for m in make("resnet18_ap").modules() if isinstance(m, nn.Conv2d)}
    assert strides == {(1, 1)}


@pytest.mark.parametrize(
    ("text", "px", "match"),
    [
        ("alexnet", 7, "alexnet; got 7x7, pooled to nothing"),
        ("lenet", 8, "lenet; got 8x8, pooled to nothing"),
        ("vgg11(norm=batch)", 28, "vgg11; got 28x28, pooled to nothing"),
        ("vgg11", 16, "vgg11; got 16x16, pooled to nothing"),
        ("resnet18", 8, "one value a group"),
        ("resnet18_ap", 15, "one value a group"),
        ("resnet18_ap(norm=batch)", 7, "pooled to nothing"),
        ("resnet18(norm=layer)", 32, "unknown norm 'layer'; known: batch, instance"),
    ],
)
def test_refusals(text: str, px: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make(text, px=px)


def test_small_pictures_that_do_work() -> None:
    for text, px in (("alexnet", 8), ("resnet18(norm=batch)", 8), ("resnet18", 9), ("resnet18_ap", 16)):
        assert count(text, px=px) > 0
