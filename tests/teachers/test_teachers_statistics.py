"""The statistics regulariser: zero where it must be, exact elsewhere, and no hook left behind (invariants 1 to 6)."""

from __future__ import annotations

import pytest
import torch
from reference.teachers import pictures, settle, teacher
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import build
from dd.teachers import StatisticsMatch
from dd.teachers.statistics import batch_moments


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


class WithHooksAlone(nn.BatchNorm2d):
    """Torch's batch norm under another type: the statistics' derivative goes in front of it."""


@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (7, 3), (2, 3, 5), (2, 3, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_layer_gives_what_autograd_gives(shape: tuple[int, ...], affine: bool) -> None:
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    layer = kind(3, affine=affine).double().eval().requires_grad_(False)
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(draw(3).square() + 0.5)
    net = nn.Sequential(layer, nn.ReLU(inplace=True)).eval()
    x, weight = draw(*shape).requires_grad_(), draw(*shape)
    with StatisticsMatch(net) as match:
        y = net(x)
        loss = (y * weight).sum() + match.value()
    over = [0, *range(2, len(shape))]
    variance, mean = torch.var_mean(x, over, correction=0)
    slow_y = torch.relu(layer(x))
    slow = (slow_y * weight).sum()
    slow = slow + 10 * ((variance - layer.running_var).norm() + (mean - layer.running_mean).norm())
    torch.testing.assert_close(y, slow_y, rtol=0, atol=0)
    torch.testing.assert_close(loss, slow, rtol=1e-12, atol=0)
    got, wanted = (torch.autograd.grad(value, x)[0] for value in (loss, slow))
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-12)


def test_batch_norms_of_other_types_and_learning_ones_agree() -> None:
    net, x = teacher(), pictures().requires_grad_()
    wanted = torch.autograd.grad(penalty(net, x), x)[0]
    for layer in [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]:
        layer.__class__ = WithHooksAlone
    torch.testing.assert_close(torch.autograd.grad(penalty(net, x), x)[0], wanted, rtol=1e-11, atol=1e-13)
    learning = teacher().requires_grad_(True)
    with StatisticsMatch(learning) as match:
        loss = learning(x).square().sum() + match.value()
    loss.backward()
    first = next(m for m in learning.modules() if isinstance(m, nn.BatchNorm2d))
    assert first.weight.grad is not None
    assert float(first.weight.grad.abs().sum()) > 0


def test_single_precision_keeps_its_digits_where_the_mean_is_large() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(8, 5, 16, 16, generator=generator, dtype=torch.float64)
    a = a * torch.tensor([1.0, 0.01, 1e-3, 2.0, 0.0]).view(1, 5, 1, 1)
    a = (a + torch.tensor([0.0, 30.0, -1.0, 5.0, 7.0]).view(1, 5, 1, 1)).float()
    variance, mean = torch.var_mean(a.double(), (0, 2, 3), correction=0)
    found = batch_moments(a).double()
    torch.testing.assert_close(found[0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[1], variance, rtol=2e-5, atol=1e-10)
    assert float(found[1][4]) < 1e-10
    naive = a.square().mean((0, 2, 3)) - a.mean((0, 2, 3)).square()
    assert float((naive.double() / variance - 1)[1].abs()) > 0.01  # what one pass alone would give


def test_watches_the_layers_that_run_and_lets_go_of_them() -> None:
    net = build("resnet18(norm=batch)", channels=3, classes=10, size=(32, 32), seed=0).eval()
    with StatisticsMatch(net) as match:
        net(torch.zeros(2, 3, 32, 32))
        assert len(match.gaps) == 20
        net(torch.zeros(2, 3, 32, 32))
        assert len(match.gaps) == 20  # a forward pass starts anew
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())

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
