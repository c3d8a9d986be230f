"""No step waits for an accelerator: tried without one, on torch's `meta`, a device of its own that keeps no values.

Reading a value is an error there, and so is an operation on tensors of two devices. What goes there must go by pinned
memory without waiting.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_gpu import problem
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import dd
from dd.base import devices
from dd.evaluation.loop import fit
from dd.experts import ExpertRecipe, ExpertTrainer, make_student
from dd.inner import InnerStep, Problem, Student, Target, adjoint
from dd.inner.fast import adjoint_fast
from dd.methods.decoupled.recovery import Recovery, recover_block
from dd.models import build
from dd.teachers import Teacher, TeacherRecipe, train
from dd.testing.made import pictures
from dd.transforms.views import Views, draw_mix, draw_shifts, draw_shuffle, draw_views
from dd.transforms.whiten import Normalise, make_transform

GPU = torch.device("meta")


class Copies(TorchDispatchMode):
    """Refuses a copy to the device that waits, or of what is not pinned, and one that goes back."""

    def __init__(self, pinned: list[Tensor]) -> None:
        super().__init__()
        self._pinned = pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") is not None:
            there, here = torch.device(kwargs["device"]).type, args[0].device.type
            assert not (here == "meta" and there == "cpu"), "a copy from the device"
            if here == "cpu" and there == "meta":
                assert kwargs.get("non_blocking"), "a copy that waits"
                assert any(args[0] is one for one in self._pinned), "a copy of what is not pinned"
        return func(*args, **kwargs)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Copies]:
    """A block in which what goes to the device is watched."""
    pinned: list[Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    monkeypatch.setattr(devices, "PINNED", ("meta",))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # it does not know `meta`
    return lambda: Copies(pinned)


def fake(x: Tensor) -> Tensor:
    """A tensor of that shape on the device."""
    return torch.empty(x.shape, dtype=x.dtype, device=GPU)


def on_gpu(given: Problem) -> Problem:
    """The problem with everything but its draws on the device; its values were checked when it was made."""
    made = copy.copy(given)
    values = {name: fake(getattr(given, name)) for name in ("theta", "images", "labels", "lr")}
    values |= {"targets": [Target(t.step, fake(t.theta), t.weight) for t in given.targets]}
    values |= {"steps": [InnerStep(fake(step.index), step.draw) for step in given.steps]}
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def test_reading_a_value_is_seen(gpu: Callable[[], Copies]) -> None:
    with gpu(), pytest.raises(RuntimeError, match="meta"):
        float(torch.ones(3, device=GPU).sum())
    with gpu(), pytest.raises(AssertionError, match="a copy that waits"):
        torch.ones(3).to(GPU)
    with gpu(), pytest.raises(AssertionError, match="a copy from the device"):
        torch.ones(3, device=GPU).cpu()


@pytest.mark.parametrize("labels", ["classes", "probabilities"])
def test_student_steps_there_and_back(gpu: Callable[[], Copies], labels: str) -> None:
    given = problem(torch.device("cpu"))
    if labels == "probabilities":
        given = dataclasses.replace(given, labels=torch.full((7, 3), 1 / 3, dtype=torch.float64))
    with gpu():
        found = adjoint(on_gpu(given))
        assert found.images.device == found.loss.device == GPU


def test_student_steps_of_the_fast_path(gpu: Callable[[], Copies]) -> None:
    given = problem(torch.device("cpu"))
    with gpu():
        assert adjoint_fast(on_gpu(given), None, None, False).images.device == GPU


@pytest.mark.parametrize("fields", [{}, {"step": "gsam", "rho": 0.01, "alpha": 0.5, "momentum": 0.9}])
def test_steps_of_an_expert(gpu: Callable[[], Copies], fields: dict[str, Any]) -> None:
    real = pictures()
    recipe = ExpertRecipe(model="convnet(width=4)", batch_size=8, **fields)
    trainer = ExpertTrainer(recipe, real, make_transform(real, False), torch.device("cpu"))
    student = make_student(recipe, real, 0)
    with gpu():
        trainer.device, trainer._labels = GPU, fake(trainer._labels)
        theta, velocity = fake(student.initial), fake(student.initial)
        rows, pixels = torch.arange(8), fake(real.train.pixels(torch.arange(8)))
        for step in range(6):  # one option of the augmentation each
            theta, velocity = trainer._step(student, theta, velocity, rows, pixels, 0, step)
        assert theta.device == GPU


@pytest.mark.parametrize("kind", ["views", "shifts", "shared"])
def test_views_of_a_batch(gpu: Callable[[], Copies], kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn: Views = (draw_shifts if kind == "shifts" else draw_views)(5, (16, 16), generator)
    drawn = drawn.shared(5) if kind == "shared" else drawn
    mix, shuffle = draw_mix("cutmix", 5, (16, 16), generator), draw_shuffle(5, 2, generator)
    with gpu():
        x = torch.empty(5, 3, 16, 16, device=GPU)
        seen = mix(drawn(shuffle(x)))
        assert seen.shape == x.shape
        assert seen.device == GPU


def test_a_student_of_another_norm(gpu: Callable[[], Copies]) -> None:
    net = build("convnet(width=4, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0, dtype=torch.float64)
    student = Student(net)
    given = problem(torch.device("cpu"))
    moved = {"student": student, "theta": student.initial}
    apart = [Target(3, student.initial + 0.1)]
    given = dataclasses.replace(given, **moved, targets=apart)
    with gpu():
        assert adjoint(on_gpu(given)).images.device == GPU


def test_steps_of_a_fresh_network(gpu: Callable[[], Copies], monkeypatch: pytest.MonkeyPatch) -> None:
    real = pictures()
    recipe = dd.TrainRecipe(
        model="convnet(width=4)", steps=8, batch_size=4, augment="color_crop_cutout_flip_scale_rotate"
    )
    small = dd.distill(real, "random", ipc=3, train=recipe, progress=False)
    net = build("convnet(width=4)", channels=3, classes=3, size=(8, 8), seed=0).to(GPU)
    monkeypatch.setattr(torch, "isfinite", lambda _: torch.ones(1, dtype=torch.bool))  # read once, after the last step
    with gpu():
        assert fit(small, net, recipe, 0, GPU) is net


def test_a_teachers_steps(gpu: Callable[[], Copies], monkeypatch: pytest.MonkeyPatch) -> None:
    real = pictures()
    recipe = TeacherRecipe(model="convnet(width=4, norm=batch)", epochs=1, min_steps=1, batch_size=16)
    told: list[int] = []

    def once_an_epoch(_: Tensor) -> Tensor:
        raise RuntimeError("read once an epoch")

    monkeypatch.setattr(torch, "isfinite", once_an_epoch)
    net = build(recipe.model, channels=3, classes=3, size=(8, 8), seed=0).to(GPU)
    monkeypatch.setattr(train, "network", lambda *_: net)
    steps = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: told.append(1) or steps(self))
    with gpu(), pytest.raises(RuntimeError, match="read once an epoch"):
        train.train_teacher(recipe, real, recipe.transform(real), device=GPU)
    assert len(told) == recipe.per_epoch(len(real.train))


@pytest.mark.parametrize("shared", [True, False])
def test_iterations_of_recovery(gpu: Callable[[], Copies], shared: bool) -> None:
    net = build("convnet(width=4, norm=batch)", channels=3, classes=3, size=(8, 8), seed=0)
    transform = Normalise((0.5,) * 3, (0.25,) * 3)
    teacher, seen = Teacher("t", net, transform), list[int]()
    teacher.module.to(GPU).register_forward_hook(lambda *_: seen.append(1))
    how = Recovery(
        iterations=5, lr=0.1, bn_weight=0.1, first_bn=10.0, bn_norm="sum", crop=True, shared_crop=shared, jitter=2
    )
    x, y = torch.empty(3, 3, 8, 8, device=GPU), torch.empty(3, dtype=torch.int64, device=GPU)
    with gpu(), pytest.raises(AssertionError, match="a copy from the device"):  # losses are read, all at once
        recover_block([(teacher, 1.0)], x, y, transform, how, 0, (0,))
    assert len(seen) == 5


def test_constants_of_a_transform_go_there_once(gpu: Callable[[], Copies]) -> None:
    real = pictures()
    for whiten in (False, True):
        transform = make_transform(real, whiten)
        sent = Sent()
        with torch.inference_mode(), gpu(), sent:
            for _ in range(3):
                x = torch.empty(2, 3, 8, 8, device=GPU)
                assert transform.inverse(transform.forward(x)).shape == x.shape
        assert sent.count == (3 if whiten else 2)
        leaf = torch.empty(2, 3, 8, 8, device=GPU, requires_grad=True)
        transform.forward(leaf).sum().backward()  # what was kept in inference mode serves outside it


class Sent(TorchDispatchMode):
    """Counts what goes to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        device = (kwargs or {}).get("device")
        self.count += func is torch.ops.aten._to_copy.default and device is not None and torch.device(device) == GPU
        return func(*args, **(kwargs or {}))
