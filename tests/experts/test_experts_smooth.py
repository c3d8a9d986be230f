"""AST's smooth experts: ramp, gradient penalty and drop, against slow twins and the properties of the formulas."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.smooth import penalty_of, ramp_of
from reference.training import sgd
from torch import Tensor, nn

import dd
from dd.base.seeding import child
from dd.data import Images
from dd.errors import InputError
from dd.experts import ExpertRecipe, ExpertStore, ExpertTrainer, Snapshot, load_recipe, make_student
from dd.experts.smooth import PENALTY_FORMS, gradient_penalty, ramp_factor, step_size
from dd.experts.steps import gsam_direction, sgd_update
from dd.inner import Student
from dd.models import build
from dd.transforms.whiten import make_transform

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 7

# Keys for ever: those of recipes that were shipped before their file had ramp, penalty and drop.
SHIPPED = {
    "cpu-128px-ftd": "fa12fa9b9ac4bfb8",
    "cpu-128px-mtt": "cd379c068d6546a4",
    "cpu-64px-ftd": "62d885b46663f071",
    "cpu-64px-mtt": "0356483082c6e001",
    "cpu-default-ftd": "ba86a123be4bec96",
    "cpu-default-mtt": "58605c1c60707a5d",
    "cpu-digits-ftd": "1e0a36adb8af8669",
    "cpu-digits-mtt": "60d229d6ef9577b6",
    "cpu-ftd": "62d885b46663f071",
    "cpu-mtt": "0356483082c6e001",
    "ftd-alpha0.3": "9eee57b6bd3b75f6",
    "ftd-alpha0.3-zca": "932bb4dbabfc0e39",
    "ftd-alpha1": "8b251d18f7e6cdd8",
    "ftd-alpha1-zca": "a5a332f2b3aaf1a3",
    "mtt": "dfca6f2670733945",
    "mtt-zca": "83258e290813f9cf",
}


def data() -> Images:
    """3 classes of 1×8×8, 27 images for training."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(10)
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return dd.load_images(dd.Images(train=(images, labels), test=(images[:6].flip(-1), labels[:6])))


REAL = data()


def recipe(**fields: Any) -> ExpertRecipe:
    base: dict[str, Any] = {"model": "convnet(width=4)", "lr": 0.02, "batch_size": 4, "snapshot_unit": "step"}
    return ExpertRecipe(**{**base, "augment": "crop_flip", "experts": 1, **fields})


def take(value: ExpertRecipe, count: int, start: Snapshot | None = None) -> list[Snapshot]:
    trainer = ExpertTrainer(value, REAL, make_transform(REAL, value.whiten), CPU)
    return list(islice(trainer.snapshots(0, start), count))


