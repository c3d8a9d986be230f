"""Estimates of distribution matching: what they count is what a run does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dd
from dd.cost import distribution
from dd.cost.forward import forward_cost
from dd.cost.work import Work, stages
from dd.experts import make_student
from dd.methods import DM, IDM, NCFM, DistributionMatching
from dd.models import ConvNet
from dd.testing.made import pictures

CPU = torch.device("cpu")
NET = dd.ExpertRecipe(
    model="convnet(width=4, depth=1)", batch_size=8, experts=2, snapshots=3, snapshot_every=2, snapshot_unit="step"
)
FEW: dict[str, Any] = {"ipc": 2, "expert": NET, "iterations": 4, "batch_real": 5}
METHOD = {
    "dm": DM(**FEW),
    "idm": IDM(**FEW, queue=2, queue_every=2, queue_steps=3),
    "ncfm": NCFM(**FEW, frequencies=6, last_snapshot=2),
    "factor": DM(**{**FEW, "ipc": 1}, factor=2, mirror=False, storage="uint8"),
    "candidates": DM(**FEW, candidate_every=2, train=dd.TrainRecipe(steps=5, model="mlp")),
}


def works_of(method: DistributionMatching, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What the estimate of a method is made of."""
    kept: list[Work] = []

    def stand_in(works: list[Work], *rest: Any) -> tuple[dict[str, float], float]:
        kept.extend(works)
        return stages(works, *rest)

    monkeypatch.setattr(distribution, "stages", stand_in)
    distribution.estimate_distribution(method, pictures(), CPU, False)
    return kept


@pytest.mark.parametrize("name", METHOD)
def test_what_is_counted_is_what_a_run_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes of pictures by whether there is a gradient, and to what."""
    method, seen = METHOD[name], Counter[str]()

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(module, ConvNet) or (len(output) == 2 and not output.requires_grad):  # two: a probe
            return
        key = "looked at" if not output.requires_grad else "synthetic" if inputs[0].requires_grad else "trained"
        seen[key] += len(output)

    works = works_of(method, monkeypatch)
    handle = nn.modules.module.register_module_forward_hook(hook)  # type: ignore[arg-type]
    try:
        dd.distill(pictures(), method, store=tmp_path, progress=False)
    finally:
        handle.remove()
    matching = next(work for work in works if work.stage == "matching")
    assert matching.calls == 4
    pictures_of_a_class = 4 if name == "factor" else 2
    assert matching.images == 3 * (5 + pictures_of_a_class)
    twice = 2 if method.class_term == "trained" else 1  # the trained end sees the synthetic images too
    assert seen["synthetic"] == 4 * 3 * pictures_of_a_class * twice
    assert matching.passes == 1 + 2 * twice
    student = make_student(NET, pictures(), 0)
    flops = forward_cost(student.module, 3, (8, 8)).flops + 2 * 6 * 64 * (name == "ncfm")  # t of 6 x 64
    expected = flops * (3 * 5 + 2 * twice * 3 * pictures_of_a_class)
    assert matching.images * matching.passes * matching.network.flops == pytest.approx(expected, rel=1e-3)
    counted = Counter[str]()
    for work in works:
        if work.stage in ("experts", "networks", "selection"):
            counted["looked at" if work.passes == 1 else "trained"] += int(work.calls * work.images)
    assert seen["trained"] == counted["trained"]
    assert seen["looked at"] == counted["looked at"] + 4 * 3 * 5


def test_what_a_run_keeps_is_what_it_writes(tmp_path: Path) -> None:
    for name in ("dm", "factor", "ncfm"):
        small = dd.distill(pictures(), METHOD[name], store=tmp_path, progress=False)
        found = dd.estimate(pictures(), METHOD[name])
        assert found.set_bytes == small.nbytes.images + small.nbytes.labels
        written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and path.suffix)
        assert found.disk_bytes == written
    assert dd.estimate(pictures(), METHOD["idm"]).disk_bytes == 0


def test_more_of_anything_costs_more() -> None:
    def cost(method: DistributionMatching) -> tuple[float, int]:
        found = dd.estimate(pictures(), method)
        return found.seconds, found.peak_bytes

    for name, more in (
        ("dm", {"batch_real": 30}),
        ("dm", {"ipc": 9}),
        ("idm", {"iterations": 40}),
        ("ncfm", {"frequencies": 9000}),
    ):
        few, many = cost(METHOD[name]), cost(dataclasses.replace(METHOD[name], **more))  # type: ignore[arg-type]
        assert many[0] > few[0]
        assert many[1] >= few[1]
    whitened = dataclasses.replace(METHOD["dm"], expert=dataclasses.replace(NET, whiten=True))
    assert cost(whitened)[0] > cost(METHOD["dm"])[0]
