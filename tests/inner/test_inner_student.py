"""The student as a pure function of one flat θ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import dd
from dd.base.seeding import child, isolated
from dd.inner import InnerStep, Problem, Road, Student, Target, cross_entropy, freeze_batch_statistics, solve, unroll
from dd.models import build
from dd.transforms.dsa import DSA


def net(norm: str = "instance", dtype: torch.dtype = torch.float64) -> nn.Module:
    return build(f"convnet(width=4, norm={norm})", channels=3, classes=3, size=(8, 8), seed=0, dtype=dtype)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_views_are_views_in_the_order_of_the_parameters() -> None:
    module = net()
    student = Student(module)
    theta = student.initial.clone()
    assert student.size == theta.numel() == sum(p.numel() for p in module.parameters())
    views = student.views(theta)
    for (name, parameter), (key, view) in zip(module.named_parameters(), views.items(), strict=True):
        assert name == key
        assert torch.equal(parameter, view)
    theta.zero_()
    assert all(float(view.abs().max()) == 0 for view in views.values())


@pytest.mark.parametrize("norm", ["instance", "layer", "none", "batch"])
def test_logits_are_those_of_the_module_with_these_parameters(norm: str) -> None:
    student = Student(net(norm))
    theta, x = student.initial + 0.1 * noise(student.size), noise(5, 3, 8, 8)
    other = net(norm).train()
    nn.utils.vector_to_parameters(theta, other.parameters())
    torch.testing.assert_close(student.logits(theta, x), other(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_call_leaves_nothing_behind(norm: str) -> None:
    module = net(norm)
    student = Student(module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    theta, x = student.initial + 0.1 * noise(student.size), noise(5, 3, 8, 8)
    first = student.logits(theta, x)
    student.loss(theta.requires_grad_(), noise(2, 3, 8, 8), torch.tensor([0, 2])).backward()
    assert torch.equal(student.logits(theta, x), first)
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_frozen_batch_norm_uses_its_batch_in_both_modes() -> None:
    layer, x = nn.BatchNorm1d(4, dtype=torch.float64), noise(6, 4)
    expected = layer(x)
    assert isinstance(frozen := freeze_batch_statistics(layer), nn.BatchNorm1d)
    assert frozen.running_mean is None
    assert torch.equal(frozen.train()(x), expected)
    assert torch.equal(frozen.eval()(x), expected)


def test_autocast_returns_the_type_of_theta() -> None:
    module = net(dtype=torch.float32)
    exact, rough = Student(module), Student(module, autocast=torch.bfloat16)
    x = noise(5, 3, 8, 8).float()
    scores = rough.logits(rough.initial, x)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, exact.logits(exact.initial, x))
    torch.testing.assert_close(scores, exact.logits(exact.initial, x), rtol=0.05, atol=0.05)


def test_soft_cross_entropy_is_the_sum_by_hand() -> None:
    scores, y = noise(4, 3), noise(4, 3).softmax(1)
    by_hand = 0.0
    for row, target in zip(scores.tolist(), y.tolist(), strict=True):
        total = sum(math.exp(v) for v in row)
        by_hand -= sum(t * math.log(math.exp(v) / total) for v, t in zip(row, target, strict=True)) / 4
    assert float(cross_entropy(scores, y)) == pytest.approx(by_hand, rel=1e-12)


def test_sure_soft_labels_are_hard_labels() -> None:
    scores, y = noise(4, 3), torch.tensor([0, 2, 1, 2])
    sure = nn.functional.one_hot(y, 3).double()
    assert float(cross_entropy(scores, sure)) == pytest.approx(float(cross_entropy(scores, y)), rel=1e-13)


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(dd.InputError, match="`model` must be a network with parameters; got Flatten"):
        Student(nn.Flatten())


class Attending(nn.Module):
    """Pictures in patches through one of torch's ways to attend."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.embed, self.out = kind, nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 3)
        self.tokens = nn.Linear(8, 24)
        if kind == "layer":
            self.block = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        elif kind == "heads":
            self.block = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.kind == "layer":
            x = self.block(x)
        elif self.kind == "heads":
            x = x + self.block(x, x, x, need_weights=False)[0]
        else:
            q, k, v = self.tokens(x).chunk(3, dim=2)
            x = x + nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(x.mean(1))


def vision_transformer() -> nn.Module:
    import torchvision

    return torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 8, num_classes=3)


@pytest.mark.parametrize("make", [*(lambda k=k: Attending(k) for k in ("layer", "heads", "call")), vision_transformer])
@pytest.mark.parametrize("micro", [None, 2])
def test_the_adjoint_goes_through_attention(make: Callable[[], nn.Module], micro: int | None) -> None:
    with isolated(0, "attention"):
        module = make().double()
    student = Student(module)
    theta = student.initial + 0.1 * noise(student.size)  # vision transformers begin with a head of zeros
    plan = [
        InnerStep(torch.tensor(rows), DSA(strategy="").draw(3, (8, 8), child(0))) for rows in ([0, 1, 2], [3, 1, 0])
    ]
    target, images = Target(2, theta + 0.05 * noise(student.size)), noise(4, 3, 8, 8)
    problem = Problem(student, theta, [target], images, torch.tensor([0, 1, 2, 0]), noise(1)[0].abs(), plan, 0.5)
    slow, fast = unroll(problem), solve(problem, Road("generic", micro))
    for a, b in ((fast.loss, slow.loss), (fast.images, slow.images), (fast.lr, slow.lr)):
        assert float(b.abs().max()) > 0
        assert float((a - b).norm() / b.norm()) < 1e-10
    direction, h = noise(*images.shape), 1e-6
    ends = [unroll(dataclasses.replace(problem, images=images + s * h * direction)).loss for s in (1, -1)]
    assert float(ends[0] - ends[1]) / (2 * h) == pytest.approx(float((slow.images * direction).sum()), rel=1e-5)


def test_instance_norm_keeps_nothing_either() -> None:
    layer, x = nn.InstanceNorm2d(4, track_running_stats=True, dtype=torch.float64), noise(6, 4, 3, 3)
    expected = layer.train()(x)
    assert torch.equal(freeze_batch_statistics(layer)(x), expected)
    assert layer.running_mean is None
