"""What cannot be a student is refused by what it does; what can is not, kinks and odd layers included."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference.experts import REAL, recipe
from torch import Tensor, nn

import dd
from dd.experts import check_model
from dd.inner import Student, check_student, scores_alone

CPU = torch.device("cpu")


class Around(nn.Module):
    """A small network with one part in its middle."""

    def __init__(self, part: nn.Module, classes: int = 3) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Conv2d(1, 8, 3, padding=1), part, nn.Linear(8 * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.max_pool2d(F.relu(self.part(self.first(x))), 2).flatten(1))


class Calls(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Counter(nn.Module):
    """A layer that keeps a count, in a buffer or out of sight."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.hidden, self.seen = hidden, 0.0
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden:
            self.seen += 0.1
        else:
            self.count += 1
        return x * (1 + self.seen)


class _Sine(torch.autograd.Function):
    """sin x, whose backward pass takes its cosine for a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * x.detach().cos()


class OwnNorm(nn.Module):
    """g·v/‖v‖ as a parametrization of one's own: the way out of torch's weight norm."""

    def forward(self, v: Tensor) -> Tensor:
        return v / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def conv(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return wrap(nn.Conv2d(8, 8, 3, padding=1))


def own_norm() -> nn.Module:
    layer = nn.Conv2d(8, 8, 3, padding=1)
    nn.utils.parametrize.register_parametrization(layer, "weight", OwnNorm())
    return layer


def check(make: Callable[[], nn.Module]) -> None:
    model = dd.Model(lambda channels, classes, size: Around(make(), classes), name="own")
    check_model(recipe(model=model), REAL, CPU)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Calls(lambda x: F.dropout(x, 0.1)), "which draws random numbers in a pass"),
        (lambda: Calls(lambda x: x * random.uniform(0.9, 1.1)), "which draws random numbers in a pass"),
        (lambda: Calls(lambda x: x if np.random.rand() < 1 else -x), "which draws random numbers in a pass"),
        (nn.RReLU, "which draws random numbers in a pass"),
        (lambda: Counter(hidden=False), "which changes `part.count` in a pass"),
        (lambda: conv(nn.utils.spectral_norm), "which changes `part.weight_u` in a pass"),
        (lambda: conv(nn.utils.parametrizations.spectral_norm), "which changes `part.parametrizations.weight.0._u`"),
        (lambda: Counter(hidden=True), "which gives other scores at a second pass"),
        (lambda: conv(nn.utils.weight_norm), "that of part.weight_v is off .* second derivative of torch's weight_nor"),
        (lambda: conv(nn.utils.parametrizations.weight_norm), r"original1 is off .* write g·v/‖v‖ yourself by torch"),
        (lambda: Calls(_Sine.apply), r"a network whose second derivative is that of its gradient; got own, where"),
        (lambda: Calls(lambda x: x.detach()), "second derivative"),
        (nn.Hardsigmoid, r"hardsigmoid_backward is not implemented. Use layers whose backward pass"),
    ],
)
def test_no_student(make: Callable[[], nn.Module], text: str) -> None:
    with pytest.raises(dd.InputError, match=text):
        check(make)


@pytest.mark.parametrize(
    "make",
    [
        nn.Identity,
        own_norm,
        lambda: nn.Dropout(0.5),
        lambda: nn.BatchNorm2d(8),
        lambda: nn.InstanceNorm2d(8, track_running_stats=True),
        lambda: Calls(lambda x: x.float().tanh().to(x.dtype)),  # differences are too rough there
        lambda: Calls(lambda x: x @ torch.eye(8)),  # knows no float64
        lambda: Calls(lambda x: x.clamp(min=0) + F.adaptive_max_pool2d(x, 2).repeat(1, 1, 4, 4)),
        lambda: Calls(lambda x: x * 0.0),  # nothing to differentiate
        lambda: conv(nn.utils.parametrizations.orthogonal),
    ],
)
def test_students(make: Callable[[], nn.Module]) -> None:
    before = torch.get_rng_state()
    check(make)
    assert torch.equal(before, torch.get_rng_state())


def test_the_library_s_own_are_students_too() -> None:
    """They are not checked at run time."""
    for text in ("convnet(width=4)", "convnet(width=4, norm=batch)", "lenet", "mlp"):
        module = dd.models.build(text, channels=3, classes=3, size=(32, 32), seed=0, dtype=torch.float64)
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        check_student(Student(module), x, torch.tensor([0, 2]), text)


def test_the_differences_of_a_large_network_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a second derivative exists is still seen."""
    monkeypatch.setattr("dd.inner.check.LARGEST", 100)
    check(lambda: Calls(_Sine.apply))
    with pytest.raises(dd.InputError, match="hardsigmoid_backward is not implemented"):
        check(nn.Hardsigmoid)


@pytest.mark.parametrize(
    ("make", "alone"),
    [
        (nn.Identity, True),
        (lambda: nn.GroupNorm(2, 8), True),
        (lambda: nn.BatchNorm2d(8), False),
        (lambda: Calls(lambda x: F.batch_norm(x, None, None, training=True)), False),
        (lambda: Calls(lambda x: x - x.mean(0)), False),
        (lambda: Calls(lambda x: x * 0.0), True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whether_a_picture_is_scored_alone(make: Callable[[], nn.Module], alone: bool, dtype: torch.dtype) -> None:
    student = Student(Around(make()).to(dtype))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = torch.get_rng_state()
    assert scores_alone(student, x) is alone
    assert torch.equal(before, torch.get_rng_state())
