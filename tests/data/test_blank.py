"""Data without pictures."""

from __future__ import annotations

import pytest
import torch

import dd
from dd.data.images.noise import BlankSplit


def test_blank_images_have_shape_and_counts() -> None:
    real = dd.blank_images(["cat", "dog", "owl"], 90, size=(6, 8), channels=1, test=9)
    assert (real.classes, real.channels, real.size) == (("cat", "dog", "owl"), 1, (6, 8))
    assert real.val is not None
    assert real.test is not None
    assert [len(s) for s in (real.train, real.val, real.test)] == [81, 9, 9]
    assert real.train.labels.bincount().tolist() == [27, 27, 27]
    pixels = real.train.pixels(torch.tensor([0, 5]))
    assert pixels.shape == (2, 1, 6, 8)
    assert 0 <= float(pixels.min()) < 0.5 < float(pixels.max()) <= 1
    assert real.twins is None or not real.twins


def test_a_blank_split_takes_no_memory_before_it_is_read() -> None:
    split = BlankSplit(10**6, 10, (3, 224, 224))
    assert split.pixels(slice(7, 9)).shape == (2, 3, 224, 224)
    part = split.subset(torch.tensor([3, 14]))
    assert (len(part), part.labels.tolist(), part.items) == (2, [3, 4], None)
    assert part.fingerprint != split.fingerprint


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": 1, "train": 9, "size": 4}, "classes"),
        ({"classes": 0, "train": 9, "size": 4}, "`classes` must be a whole number"),
        ({"classes": 3, "train": 5, "size": 4}, "`train` must be at least 6, two images a class"),
        ({"classes": 3, "train": "many", "size": 4}, "`train` must be a whole number"),
        ({"classes": 3, "train": 9, "size": 0}, "size"),
        ({"classes": 3, "train": 9, "size": None}, "`size` must be a side"),
        ({"classes": 3, "train": 9, "size": 4, "channels": 0}, "`channels` must be a whole number"),
        ({"classes": 3, "train": 9, "size": 4, "test": -1}, "`test` must be a whole number of at least 0"),
        ({"classes": 3, "train": 10**12, "size": 4}, "the labels of `train`, and its rows.*Give fewer images"),
        ({"classes": 3, "train": 9, "size": 4, "test": 10**12}, "the labels of `test`, and its rows"),
        ({"classes": ["a", "a"], "train": 9, "size": 4}, "classes"),
    ],
)
def test_blank_images_refuse(fields: dict[str, object], message: str) -> None:
    with pytest.raises(dd.InputError, match=message):
        dd.blank_images(**fields)  # type: ignore[arg-type]


def test_a_run_can_be_sized_before_its_pictures_are_there() -> None:
    found = dd.estimate(dd.blank_images(5, 500, size=16), "sre2l++", ipc=2)
    assert found.seconds > 0
    assert found.disk_bytes > 0