def setting(channels: int = 3, seed: int = 0) -> tuple[Student, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    module = build("convnet(width=4)", channels=channels, classes=3, size=(8, 8), seed=seed, dtype=torch.float64)
    student = Student(module)
    theta = student.initial + 0.3 * torch.randn(student.size, generator=g, dtype=torch.float64)
    return student, theta, torch.randn(4, channels, 8, 8, generator=g, dtype=torch.float64), torch.arange(4) % 3


# The penalty


@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_penalty_equals_the_twin(form: Any) -> None:
    student, theta, x, y = setting()
    slow = penalty_of(lambda p: student.logits(theta, p), x, y, form)
    assert float(gradient_penalty(student, theta, x, y, form).detach()) == pytest.approx(slow, rel=1e-10)
    assert not x.requires_grad


@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_gradient_of_the_penalty_is_that_of_finite_differences(form: Any) -> None:
    student, theta, x, y = setting(seed=1)
    leaf = theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(gradient_penalty(student, leaf, x, y, form), leaf)
    g = torch.Generator().manual_seed(5)
    for _ in range(3):
        d = torch.randn(student.size, generator=g, dtype=torch.float64)
        ends = [float(gradient_penalty(student, theta + h * d, x, y, form).detach()) for h in (1e-6, -1e-6)]
        assert float(grad @ d) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_penalty_is_zero_only_where_every_norm_is_one() -> None:
    """A linear model: q is the sum of the rows of its matrix, whatever the picture."""
    student = Student(nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 2, 2, dtype=torch.float64)))
    g = torch.Generator().manual_seed(0)
    wanted = torch.randn(3, 2, 2, generator=g, dtype=torch.float64)
    wanted = wanted / wanted.norm(dim=0)  # unit norm over channels at each pixel
    first = torch.randn(12, generator=g, dtype=torch.float64)
    x, y = torch.randn(5, 3, 2, 2, generator=g, dtype=torch.float64), torch.tensor([1, 0, 1, 1, 0])

    def value(rows: Tensor, form: Any) -> float:
        theta = torch.cat([rows.reshape(-1), torch.zeros(2, dtype=torch.float64)])
        return float(gradient_penalty(student, theta, x, y, form).detach())

    summed = torch.stack([first, wanted.reshape(-1) - first])
    assert value(summed, "pixel") == pytest.approx(0, abs=1e-24)
    assert value(summed / 2, "sample") == pytest.approx(0, abs=1e-24)  # four pixels of norm 1 have norm 2
    assert value(summed, "sample") == pytest.approx(1)
    assert value(torch.stack([wanted.reshape(-1)] * 2), "label") == pytest.approx(0, abs=1e-24)
    assert value(torch.stack([wanted.reshape(-1)] * 2), "pixel") == pytest.approx(1)
    off = wanted.clone()
    off[:, 0, 0] *= 3  # one of four pixels
    assert value(torch.stack([first, off.reshape(-1) - first]), "pixel") == pytest.approx(1)


def test_penalty_of_a_constant_network_has_a_finite_gradient() -> None:
    student, theta, x, y = setting(1)
    leaf = torch.zeros_like(theta).requires_grad_()
    loss = gradient_penalty(student, leaf, x, y)
    assert float(loss.detach()) == 1
    assert bool(torch.isfinite(torch.autograd.grad(loss, leaf)[0]).all())


# Ramp and drop


