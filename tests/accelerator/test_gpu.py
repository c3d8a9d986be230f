"""What holds on a GPU: values of the CPU, no waiting inside a step, no trace on other streams.

Marked `gpu`; `DD_TEST_DEVICE=cpu` tries the code of these tests without one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import dd
from dd.base.seeding import child, isolated
from dd.evaluation import NetworkLearner
from dd.experts import ExpertRecipe, ExpertTrainer, make_student
from dd.experts.train import on_device
from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint
from dd.inner.recorded import adjoint_recorded
from dd.methods import METHODS, kind_of
from dd.models import build
from dd.testing import tiny
from dd.testing.made import pictures
from dd.transforms.dsa import DSA
from dd.transforms.whiten import make_transform

pytestmark = pytest.mark.gpu

ALL_OPS = "color_crop_cutout_flip_scale_rotate"


@pytest.fixture
def device() -> torch.device:
    name = os.environ.get("DD_TEST_DEVICE", "cuda")
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch.device(name)


@contextlib.contextmanager
def waiting_is_an_error(device: torch.device) -> Iterator[None]:
    """Inside the block an operation that makes the CPU wait for the GPU is an error."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def problem(device: torch.device, dtype: torch.dtype = torch.float64, steps: int = 3) -> Problem:
    """7 images of 3×8×8, a ConvNet of width 4, every DSA option in a step."""

    def noise(*shape: int, seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(device)

    generator, dsa = torch.Generator().manual_seed(3), DSA(ALL_OPS, mode="all")
    module = build("convnet(width=4)", channels=3, classes=3, size=(8, 8), seed=0, dtype=dtype).to(device)
    student = Student(module)
    theta = student.initial + 0.1 * noise(student.size, seed=0)
    plan = [
        InnerStep(torch.randperm(7, generator=generator).to(device), dsa.draw(7, (8, 8), generator))
        for _ in range(steps)
    ]
    return Problem(
        student=student,
        theta=theta,
        targets=[Target(steps, theta + 0.05 * noise(student.size, seed=1))],
        images=noise(7, 3, 8, 8, seed=2),
        labels=(torch.arange(7) % 3).to(device),
        lr=torch.tensor(0.2, dtype=dtype, device=device),
        steps=plan,
    )


def assert_close(found: Matching, wanted: Matching) -> None:
    for a, b in ((found.loss, wanted.loss), (found.images, wanted.images), (found.lr, wanted.lr)):
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=1e-8, atol=1e-12)


def test_gradients_are_those_of_the_cpu(device: torch.device) -> None:
    assert_close(adjoint(problem(device)), adjoint(problem(torch.device("cpu"))))


def test_recorded_steps_are_the_same(device: torch.device) -> None:
    given = problem(device)
    for _ in range(2):  # recorded, and replayed
        assert_close(adjoint_recorded(given), adjoint(problem(torch.device("cpu"))))


def test_no_student_step_waits(device: torch.device) -> None:
    given = problem(device)
    adjoint(given)  # libraries choose and take what they need
    with waiting_is_an_error(device):
        adjoint(given)


def test_pictures_of_a_resident_set_are_those_of_the_split(device: torch.device) -> None:
    real = pictures()
    rows = torch.randperm(len(real.train), generator=child(0, "rows")).split(16)
    for (_, found), (_, wanted) in zip(on_device(real.train, device)(rows), real.train.stream(rows), strict=True):
        assert found.device.type == device.type
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-7)


def test_a_seeded_block_leaves_the_streams_as_they_were(device: torch.device) -> None:
    torch.rand(3, device=device)
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    with isolated(0, "x", device=device):
        first = torch.rand(3, device=device)
    with isolated(0, "x", device=device):
        assert torch.equal(torch.rand(3, device=device), first)
    assert torch.equal(torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state(), state)


def test_an_expert_ends_near_that_of_the_cpu(device: torch.device) -> None:
    real = pictures()
    recipe = ExpertRecipe(model="convnet(width=8)", batch_size=32, snapshot_every=4, snapshot_unit="step", lr=0.01)
    ends = []
    for place in (device, torch.device("cpu")):
        trainer = ExpertTrainer(recipe, real, make_transform(real, False), place)
        stream = trainer.snapshots(0)
        ends.append([next(stream) for _ in range(2)][-1].theta)
    start = make_student(recipe, real, 0).initial
    assert float((ends[0] - ends[1]).norm()) < 0.05 * float((ends[1] - start).norm())


def test_fresh_networks_learn_on_it(device: torch.device) -> None:
    real = pictures()
    small = dd.distill(real, "random", ipc=3, device=device, train={"model": "mlp", "steps": 50})
    assert NetworkLearner(device=device).fit(small, 0).score(real.train) > 0.6


@pytest.mark.parametrize("name", [name for name in METHODS if kind_of(name) == "images"])
def test_a_method_gives_the_same_bytes_twice(name: str, device: torch.device, tmp_path: object) -> None:
    first, second = (
        dd.distill(pictures(), tiny(name), device=device, store=f"{tmp_path}/{i}", progress=False) for i in range(2)
    )
    assert torch.isfinite(first.pixels()).all()
    assert first == second
