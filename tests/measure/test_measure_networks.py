"""`dd.calibration`, `dd.adversarial`, `dd.neighbours` over a small set: what they sum up is what their parts say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from test_measure_robust import SHIFT, data, small

import dd
from dd.base.files import dump_json
from dd.data import Images
from dd.data.images.nearest import nearest
from dd.errors import InputError
from dd.measure.adversarial import adversarial, attacked_accuracy
from dd.measure.bench import open_bench
from dd.measure.calibration import calibration, calibration_figures
from dd.measure.neighbours import features_of, neighbours
from dd.models import build
from dd.synthetic import tile

FAST: dict[str, Any] = {"repeats": 2, "progress": False, "device": "cpu"}


def test_calibration_of_every_network() -> None:
    found = calibration(small(), data(), bins=5, **FAST)
    bench = open_bench(small(), data(), **FAST)
    for i, net in enumerate(bench.networks()):
        own = calibration_figures(net.logits(bench.test), bench.test.labels, 5)
        assert {name: value.values[i] for name, value in found.figures.items()} == own
    given = calibration(small(), data(), bins=5, networks=bench.networks(), progress=False, device="cpu")
    assert given.figures == found.figures
    assert 0 <= found.figures["ece"].mean <= 1
    assert "ece" in str(found)
    assert "5 bins" in str(found)
    assert dump_json(found.to_json())
    with pytest.raises(InputError, match="`bins` must be a whole number"):
        calibration(small(), data(), bins=0, **FAST)


@pytest.mark.parametrize("name", ["calibration", "robustness", "adversarial", "membership", "continual", "neighbours"])
def test_an_argument_by_another_name_is_refused(name: str) -> None:
    """`models=` of `dd.evaluate` was taken without a word, and the set's own network measured."""
    with pytest.raises(InputError, match=r"unknown argument 'models'; known: .*Did you mean model"):
        getattr(dd, name)(small(), data(), models="mlp", **FAST)


def test_adversarial_accuracies() -> None:
    eps = (0.0, 0.1)
    found = adversarial(small(steps=40), data(), eps=eps, attack_steps=3, images=30, **FAST)
    assert [(r.attack, r.eps) for r in found.rows] == [("none", 0.0), *((a, e) for a in ("fgsm", "pgd") for e in eps)]
    clean = found.rows[0].accuracy
    assert found.rows[1].accuracy == found.rows[3].accuracy == clean  # no radius, no attack
    assert found.rows[2].accuracy.mean <= clean.mean
    assert found.rows[4].accuracy.mean <= clean.mean
    assert found.images == 30
    assert "PGD of 3 steps" in str(found)
    assert dump_json(found.to_json())
    bench = open_bench(small(steps=40), data(), **FAST)
    whole = adversarial(small(steps=40), data(), eps=(0.1,), random_start=False, **FAST)
    net = bench.networks()[0].net
    assert whole.rows[2].accuracy.values[0] == attacked_accuracy(net, SHIFT, bench.test, 0.1)
    with pytest.raises(InputError, match=r"`eps` must be in \[0, 1\]"):
        adversarial(small(), data(), eps=(8,), **FAST)


def test_neighbours_of_copies_are_the_originals() -> None:
    real, value = data(), small()
    found = neighbours(value, real, progress=False, device="cpu")
    rows = torch.cat([real.class_index(k)[:2] for k in range(3)])
    assert torch.equal(found.index, rows)
    assert float(found.distance.max()) < 1e-5
    assert torch.equal(found.real_labels, value.labels)
    assert (found.same_class, found.closer) == (1.0, 1.0)
    assert real.val is not None
    assert torch.equal(found.usual, nearest(real.val.pixels(), real.train)[1])
    text = str(found)
    assert "100.0 % of the neighbours have the synthetic image's class" in text
    assert "held-out real" in text
    assert dump_json(found.to_json())


def test_neighbours_in_features_and_within_classes() -> None:
    real, value = data(), small()
    net = build("mlp", channels=1, classes=3, size=(8, 8), seed=0)
    found = neighbours(value, real, net=net, progress=False, device="cpu")
    index, distance = nearest(value.pixels(), real.train, features_of(net, SHIFT))
    assert torch.equal(found.index, index)
    assert torch.equal(found.distance, distance)
    assert found.space == "features"
    moved = dataclasses.replace(value, labels=(value.labels + 1) % 3)
    other = neighbours(moved, real, same_class=True, progress=False, device="cpu")
    assert torch.equal(other.real_labels, moved.labels)
    assert float(other.distance.min()) > 0.1


def test_canvases_are_cut_into_their_pictures() -> None:
    real = data()
    rows = torch.tensor([5, 11, 2, 8])
    canvas = tile(SHIFT.forward(real.train.pixels(rows)), 2)
    label = real.train.labels[rows[:1]]
    value = dataclasses.replace(small(), images=canvas, labels=label, canvas=2)
    found = neighbours(value, real, progress=False, device="cpu")
    assert torch.equal(found.index, rows)
    assert torch.equal(found.labels, label.repeat(4))


def test_neighbours_need_no_test_images_but_training_ones() -> None:
    real = data()
    bare = Images(train=real.train, val=real.val, classes=real.classes)
    assert len(neighbours(small(), bare, progress=False, device="cpu").index) == 6
    assert bare.test is None
    with pytest.raises(InputError, match="test"):
        calibration(small(), bare, **FAST)