@pytest.mark.parametrize("every", [0, 3])
def test_ramp(every: int) -> None:
    value, unit = recipe(ramp=True, ramp_every=every), every or STEPS_PER_EPOCH
    for step in range(12 * unit):
        assert ramp_factor(value, step, STEPS_PER_EPOCH) == pytest.approx(ramp_of(step // unit), rel=1e-15)
        assert ramp_factor(recipe(ramp_every=every), step, STEPS_PER_EPOCH) == 1
    assert ramp_factor(value, 10 * unit, STEPS_PER_EPOCH) == 1


@pytest.mark.parametrize("every", [0, 3])
def test_drop_comes_after_the_unit_and_forgets_once(every: int) -> None:
    value, first = recipe(drop_epochs=2, ramp_every=every), 3 * (every or STEPS_PER_EPOCH)
    for step in range(2 * first):
        expected = (0.02, False) if step < first else (0.02 * 0.6, step == first)
        assert step_size(value, step, STEPS_PER_EPOCH) == expected
        assert step_size(recipe(ramp_every=every), step, STEPS_PER_EPOCH) == (0.02, False)


def test_drop_is_that_of_the_plain_loop() -> None:
    value, first = recipe(momentum=0.9, weight_decay=0.01, drop_epochs=1, drop_factor=0.5, ramp_every=3), 6
    transform, student = make_transform(REAL, False), make_student(value, REAL, 0)
    batches = []
    for step in range(10):
        epoch, place = divmod(step, STEPS_PER_EPOCH)
        rows = torch.randperm(27, generator=child(0, "order", epoch))[4 * place : 4 * (place + 1)]
        draw = value.dsa().draw(len(rows), (8, 8), child(0, "draw", step))
        batches.append((draw(transform.forward(REAL.train.pixels(rows))), REAL.train.labels[rows]))
    lrs = [0.02] * first + [0.01] * (10 - first)
    twin = sgd(student.module, batches, lrs, 0.9, 0.01, forget_at=first)
    for slow, made in zip(twin, take(value, 11), strict=True):
        torch.testing.assert_close(made.theta, slow, rtol=1e-6, atol=1e-6)


# The whole step


@pytest.mark.parametrize("form", PENALTY_FORMS)
@pytest.mark.parametrize("step", ["sgd", "gsam"])
def test_the_step_is_ramped_loss_and_penalty_of_the_clean_batch(step: Any, form: Any) -> None:
    value = recipe(step=step, rho=0.1, ramp=True, ramp_every=1, penalty=0.7, penalty_form=form, weight_decay=0.01)
    transform, student = make_transform(REAL, False), make_student(value, REAL, 0)
    theta = student.initial
    velocity = torch.zeros_like(theta)
    for i in range(3):
        rows = torch.randperm(27, generator=child(0, "order", 0))[4 * i : 4 * i + 4]
        clean, y = transform.forward(REAL.train.pixels(rows)), REAL.train.labels[rows]
        x = value.dsa().draw(4, (8, 8), child(0, "draw", i))(clean)

        def grad(at: Tensor, i: int = i, x: Tensor = x, y: Tensor = y, clean: Tensor = clean) -> Tensor:
            a, b = at.clone().requires_grad_(), at.clone().requires_grad_()
            (loss,) = torch.autograd.grad(student.loss(a, x, y), a)
            (extra,) = torch.autograd.grad(gradient_penalty(student, b, clean, y, form), b)
            return ramp_of(i) * loss + 0.7 * extra

        direction = gsam_direction(theta, grad, 0.1, 0.3, True) if step == "gsam" else grad(theta)
        theta, velocity = sgd_update(theta, direction, velocity, 0.02, 0.0, 0.01)
    torch.testing.assert_close(take(value, 4)[3].theta, theta, rtol=1e-5, atol=1e-6)


def test_without_ramp_and_penalty_it_is_the_plain_expert() -> None:
    plain = take(recipe(momentum=0.9), 4)[3]
    assert torch.equal(take(recipe(momentum=0.9, ramp_every=2, penalty_form="label"), 4)[3].theta, plain.theta)
    one_step = [take(recipe(ramp=on), 2) for on in (False, True)]
    moved = [s[1].theta - s[0].theta for s in one_step]
    torch.testing.assert_close(moved[1], moved[0] / 2, rtol=1e-3, atol=1e-7)  # half the loss, half the step
    assert float((take(recipe(momentum=0.9, penalty=1.0), 4)[3].theta - plain.theta).abs().max()) > 1e-5
    late = take(dataclasses.replace(recipe(), ramp=True, ramp_every=1), 12)
    start = late[10]  # from the tenth unit on the step is the plain one
    assert torch.equal(take(recipe(), 1, start)[0].theta, late[11].theta)


def test_continued_is_unbroken_with_ramp_penalty_and_drop(tmp_path: Path) -> None:
    value = recipe(momentum=0.9, ramp=True, ramp_every=2, penalty=1.0, drop_epochs=2, weight_decay=0.01)
    transform = make_transform(REAL, False)
    whole, parts = (ExpertStore(tmp_path / name, value, REAL) for name in ("whole", "parts"))
    whole.ensure(transform, snapshots=10)
    for snapshots in (1, 5, 6, 7, 10):  # the drop is before step 6: stop before, at and after it
        parts.ensure(transform, snapshots=snapshots)
    assert parts.path(0).read_bytes() == whole.path(0).read_bytes()


# Recipes


def test_keys_of_older_recipes_stay() -> None:
    assert {name: load_recipe(name).key("data") for name in SHIPPED} == SHIPPED


def test_fields_without_effect_are_not_in_the_key() -> None:
    base = recipe()
    for fields in ({"ramp_every": 5}, {"penalty_form": "label"}, {"drop_factor": 0.1}, {"penalty": 0}):
        assert dataclasses.replace(base, **fields).key("x") == base.key("x")
    keys = {
        dataclasses.replace(base, **fields).key("x")
        for fields in (
            {},
            {"ramp": True},
            {"ramp": True, "ramp_every": 5},
            {"penalty": 1.0},
            {"penalty": 1.0, "penalty_form": "label"},
            {"drop_epochs": 3},
            {"drop_epochs": 3, "ramp_every": 5},
            {"drop_epochs": 3, "drop_factor": 0.1},
        )
    }
    assert len(keys) == 8
    assert dataclasses.replace(base, penalty=1).key("x") == dataclasses.replace(base, penalty=1.0).key("x")
    assert dataclasses.replace(base, drop_epochs=3, drop_factor=1).key("x") == dataclasses.replace(
        base, drop_epochs=3, drop_factor=1.0
    ).key("x")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"ramp": 1}, "`ramp` must be true or false; got 1"),
        ({"ramp_every": -1}, "`ramp_every` must be a whole number of at least 0; got -1"),
        ({"ramp_every": False}, "`ramp_every` must be a whole number of at least 0; got False"),
        ({"penalty": -1.0}, "`penalty` must be a finite number of at least 0; got -1"),
        ({"penalty_form": "image"}, "`penalty_form` must be `pixel` or `sample` or `label`; got 'image'"),
        ({"drop_epochs": 1.5}, "`drop_epochs` must be a whole number of at least 0; got 1.5"),
        ({"drop_factor": 0.0}, "`drop_factor` must be positive; got 0"),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        recipe(**fields)


