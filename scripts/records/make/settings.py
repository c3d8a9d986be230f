"""The settings search: which setting of SRe2L++ lifts its images above random ones under the same labels, and by what.

    python -m scripts.records.make.settings --root DATA [--store TEACHERS] [--only TEXT] [--threads 1]

One factor at a time around the former `cpu` preset (200 iterations from medium patches), the preset that this led to,
and random real images under each kind of labels. Networks are scored on the **validation** split, held out of train and
unseen by teachers, images and networks; the test set is not read. A setting is one record; like `run.py`
it resumes, and processes can share the list.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import dd
from dd.base.home import home
from dd.base.seeding import child_seed
from dd.data import Source
from dd.evaluation import EvalReport, NetworkLearner, Row, origin
from dd.methods.panel import seat
from dd.methods.presets import preset, replace_fields
from dd.run.resolve import load_real
from scripts.records.make import run

METHOD, DATASET, IPC, NETWORKS = "sre2l++", "cifar10", 10, 2
PRESET = ("preset", "cpu")
BEFORE = {"init": "medium", "iterations": 200}  # what the preset had when the search began


@dataclass(frozen=True)
class Setting:
    """One record: what is changed in the preset, and whether recovered or random real images are labelled."""

    factor: str
    value: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    images: str = "recovered"
    dataset: str = DATASET
    ipc: int = IPC

    @property
    def name(self) -> str:
        words = f"{self.dataset} ipc{self.ipc} {self.factor} {self.value} {self.images}"
        return "settings-" + re.sub(r"[^a-z0-9.]+", "-", words.lower())

    def random(self) -> Setting:
        """Random real images under the labels of this setting."""
        return Setting(self.factor, self.value, self.changes, "random", self.dataset, self.ipc)


IMAGES: dict[str, dict[str, dict[str, Any]]] = {  # the labels stay those of the preset
    "start": {"noise": {"init": "noise"}, "real": {"init": "real"}, "easy patches": {"init": "rded"}},
    "statistics weight": {"0.01": {"bn_weight": 0.01}, "1": {"bn_weight": 1.0}},
    "views in recovery": {"none": {"crop": False, "jitter": 0}, "one an image": {"shared_crop": False}},
    "iterations": {str(t): {"iterations": t} for t in (0, 50, 500)},
    "start and iterations": {"real, 50": {"init": "real", "iterations": 50}},
}
LABELS: dict[str, dict[str, dict[str, Any]]] = {  # with random images of their own
    "teacher epochs": {str(e): {"teacher": {"epochs": e}} for e in (1, 15)},
    "temperature": {str(t): {"train": {"temperature": float(t)}} for t in (1, 5)},
}
SETTINGS = [
    Setting(*PRESET),
    Setting(*PRESET).random(),
    *(Setting(factor, value, changes) for factor, each in IMAGES.items() for value, changes in each.items()),
    *(
        setting
        for factor, each in LABELS.items()
        for value, changes in each.items()
        for setting in (Setting(factor, value, changes), Setting(factor, value, changes).random())
    ),
]


@lru_cache(maxsize=1)
def data(dataset: str, root: Path) -> dd.Images:
    """The data, loaded once."""
    return load_real(dataset, Source(root=root))


def method(setting: Setting) -> dd.methods.Recover:
    """The preset's method with the setting's changes."""
    row = preset(METHOD, setting.dataset, setting.ipc, "cpu")
    changed = replace_fields(dd.methods.METHODS[METHOD](**row.fields), {**BEFORE, **setting.changes})
    assert isinstance(changed, dd.methods.Recover)
    return changed.of_random_images() if setting.images == "random" else changed


def measure(setting: Setting, root: Path, store: Path) -> dict[str, Any]:
    """Make one set and score its networks on the validation split."""
    real, made_by, road = data(setting.dataset, root), method(setting), dd.methods.Run(store=store)
    seat(made_by.committee, made_by.teacher, made_by.priors, made_by.class_ids, real, road)  # trained before the clock
    told = {"factor": setting.factor, "value": setting.value, "images": setting.images, "changes": setting.changes}
    return {"setting": {**told, "dataset": setting.dataset, "ipc": setting.ipc}, **tried(made_by, real, road, NETWORKS)}


def tried(made_by: dd.Method, real: dd.Images, road: dd.methods.Run, networks: int) -> dict[str, Any]:
    """Distil one set, and the accuracy of fresh networks on the validation split under its own recipe."""
    assert real.val is not None
    device = torch.device("cpu")
    start, begun = time.monotonic(), time.process_time()
    small = list(made_by.distill(real, road))[-1].candidates[0].set
    assert isinstance(small, dd.SyntheticImages)
    seconds, start, spent = time.monotonic() - start, time.monotonic(), time.process_time() - begun
    learner = NetworkLearner(device=device)
    values = [learner.fit(small, child_seed(0, "settings", r)).score(real.val) for r in range(networks)]
    row = Row(
        set=made_by.name,
        model=small.recipe.model,
        values=tuple(values),
        steps=small.recipe.steps,
        lr=small.recipe.lr,
        seconds=time.monotonic() - start,
    )
    report = EvalReport(
        dataset=real.name,
        split="val",
        protocol="clean",
        selection="last iterate",
        method=f"{made_by.name}, {len(small)} images",
        rows=(row,),
        bytes=small.nbytes._asdict(),
        origin=origin(road.seed, device),
    )
    return {
        "report": report.to_json(),
        "distill_seconds": round(seconds, 1),
        "distill_cpu_seconds": round(spent, 1),
        "method": dict(small.method),
    }


def main() -> None:
    """Work through the list."""
    options = run.options(__doc__, "cifar10/", store="where trained teachers are kept")
    for setting in SETTINGS:
        if options.only in setting.name:
            store = home("expert_trajectories", options.store)
            run.once(setting.name, lambda setting=setting, store=store: measure(setting, options.root, store))


if __name__ == "__main__":
    main()
