"""Golden numbers: what the published code of MTT, FTD and TESLA computes, in float64, and what `dd` computes.

The authors' code was run once, outside this repository, on the problem that is built here. Losses and gradients are in
`tests/data/golden_trajectory.safetensors` and `.json`; the latter names repository, commit and lines of every case and
what was fixed. In float32 ReLU masks flip at rounding level, so there are no float32 golden numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dd.experts.steps import gsam_direction, sgd_update
from dd.inner import InnerStep, Matching, Problem, Student, Target, adjoint, unroll
from dd.methods.trajectory import papers
from dd.methods.trajectory.loop import Loop
from dd.models import build
from dd.transforms.dsa import DSA, Draw

DATA = Path(__file__).resolve().parents[1] / "data"
N_IMAGES, CLASSES, CHANNELS, SIDE = 7, 3, 2, 8
IDENTITY = DSA("none")
ENGINES: list[Callable[[Problem], Matching]] = [
    partial(adjoint, reuse=0),
    partial(adjoint, micro_batch=2, reuse=1),
    unroll,
]


@cache
def golden() -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """The cases, and their tensors named `case/tensor`."""
    cases = json.loads((DATA / "golden_trajectory.json").read_text())["cases"]
    return cases, load_file(DATA / "golden_trajectory.safetensors")


def numbers(count: int, seed: int) -> Tensor:
    """float64 `[count]` in [−1, 1) by integer arithmetic alone: the same on every machine and version."""
    mask = 0xFFFFFFFF
    h = (torch.arange(count, dtype=torch.int64) + 1 + 7919 * seed) * 2654435761 & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        h = ((h ^ (h >> shift)) * factor) & mask
    return (h ^ (h >> 16)).double() / 2**31 - 1


def student() -> Student:
    text = "convnet(width=8, depth=2)"
    return Student(build(text, channels=CHANNELS, classes=CLASSES, size=(SIDE, SIDE), seed=0, dtype=torch.float64))


def snapshots(size: int) -> list[Tensor]:
    """An expert of three snapshots θ `[P]`."""
    found = [0.5 * numbers(size, 1)]
    for seed in (2, 3):
        found.append(found[-1] + 0.05 * numbers(size, seed))
    return found


def pictures() -> Tensor:
    return 1.5 * numbers(N_IMAGES * CHANNELS * SIDE * SIDE, 10).view(N_IMAGES, CHANNELS, SIDE, SIDE)


def hard_labels() -> Tensor:
    return torch.arange(N_IMAGES) % CLASSES


def soft_labels() -> Tensor:
    return (2 * numbers(N_IMAGES * CLASSES, 11).view(N_IMAGES, CLASSES)).softmax(1)


def parameters(option: str, drawn: list[list[Any]]) -> dict[str, Tensor]:
    """A draw of one option from the random numbers, by the formulas of the DSA paper."""
    kind = torch.int64 if option in ("crop", "cutout") else torch.float64
    u = [torch.tensor(values, dtype=kind) for values in drawn]
    hole = SIDE // 2
    if option == "color":
        return {"brightness": u[0] - 0.5, "saturation": 2 * u[1], "contrast": u[2] + 0.5}
    if option == "crop":
        return {"y": u[0], "x": u[1]}
    if option == "cutout":
        side = torch.full_like(u[0], hole)
        return {"top": u[0] - hole // 2, "left": u[1] - hole // 2, "height": side, "width": side}
    if option == "flip":
        return {"mirrored": u[0] < 0.5}
    if option == "scale":
        return {name: value * (1.2 - 1 / 1.2) + 1 / 1.2 for name, value in zip("xy", u, strict=True)}
    angle = (u[0] - 0.5) * 2 * math.pi * 15 / 180
    return {"cos": angle.cos(), "sin": angle.sin()}


def plan(case: Mapping[str, Any]) -> list[InnerStep]:
    """Batches and augmentation of a case's student steps."""
    steps = []
    for i, index in enumerate(case["steps"]):
        draw = Draw(len(index), (SIDE, SIDE))
        if "draws" in case:
            option = case["draws"][i]["option"]
            draw = Draw(len(index), (SIDE, SIDE), ((option, parameters(option, case["draws"][i]["numbers"])),))
        steps.append(InnerStep(torch.tensor(index), draw))
    return steps


def problem(case: Mapping[str, Any], labels: Tensor, **fields: Any) -> Problem:
    net = student()
    ends = snapshots(net.size)
    base: dict[str, Any] = {
        "student": net,
        "theta": ends[0],
        "targets": [Target(len(case["steps"]), ends[1])],
        "images": pictures(),
        "labels": labels,
        "lr": torch.tensor(case["beta"], dtype=torch.float64),
        "steps": plan(case),
    }
    return Problem(**{**base, **fields})


def same(found: Tensor, expected: Tensor | float) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    assert found.dtype == torch.float64
    assert float((found - expected).norm()) <= 1e-10 * float(expected.norm())


