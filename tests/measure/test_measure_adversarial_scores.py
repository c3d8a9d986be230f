"""FGSM and PGD: the sign of finite differences, one full step, the ball, and fewer right answers the larger it is."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dd
from dd.base.seeding import isolated
from dd.data import Split
from dd.errors import InputError
from dd.measure.adversarial import attacked_accuracy, fgsm, pgd
from dd.models import build
from dd.transforms.whiten import ZCA, Normalise, Transform, fit_zca

SHIFT = Normalise((0.4,), (0.25,))


def split(count: int = 60) -> Split:
    """3 classes told apart by brightness."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 120, (count, 1, 4, 4), generator=generator) + 45 * labels.view(-1, 1, 1, 1)
    return dd.Images(train=(pixels.to(torch.uint8), labels)).train


def linear(dtype: torch.dtype = torch.float32) -> nn.Module:
    """The matched filter of the three brightnesses, with a little seeded noise."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(dtype)
    with torch.no_grad():
        level = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype)
        noise = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
        net[1].weight.copy_(level[:, None].expand(3, 16) + 0.05 * noise)
        net[1].bias.copy_(-5.65 * level.square())
    return net.eval()


def bent() -> nn.Module:
    return build("convnet(width=4, depth=1)", channels=1, classes=3, size=(4, 4), seed=0).eval()


@pytest.mark.parametrize("kind", ["normalise", "zca"])
def test_fgsm_is_the_sign_of_finite_differences_through_the_transform(kind: str) -> None:
    transform: Transform = SHIFT if kind == "normalise" else fit_zca(split())
    assert isinstance(transform, Normalise | ZCA)
    with isolated(0, "net"):
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    x = 0.2 + 0.6 * torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y, eps, h = torch.tensor([0, 2]), 0.05, 1e-5

    def loss(pixels: Tensor) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(net(transform.forward(pixels)), y, reduction="sum"))

    step = (fgsm(net, transform, x, y, eps) - x) / eps
    for index in range(x.numel()):
        e = torch.zeros_like(x).view(-1)
        e[index] = h
        slope = (loss(x + e.view_as(x)) - loss(x - e.view_as(x))) / (2 * h)
        assert abs(slope) > 1e-7
        assert float(step.view(-1)[index]) == pytest.approx(1.0 if slope > 0 else -1.0)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.3])
def test_one_full_step_of_pgd_is_fgsm(eps: float) -> None:
    part = split()
    x, y = part.pixels(), part.labels
    one = pgd(bent(), SHIFT, x, y, eps, steps=1)
    assert torch.equal(one, fgsm(bent(), SHIFT, x, y, eps))
    assert torch.equal(one, pgd(bent(), SHIFT, x, y, eps, steps=1, step_size=eps))
    if eps == 0:
        assert torch.equal(one, x)


@pytest.mark.parametrize("start", [None, 3])
def test_perturbations_stay_in_the_ball_and_in_the_pixels(start: int | None) -> None:
    part, eps = split(), 0.1
    x, y = part.pixels(), part.labels
    generator = None if start is None else torch.Generator().manual_seed(start)
    found = pgd(bent(), SHIFT, x, y, eps, steps=5, step_size=0.08, generator=generator)
    assert float((found - x).abs().max()) <= eps + 1e-6
    assert float((found - x).abs().max()) > 0.09
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float((fgsm(bent(), SHIFT, x, y, eps) - x).abs().max()) <= eps + 1e-6


def test_more_steps_find_more_loss_and_each_image_has_its_own() -> None:
    part, net = split(), bent()
    x, y = part.pixels(), part.labels

    def found(steps: int) -> Tensor:
        return pgd(net, SHIFT, x, y, 0.1, steps=steps)

    with torch.no_grad():
        losses = [float(F.cross_entropy(net(SHIFT.forward(found(n))), y)) for n in (1, 3, 8)]
    assert losses[0] <= losses[1] + 1e-4 <= losses[2] + 2e-4
    torch.testing.assert_close(found(3)[5:7], pgd(net, SHIFT, x[5:7], y[5:7], 0.1, steps=3))


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_accuracy_falls_with_eps(attack: str) -> None:
    part, net = split(), linear()
    clean = attacked_accuracy(net, Normalise((0.41,), (0.25,)), part, 0.0, attack="none")
    assert clean > 0.7
    transform = Normalise((0.41,), (0.25,))
    found = [attacked_accuracy(net, transform, part, e, attack=attack, batch=7) for e in (0.0, 0.02, 0.05, 0.1, 0.3)]
    assert found[0] == clean
    assert all(a >= b for a, b in itertools.pairwise(found))  # exact for a linear network
    assert found[-1] < 0.2


def test_refusals() -> None:
    part = split(3)
    x, y = part.pixels(), part.labels
    with pytest.raises(InputError, match=r"`eps` must be in \[0, 1\].*8/255"):
        fgsm(bent(), SHIFT, x, y, 8.0)
    with pytest.raises(InputError, match="`net` must be in eval mode"):
        pgd(bent().train(), SHIFT, x, y, 0.1)
    with pytest.raises(InputError, match="`steps` must be a whole number"):
        pgd(bent(), SHIFT, x, y, 0.1, steps=0)
    with pytest.raises(InputError, match="`attack` must be `fgsm`, `pgd` or `none`"):
        attacked_accuracy(bent(), SHIFT, part, 0.1, attack="cw")
