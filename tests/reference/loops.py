"""A small trajectory matching on digits, and its loop with the experts that it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dd
from dd.experts import ExpertStore
from dd.methods import Run
from dd.methods.trajectory.loop import Loop
from dd.transforms.whiten import make_transform

FEW: dict[str, Any] = {"augment": "flip_crop", "batch_size": 64, "snapshot_every": 4, "snapshot_unit": "step"}
RECIPE = dd.ExpertRecipe(model="convnet(width=4)", lr=0.05, experts=2, snapshots=4, **FEW)


def method(**fields: Any) -> dd.TrajectoryMatching:
    """Two iterations of three student steps on a tiny network."""
    base: dict[str, Any] = {
        "ipc": 1,
        "expert": RECIPE,
        "iterations": 2,
        "student_steps": 3,
        "expert_epochs": 2,
        "max_start_epoch": 2,
        "lr_img": 10.0,
        "train": dd.TrainRecipe(steps=3),
    }
    return dd.TrajectoryMatching(**{**base, **fields})


def loop(value: dd.TrajectoryMatching, real: dd.Images, store: Path, **road: Any) -> Loop:
    """The loop of a method with its experts, which are made where they are missing."""
    transform = make_transform(real, value.expert.whiten)
    experts = ExpertStore(store, value.expert, real)
    experts.ensure(transform, snapshots=value.snapshots_read)
    return Loop(value, real, Run(store=store, **road), transform, experts)
