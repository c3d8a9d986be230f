"""Every published row of trajectory matching, for thirty iterations: its step size, beside the rule as published.

On two classes of digits at 16 px with `convnet(width=8)`, with the row's M, N, batch, outer steps and start.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dd
from dd.base.process import own_settings
from dd.methods import METHODS, Run, TrajectoryMatching, class_of
from dd.methods.presets import preset, rows

ITERATIONS = 30
MATCHING = [name for name in METHODS if class_of(name) is TrajectoryMatching]
CELLS = [(m, r["dataset"], r["ipc"]) for m in MATCHING for r in rows(m) if r["tier"] == "paper"]


def published(cell: tuple[str, str, int]) -> dd.TrajectoryMatching:
    method, data, ipc = cell
    made = METHODS[method](**preset(method, data, ipc, "paper").fields)
    assert isinstance(made, dd.TrajectoryMatching)
    return made


def small(cell: tuple[str, str, int]) -> dd.TrajectoryMatching:
    """The row on little data: its first starts are those of a store with few snapshots, one expert, no DSA."""
    made = published(cell)
    expert = dd.ExpertRecipe(
        model="convnet(width=8)",
        lr=0.01,
        experts=1,
        snapshots=3 + made.expert_epochs,
        augment="",
        batch_size=64,
    )
    ipc = min(made.ipc, 2)
    batch = None if made.batch_syn is None or made.batch_syn >= 2 * ipc else made.batch_syn
    return dataclasses.replace(
        made,
        ipc=ipc,
        expert=expert,
        iterations=ITERATIONS,
        batch_syn=batch,
        min_start_epoch=0,
        max_start_epoch=3,
        current_start_epoch=None,
        window_iterations=0,
        candidate_every=0,
        skip_above=math.inf,
    )


def outer(value: dd.TrajectoryMatching) -> tuple[Any, ...]:
    """What makes one row another one here."""
    told = {k: v for k, v in value.describe().items() if k not in ("name", "train")}
    return tuple(sorted((k, str(v)) for k, v in told.items()))


DISTINCT = list({outer(small(cell)): cell for cell in reversed(CELLS)}.values())[::-1]
"""A row for each set of settings that several rows share."""
WORST = sorted(DISTINCT, key=lambda cell: -small(cell).lr_lr / small(cell).lr_init ** 2)[:1]
"""Where lr_lr / β₀² is largest; the others are slow tests."""


@pytest.fixture(scope="module")
def real() -> dd.Images:
    digits = dd.load_images("digits")
    keep = (digits.train.labels < 2).nonzero()[:, 0]
    return dd.Images(train=(digits.train.pixels(keep), digits.train.labels[keep]), size=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def run(value: dd.TrajectoryMatching, real: dd.Images, store: Path) -> list[tuple[float, float, Tensor]]:
    """(L, β after the iteration, images) of each iteration."""
    with own_settings():
        steps = value.distill(real, Run(store=store))
        return [
            (float(s.metrics.get("loss", math.nan)), float(s.state["lr"]), s.state["images"].clone()) for s in steps
        ]


def check_row(cell: tuple[str, str, int], real: dd.Images, store: Path) -> None:
    value = small(cell)
    kept = run(value, real, store)
    raw = run(dataclasses.replace(value, lr_mode="raw"), real, store)
    betas = [value.lr_init, *(beta for _, beta, _ in kept)]
    assert all(0 < beta < math.inf for beta in betas)
    assert not all(abs(loss - 1) < 1e-4 for loss, _, _ in kept[-5:])
    clamped = next((i for i in range(ITERATIONS) if betas[i + 1] == betas[i] / 2), ITERATIONS)
    for a, b in zip(kept[:clamped], raw[:clamped], strict=True):
        assert a[:2] == b[:2]
        assert torch.equal(a[2], b[2])


@pytest.mark.parametrize("cell", WORST, ids=str)
def test_worst_published_rows_keep_their_step_size(cell: tuple[str, str, int], real: dd.Images, store: Path) -> None:
    check_row(cell, real, store)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [c for c in DISTINCT if c not in WORST], ids=str)
def test_published_rows_keep_their_step_size(cell: tuple[str, str, int], real: dd.Images, store: Path) -> None:
    check_row(cell, real, store)
