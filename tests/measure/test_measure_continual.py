"""Continual learning from a set: the classes so far and no others, the one loop, and labels that follow the classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from test_measure_ranking import digits

import dd
from dd.base.files import dump_json
from dd.base.seeding import child
from dd.errors import InputError
from dd.evaluation import NetworkLearner
from dd.measure.bench import open_bench
from dd.measure.continual import Renumbered, continual, growing, of_classes, only_classes, plain_set
from dd.synthetic import CompensatedImages, SyntheticImages

FAST: dict[str, Any] = {"progress": False, "device": "cpu"}


def test_classes_come_in_equal_groups_and_stay() -> None:
    order = torch.tensor([3, 1, 4, 0, 2])
    assert [part.tolist() for part in growing(order, 2)] == [[3, 1, 4], [3, 1, 4, 0, 2]]
    assert [len(part) for part in growing(torch.arange(10), 4)] == [3, 6, 8, 10]


def test_splits_and_sets_of_some_classes() -> None:
    real, small = digits()
    seen = torch.tensor([7, 2, 5])
    assert real.test is not None
    part = only_classes(real.test, seen)
    rows = [i for i, k in enumerate(real.test.labels.tolist()) if k in (7, 2, 5)]
    assert part.labels.tolist() == [[7, 2, 5].index(int(real.test.labels[i])) for i in rows]
    assert torch.equal(part.pixels(), real.test.pixels(torch.tensor(rows)))
    assert torch.equal(part.subset(torch.tensor([3, 1])).pixels(), part.pixels(torch.tensor([3, 1])))
    assert isinstance(part.subset(torch.tensor([0])), Renumbered)
    assert part.fingerprint != only_classes(real.test, torch.tensor([2, 7, 5])).fingerprint
    made = of_classes(small, seen)
    assert isinstance(made, SyntheticImages)
    assert made.classes == ("7", "2", "5")
    for k, old in enumerate(seen.tolist()):
        own, theirs = made.images[made.labels == k], small.images[small.labels == old]
        assert torch.equal(own, theirs)


def test_probabilities_are_cut_and_sum_to_one() -> None:
    _, small = digits()
    soft = torch.full((10, 10), 0.05).scatter(1, small.labels[:, None], 0.55)
    made = of_classes(dataclasses.replace(small, labels=soft), torch.tensor([4, 9]))
    assert isinstance(made, SyntheticImages)
    assert made.labels.tolist() == [pytest.approx([0.55 / 0.6, 0.05 / 0.6]), pytest.approx([0.05 / 0.6, 0.55 / 0.6])]
    with pytest.raises(InputError, match="image of every class; got none of 4"):
        of_classes(dataclasses.replace(small, images=small.images[:3], labels=small.labels[:3]), torch.tensor([4, 1]))


def test_accuracy_is_that_of_networks_trained_from_scratch_on_classes_so_far() -> None:
    real, small = digits()
    found = continual(small, real, tasks=3, repeats=2, **FAST)
    assert found.classes == (4, 7, 10)
    assert [row.name for row in found.rows] == ["first", "random"]
    bench = open_bench(small, real, repeats=2, device="cpu")
    assert real.test is not None
    for i, seed in enumerate(bench.seeds()):
        order = torch.randperm(10, generator=child(0, "classes", i))
        for task, seen in enumerate(growing(order, 3)):
            for row, memory in zip(found.rows, (small, bench.random(i)), strict=True):
                trained = NetworkLearner().fit(of_classes(memory, seen), seed)
                assert trained.net(torch.zeros(1, 1, 8, 8)).shape == (1, len(seen))
                assert row.accuracy[task].values[i] == trained.score(only_classes(real.test, seen))
    row = found.rows[0]
    assert row.average.values[1] == pytest.approx(sum(value.values[1] for value in row.accuracy) / 3)
    assert dump_json(found.to_json())
    text = str(found)
    assert "4 classes" in text
    assert "2 class orders" in text
    assert continual(small, real, tasks=3, repeats=2, **FAST).rows == found.rows


def test_sets_of_other_kinds_become_plain() -> None:
    real, small = digits()
    generator = torch.Generator().manual_seed(0)
    compensated = CompensatedImages(
        base=torch.randint(0, 256, (1, 10, 1, 8, 8), generator=generator).to(torch.uint8),
        compensators=torch.randn(1, 2, 1, 8, 8, generator=generator).half(),
        logits=torch.randn(1, 3, 10, 10, generator=generator).half(),
        classes=real.classes,
        recipe=dataclasses.replace(small.recipe, loss="kl"),
        transform=small.transform,  # type: ignore[arg-type]
    )
    notes: list[str] = []
    plain = plain_set(compensated, notes)
    assert notes == ["classes in place of the teachers' labels"]
    assert torch.equal(plain.images, compensated.images)
    assert plain.labels.tolist() == [*range(10)] * 3
    assert plain_set(small, notes) is small
    found = continual(compensated, real, tasks=2, repeats=1, baselines=(), **FAST)
    assert found.notes == ("classes in place of the teachers' labels",)


def test_refusals() -> None:
    real, small = digits(steps=1)
    with pytest.raises(InputError, match="`tasks` must be at most 5 for 10 classes; got 6"):
        continual(small, real, tasks=6, **FAST)
    with pytest.raises(InputError, match="unknown baseline"):
        continual(small, real, baselines=("full",), **FAST)


def test_a_layout_is_a_memory_of_pictures_beside_real_images_in_its_bytes() -> None:
    real, _ = digits()
    small = dd.distill(real, "random", ipc=3, factor=2, storage="fp16", progress=False)
    part = of_classes(small, torch.tensor([4, 9]))
    assert isinstance(part, SyntheticImages)
    assert torch.equal(part.images, torch.cat([small.images[small.labels == k] for k in (4, 9)]))
    bench = open_bench(small, real, **FAST)
    assert bench.budget == [1] * 10
    assert len(bench.random(0)) == 10
