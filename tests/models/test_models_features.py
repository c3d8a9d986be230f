"""Features are what the last linear layer sees, in as many batches as the call takes; a network without one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dd.errors import InputError
from dd.models import build
from dd.models.features import features


def test_features_are_what_the_last_layer_sees() -> None:
    net = build("convnet(width=4, depth=1)", channels=1, classes=3, size=(4, 4), seed=0)
    pixels = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = features(net, lambda: net(pixels))
    assert torch.allclose(net.classifier(found), net(pixels))
    assert torch.equal(features(net, lambda: [net(part) for part in pixels.split(2)]), found)
    assert not net.classifier._forward_pre_hooks  # left as it was


def test_features_have_the_graph_to_the_pixels_that_the_caller_asks_for() -> None:
    net = build("mlp", channels=1, classes=3, size=(2, 2), seed=0, dtype=torch.float64)
    pixels = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: features(net, lambda: net(x)), pixels.requires_grad_())
    with torch.no_grad():
        assert not features(net, lambda: net(pixels)).requires_grad


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(InputError, match="`teacher` must be a network with a linear layer; got Flatten"):
        features(nn.Flatten(), lambda: None, "teacher")


def test_channels_are_the_means_of_the_last_map() -> None:
    net = build("convnet(width=4, depth=2)", channels=3, classes=2, size=(16, 16), seed=0)
    pixels = torch.randn(3, 3, 16, 16)
    found = features(net, lambda: [net(part) for part in pixels.split(2)], form="channel")
    torch.testing.assert_close(found, net.blocks(pixels).mean((2, 3)))  # type: ignore[operator]
    pooled = build("resnet18", channels=3, classes=2, size=(16, 16), seed=0).eval()
    torch.testing.assert_close(
        features(pooled, lambda: pooled(pixels), form="channel"), features(pooled, lambda: pooled(pixels))
    )


def test_a_network_without_maps_has_no_channels() -> None:
    net = build("mlp", channels=3, classes=2, size=(8, 8), seed=0)
    with pytest.raises(InputError, match=r"`net` must be a network with maps before its last layer.*`flat`"):
        features(net, lambda: net(torch.zeros(1, 3, 8, 8)), form="channel")
