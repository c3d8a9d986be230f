"""The one evaluation loop: the plain loop's weights, an exact number of steps, fresh networks, tuned on val only."""

from __future__ import annotations

import dataclasses
import math
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from reference.training import sgd
from torch import Tensor, nn

import dd
from dd import files
from dd.data import Images, Split
from dd.errors import DivergedError, InputError
from dd.evaluation import (
    LR_GRID,
    EvalReport,
    NetworkLearner,
    NetworkPredictor,
    Row,
    Scorer,
    accuracy,
    fit,
    fresh,
    learners,
    loop,
    mean_std,
    model_name,
    origin,
    report,
    tune_lr,
)
from dd.models import build
from dd.seeding import child, child_seed
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.whiten import Normalise

CPU = torch.device("cpu")
IDENTITY = Normalise((0.0,), (1.0,))


def data(count: int = 10) -> Images:
    """3 classes of 1×8×8, told apart by their upper half; as many test images as training images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(count)
    images = torch.randint(0, 60, (2, 3 * count, 1, 8, 8), generator=generator)
    images[:, :, :, :4] += 90 * labels.view(1, -1, 1, 1, 1)
    train, test = images.to(torch.uint8)
    return dd.load_images(dd.Images(train=(train, labels), test=(test, labels), name="toy"))


def small(count: int = 9, **fields: Any) -> SyntheticImages:
    """`count` images 1×8×8 of 3 classes, in pixels."""
    real = data()
    base: dict[str, Any] = {"model": "convnet(width=4)", "steps": 10, "lr": 0.05, "batch_size": 256}
    images, labels = real.train.pixels(slice(0, count)), real.train.labels[:count]
    if fields.pop("soft", False):
        labels = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).add(0.1)
        labels = labels / labels.sum(1, keepdim=True)
    recipe = TrainRecipe(**{**base, **fields})
    method, provenance = {"name": "mine"}, {"protocol": "clean", "selection": "last iterate"}
    return SyntheticImages(
        images=images,
        labels=labels,
        classes=real.classes,
        recipe=recipe,
        transform=IDENTITY,
        method=method,
        provenance=provenance,
    )


def theta(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def trained(value: SyntheticImages, seed: int = 0, model: Any = None) -> nn.Module:
    return fit(value, fresh(value, model or value.recipe.model, seed, CPU), value.recipe, seed, CPU)


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
    split: Split = dd.Images(train=(pixels, labels)).train.subset(torch.arange(count))
    right = sum(int(labels[i] == (i % 3 == 0)) for i in range(count)) / count
    assert accuracy(Fixed().train(), split, IDENTITY, CPU) == right
    dark = sum(int(labels[i] == 0) for i in range(count)) / count
    assert accuracy(Fixed(), split, Normalise((0.5,), (1.0,)), CPU) == dark


# Tuning


@dataclasses.dataclass
class Fake:
    """Training and scoring replaced by a table; keeps which split each step size was scored on."""

    table: dict[float, float]
    seen: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    def patch(self, monkeypatch: pytest.MonkeyPatch, real: Images) -> None:
        def fit(value: SyntheticImages, net: nn.Module, recipe: TrainRecipe, seed: int, device: Any) -> nn.Module:
            if self.table.get(recipe.lr, 0.5) < 0:
                raise DivergedError("diverged")
            net.lr = recipe.lr  # type: ignore[assignment]
            return net

        def score(net: Any, split: Split, transform: Any, device: Any) -> float:
            for name in ("val", "test"):
                if getattr(real, name) is not None and split.fingerprint == getattr(real, name).fingerprint:
                    self.seen.append((name, net.lr))
                    return self.table.get(net.lr, 0.5) if name == "val" else 1 - self.table.get(net.lr, 0.5)
            raise AssertionError("scored on another split")

        monkeypatch.setattr(learners, "fit", fit)
        monkeypatch.setattr(learners, "accuracy", score)
        monkeypatch.setattr(Scorer, "accuracy", lambda self, net, transform: score(net, self.split, transform, CPU))


def test_tuning_takes_the_best_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data()
    assert real.val is not None
    for table, best in (
        ({0.03: 0.9}, 0.03),
        ({0.001: 0.7, 0.01: 0.7}, 0.001),  # the smallest of equals
        ({0.3: 0.8, 0.1: -1.0}, 0.3),  # one that diverges is passed over
        (dict.fromkeys(LR_GRID[1:], -1.0), LR_GRID[0]),
    ):
        fake = Fake(table)
        fake.patch(monkeypatch, real)
        learner = tune_lr(NetworkLearner(steps=3), small(), real.val, seed=0, repeats=2)
        assert learner == NetworkLearner(steps=3, lr=best)
        assert fake.seen == [("val", lr) for lr in LR_GRID if table.get(lr, 0) >= 0 for _ in range(2)]
    Fake(dict.fromkeys(LR_GRID, -1.0)).patch(monkeypatch, real)
    with pytest.raises(DivergedError, match=r"diverged with every lr of \(0.001, .*Give `lr` yourself"):
        tune_lr(NetworkLearner(), small(), real.val, seed=0)


def test_evaluate_tunes_on_val_and_reports_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    real = data()
    fake = Fake({0.03: 0.9, 0.1: 0.8})  # the test split would choose another one
    fake.patch(monkeypatch, real)
    result = dd.evaluate(small(), real, lr="tuned", baselines=("random", "random_tuned"), repeats=2, progress=False)
    assert [(row.set, row.lr) for row in result.rows] == [("mine", 0.03), ("random", 0.05), ("random_tuned", 0.03)]
    assert [lr for name, lr in fake.seen if name == "val"] == list(LR_GRID) * 2
    assert {lr for name, lr in fake.seen if name == "test"} == {0.03, 0.05}
    assert result.mean == pytest.approx(0.1)  # the test's, not the one that chose it
    with pytest.raises(InputError, match=r"`lr` must be `recipe` or a number.*no validation split; got tuned"):
        dd.evaluate(dataclasses.replace(small(), provenance={"protocol": "paper"}), real, lr="tuned", progress=False)


def test_same_seed_same_report() -> None:
    value, real = small(), data()
    first, again, other = (
        dd.evaluate(value, real, repeats=3, steps=20, seed=seed, progress=False, device="cpu") for seed in (0, 0, 1)
    )
    assert [row.values for row in first.rows] == [row.values for row in again.rows]
    assert [row.values for row in first.rows] != [row.values for row in other.rows]
    assert [(row.set, row.steps, len(row.values)) for row in first.rows] == [("mine", 20, 3), ("random", 20, 6)]


# The report


def test_mean_and_sample_std() -> None:
    mean, std = mean_std([0.25, 0.5, 0.75, 1.0])
    assert mean == 0.625
    assert std == pytest.approx(0.3227486121839514)  # √(0.3125 / 3): n − 1, not n
    values = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()
    assert mean_std(values) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert mean_std([0.4]) == (0.4, None)
    assert mean_std([0.4] * 3)[1] == pytest.approx(0.0, abs=1e-12)


def row(*values: float, **fields: Any) -> Row:
    return Row(**{"set": "mtt", "model": "convnet", "steps": 9, "lr": 0.1, "seconds": 1.23456, **fields}, values=values)


@pytest.mark.parametrize("values", [(0.5, 0.6), (0.2, 0.4, 0.45), (0.1, 0.2, 0.3, 0.3, 0.9)])
def test_interval_is_students(values: tuple[float, ...]) -> None:
    found = row(*values)
    assert found.interval is not None
    sem = scipy.stats.sem(values)  # n − 1 by default
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=sem)
    assert (found.mean - found.interval, found.mean + found.interval) == pytest.approx((low, high))


def test_interval_golden() -> None:
    assert row(0.5, 0.6).interval == pytest.approx(12.706204736 * math.sqrt(0.005) / math.sqrt(2))  # t(0.975; 1)
    assert row(0.5).interval is None


def made(**fields: Any) -> EvalReport:
    base: dict[str, Any] = {
        "dataset": "digits",
        "split": "test",
        "protocol": "clean",
        "selection": "last iterate",
        "method": "mtt, 10 images",
        "rows": (row(0.5, 0.6), row(0.25, set="random")),
        "bytes": {"images": 2560, "labels": 80, "extras": 100, "total": 2740},
        "origin": origin(7, CPU),
        "notes": ("no class_mean row",),
    }
    return EvalReport(**{**base, **fields})


def test_report_json_has_the_fields_of_the_contract(tmp_path: Path) -> None:
    value = made()
    value.save(tmp_path / "report.json")
    told = files.read_json(tmp_path / "report.json")
    assert told == value.to_json()
    assert {"format", "dataset", "split", "protocol", "selection", "method", "rows", "bytes", "origin"} <= told.keys()
    wanted = {"set", "model", "metric", "mean", "std", "n", "values", "steps", "lr", "seconds"}
    assert all(wanted <= entry.keys() for entry in told["rows"])
    assert told["bytes"].keys() == {"images", "labels", "extras", "total"}
    assert told["origin"].keys() == {"seed", "commit", "versions", "machine", "threads"}
    first, second = told["rows"]
    assert (first["mean"], first["n"], first["values"]) == (pytest.approx(0.55), 2, [0.5, 0.6])
    assert first["std"] == pytest.approx(0.0707106781)
    assert (first["seconds"], first["metric"]) == (1.235, "accuracy")
    assert (second["std"], second["interval95"]) == (None, None)
    assert told["format"] == 1
    assert (value.mean, value.std) == (value.rows[0].mean, value.rows[0].std)


def test_report_of_a_run_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    path = small().save(tmp_path / "x.safetensors")
    result = dd.evaluate(path, data(), repeats=1, steps=1, baselines=(), progress=False)
    assert result.bytes["total"] == path.stat().st_size
    assert result.bytes["images"] == 9 * 64 * 4
    assert result.bytes["labels"] == 9 * 8
    assert sum(result.bytes[name] for name in ("images", "labels", "extras")) == result.bytes["total"]
    assert files.dump_json(result.to_json())


def test_report_prints_a_table() -> None:
    lines = str(made()).splitlines()
    assert lines[0] == "mtt, 10 images on digits (test split, protocol clean: last iterate)"
    assert "55.0 ± 7.1" in lines[2]
    assert "25.0 " in lines[3]
    assert "±" not in lines[3]
    assert lines[-2:] == ["bytes: images 2,560, labels 80, extras 100, total 2,740", "note: no class_mean row"]


def test_report_refuses_numbers_that_json_has_no_word_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for JSON"):
        made(rows=(row(float("nan")),)).save(tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def test_origin_knows_the_machine_and_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    found = origin(7, CPU)
    assert (found["seed"], found["threads"]) == (7, torch.get_num_threads())
    assert found["versions"]["torch"] == str(torch.__version__).partition("+")[0] or torch.__version__
    assert found["machine"].endswith(", cpu")

    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert report.origin(7, CPU)["commit"] is None


def test_predictor_needs_a_transform() -> None:
    value = dataclasses.replace(small(), transform=None, transform_record={"kind": "zca"})
    with pytest.raises(InputError, match="saved without its matrix"):
        NetworkPredictor(fresh(value, "mlp", 0, CPU), value, CPU).score(data().train)