def test_published_recipes() -> None:
    """buffer.py and the README command of AST: SGD with momentum, ramp, penalty 2, one drop."""
    zca, plain, script = (load_recipe(name) for name in ("ast-zca", "ast", "ast-plain"))
    assert (zca.lr, zca.momentum, zca.weight_decay, zca.batch_size) == (0.003, 0.9, 1e-3, 256)
    assert (zca.ramp, zca.ramp_every, zca.penalty, zca.penalty_form) == (True, 0, 2.0, "pixel")
    assert (zca.drop_epochs, zca.drop_factor, zca.snapshots, zca.experts, zca.whiten) == (26, 0.6, 50, 100, True)
    assert step_size(zca, 27 * 196 - 1, 196) == (0.003, False)
    assert step_size(zca, 27 * 196, 196)[1]
    assert plain.key("x") == dataclasses.replace(zca, whiten=False).key("x")
    assert script.key("x") == dataclasses.replace(plain, ramp=False, penalty=0.0).key("x")
    assert script.experts == 50
    datm, flat = load_recipe("datm-zca"), load_recipe("ftd-alpha0.3-zca")
    assert datm.key("x") == flat.key("x")  # twice as long, hence the same trajectories
    assert datm.snapshots == 100


@pytest.mark.parametrize(
    "name",
    ["cpu-ast", "cpu-ast-no-ramp", "cpu-ast-no-penalty", "cpu-ast-penalty-2", "cpu-digits-ast", "cpu-default-ast"],
)
def test_recipes_for_two_cores_are_their_siblings_by_arithmetic(name: str) -> None:
    smooth = load_recipe(name)
    plain = load_recipe({"cpu-ast": "cpu-mtt"}.get(name[:7], name.replace("ast", "mtt")))
    assert smooth.lr / (1 - smooth.momentum) == pytest.approx(plain.lr)
    assert smooth.ramp is (not name.endswith("no-ramp"))
    assert smooth.ramp_every == (plain.snapshot_every if smooth.ramp else 0)
    assert smooth.penalty == {"cpu-ast-no-penalty": 0, "cpu-ast-penalty-2": 2}.get(name, 0.1)
    assert "set by arithmetic, not tuned" in smooth.source
    same = {"lr": plain.lr, "momentum": 0.0, "weight_decay": 0.0, "ramp": False, "penalty": 0.0}
    assert dataclasses.replace(smooth, **same).key("x") == plain.key("x")
    assert (smooth.experts, smooth.snapshots) == (plain.experts, plain.snapshots)
