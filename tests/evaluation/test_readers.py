"""Readers: ridge regression and nearest means on a random network's features, against slow twins."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from reference.evaluation import CPU, data, scales, small
from torch import Tensor

from dd.contest.evaluate import evaluate
from dd.errors import InputError
from dd.evaluation import Reader, ReaderLearner, reader_of
from dd.evaluation.readers import Rule, nearest_mean, ridge
from dd.models import Model
from dd.models.features import features
from dd.synthetic import SyntheticImages


def drawn(n: int, d: int, k: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * d)
    phi = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return phi, torch.rand(n, k, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(12, 5), (5, 12)])
def test_ridge_is_least_squares_with_rows_for_the_penalty_and_a_free_bias(n: int, d: int) -> None:
    phi, y = drawn(n, d)
    level = 0.01 * (phi - phi.mean(0)).square().sum(1).mean()
    seen = torch.cat([torch.cat([phi, torch.ones(n, 1, dtype=phi.dtype)], 1), torch.zeros(d, d + 1, dtype=phi.dtype)])
    seen[n:, :d] = level.sqrt() * torch.eye(d, dtype=phi.dtype)
    wanted = torch.linalg.lstsq(seen, torch.cat([y, torch.zeros(d, 3, dtype=y.dtype)]), driver="gelsd").solution
    weight, bias = ridge(phi, y)
    torch.testing.assert_close(weight, wanted[:d])
    torch.testing.assert_close(bias, wanted[d])


def test_nearest_mean_takes_the_nearest_mean_and_never_a_class_without_images() -> None:
    phi, _ = drawn(20, 4)
    y = torch.nn.functional.one_hot(torch.arange(20) % 2 * 2, 4).double()  # classes 0 and 2 of 4
    weight, bias = nearest_mean(phi, y)
    means = torch.stack([phi[y[:, k] == 1].mean(0) for k in (0, 2)])
    wanted = [(0, 2)[min(range(2), key=lambda k: float((f - means[k]).norm()))] for f in phi]
    assert (phi @ weight + bias).argmax(1).tolist() == wanted


def test_soft_labels_weigh_the_means() -> None:
    phi, y = drawn(6, 3)
    weight, _ = nearest_mean(phi, y)
    wanted = torch.stack([sum(y[i, k] * phi[i] for i in range(6)) / y[:, k].sum() for k in range(3)])  # type: ignore[misc]
    torch.testing.assert_close(weight, 2 * wanted.T)


@pytest.mark.parametrize("rule", ["ridge", "nearest_mean"])
def test_a_reader_reads_the_features_of_the_random_network_and_trains_nothing(rule: str) -> None:
    made = small()
    learner = ReaderLearner(model="mlp", device=CPU, rule=rule)  # type: ignore[arg-type]
    net = learner.fit(made, 3).net
    again = learner.fit(made, 3).net
    x = made.images
    with torch.no_grad():
        torch.testing.assert_close(net(x), again(x), rtol=0, atol=0)
        own = features(net.net, lambda: net.net(x)).double()  # type: ignore[operator]
        y = torch.nn.functional.one_hot(made.labels, len(made.classes)).double()
        weight, bias = ridge(own, y) if rule == "ridge" else nearest_mean(own, y)
        torch.testing.assert_close(net(x), (own @ weight + bias).float(), rtol=1e-4, atol=1e-4)


def test_rows_of_readers_have_no_step() -> None:
    report = evaluate(small(), data(), models=["ridge", "mlp"], repeats=2, steps=2, baselines=("random",), out=False)
    assert [(row.set == report.rows[0].set, row.model, row.steps) for row in report.rows] == [
        (True, "ridge, random convnet(width=4)", 0),
        (True, "mlp", 2),
        (False, "ridge, random convnet(width=4)", 0),
        (False, "mlp", 2),
    ]
    assert report.rows[0].lr == 0


def test_a_reader_may_bring_its_own_network_and_soft_labels_are_read() -> None:
    made = small()
    soft = dataclasses.replace(made, labels=torch.nn.functional.one_hot(made.labels, len(made.classes)).float())
    rows = [
        evaluate(each, data(), models=[Reader("ridge", "convnet(width=2)")], repeats=2, baselines=(), out=False).rows[0]
        for each in (made, soft)
    ]
    assert rows[0].values == rows[1].values
    assert rows[0].model == "ridge, random convnet(width=2)"


def test_what_is_no_reader() -> None:
    assert reader_of("convnet") is None
    assert reader_of("ridge") == Reader("ridge")
    with pytest.raises(InputError, match=r"`rule` must be `ridge` or `nearest_mean`; got 'svm'"):
        Reader("svm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`strength` must be at least 1e-12, or rounding"):
        Reader("ridge", strength=0.0)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_features_that_are_all_alike_say_the_shares_of_classes(shape: tuple[int, int]) -> None:
    y = torch.nn.functional.one_hot(torch.arange(shape[0]) % 2, 2).double()
    weight, bias = ridge(torch.full(shape, 0.3, dtype=torch.float64), y)
    torch.testing.assert_close(weight, torch.zeros_like(weight))
    torch.testing.assert_close(bias, y.mean(0))


def test_of_a_users_own_network_a_reader_is_given_one_and_the_way_out_works() -> None:
    made: SyntheticImages = small()
    own = dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, model="mine"))
    for word in ("ridge", "unseen"):
        told = f"`models` must be without it for a set that was made for a network of your own; got `{word}`"
        with pytest.raises(InputError, match=re.escape(told)):
            evaluate(own, data(), models=[word], out=False)
    assert len(evaluate(own, data(), models=[Reader("ridge", "mlp")], repeats=2, baselines=(), out=False).rows) == 1


def test_a_network_without_a_linear_layer_is_refused() -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).mean((2, 3))

    made = small()
    model = Model(lambda channels, classes, size: Pooled(), name="pooled")
    with pytest.raises(InputError, match="`models` must be a network with a linear layer"):
        evaluate(made, data(), models=[Reader("ridge", model)], baselines=(), out=False)


@pytest.mark.parametrize("rule", ["ridge", "nearest_mean"])
def test_a_network_that_writes_into_its_pictures_leaves_the_set_as_it_is(rule: Rule) -> None:
    made, found = small(), []
    before = made.images.clone()
    for in_place in (False, True):
        found.append(ReaderLearner.of(Reader(rule, net=scales(in_place)), CPU).fit(made, 0).logits(data().test))
        assert torch.equal(made.images, before)
    assert torch.equal(*found)
