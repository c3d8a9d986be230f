"""How imported sets are trained on, and the advice of the importers' own docstrings, followed literally."""

from __future__ import annotations

import inspect
import logging
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from reference.evaluation import data, small
from torch import Tensor

import dd
from dd.errors import InputError
from dd.experts import ExpertRecipe, ExpertStore, make_student
from dd.synthetic import TrainRecipe

PIXELS = {"mean": (0.0,), "std": (1.0,)}


def example(of: Callable[..., Any]) -> str:
    """The indented block of a docstring that follows a line ending in a colon."""
    text = inspect.cleandoc(of.__doc__ or "")
    found = re.search(r":\n\n((?:    .*\n|\n)+)", text)
    assert found is not None
    return textwrap.dedent(found[1])


def saved(folder: Path, **tensors: Tensor) -> Path:
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}.pt")
    return folder / f"{next(iter(tensors))}.pt"


def as_folder(folder: Path, count: int) -> Path:
    for k in range(2):
        (folder / f"class{k}").mkdir(parents=True)
        for i in range(count // 2):
            Image.new("L", (4, 4), 10 * i + k).save(folder / f"class{k}" / f"{i:03}.png")
    return folder


@pytest.mark.parametrize(("count", "steps"), [(6, 1001), (256, 1001), (258, 2002), (1000, 4004)])
def test_the_published_recipe_is_the_default_of_imports(tmp_path: Path, count: int, steps: int) -> None:
    images, labels = torch.zeros(count, 1, 4, 4), torch.arange(count) % 2
    path = saved(tmp_path, images=images, labels=labels)
    sets = [dd.import_pt(path, tmp_path / "labels.pt", **PIXELS, lr=0.02)]
    if count < 100:
        sets.append(dd.import_folder(as_folder(tmp_path / "folder", count), **PIXELS, lr=0.02))
    for made in sets:
        assert made.recipe == TrainRecipe.published(count // 2, 0.02, classes=2)
        assert (made.recipe.steps, made.recipe.lr) == (steps, 0.02)
        assert made.recipe.augment == "color_crop_cutout_flip_scale_rotate"
    own = TrainRecipe.published(count // 2, 0.5, False, classes=2, epochs=300)
    assert dd.import_pt(path, tmp_path / "labels.pt", **PIXELS, recipe=own).recipe == own


def test_classes_of_unequal_size_have_the_epochs_of_their_images(tmp_path: Path) -> None:
    path = saved(tmp_path, images=torch.zeros(257, 1, 4, 4), labels=torch.arange(257).clamp(max=2))
    assert dd.import_pt(path, tmp_path / "labels.pt", **PIXELS, lr=0.02).recipe.steps == 2002


def test_an_unknown_step_size_is_said_and_a_second_one_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, folder = saved(tmp_path, images=torch.zeros(6, 1, 4, 4)), as_folder(tmp_path / "folder", 6)
    for read in (
        lambda **more: dd.import_pt(path, ipc=3, **PIXELS, **more),
        lambda **m: dd.import_folder(folder, **PIXELS, **m),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            made = read()
        assert made.recipe == TrainRecipe.published(3, 0.01, classes=2)
        assert "no step size is known for the imported set: 0.01 is taken" in caplog.text
        assert "give it as `lr=`, or evaluate with `lr='tuned'`" in caplog.text
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read(lr=0.02)
            read(recipe=TrainRecipe())
        assert not caplog.text
        with pytest.raises(InputError, match=r"`lr` must be left out where `recipe` is given; got 0.02\. Put it into"):
            read(lr=0.02, recipe=TrainRecipe())


def test_the_ways_out_of_an_unknown_step_size(tmp_path: Path) -> None:
    """`lr=` and `lr='tuned'` both evaluate; the tuned one is of a grid, whatever the file lacks."""
    value = small(3)
    path = saved(tmp_path, images=value.images, labels=value.labels)
    made = dd.import_pt(path, tmp_path / "labels.pt", **PIXELS, classes=3, lr=0.02)
    quick = {"models": ["convnet(width=4)"], "repeats": 1, "steps": 3, "progress": False}
    assert dd.evaluate(made, data(), **quick).rows[0].lr == 0.02
    assert dd.evaluate(made, data(), lr="tuned", **quick).rows[0].lr > 0


def test_the_example_of_import_pt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, images_best=torch.randn(20, 3, 8, 8), labels_best=torch.arange(10).repeat(2))
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dd, "evaluate", lambda *given: asked.append(given))
    named: dict[str, Any] = {"dd": dd}
    exec(example(dd.import_pt), named)
    assert named["small"].recipe == TrainRecipe.published(2, 0.0213, classes=10)
    assert asked == [(named["small"], "cifar10")]
    card = dd.data.load_card("cifar10")
    assert named["small"].transform.describe()["mean"] == list(card.mean)
    assert named["small"].transform.describe()["std"] == list(card.std)


def test_the_example_of_import_buffer_matches_the_imported_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The experts of the files are those that the method reads: none is trained."""
    recipe = ExpertRecipe(name="theirs", model="convnet(width=4)", experts=1, snapshots=25, batch_size=30)
    real = data()
    student, generator = make_student(recipe, real, 0), torch.Generator().manual_seed(0)
    experts = [[[torch.randn(s, generator=generator) for s in student.shapes] for _ in range(26)]]
    (tmp_path / "buffers" / "CIFAR10_NO_ZCA" / "ConvNet").mkdir(parents=True)
    torch.save(experts, tmp_path / "buffers" / "CIFAR10_NO_ZCA" / "ConvNet" / "replay_buffer_0.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dd, "load_images", lambda name: real)
    monkeypatch.setattr(dd, "load_recipe", lambda name: recipe)
    distill, how = dd.distill, {"iterations": 1, "student_steps": 1, "expert_epochs": 1, "max_start_epoch": 2}

    def quick(images: Any, method: Any, **options: Any) -> Any:
        return distill(images, replace(method, ipc=1, **how), progress=False, **options)

    monkeypatch.setattr(dd, "distill", quick)
    monkeypatch.setattr("dd.experts.train.ExpertTrainer.__init__", None)  # an expert to be trained would fail
    named: dict[str, Any] = {"dd": dd, "ExpertStore": ExpertStore}
    exec(example(dd.import_buffer), named)
    assert len(named["small"]) == 3
    assert torch.equal(named["store"].read(0, [1])[0], torch.cat([p.reshape(-1) for p in experts[0][1]]))
