"""The compiled road: used where it may be, left where it fails, kept by an expert; nothing is compiled here."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dd
from dd.base.files import read_meta
from dd.data import TensorSplit
from dd.experts import ExpertRecipe, ExpertStore, fast, make_student
from dd.experts.fast import Loss, Road, compiled_loss
from dd.experts.train import ExpertTrainer, _resident, on_device
from dd.inner import Student
from dd.inner.fast import FastNet, Kernels, loss_gradient
from dd.transforms.whiten import make_transform

LABELS = torch.arange(3).repeat(10)
PIXELS = torch.randint(0, 256, (30, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:6].flip(-1), LABELS[:6])))
RECIPE = ExpertRecipe(model="convnet(width=4)", batch_size=4, experts=1, momentum=0.9, snapshots=2)


class Compiler:
    """Stands in for `compiled_loss`: counts the calls, and gives half the loss, so that its road shows."""

    def __init__(self, fails: bool = False) -> None:
        self.made, self.calls, self.fails = 0, 0, fails

    def __call__(self, student: Student) -> Loss:
        self.made += 1

        def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            if self.fails:
                raise RuntimeError("no")
            return student.loss(theta, x, y) / 2

        return loss


def batch(count: int = 4) -> tuple[Student, Tensor, Tensor, Tensor]:
    student = make_student(RECIPE, REAL, 0)
    return student, student.initial, REAL.train.pixels(torch.arange(count)), REAL.train.labels[:count]


def test_full_batches_only_and_one_compilation_for_all_experts() -> None:
    compiler = Compiler()
    road = Road(True, 4, compiler)
    for _ in range(3):
        student, theta, x, y = batch()
        assert torch.equal(road.loss(student, theta, x, y), student.loss(theta, x, y) / 2)
    student, theta, x, y = batch(3)
    assert torch.equal(road.loss(student, theta, x, y), student.loss(theta, x, y))
    assert (compiler.made, compiler.calls, road.name) == (1, 3, "compiled")


def test_a_failure_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    compiler, (student, theta, x, y) = Compiler(fails=True), batch()
    road = Road(True, 4, compiler)
    for _ in range(2):
        assert torch.equal(road.loss(student, theta, x, y), student.loss(theta, x, y))
    assert (compiler.calls, road.name) == (1, "eager")
    assert "the compiled loss failed (RuntimeError)" in caplog.text


def test_a_compiler_that_cannot_be_loaded_is_no_compiler(caplog: pytest.LogCaptureFixture) -> None:
    """torch makes its cache as it loads the compiler."""

    def unloadable(student: Student) -> Loss:
        raise OSError(30, "Read-only file system")

    student, theta, x, y = batch()
    road = Road(True, 4, unloadable)
    assert torch.equal(road.loss(student, theta, x, y), student.loss(theta, x, y))
    assert road.name == "eager"
    assert "the compiled loss failed (OSError)" in caplog.text


def test_no_compiler_and_other_networks_are_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_loss(Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)))) is None
    monkeypatch.setattr(fast, "compiler_present", lambda: False)
    student, theta, x, y = batch()
    road = Road(True, 4)
    assert torch.equal(road.loss(student, theta, x, y), student.loss(theta, x, y))
    assert road.name == "eager"


@pytest.fixture
def plain_layers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers' gradient without a compiler, and the batches that went by it."""
    seen: list[int] = []

    def gradient(net: FastNet, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return loss_gradient(FastNet(net.student, Kernels(False)), theta, x, y)

    monkeypatch.setattr(fast, "compiler_present", lambda: True)
    monkeypatch.setattr(fast, "loss_gradient", gradient)
    return seen


def test_a_known_network_goes_by_its_layers(plain_layers: list[int]) -> None:
    road = Road(True, 4, Compiler())
    for count in (4, 3):
        student, theta, x, y = batch(count)
        leaf = theta.clone().requires_grad_()
        (twin,) = torch.autograd.grad(0.5 * student.loss(leaf, x, y), leaf)
        torch.testing.assert_close(road.gradient(student, theta, x, y, 0.5), twin, rtol=1e-4, atol=1e-6)
    eager = Road(False, 4)
    student, theta, x, y = batch()
    assert torch.isfinite(eager.gradient(student, theta, x, y)).all()
    half = Student(student.module, torch.bfloat16)
    assert torch.isfinite(Road(True, 4, lambda _: None).gradient(half, theta, x, y)).all()
    assert plain_layers == [4, 3]


def test_an_expert_by_its_layers_ends_where_the_eager_one_does(plain_layers: list[int]) -> None:
    ends = []
    for compile in (True, False):
        trainer = ExpertTrainer(RECIPE, REAL, make_transform(REAL, False), torch.device("cpu"), compile=compile)
        ends.append(list(itertools.islice(trainer.snapshots(0), 3))[-1].theta)
    assert len(plain_layers) == 2 * -(-len(REAL.train) // 4)
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)


def test_failing_layers_fall_back_and_say_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def gradient(*args: Any) -> Tensor:
        raise RuntimeError("no")

    monkeypatch.setattr(fast, "compiler_present", lambda: True)
    monkeypatch.setattr(fast, "loss_gradient", gradient)
    compiler, (student, theta, x, y) = Compiler(), batch()
    road = Road(True, 4, compiler)
    for _ in range(2):
        assert torch.isfinite(road.gradient(student, theta, x, y)).all()
    assert (compiler.calls, road.name) == (2, "compiled")
    assert caplog.text.count("the compiled gradient failed (RuntimeError)") == 1


def test_an_expert_keeps_its_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def road(wanted: bool, size: int) -> Road:
        made = Road(wanted, size, Compiler())
        made._layers = False
        return made

    monkeypatch.setattr("dd.experts.store.Road", road)
    transform = make_transform(REAL, False)

    def made(name: str, *parts: tuple[int, bool | None]) -> tuple[bytes, Any]:
        store = ExpertStore(tmp_path / name, RECIPE, REAL)
        for snapshots, compile in parts:
            store.ensure(transform, snapshots=snapshots, compile=compile)
        return store.path(0).read_bytes(), read_meta(store.path(0)).get("road")

    eager, compiled = made("eager", (2, False)), made("compiled", (2, True))
    assert eager != compiled
    assert (eager[1], compiled[1]) == (None, "compiled")
    assert made("short", (2, None)) == eager  # not long enough to pay
    assert made("a", (1, False), (2, True)) == eager
    assert made("b", (1, True), (2, False)) == compiled
    monkeypatch.setattr("dd.inner.engines.BUILD", 0.0)
    monkeypatch.setattr("dd.inner.engines.compiler_present", lambda _: True)
    assert made("long", (2, None)) == compiled


def test_pictures_on_the_device_are_those_of_the_split() -> None:
    split = TensorSplit(torch.arange(256, dtype=torch.uint8).repeat(12).view(16, 3, 8, 8), torch.arange(16) % 2)
    rows = torch.tensor([3, 0, 15, 3])
    assert torch.equal(_resident(split.images)(rows), split.pixels(rows))
    floats = TensorSplit(torch.rand(6, 1, 4, 4), torch.arange(6) % 2)
    assert torch.equal(_resident(floats.images)(rows[:2]), floats.pixels(rows[:2]))
    for device in ("meta", "cpu"):
        ((taken, pixels),) = on_device(split, torch.device(device))([rows])
        assert taken is rows
        assert (pixels.device.type, pixels.dtype, len(pixels)) == (device, torch.float32, 4)


def test_bfloat16_expert_follows_the_float32_one() -> None:
    recipe = dataclasses.replace(RECIPE, lr=0.05, augment="", snapshot_unit="step", snapshot_every=5)
    transform = make_transform(REAL, False)
    last = {}
    for autocast in ("none", "bf16"):
        value = dataclasses.replace(recipe, autocast=autocast)
        stream = ExpertTrainer(value, REAL, transform, torch.device("cpu")).snapshots(0)
        first, last[autocast] = next(stream), next(stream)
        assert last[autocast].theta.dtype == torch.float32
    moved = (last["none"].theta - first.theta).norm()
    apart = (last["none"].theta - last["bf16"].theta).norm()
    assert 0 < apart < 0.1 * moved  # rounding of 8 bits, not another trajectory
