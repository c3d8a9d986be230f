"""The teachers of the decoupled methods: counts, which batch norms run, torchvision's outputs, shapes, refusals."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import ModelSpec, build, count_parameters, uses_batch_stats
from dd.models.images.mobile import shuffle
from dd.models.images.slim import PadShortcut

COUNTS = {
    "resnet18(norm=batch)": (20, 4_800, 11_220_132),
    "resnet50(norm=batch)": (53, 26_560, 23_705_252),
    "resnet101(norm=batch)": (104, 52_672, 42_697_380),
    "resnet20": (19, 688, 275_572),
    "resnet9": (8, 35 * 32, 1_669_252),
    "resnet9(width=16)": (8, 35 * 16, 424_564),
    "mobilenet_v2": (57, 17_544, 2_412_212),
    "shufflenet_v2": (56, 3_976, 444_292),
    "shufflenet_v2(width=1.0)": (56, 8_090, 1_356_104),
    "densenet121": (120, 41_760, 7_048_548),
    "efficientnet_b0": (49, 21_008, 4_135_648),
}
"""Batch norms, their channels and P, for three channels and 100 classes."""

PUBLISHED = {
    "resnet18(norm=batch)": (20, 4_800, "11.2"),
    "resnet50(norm=batch)": (53, 26_560, "23.7"),
    "mobilenet_v2": (57, 17_544, "2.4"),
    "densenet121": (120, 41_760, "7.05"),
    "shufflenet_v2": (56, 3_976, "0.44"),
}
"""The same as the CIFAR variants in CV-DD's code have them, P in millions."""

TEACHERS = sorted(COUNTS)


def on_meta(text: str, channels: int = 3, px: int = 32, classes: int = 100) -> nn.Module:
    """A network of square pictures without its numbers."""
    with torch.device("meta"):
        return ModelSpec.parse(text).make(channels, classes, (px, px))


def make(text: str, px: int = 16, seed: int = 0) -> nn.Module:
    """A built network of square pictures with three channels and ten classes."""
    return build(text, channels=3, classes=10, size=(px, px), seed=seed)


def pictures(*shape: int) -> Tensor:
    """Noise `[N, C, H, W]`."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def batch_norms(net: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The batch norms by name, in registration order."""
    return {name: part for name, part in net.named_modules() if isinstance(part, nn.BatchNorm2d)}


# --- counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("px", [32, 64])
@pytest.mark.parametrize("text", TEACHERS)
def test_counts(text: str, px: int) -> None:
    net = on_meta(text, px=px)
    norms = batch_norms(net).values()
    assert (len(norms), sum(n.num_features for n in norms), count_parameters(net)) == COUNTS[text]


@pytest.mark.parametrize("text", sorted(PUBLISHED))
def test_counts_are_the_published_ones(text: str) -> None:
    layers, channels, parameters = COUNTS[text]
    millions = PUBLISHED[text][2]
    digits = len(millions.partition(".")[2])
    assert (layers, channels, f"{parameters / 1e6:.{digits}f}") == PUBLISHED[text]


def test_instance_norm_has_as_many_parameters() -> None:
    for name in ("resnet50", "resnet101", "resnet20", "resnet9"):
        net = on_meta(f"{name}(norm=instance)")
        assert not batch_norms(net)
        assert count_parameters(net) == COUNTS[name if name in COUNTS else f"{name}(norm=batch)"][2]


# --- what they compute ------------------------------------------------------------------------


def cifar_stem(name: str) -> nn.Module:
    """torchvision's network with the stem of its CIFAR variant."""
    import torchvision

    net = torchvision.models.get_model(name, weights=None, num_classes=10)
    if name.startswith("resnet"):
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    elif name.startswith("shufflenet"):
        net.conv1[0].stride, net.maxpool = (1, 1), nn.Identity()
    elif name.startswith("densenet"):
        net.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.features.norm0 = net.features.relu0 = net.features.pool0 = nn.Identity()
    else:
        net.features[0][0].stride = (1, 1)
    return net


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("resnet50(norm=batch)", "resnet50"),
        ("shufflenet_v2", "shufflenet_v2_x0_5"),
        ("shufflenet_v2(width=1.0)", "shufflenet_v2_x1_0"),
        ("densenet121", "densenet121"),
        ("efficientnet_b0", "efficientnet_b0"),
    ],
)
def test_outputs_are_torchvisions(text: str, name: str) -> None:
    ours, theirs = make(text), cifar_stem(name)
    with torch.no_grad():
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            two.copy_(one)
        x = pictures(4, 3, 16, 16)
        for net in (ours, theirs):
            fit(net, x)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-3, atol=1e-4)


def fit(net: nn.Module, x: Tensor) -> None:
    """Give the batch norms the statistics of `x`, and leave the network in eval mode."""
    for layer in batch_norms(net).values():
        layer.momentum = 1.0
    dropped = [part for part in net.modules() if type(part).__name__ in ("Dropout", "StochasticDepth")]
    net.train()
    for part in dropped:
        part.eval()
    with torch.no_grad():
        net(x)
    net.eval()


