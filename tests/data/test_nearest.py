"""Nearest real images against brute force, a copy at distance 0, and features of a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dd
from dd.data import Split
from dd.data.images.nearest import nearest
from dd.errors import InputError
from dd.measure.neighbours import features_of
from dd.models import build
from dd.transforms.whiten import Normalise


def split(count: int = 53) -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 2, 8, 8), generator=generator).to(torch.uint8)
    return dd.Images(train=(pixels, torch.arange(count) % 3)).train


def some(count: int = 7) -> torch.Tensor:
    return torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [1, 10, 53, 1000])
@pytest.mark.parametrize("space", ["pixels", "features"])
def test_brute_force(chunk: int, space: str) -> None:
    net = build("convnet(width=4)", channels=2, classes=3, size=(8, 8), seed=0).eval()
    shift = Normalise((0.5, 0.4), (0.2, 0.3))
    real, found = split().pixels(), some()
    if space == "features":
        options = {"embed": features_of(net, shift)}
        with torch.no_grad():
            real, found = (net.blocks(shift.forward(x)).flatten(1) for x in (real, found))
    else:
        options = {}
    place, distance = nearest(some(), split(), chunk=chunk, **options)
    for i, point in enumerate(found.flatten(1)):
        far = (real.flatten(1) - point).square().sum(1).sqrt()
        assert int(place[i]) == int(far.argmin())
        assert float(distance[i]) == pytest.approx(float(far.min()), rel=1e-5)


def test_a_copy_is_found_at_distance_zero_and_classes_are_kept_apart() -> None:
    part = split()
    rows = torch.tensor([50, 3, 17])
    place, distance = nearest(part.pixels(rows), part, chunk=10)
    assert torch.equal(place, rows)
    assert distance.tolist() == [0, 0, 0]
    wanted = (part.labels[rows] + 1) % 3
    place, distance = nearest(part.pixels(rows), part, within=wanted, chunk=10)
    assert torch.equal(part.labels[place], wanted)
    far = (part.pixels(rows)[:, None] - part.pixels()[None]).flatten(2).norm(dim=2)
    far[part.labels[None] != wanted[:, None]] = torch.inf
    torch.testing.assert_close(distance, far.min(1).values)


def test_refusals() -> None:
    with pytest.raises(InputError, match="H = 8"):
        nearest(torch.zeros(1, 2, 4, 4), split())
    with pytest.raises(InputError, match="images of every class"):
        nearest(some(1), split(), within=torch.tensor([9]))
    with pytest.raises(InputError, match="with a linear layer"):
        features_of(nn.Flatten(), Normalise((0.5,), (1.0,)))(some(1))
