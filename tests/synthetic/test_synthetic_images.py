"""A synthetic set and its recipe: what they hold and refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.synthetic import real, same, small, soft, whitened
from torch.utils.data import DataLoader

import dd
from dd.errors import InputError
from dd.synthetic import SyntheticSet, TrainRecipe
from dd.transforms.dsa import DSA

# The set


def test_it_is_a_dataset_that_a_default_loader_collates() -> None:
    value = small()
    assert isinstance(value, SyntheticSet)
    image, label = value[3]
    assert torch.equal(image, value.images[3])
    assert label == 1
    assert type(label) is int
    assert len(value) == 6 == sum(1 for _ in value)
    images, labels = next(iter(DataLoader(value, batch_size=6)))
    assert torch.equal(images, value.images)
    assert torch.equal(labels, value.labels)
    with pytest.raises(IndexError):
        value[6]
    images, labels = next(iter(DataLoader(small(labels=soft()), batch_size=4)))
    assert labels.shape == (4, 3)
    assert labels.dtype == torch.float32
    workers = DataLoader(value, batch_size=2, num_workers=1)
    assert torch.equal(torch.cat([x for x, _ in workers]), value.images)


def test_pixels_are_in_0_1_and_undo_the_transform() -> None:
    value = small()
    pixels = value.pixels()
    expected = value.images * torch.tensor([0.25, 0.2]).view(1, 2, 1, 1) + torch.tensor([0.5, 0.4]).view(1, 2, 1, 1)
    assert float(expected.min()) < 0  # some are clipped
    torch.testing.assert_close(pixels, expected.clamp(0, 1))
    data = real()
    torch.testing.assert_close(whitened(data).pixels(), data.train.pixels(slice(0, 4)), rtol=0, atol=1e-5)


def test_an_epoch_of_batches_is_a_permutation() -> None:
    value = small()
    for size, lengths in ((1, [1] * 6), (4, [4, 2]), (5, [5, 1])):
        generator = torch.Generator().manual_seed(3)
        batches = list(value.batches(size, generator))
        assert [len(x) for x, _ in batches] == lengths
        seen = torch.cat([x for x, _ in batches]).flatten(1)
        order = torch.cdist(seen, value.images.flatten(1)).argmin(1)
        assert order.sort().values.tolist() == list(range(6))
        assert torch.equal(torch.cat([y for _, y in batches]), value.labels[order])
    for size in (6, 256):  # a set that fits one batch is not shuffled
        ((images, labels),) = value.batches(size, torch.Generator())
        assert images is value.images
        assert labels is value.labels


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"images": torch.zeros(6, 4, 5)}, r"`images` must be a tensor \[N C H W\]; got shape \[6, 4, 5\]"),
        ({"images": [1]}, r"`images` must be a tensor \[N C H W\]; got list"),
        ({"images": torch.full((6, 2, 4, 5), torch.nan)}, r"`images` must be finite; got 240 NaN or infinite of 240"),
        ({"images": torch.zeros(6, 2, 4, 5).double()}, r"`images` must be float32; got torch.float64"),
        ({"images": torch.zeros(0, 2, 4, 5), "labels": torch.zeros(0).long()}, r"one for each of 0 ≥ 1 images"),
        ({"labels": torch.arange(5)}, r"`labels` must be one for each of 6 ≥ 1 images; got 5"),
        ({"labels": torch.arange(6)}, r"`labels` must be in 0…2; got 0…5"),
        ({"labels": -torch.arange(6)}, r"`labels` must be in 0…2; got -5…0"),
        ({"labels": torch.zeros(6, 1).long()}, r"`labels` must be a tensor \[N\]; got shape \[6, 1\]"),
        ({"labels": torch.zeros(6).int()}, r"`labels` must be a tensor, int64 \[n\] or float32 .*got torch.int32"),
        ({"labels": [0] * 6}, r"`labels` must be a tensor, int64 \[n\] or float32 \[n, K\]; got list"),
        ({"labels": torch.full((6, 2), 0.5)}, r"`labels` must be a tensor \[N K\] with K = 3; got shape \[6, 2\]"),
        ({"labels": torch.full((6, 3), torch.inf)}, "`labels` must be finite"),
        ({"labels": torch.ones(6, 3)}, "`labels` must be rows of probabilities that sum to 1; got .*off by 2.*softmax"),
        ({"labels": torch.tensor([[2.0, -1.0, 0.0]] * 6)}, "`labels` must be rows of prob.*smallest value of -1"),
        ({"transform": None}, "`transform` must be given; got None"),
        ({"recipe": TrainRecipe(loss="kl")}, "`recipe.loss` must be `ce` where no logits of teachers are .*got `kl`"),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        small(**fields)


def test_hard_labels_are_the_largest_and_doing_it_twice_is_doing_it_once(tmp_path: Path) -> None:
    rows = soft()
    rows[2] = torch.tensor([0.2, 0.4, 0.4])  # the first of equals
    value = small(labels=rows, canvas=1)
    made = value.hard()
    assert made.labels.dtype == torch.int64
    assert made.labels.tolist() == [max(range(3), key=row.__getitem__) for row in rows.tolist()]
    assert made.labels[2] == 1
    assert torch.equal(made.images, value.images)
    assert (made.recipe, made.classes, made.transform) == (value.recipe, value.classes, value.transform)
    assert made.provenance == {**value.provenance, "labels": "largest of the soft labels"}
    assert torch.equal(value.labels, rows)  # untouched
    assert made.hard() is made
    assert small().hard().provenance == small().provenance
    assert (value.nbytes.labels, made.nbytes.labels) == (6 * 3 * 4, 6 * 8)
    same(dd.load(made.save(tmp_path / "x")), made)
    assert type(made[0][1]) is int


@pytest.mark.parametrize("matrix", [True, False])
def test_hard_labels_of_a_whitened_set_and_of_canvases(tmp_path: Path, matrix: bool) -> None:
    data = real()
    value = dataclasses.replace(whitened(data), labels=torch.tensor([[0.6, 0.4]] * 4))
    back = dd.load(value.save(tmp_path / "x", whitening_matrix=matrix)).hard()
    assert back.labels.tolist() == [0] * 4
    torch.testing.assert_close(back.attach(data.train).pixels(), value.pixels(), rtol=0, atol=1e-5)
    large = small(images=torch.zeros(6, 2, 8, 10), labels=soft(), canvas=2, canvas_samples=3).hard()
    assert (large.canvas, large.canvas_samples) == (2, 3)


def test_hard_labels_train_as_probabilities_of_one() -> None:
    value = small(labels=soft()).hard()
    sure = small(labels=torch.nn.functional.one_hot(value.labels, 3).float())
    nets = [dd.train(s, "mlp", steps=3, device="cpu") for s in (value, sure)]
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b)


# The recipe


def test_recipe_round_trip_and_unknown_fields() -> None:
    recipe = TrainRecipe(lr=0.1, momentum=0, augment="crop_flip", augment_mode="all")
    assert TrainRecipe.from_json(recipe.to_json()) == recipe
    told = recipe.to_json()
    told.pop("lr")  # which a later version may set otherwise where nobody says
    with pytest.raises(InputError, match="`recipe` must be whole; got one without lr"):
        TrainRecipe.from_json(told)
    assert recipe.dsa() == DSA(strategy="crop_flip", mode="all")
    with pytest.raises(InputError, match=r"unknown recipe field 'warmup'; known: .*may come from a newer version"):
        TrainRecipe.from_json({"warmup": 3})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "`steps` must be a whole number of at least 1; got 0"),
        ({"steps": 10.0}, "`steps` must be a whole number of at least 1; got 10.0"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1; got 0"),
        ({"lr": 0.0}, "`lr` must be positive; got 0"),
        ({"lr": float("nan")}, "`lr` must be a finite number of at least 0; got nan"),
        ({"lr": float("inf")}, "`lr` must be a finite number of at least 0; got inf"),
        ({"lr": "tuned"}, "`lr` must be a finite number of at least 0; got 'tuned'"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\); got 1"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be a finite number of at least 0; got -0.0001"),
        ({"drop_at": 0.0}, r"`drop_at` must be in \(0, 1\]; got 0"),
        ({"drop_at": 1.5}, r"`drop_at` must be in \(0, 1\]; got 1.5"),
        ({"drop_factor": -1}, "`drop_factor` must be a finite number of at least 0; got -1"),
        ({"augment": "spin"}, "unknown augmentation 'spin'"),
        ({"augment_mode": "both"}, "unknown mode 'both'"),
    ],
)
def test_recipe_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrainRecipe(**fields)
