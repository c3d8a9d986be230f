"""The published recipe: step for step the authors' loop, the rows of the tables, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from reference.evaluation import CPU, evaluate_synset, small, theta
from torch import Tensor, nn

import dd
from dd.base.seeding import child
from dd.data import load_card
from dd.errors import InputError
from dd.evaluation import fit, fresh, loop
from dd.methods import METHODS
from dd.methods.presets import preset, rows
from dd.synthetic import TrainRecipe

DSA = "color_crop_cutout_flip_scale_rotate"


class Linear(nn.Sequential):
    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))


@pytest.mark.parametrize(
    ("model", "epochs", "batch", "dsa", "steps", "high"),
    [
        (dd.Model(Linear, name="linear"), 1000, 256, True, 1001, 502),
        ("convnet(width=4)", 7, 4, True, 24, 15),  # 9 images in 3 batches
        ("convnet(width=4)", 10, 4, False, 33, 21),
        ("convnet(width=4)", 1, 256, True, 2, 2),
    ],
)
def test_published_is_the_authors_loop_step_for_step(
    monkeypatch: pytest.MonkeyPatch, model: Any, epochs: int, batch: int, dsa: bool, steps: int, high: int
) -> None:
    value, lr, seed, seen = small(9), 0.02, 3, list[float]()
    recipe = TrainRecipe.published(3, lr, dsa, classes=3, epochs=epochs, batch_size=batch)
    orders = [_order(value, batch, child(seed, "order", epoch)) for epoch in range(epochs + 1)]
    sizes = [len(rows) for order in orders for rows in order]
    augmentation = dd.DSA(strategy=DSA if dsa else "none", mode="single")
    draws = [augmentation.draw(n, (8, 8), child(seed, "draw", step)) for step, n in enumerate(sizes)]
    twin = fresh(value, model, seed, CPU)
    lrs = evaluate_synset(twin, orders, draws, value.images, value.labels, lr, epochs)

    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            seen.append(self.param_groups[0]["lr"])
            super().step(closure)

    monkeypatch.setattr(loop.torch.optim, "SGD", Counting)
    made = fit(value, fresh(value, model, seed, CPU), recipe, seed, CPU)
    assert len(seen) == recipe.steps == steps
    assert seen == lrs
    assert seen.count(lr) == high
    assert torch.equal(theta(made), theta(twin))  # to the bit: the same operations in the same order


def _order(value: Any, batch: int, generator: torch.Generator) -> list[Tensor]:
    """Rows of an epoch's batches: those of the set that has its row numbers for images."""
    numbered = replace(value, images=torch.arange(9.0).view(9, 1, 1, 1).expand(9, 1, 8, 8).contiguous())
    return [x[:, 0, 0, 0].long() for x, _ in numbered.batches(batch, generator)]


@pytest.mark.parametrize("name", ["mtt", "ftd", "tesla", "datm"])
def test_published_is_the_recipe_of_the_published_rows(name: str) -> None:
    found = [row for row in rows(name) if row["tier"] == "paper"]
    assert len(found) >= 6
    for row in found:
        images = row["ipc"] * load_card(row["dataset"]).num_classes
        train = METHODS[name](**preset(name, row["dataset"], row["ipc"], tier="paper").fields).train
        recipe = TrainRecipe.published(images, 0.01, classes=1, batch_size=train.batch_size)
        assert recipe == replace(train, lr=0.01, augment=recipe.augment), row  # those two are from β and the expert
        assert recipe.steps == 1001 * math.ceil(images / recipe.batch_size)


def test_published_augments_as_experts_do() -> None:
    recipe, expert = TrainRecipe.published(10, 0.01, classes=10), dd.load_recipe("mtt")
    assert (recipe.augment, recipe.augment_mode) == (expert.augment, expert.augment_mode) == (DSA, "single")
    assert TrainRecipe.published(10, 0.01, False, classes=10) == replace(recipe, augment="")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ipc": 0}, "`ipc` must be a whole number of at least 1; got 0"),
        ({"lr": -0.1}, "`lr` must be"),
        ({"classes": 2.0}, "`classes` must be a whole number"),
        ({"epochs": 0}, "`epochs` must be a whole number"),
        ({"batch_size": 0}, "`batch_size` must be a whole number"),
    ],
)
def test_published_refuses(given: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrainRecipe.published(**{"ipc": 1, "lr": 0.01, "classes": 10, **given})
