"""Written-out second derivatives: equal to autograd's, and right where a network does what they do not know."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.inner import InnerStep, Problem, Student, Target, adjoint, adjoint_pass, unroll, written
from dd.inner.written import WrittenOut
from dd.transforms.dsa import DSA


def noise(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.requires_grad_()


@pytest.mark.parametrize(("groups", "channels", "block"), [(4, 4, 2**19), (1, 4, 40), (2, 6, 1)])
def test_group_norm_by_differences(groups: int, channels: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "_BLOCK", block)  # one picture at a time, or all
    given = (noise(3, channels, 5, 4), noise(channels, seed=1), noise(channels, seed=2))
    with WrittenOut():
        assert torch.autograd.gradgradcheck(lambda x, w, b: F.group_norm(x, groups, w, b), given)


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (1, 2)}, {"groups": 2}, {"stride": (1, 2)}],
)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("few", [True, False])
def test_convolution_by_differences(
    options: dict[str, Any], biased: bool, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "_MANY", 1 if few else 99)  # columns for pictures, or torch's own gradient
    given = [noise(2, 2, 4, 5), noise(4, 2 // int(options.get("groups", 1)), 3, 3, seed=1)]
    given += [noise(4, seed=2)] if biased else []
    with WrittenOut():
        assert torch.autograd.gradgradcheck(lambda x, w, *b: F.conv2d(x, w, *b, **options), tuple(given))


def test_values_and_first_derivatives_are_torchs_own() -> None:
    x, w, b, gamma, beta = noise(3, 4, 8, 8), noise(6, 4, 3, 3), noise(6), noise(6, seed=3), noise(6, seed=4)

    def both(given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        y = F.group_norm(F.conv2d(given[0], given[1], given[2], padding=1), 6, given[3], given[4])
        return (y, *torch.autograd.grad(y.square().sum(), given))

    given = (x, w, b, gamma, beta)
    with WrittenOut():
        own = both(given)
    for mine, its in zip(own, both(given), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0)


def test_maps_that_are_not_contiguous() -> None:
    x, w, b = noise(3, 5, 4, 4), noise(4, seed=1), noise(4, seed=2)
    with WrittenOut():
        assert torch.autograd.gradgradcheck(lambda x, w, b: F.group_norm(x.transpose(1, 2), 2, w, b), (x, w, b))


def test_what_it_does_not_know_is_left_to_torch() -> None:
    x, w = torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    with WrittenOut():
        assert F.conv2d(x, w, padding="same").shape == (2, 4, 8, 8)
        assert F.conv2d(x[0], w).shape == (4, 6, 6)
        assert F.group_norm(x, 3).shape == x.shape
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert F.conv2d(x, w).dtype == torch.bfloat16


class Standardised(nn.Conv2d):
    """A convolution whose weight is no parameter: standardised as in BiT."""

    def forward(self, input: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(input, w, self.bias, padding=1)


class Net(nn.Module):
    """Convolutions that see scaled pictures, standardised and shared weights, a norm without groups of one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Standardised(2, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.GroupNorm(2, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(0.5 * x)).sigmoid()
        x = self.second(self.second(x).tanh()).sigmoid()
        return self.head(x.mean((2, 3)))


class Gained(nn.Module):
    """Changes its pictures in place, by a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.conv, self.head = nn.Parameter(torch.ones(1, 2, 1, 1)), nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x *= self.gain
        return self.head(self.conv(x).tanh().mean((2, 3)))


class Mapped(nn.Module):
    """Sees one picture at a time, by `vmap`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.vmap(lambda one: self.norm(self.conv(one[None])).tanh().mean((0, 2, 3)))(x)
        return self.head(y)


def problem(net: type[nn.Module] = Net) -> Problem:
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    student = Student(net().double())
    theta = student.initial
    images = torch.randn(6, 2, 8, 8, generator=g, dtype=torch.float64)
    target = Target(3, theta + 0.1 * torch.randn(student.size, generator=g, dtype=torch.float64))
    dsa = DSA(strategy="flip_crop")
    steps = [InnerStep(torch.randperm(6, generator=g)[:4], dsa.draw(4, (8, 8), g)) for _ in range(3)]
    return Problem(student, theta, [target], images, torch.arange(6) % 3, torch.tensor(0.3).double(), steps, 0.5)


@pytest.mark.parametrize("net", [Net, Gained, Mapped])
@pytest.mark.parametrize("reuse", [0, 1, 3, None])
def test_a_network_with_weights_that_are_no_parameters(net: type[nn.Module], reuse: int | None) -> None:
    p = problem(net)
    found, twin = adjoint(p, micro_batch=3, reuse=reuse), unroll(p)
    for name in ("loss", "images", "lr", "theta"):
        torch.testing.assert_close(getattr(found, name), getattr(twin, name), rtol=1e-9, atol=1e-12)


def test_steps_are_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    p, kept = problem(), []
    first = adjoint_pass._DoubleBackward.first

    def watched(self: Any, i: int, theta: Tensor, total: Tensor, keep: bool) -> None:
        kept.append(keep)
        first(self, i, theta, total, keep)

    monkeypatch.setattr(adjoint_pass._DoubleBackward, "first", watched)
    answers = [adjoint(p), adjoint(p)]
    assert kept == [False, False, True, True, True, True]  # the first call finds out what a step takes
    (weight,) = adjoint_pass._WEIGHTS[p.student].values()
    monkeypatch.setattr(adjoint_pass, "ROOM", 2 * weight)
    answers += [adjoint(p), adjoint(dataclasses.replace(p, steps=p.steps[:3]))]
    assert kept[6:9] == [False, True, True]
    for answer in answers[1:]:
        assert torch.equal(answer.images, answers[0].images)
