"""A set as a folder of pictures, and back: what pictures cannot say is beside them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.synthetic import real as real_images
from reference.synthetic import whitened
from torchvision.datasets import ImageFolder

import dd
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise


def small(**fields: Any) -> SyntheticImages:
    """12 images of 11 classes in no order, some pixels beyond [0, 1]."""
    pixels = torch.rand(12, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 1.1 - 0.05
    transform = Normalise((0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    base: dict[str, Any] = {
        "images": transform.forward(pixels),
        "labels": torch.tensor([10, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 3]),
        "classes": tuple(f"Класс {k}" for k in range(11)),
        "recipe": TrainRecipe(model="convnet(width=4)", steps=7, lr=0.037, augment="flip"),
        "transform": transform,
        "method": {"name": "mtt", "ipc": 1},
        "provenance": {"dataset": "toy", "data_sha256": "ab", "seed": 3},
    }
    return SyntheticImages(**{**base, **fields})


def test_there_and_back(tmp_path: Path) -> None:
    made = small()
    dd.to_imagefolder(made, tmp_path)
    back = dd.import_folder(tmp_path / "train")
    assert (back.classes, back.recipe, dict(back.method)) == (made.classes, made.recipe, dict(made.method))
    assert torch.equal(back.labels, made.labels)
    assert back.transform == made.transform
    assert float((back.pixels() - made.pixels()).abs().max()) <= 0.5 / 255 + 1e-6
    assert {name: back.provenance[name] for name in made.provenance} == dict(made.provenance)
    assert list(back.provenance["imported"]) == ["train"]
    assert len(ImageFolder(tmp_path / "train")) == 12


def test_soft_labels_become_classes_and_so_does_the_recipe(tmp_path: Path) -> None:
    made = small(labels=torch.eye(11)[torch.arange(12) % 11], recipe=TrainRecipe(mix="cutmix"))
    dd.to_imagefolder(made, tmp_path)
    back = dd.import_folder(tmp_path / "train")
    assert torch.equal(back.labels, made.hard().labels)
    assert back.recipe == made.hard().recipe
    assert back.provenance["labels"] == "largest of the soft labels"


def test_what_is_given_goes_before_what_is_told(tmp_path: Path) -> None:
    dd.to_imagefolder(small(), tmp_path)
    folder = tmp_path / "train"
    assert dd.import_folder(folder, lr=0.5).recipe.lr == 0.5
    assert dd.import_folder(folder, recipe=TrainRecipe(steps=3)).recipe == TrainRecipe(steps=3)
    assert dd.import_folder(folder, mean=(0.5,) * 3, std=(1.0,) * 3).transform == Normalise((0.5,) * 3, (1.0,) * 3)
    names = sorted((path.name for path in folder.iterdir() if path.is_dir()), reverse=True)
    assert dd.import_folder(folder, classes=names).classes == tuple(names)


def test_other_folders_than_told_are_refused(tmp_path: Path) -> None:
    dd.to_imagefolder(small(), tmp_path)
    folder = tmp_path / "train"
    next(folder.glob("00-*")).rename(folder / "dog")
    with pytest.raises(dd.InputError, match=r"`classes` must be the 11 folder names .* with others: .*'dog'"):
        dd.import_folder(folder)


@pytest.mark.parametrize("change", [{"classes": []}, {"folders": ["a"]}, {"recipe": {"lr": 1}}, {"transform": {}}])
def test_a_note_that_cannot_be_used_is_refused_with_the_way_out(tmp_path: Path, change: dict[str, Any]) -> None:
    dd.to_imagefolder(small(), tmp_path)
    note = tmp_path / "train" / "set.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": "by hand", **change}))
    with pytest.raises(dd.DamagedError, match=r"set\.json (is no note on a set.*Remove it|has a recipe that is none)"):
        dd.import_folder(tmp_path / "train")
    note.write_text("{")
    with pytest.raises(dd.DamagedError, match=r"set\.json is not JSON"):
        dd.import_folder(tmp_path / "train")
    note.unlink()
    assert len(dd.import_folder(tmp_path / "train", mean=(0.5,) * 3, std=(1.0,) * 3, lr=0.1)) == 12


def test_a_whitened_set_asks_for_its_transform(tmp_path: Path) -> None:
    data = real_images()
    pixels = data.train.pixels()[:, :1]
    grey = dd.load_images(dd.Images(train=((pixels * 255).to(torch.uint8), data.train.labels), test=None))
    made = dataclasses.replace(whitened(grey), provenance={})
    dd.to_imagefolder(made, tmp_path)
    with pytest.raises(dd.InputError, match=r"`transform` must be given for a whitened set.*`transform=fit_zca"):
        dd.import_folder(tmp_path / "train")
    back = dd.import_folder(tmp_path / "train", transform=made.transform)
    assert float((back.pixels() - made.pixels()).abs().max()) <= 0.6 / 255
    assert back.recipe == made.recipe
