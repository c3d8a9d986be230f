"""The scorer: what the plain loop counts, to the bit, each image transformed once; when more steps gain nothing."""

from __future__ import annotations

import pytest
import torch
from reference.evaluation import scales

import dd
from dd.data import Split
from dd.errors import DivergedError
from dd.evaluation import NetworkLearner, RealImages, Scorer, accuracy, enough_steps, scorer
from dd.evaluation.scorer import until_flat
from dd.synthetic import TrainRecipe
from dd.transforms.whiten import Normalise

CPU = torch.device("cpu")
SHIFT = Normalise((0.3,), (0.2,))
RECIPE = TrainRecipe(model="convnet(width=4)", steps=8, lr=0.05, batch_size=8)


def split(count: int = 1203) -> Split:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 200, (count, 1, 8, 8), generator=generator)
    pixels[:, :, :4] += 40 * labels.view(-1, 1, 1, 1)
    return dd.Images(train=(pixels.to(torch.uint8), labels)).train


def small(count: int = 40) -> RealImages:
    return RealImages(split=split(count), classes=("a", "b"), recipe=RECIPE, transform=SHIFT)


@pytest.mark.parametrize("room", [10**9, 0])
def test_scores_are_those_of_the_plain_loop(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    monkeypatch.setattr(scorer, "KEPT_BYTES", room)
    test, learner = split(), NetworkLearner()
    seen: list[int] = []
    original = Normalise.forward

    def counted(self: Normalise, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return original(self, x)

    nets = [learner.fit(small(), seed) for seed in (1, 2, 3)]
    plain = [accuracy(one.net, test, SHIFT, CPU) for one in nets]
    monkeypatch.setattr(Normalise, "forward", counted)
    made = small()
    assert learner.scores(made, (1, 2, 3), Scorer(test, CPU)) == plain
    assert seen.count(500) == (2 if room else 6)  # two full batches of 1,203 images
    found = learner.figures(made, (1, 2, 3), Scorer(test, CPU))
    assert [one.metrics["accuracy"] for one in found] == plain
    for one, net in zip(found, nets, strict=True):
        assert one.metrics["auroc"] == net.score(test, "auroc")
        assert one.metrics["balanced_accuracy"] == net.score(test, "balanced_accuracy")
        predicted = net.logits(test).argmax(1)
        assert one.recall == tuple(float((predicted[test.labels == k] == k).double().mean()) for k in (0, 1))


def test_a_network_that_writes_into_its_pictures_changes_no_later_score() -> None:
    test, scored = split(), []
    net = NetworkLearner().fit(small(), 1).net
    for in_place in (False, True):
        before, made = Scorer(test, CPU), NetworkLearner(model=scales(in_place)).fit(small(), 2).net
        scored.append([before.accuracy(one, SHIFT) for one in (made, made, net)])
    assert scored[0] == scored[1]


class Infinite(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 2), torch.inf)


def test_outputs_that_are_not_finite_are_no_scores() -> None:
    with pytest.raises(DivergedError, match="outputs are not finite"):
        Scorer(split(), CPU).figures(Infinite(), SHIFT)


def test_another_transform_is_not_taken_for_the_last_one() -> None:
    test = Scorer(split(), CPU)
    net = NetworkLearner().fit(small(), 1).net
    for transform in (SHIFT, Normalise((0.9,), (0.01,)), SHIFT):
        assert test.accuracy(net, transform) == accuracy(net, split(), transform, CPU)


def test_flat_by_one_standard_error() -> None:
    assert not until_flat([(10, 0.5)], 100)
    assert until_flat([(10, 0.5), (20, 0.54)], 100)  # √(0.25 / 100) = 0.05
    assert not until_flat([(10, 0.5), (20, 0.56)], 100)
    assert until_flat([(10, 0.5), (20, 0.8), (40, 0.7)], 100)


def test_networks_that_guess_are_not_flat_and_fewer_steps_than_asked_are_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 20 steps a network of all digits guessed after five and after ten, and these were taken for enough."""
    learnt = {2: 0.5, 4: 0.51, 8: 0.7, 16: 0.8, 32: 0.79}
    scores = lambda self, *_: [learnt[self.recipe(small()).steps]]  # noqa: E731
    monkeypatch.setattr(NetworkLearner, "scores", scores)
    assert enough_steps(NetworkLearner(), small(), split(100), 0, 64) == (16, True)
    learnt |= {2: 0.9, 4: 0.89, 8: 0.88}
    assert enough_steps(NetworkLearner(), small(), split(100), 0, 64) == (2, True)
    assert enough_steps(NetworkLearner(), small(), split(100), 0, 64, least=8) == (8, True)


def test_enough_steps_doubles_from_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def scores(self: NetworkLearner, *_: object) -> list[float]:
        tried.append(self.recipe(small()).steps)
        return [{2: 0.1, 4: 0.5, 8: 0.9, 16: 0.91}.get(tried[-1], 1.0)]

    monkeypatch.setattr(NetworkLearner, "scores", scores)
    assert enough_steps(NetworkLearner(), small(), split(100), 0, 64) == (16, True)
    assert tried == [2, 4, 8, 16]
    assert enough_steps(NetworkLearner(), small(), split(100), 0, 7) == (4, False)