@pytest.mark.parametrize("engine", ENGINES, ids=["adjoint", "micro-batches", "unroll"])
@pytest.mark.parametrize("name", ["mtt_plain", "mtt_dsa"])
def test_mtt(name: str, engine: Callable[[Problem], Matching]) -> None:
    """Loss, both gradients and the end of the student's training, plain and through each option of DSA."""
    cases, tensors = golden()
    case = cases[name]
    answer = engine(problem(case, hard_labels()))
    same(answer.loss, case["loss"])
    same(answer.images, tensors[f"{name}/images"])
    same(answer.lr, case["lr"])
    same(answer.theta, tensors[f"{name}/theta"])


@pytest.mark.parametrize("engine", ENGINES, ids=["adjoint", "micro-batches", "unroll"])
@pytest.mark.parametrize("name", ["tesla_one", "tesla_plain", "tesla_soft", "tesla_dsa"])
def test_tesla(name: str, engine: Callable[[Problem], Matching]) -> None:
    """Its pixel gradient is half of ours, for `2 * grad(...)` repeats a tuple instead of doubling; dL/dβ is whole."""
    cases, tensors = golden()
    case = cases[name]
    labels = soft_labels() if name == "tesla_soft" else hard_labels()
    p = problem(case, labels, gradient="detached")
    answer = engine(p)
    same(answer.loss, case["loss"])
    same(0.5 * answer.images, tensors[f"{name}/images"])
    same(answer.lr, case["lr"])


def test_tesla_is_exact_for_one_step_only() -> None:
    cases, tensors = golden()
    answer = adjoint(problem(cases["tesla_one"], hard_labels()))
    same(0.5 * answer.images, tensors["tesla_one/images"])
    same(answer.lr, cases["tesla_one"]["lr"])
    same(adjoint(problem(cases["tesla_plain"], hard_labels())).loss, cases["tesla_plain"]["loss"])
    exact, detached = tensors["mtt_plain/images"], 2 * tensors["tesla_plain/images"]
    assert cases["mtt_plain"]["steps"] == cases["tesla_plain"]["steps"]
    assert float((exact - detached).norm() / exact.norm()) > 0.1


@pytest.mark.parametrize("name", ["ftd_gsam", "ftd_gsam_plain"])
def test_flat_expert_steps(name: str) -> None:
    """Three steps of GSAM on three batches: losses, directions and where they lead."""
    cases, tensors = golden()
    case = cases[name]
    net = student()
    theta, still = snapshots(net.size)[0], torch.zeros(net.size, dtype=torch.float64)
    for k, batch in enumerate(case["batches"]):
        x, y = pictures()[batch], hard_labels()[batch]

        def gradient(point: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            leaf = point.detach().requires_grad_()
            return torch.autograd.grad(net.loss(leaf, x, y), leaf)[0]

        same(net.loss(theta, x, y), case["losses"][k])
        direction = gsam_direction(theta, gradient, case["rho"], case["alpha"], case["adaptive"])
        same(direction, tensors[f"{name}/direction{k}"])
        theta, _ = sgd_update(theta, direction, still, case["lr"], 0.0, 0.0)
    same(theta, tensors[f"{name}/theta2"])


def test_outer_iterations_and_average_of_ftd() -> None:
    """Three outer iterations with their optimisers (momentum 0.5) and the average of the images after each."""
    cases, tensors = golden()
    case = cases["ftd_ema"]
    method = papers.FTD(
        ema=case["decay"],
        lr_img=case["lr_img"],
        lr_lr=case["lr_lr"],
        momentum_img=case["momentum"],
        momentum_lr=case["momentum"],
        lr_mode="raw",
    )
    loop: Any = SimpleNamespace(method=method)
    images, beta = pictures(), torch.tensor(case["beta"], dtype=torch.float64)
    state: dict[str, Tensor] = {"images": images, "lr": beta, "ema": images}
    for k, iteration in enumerate(case["iterations"]):
        net = student()
        ends = snapshots(net.size)[iteration["start"] : iteration["start"] + 2]
        target = [Target(len(iteration["steps"]), ends[1])]
        now = {"theta": ends[0], "targets": target, "images": state["images"], "lr": state["lr"]}
        answer = adjoint(problem({**iteration, "beta": 0.0}, hard_labels(), **now))
        same(answer.loss, iteration["loss"])
        same(answer.images, tensors[f"ftd_ema/gradient{k}"])
        same(answer.lr, iteration["lr_gradient"])
        state.update(Loop._update(loop, state, answer))
        same(state["lr"], iteration["lr"])
    same(state["images"], tensors["ftd_ema/images"])
    same(state["ema"], tensors["ftd_ema/ema"])


def test_every_case_names_its_origin() -> None:
    cases, tensors = golden()
    for name, case in cases.items():
        origin = case["origin"]
        assert len(origin["commit"]) == 40
        assert origin["repository"].count("/") == 1
        assert origin["where"]
        assert origin["torch"]
        assert any(key.startswith(f"{name}/") for key in tensors)
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())
