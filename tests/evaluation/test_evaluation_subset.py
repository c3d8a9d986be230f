"""Real images in the one loop: the same training as the same images in a synthetic set; tables of values."""

from __future__ import annotations

import dataclasses
import multiprocessing

import pytest
import torch
from reference.pictures import lazy

import dd
from dd.data import Split
from dd.data.images import reading
from dd.errors import InputError
from dd.evaluation import Scorer, subset
from dd.evaluation.learners import NetworkLearner
from dd.evaluation.loop import accuracy
from dd.evaluation.subset import RealImages
from dd.measure.values import Values, table
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

SHIFT = Normalise((0.3,), (0.2,))
RECIPE = TrainRecipe(model="convnet(width=4)", steps=7, lr=0.05, batch_size=4, augment="crop_flip")


def split(count: int = 10) -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator).to(torch.uint8)
    return dd.Images(train=(pixels, torch.arange(count) % 2)).train


def both(recipe: TrainRecipe = RECIPE) -> tuple[RealImages, SyntheticImages]:
    part = split()
    made = RealImages(split=part, classes=("a", "b"), recipe=recipe, transform=SHIFT)
    images = SHIFT.forward(part.pixels())
    return made, SyntheticImages(images=images, labels=part.labels, classes=("a", "b"), recipe=recipe, transform=SHIFT)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("batch", [3, 4, 10, 64])
def test_batches_are_those_of_a_synthetic_set(monkeypatch: pytest.MonkeyPatch, kept: bool, batch: int) -> None:
    monkeypatch.setattr(subset, "KEPT_VALUES", 10**9 if kept else 0)
    ours, theirs = ([*s.batches(batch, torch.Generator().manual_seed(3))] for s in both())
    assert len(ours) == len(theirs) == -(-10 // batch)
    for (x, y), (u, v) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, u, rtol=0, atol=0)
        assert torch.equal(y, v)


def test_training_on_real_images_is_training_on_a_set_of_them() -> None:
    ours, theirs = (NetworkLearner().fit(s, 5) for s in both())
    for p, q in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_are_read_when_asked_for_train_and_test_alike(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Full data and tests: the same weights, outputs and figures; no process is left."""
    monkeypatch.setattr(subset, "KEPT_VALUES", 0)
    monkeypatch.setattr(reading, "FEW", 3)
    made, test = both()[0], split(1203)
    read, late = dataclasses.replace(made, split=lazy(made.split, workers)), lazy(test, workers)
    ours, theirs = (NetworkLearner().fit(s, 5) for s in (made, read))
    for p, q in zip(ours.net.parameters(), theirs.net.parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(ours.logits(test), theirs.logits(late))
    assert ours.score(test) == theirs.score(late)
    one, other = (Scorer(part, torch.device("cpu")).figures(ours.net, SHIFT) for part in (test, late))
    assert one == other
    assert not multiprocessing.active_children()


def test_logits_are_those_that_accuracy_counts() -> None:
    predictor, part = NetworkLearner().fit(both()[0], 5), split(1201)
    z = predictor.logits(part)
    assert z.shape == (1201, 2)
    share = float((z.argmax(1) == part.labels).double().mean())
    assert share == pytest.approx(accuracy(predictor.net, part, SHIFT, torch.device("cpu")))
    torch.testing.assert_close(z[1200:], predictor.net(SHIFT.forward(part.pixels(slice(1200, 1201)))).detach())


def test_refusals() -> None:
    with pytest.raises(InputError, match="`recipe` must be one for classes"):
        both()[0].__class__(split=split(), classes=("a", "b"), recipe=TrainRecipe(loss="kl"), transform=SHIFT)
    with pytest.raises(InputError, match="`split` must be at least one image"):
        RealImages(split=split().subset(torch.arange(0)), classes=("a", "b"), recipe=RECIPE, transform=SHIFT)
    with pytest.raises(InputError, match="`values` must be at least one number"):
        Values(())


def test_values_and_tables() -> None:
    value = Values((0.25, 0.5, 0.75, 1.0))
    assert value.to_json() == {
        "mean": 0.625,
        "std": pytest.approx(0.3227486121839514),  # √(0.3125 / 3)
        "n": 4,
        "values": [0.25, 0.5, 0.75, 1.0],
    }
    assert value.text() == "62.5 ± 32.3"
    assert Values((0.5,)).text(1, 3) == "0.500"
    assert table(("set", "value"), [("mtt", "1.0"), ("random", "10.25")]) == [
        "set     value",
        "mtt       1.0",
        "random  10.25",
    ]