def test_mobilenet_shortcuts() -> None:
    net = on_meta("mobilenet_v2")
    blocks = [part for part in net.modules() if type(part).__name__ == "InvertedResidual"]
    kinds = [type(block.shortcut).__name__ for block in blocks]
    assert len(blocks) == 17
    assert [i for i, kind in enumerate(kinds) if kind == "Sequential"] == [0, 1, 10, 16]
    assert [i for i, kind in enumerate(kinds) if kind == "NoneType"] == [3, 6, 13]


def test_parts_by_hand() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    maps = torch.arange(9.0).reshape(1, 1, 3, 3)
    padded = PadShortcut(extra=2, stride=2)(maps)
    assert padded[0].tolist() == [[[0, 2], [6, 8]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]


# --- shapes, gradients, seeds -----------------------------------------------------------------


@pytest.mark.parametrize(("channels", "px"), [(3, 32), (3, 64), (1, 28), (2, 37)])
@pytest.mark.parametrize("text", TEACHERS)
def test_shapes_and_every_batch_norm_runs_once_in_registration_order(text: str, channels: int, px: int) -> None:
    net, ran = on_meta(text, channels, px, classes=7).eval(), []
    for name, layer in batch_norms(net).items():
        layer.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        assert net(torch.empty(2, channels, px, px, device="meta")).shape == (2, 7)
    assert ran == list(batch_norms(net))
    stem = next(part for part in net.modules() if isinstance(part, nn.Conv2d))
    assert stem.stride == ((2, 2) if px == 64 else (1, 1))


@pytest.mark.parametrize("text", TEACHERS)
def test_gradients_reach_every_parameter_and_picture(text: str) -> None:
    net = make(text)
    x = pictures(4, 3, 16, 16)
    # in train mode a shift that meets the next batch norm linearly has none
    fit(net, x)
    x.requires_grad_()
    out = net(x)
    assert out.shape == (4, 10)
    F.cross_entropy(out, torch.arange(4)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad is not None
    assert (x.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("text", TEACHERS)
def test_equal_seeds_equal_weights(text: str) -> None:
    one, two, other = (make(text, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    weights = [(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True) if a.ndim > 1]
    assert not any(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize("text", ["resnet20", "resnet9(width=8)", "mobilenet_v2", "shufflenet_v2"])
def test_loss_falls(text: str) -> None:
    net, x, y = make(text), pictures(10, 3, 16, 16), torch.arange(10)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("text", TEACHERS)
def test_batch_statistics_only_in_train_mode(text: str) -> None:
    net = on_meta(text)
    assert uses_batch_stats(net.train())
    assert not uses_batch_stats(net.eval())


def test_dropout_option() -> None:
    rates = [
        [part.p for part in on_meta(text).modules() if isinstance(part, nn.Dropout)]
        for text in ("efficientnet_b0", "efficientnet_b0(dropout=0.2)")
    ]
    assert rates == [[0.0], [0.2]]


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "px", "match"),
    [
        ("resnet50", 8, "large enough for resnet50; got 8x8, where a norm sees one value a group"),
        ("resnet101", 8, "large enough for resnet101; got 8x8, where a norm sees one value a group"),
        ("resnet20(norm=instance)", 4, "resnet20; got 4x4, where a norm sees one value a group"),
        ("resnet9(norm=instance)", 15, "resnet9; got 15x15, where a norm sees one value a group"),
        ("resnet9", 7, "resnet9; got 7x7, pooled to nothing"),
        ("densenet121", 7, "densenet121; got 7x7, pooled to nothing"),
        ("resnet50(norm=group)", 32, "unknown norm 'group'; known: batch, instance"),
        ("resnet9(norm=none)", 32, "unknown norm 'none'; known: batch, instance"),
        ("resnet9(width=0)", 32, "`width` must be a whole number of at least 1; got 0"),
        ("resnet9(width=8.5)", 32, "`width` must be a whole number of at least 1; got 8.5"),
        ("shufflenet_v2(width=2.0)", 32, r"unknown width of shufflenet_v2 2\.0; known: 0\.5, 1\.0"),
        ("shufflenet_v2(width=true)", 32, "unknown width of shufflenet_v2 True"),
        ("shufflenet_v2(width=half)", 32, "unknown width of shufflenet_v2 'half'"),
        ("efficientnet_b0(dropout=1.0)", 32, r"`dropout` must be a number of at least 0 and below 1; got 1\.0"),
        ("efficientnet_b0(dropout=-0.1)", 32, r"at least 0 and below 1; got -0\.1"),
        ("mobilenet_v2(norm=instance)", 32, "unknown option of mobilenet_v2 'norm'.*no options"),
    ],
)
def test_refusals(text: str, px: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        on_meta(text, px=px)


def test_small_pictures_that_do_work() -> None:
    small = {"resnet50(norm=batch)": 1, "resnet50": 9, "resnet20": 1, "resnet20(norm=instance)": 5, "resnet9": 8}
    small |= {"resnet9(norm=instance)": 16, "densenet121": 8, "mobilenet_v2": 1, "shufflenet_v2": 1}
    for (text, px), train in itertools.product(small.items(), (True, False)):
        net = on_meta(text, px=px).train(train)
        with torch.no_grad():
            assert net(torch.empty(2, 3, px, px, device="meta")).shape == (2, 100)
