"""The statistics regulariser: zero where it must be, exact elsewhere, and no hook left behind (invariants 1 to 6)."""

from __future__ import annotations

import pytest
import torch
from reference.teachers import pictures, settle, teacher
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import build
from dd.teachers import StatisticsMatch


def penalty(net: nn.Module, x: Tensor, **options: object) -> Tensor:
    with StatisticsMatch(net, **options) as match:  # type: ignore[arg-type]
        net(x)
        return match.value()


def slow_penalty(net: nn.Module, x: Tensor, first: float = 10.0) -> float:
    """The definition, with each layer's input caught by hand and the variance summed up pixel by pixel."""
    inputs: list[tuple[nn.BatchNorm2d, Tensor]] = []
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [m.register_forward_hook(lambda m, i, o: inputs.append((m, i[0].detach()))) for m in layers]
    net(x)
    for handle in handles:
        handle.remove()
    total = 0.0
    for place, (layer, a) in enumerate(inputs):
        mean_gap = variance_gap = 0.0
        for c in range(a.shape[1]):
            values = a[:, c].flatten().tolist()
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            mean_gap += (mean - float(layer.running_mean[c])) ** 2
            variance_gap += (variance - float(layer.running_var[c])) ** 2
        total += (first if place == 0 else 1.0) * (mean_gap**0.5 + variance_gap**0.5)
    return total


def test_equals_the_definition() -> None:
    net, x = teacher(), pictures()
    assert float(penalty(net, x)) == pytest.approx(slow_penalty(net, x), rel=1e-12)


def test_zero_exactly_where_the_statistics_agree() -> None:
    net, x = teacher(), pictures()
    assert float(penalty(net, x)) > 0.1
    settle(net, x)
    assert float(penalty(net, x)) == 0.0
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(penalty(net, leaf), leaf)
    assert bool((grad == 0).all())  # the norm's gradient at 0


def test_the_variance_is_the_biased_one() -> None:
    net, x = teacher(), pictures()
    settle(net, x)
    first = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    n = x.shape[0] * x.shape[2] * x.shape[3]
    biased = first.running_var.clone()
    first.running_var = biased * n / (n - 1)
    with StatisticsMatch(net) as match:
        net(x)
    assert float(match.gaps[0].value) == pytest.approx(float(biased.norm()) / (n - 1), rel=1e-9)


def test_order_and_copies_do_not_matter_but_a_split_does() -> None:
    net, x = teacher(), pictures()
    whole = float(penalty(net, x))
    assert float(penalty(net, x.flip(0))) == pytest.approx(whole, rel=1e-12)
    assert float(penalty(net, torch.cat([x, x]))) == pytest.approx(whole, rel=1e-12)
    halves = (float(penalty(net, x[:3])) + float(penalty(net, x[3:]))) / 2
    assert abs(halves - whole) > 1e-3 * whole


def test_scaling_of_gaps_and_of_the_first_weight() -> None:
    net, x = teacher(), pictures()
    with StatisticsMatch(net) as match:
        net(x)
        r = [float(gap.value) for gap in match.gaps]
    assert float(penalty(net, x)) == pytest.approx(10 * r[0] + r[1], rel=1e-12)
    assert float(penalty(net, x, first=20.0)) - float(penalty(net, x)) == pytest.approx(10 * r[0], rel=1e-12)
    first = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    a = next(net.children())[0].conv(x).detach()  # type: ignore[index,operator]
    variance, mean = torch.var_mean(a, (0, 2, 3), correction=0)
    first.running_mean = mean - 3 * (mean - first.running_mean)
    first.running_var = variance - 3 * (variance - first.running_var)
    with StatisticsMatch(net) as match:
        net(x)
        assert float(match.gaps[0].value) == pytest.approx(3 * r[0], rel=1e-12)


def test_other_norms_weigh_layers_alike() -> None:
    net, x = teacher(), pictures()
    with StatisticsMatch(net) as match:
        net(x)
        r = [float(gap.value) for gap in match.gaps]
    assert float(penalty(net, x, norm="layer")) == pytest.approx((10 * r[0] + r[1]) / 11, rel=1e-12)
    assert float(penalty(net, x, norm="channel")) == pytest.approx((10 * r[0] + r[1]) / 2 / 11, rel=1e-12)  # √4


def test_gradient_in_the_pixels_by_finite_differences() -> None:
    net, x = teacher(), pictures()
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(penalty(net, leaf), leaf)
    d = pictures(seed=2)
    h = 1e-6
    slope = float(penalty(net, x + h * d) - penalty(net, x - h * d)) / (2 * h)
    assert float((grad * d).sum()) == pytest.approx(slope, rel=1e-6)


def test_watches_the_layers_that_run_and_lets_go_of_them() -> None:
    net = build("resnet18(norm=batch)", channels=3, classes=10, size=(32, 32), seed=0).eval()
    with StatisticsMatch(net) as match:
        net(torch.zeros(2, 3, 32, 32))
        assert len(match.gaps) == 20
        net(torch.zeros(2, 3, 32, 32))
        assert len(match.gaps) == 20  # a forward pass starts anew
    assert not any(m._forward_pre_hooks for m in net.modules())

    class Lazy(nn.Module):
        """Its first batch norm never runs, as in EfficientNet's first block."""

        def __init__(self) -> None:
            super().__init__()
            self.idle, self.used, self.last = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.used(x))

    with StatisticsMatch(lazy := Lazy().eval().requires_grad_(False)) as match:
        lazy(torch.randn(4, 3, 5, 5))
        assert [gap.name for gap in match.gaps] == ["used", "last"]
        used, last = (float(gap.value) for gap in match.gaps)
        assert float(match.value()) == pytest.approx(10 * used + last, rel=1e-6)


def test_refusals_say_the_way_out() -> None:
    instance = build("convnet(width=4, depth=1)", channels=3, classes=2, size=(8, 8), seed=0).eval()
    with pytest.raises(InputError, match=r"batch norms that keep running statistics.*norm=batch"):
        StatisticsMatch(instance)
    with pytest.raises(InputError, match=r"in eval mode.*eval"):
        StatisticsMatch(teacher().train())
    with pytest.raises(InputError, match="`norm` must be `sum`, `layer` or `channel`"):
        StatisticsMatch(teacher(), norm="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`first` must be"):
        StatisticsMatch(teacher(), first=-1.0)
    with StatisticsMatch(teacher()) as match, pytest.raises(InputError, match="needs a forward pass"):
        match.value()
