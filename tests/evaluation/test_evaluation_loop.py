"""The evaluation loop against a plain one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from reference.evaluation import CPU, IDENTITY, data, scales, small, theta, trained
from reference.training import sgd
from torch import Tensor, nn

import dd
from dd.base.seeding import child, child_seed
from dd.data import Split, TensorSplit
from dd.errors import DivergedError, InputError
from dd.evaluation import NetworkLearner, accuracy, fit, fresh, loop, model_name
from dd.models import build, takes_one
from dd.transforms.whiten import Normalise

# The loop

SETTINGS: dict[str, dict[str, Any]] = {
    "published": {},
    "augmented": {"augment": "color_crop_cutout_flip_scale_rotate"},
    "batches": {"batch_size": 4, "steps": 11, "augment": "crop_flip", "augment_mode": "all"},
    "soft labels": {"soft": True, "batch_size": 5},
    "plain": {"momentum": 0.0, "weight_decay": 0.0, "drop_at": 1.0},
    "early drop": {"drop_at": 0.25, "drop_factor": 0.5, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_are_those_of_the_plain_loop(name: str) -> None:
    value = small(**SETTINGS[name])
    recipe, seed = value.recipe, 3
    batches: list[tuple[Tensor, Tensor]] = []
    while len(batches) < recipe.steps:
        epoch = len(batches) // -(-len(value) // recipe.batch_size)
        batches += value.batches(recipe.batch_size, child(seed, "order", epoch))
    batches = batches[: recipe.steps]
    draws = [recipe.dsa().draw(len(x), (8, 8), child(seed, "draw", step)) for step, (x, _) in enumerate(batches)]
    batches = [(draw(x), y) for draw, (x, y) in zip(draws, batches, strict=True)]
    drop = round(recipe.steps * recipe.drop_at)
    lrs = [recipe.lr] * drop + [recipe.lr * recipe.drop_factor] * (recipe.steps - drop)
    options = (recipe.momentum, recipe.weight_decay)
    twin = sgd(fresh(value, recipe.model, seed, CPU), batches, lrs, *options, forget_at=drop)
    made = theta(trained(value, seed))
    torch.testing.assert_close(made, twin[-1], rtol=1e-6, atol=1e-6)
    if recipe.momentum:  # keeping the velocity would be another training
        other = sgd(fresh(value, recipe.model, seed, CPU), batches, lrs, *options)
        assert float((made - other[-1]).abs().max()) > 1e-4


def test_a_network_that_writes_into_its_pictures_leaves_the_set_as_it_is() -> None:
    value, ends = small(), []
    before = value.images.clone()
    for in_place in (False, True):
        ends.append(theta(NetworkLearner(model=scales(in_place), steps=3).fit(value, 1).net))
        assert torch.equal(value.images, before)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("steps", "drop_at", "high"),
    [(1, 0.5, 1), (2, 0.5, 1), (7, 0.5, 4), (10, 0.5, 5), (10, 1.0, 10), (10, 0.01, 1), (100, 0.5, 50)],
)
def test_exact_number_of_steps_and_their_step_sizes(
    monkeypatch: pytest.MonkeyPatch, steps: int, drop_at: float, high: int
) -> None:
    seen: list[tuple[int, float, bool]] = []

    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            seen.append((id(self), self.param_groups[0]["lr"], bool(self.state)))
            super().step(closure)

    monkeypatch.setattr(loop.torch.optim, "SGD", Counting)
    trained(small(steps=steps, drop_at=drop_at))
    assert [lr for _, lr, _ in seen] == pytest.approx([0.05] * high + [0.005] * (steps - high))
    # momentum starts from nothing at the first step and at the drop, and is kept everywhere else
    assert [i for i, (_, _, kept) in enumerate(seen) if not kept] == [0, high][: 1 + (high < steps)]


def test_a_fresh_network_is_its_seeded_initialisation() -> None:
    value = small()
    for seed in (0, 1):
        own = build(value.recipe.model, channels=1, classes=3, size=(8, 8), seed=child_seed(seed, "network"))
        for _ in range(2):  # also after another one was trained
            net = fresh(value, value.recipe.model, seed, CPU)
            assert torch.equal(theta(net), theta(own))
            fit(value, net, value.recipe, seed, CPU)
            assert not net.training
    assert not torch.equal(theta(fresh(value, "mlp", 0, CPU)), theta(fresh(value, "mlp", 1, CPU)))


class Dropping(nn.Sequential):
    def __init__(self, channels: int, classes: int, size: tuple[int, int]) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels * size[0] * size[1], classes))


@pytest.mark.parametrize("model", ["convnet(width=4)", "convnet(width=4, norm=batch)", dd.Model(Dropping, name="drop")])
def test_same_seed_same_network_and_no_trace(model: Any) -> None:
    value = small(batch_size=4, augment="crop_flip")
    images, labels = value.images.clone(), value.labels.clone()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = theta(trained(value, 5, model))
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    assert torch.equal(theta(trained(value, 5, model)), first)
    assert not torch.equal(theta(trained(value, 6, model)), first)
    assert torch.equal(value.images, images)
    assert torch.equal(value.labels, labels)


def test_learner_repeats_itself_and_replaces_only_what_is_asked() -> None:
    value, real = small(), data()
    assert real.test is not None
    learner = NetworkLearner(steps=30)
    scores = [learner.fit(value, seed).score(real.test) for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert learner.recipe(value) == dataclasses.replace(value.recipe, steps=30)
    assert NetworkLearner(lr=0.3).recipe(value) == dataclasses.replace(value.recipe, lr=0.3)
    assert model_name(None, value) == "convnet(width=4)"
    assert model_name("convnet( width=128 )", value) == "convnet"
    for wrong in (NetworkLearner(steps=0), NetworkLearner(lr=-1.0)):
        with pytest.raises(InputError, match=r"`(steps|lr)` must be"):
            wrong.fit(value, 0)


def test_one_picture_for_batch_norms_of_one_pixel_is_refused_and_the_last_one_is_not_left_alone() -> None:
    one = small(1, steps=1)
    with pytest.raises(InputError, match="`batch_size` must be such that no batch is a single picture"):
        dd.train(one, "resnet9(norm=batch, width=4)", device="cpu")
    dd.train(small(9, steps=3, batch_size=4), "resnet9(norm=batch, width=4)", device="cpu")


@pytest.mark.parametrize(
    ("name", "takes"), [("resnet9(norm=batch, width=4)", False), ("convnet(norm=batch, width=4)", True)]
)
def test_asking_a_network_for_one_picture_leaves_no_trace(name: str, takes: bool) -> None:
    net = build(name, channels=1, classes=3, size=(8, 8), seed=0).eval()
    before, stream = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    assert takes_one(net, 1, (8, 8)) is takes
    assert not net.training
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_training_learns() -> None:
    real = data()
    assert real.test is not None
    predictor = NetworkLearner(steps=60, lr=0.1, model="convnet(width=8)").fit(small(27), 0)
    assert predictor.score(real.test) > 0.6  # chance is a third


@pytest.mark.parametrize("steps", [1, 10])
def test_divergence_is_an_error_and_not_a_score(steps: int) -> None:
    value = small(lr=1e38, steps=steps)
    value = dataclasses.replace(value, images=1000 * value.images)
    text = rf"training on the synthetic set diverged \(lr 1e\+38, {steps} steps\)\. Give a lower `lr`, or lr='tuned'"
    with pytest.raises(DivergedError, match=text):  # after one step the loss that was seen is still finite
        trained(value, model=dd.Model(Dropping, name="drop"))


class Fixed(nn.Module):
    """Says class 1 where the first pixel is above a half, else class 0."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x[:, 0, 0, 0] > 0.5).float()
        return torch.stack([1 - bright, bright], 1)


@pytest.mark.parametrize("count", [1, 500, 501, 1200])
def test_accuracy_counts_every_image_once_after_the_transform(count: int) -> None:
    pixels = torch.zeros(count + 2, 1, 2, 2, dtype=torch.uint8)
    pixels[::3] = 200  # 0.78, and 0.28 after the second transform
    labels = torch.arange(count + 2) % 2
    split: Split = TensorSplit(pixels, labels).subset(torch.arange(count))
    right = sum(int(labels[i] == (i % 3 == 0)) for i in range(count)) / count
    assert accuracy(Fixed().train(), split, IDENTITY, CPU) == right
    dark = sum(int(labels[i] == 0) for i in range(count)) / count
    assert accuracy(Fixed(), split, Normalise((0.5,), (1.0,)), CPU) == dark
