"""The settings search: which setting of SRe2L++ lifts its images above random ones under the same labels, and by what.

    python scripts/records/settings.py --root DATA [--store TEACHERS] [--only TEXT] [--threads 1]

One factor at a time around the former `cpu` preset (200 iterations from medium patches), the preset that this led to,
and random real images under each kind of labels. Networks are scored on the **validation** split, held out of train and
unseen by teachers, images and networks; the test set is not read. A setting is one JSON record beside this file; like
`run.py` it resumes, and processes can share the list.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import run
import torch
from decoupled import percent, points
from scipy import stats

import dd
from dd._home import home
from dd.api import load_real
from dd.evaluation import EvalReport, NetworkLearner, Row, mean_std, origin
from dd.files import read_foreign_json
from dd.methods.panel import seat
from dd.presets import preset, replace_fields
from dd.seeding import child_seed

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
    return load_real(dataset, root=root)


def method(setting: Setting) -> dd.methods.Recover:
    """The preset's method with the setting's changes."""
    row = preset(METHOD, setting.dataset, setting.ipc, "cpu")
    changed = replace_fields(dd.methods.METHODS[METHOD](**row.fields), {**BEFORE, **setting.changes})
    assert isinstance(changed, dd.methods.Recover)
    return changed.of_random_images() if setting.images == "random" else changed


def measure(setting: Setting, root: Path, store: Path) -> dict[str, Any]:
    """Make one set and score its networks on the validation split."""
    real, made_by, device = data(setting.dataset, root), method(setting), torch.device("cpu")
    assert real.val is not None
    road = dd.methods.Run(store=store, device=device)
    seat(made_by.committee, made_by.teacher, made_by.priors, made_by.class_ids, real, road)  # trained before the clock
    start = time.monotonic()
    small = list(made_by.distill(real, road))[-1].candidates[0].set
    seconds, start = time.monotonic() - start, time.monotonic()
    learner = NetworkLearner(device=device)
    values = [learner.fit(small, child_seed(0, "settings", r)).score(real.val) for r in range(NETWORKS)]
    row = Row(
        set=made_by.name,
        model=made_by.train.model,
        values=tuple(values),
        steps=made_by.train.steps,
        lr=made_by.train.lr,
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
        origin=origin(0, device),
    )
    told = {"factor": setting.factor, "value": setting.value, "images": setting.images, "changes": setting.changes}
    return {
        "setting": {**told, "dataset": setting.dataset, "ipc": setting.ipc},
        "report": report.to_json(),
        "distill_seconds": round(seconds, 1),
        "method": dict(small.method),
    }


def found() -> list[dict[str, Any]]:
    """All records of settings that are there."""
    return [read_foreign_json(path) for path in sorted(run.HERE.glob("settings-*.json"))]


def pooled(records: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """(sample standard deviation of one network, its degrees of freedom), pooled over all settings."""
    each = [record["report"]["rows"][0]["values"] for record in records]
    freedom = sum(len(values) - 1 for values in each)
    squares = sum((len(values) - 1) * (mean_std(values)[1] or 0.0) ** 2 for values in each)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def settings_table(records: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table and its notes; none without records."""
    kept = {(r["setting"]["factor"], r["setting"]["value"], r["setting"]["images"]): r for r in records}
    rows = [(key[:2], record) for key, record in kept.items() if key[2] == "recovered"]
    if not rows:
        return []
    values = {key: record["report"]["rows"][0]["values"] for key, record in kept.items()}
    std, freedom = pooled(records)
    best, best_mean = max(((name, mean_std(values[*name, "recovered"])[0]) for name, _ in rows), key=lambda x: x[1])
    about = rows[0][1]
    lines = [
        "",
        f"SRe2L++ on {about['setting']['dataset']}, {about['setting']['ipc']} images a class, one factor at a time "
        "around its former `cpu` preset (200 iterations from medium patches), on **validation** data; one set, "
        f"{about['report']['rows'][0]['n']} networks each:",
        "",
        "| factor | value | recovered images % | random images, same labels % | difference | distil s |",
        "|---|---|---|---|---|---|",
    ]
    order = [(s.factor, s.value) for s in SETTINGS]
    for name, record in sorted(rows, key=lambda row: order.index(row[0]) if row[0] in order else len(order)):
        own = values[*name, "recovered"]
        beside = values.get((*name, "random")) or values.get((*PRESET, "random"))
        cells = [percent(own), *_beside(own, beside, std, freedom), f"{record['distill_seconds']:.0f}"]
        mark = "**" if name == best else ""
        lines.append(f"| {mark}{name[0]}{mark} | {mark}{name[1]}{mark} | {' | '.join(cells)} |")
    sizes = about["report"]["bytes"]
    return [
        *lines,
        "",
        f"Best setting on validation data: {best[0]} {best[1]}, {100 * best_mean:.1f} %; as the largest of {len(rows)} "
        "it is likely to be lower on other data. Differences are in points with their 95 % interval, from a "
        f"standard deviation of one network of {100 * std:.1f} points, pooled over all rows ({freedom} degrees of "
        f"freedom). All have {about['report']['rows'][0]['steps']} steps, {sizes['images']:,} bytes of images and "
        f"{sizes['labels']:,} of labels. Teachers were trained before the clock.",
    ]


def _beside(own: Sequence[float], random: Sequence[float] | None, std: float, freedom: int) -> list[str]:
    """Accuracy of random images, and the difference with its interval; empty where they are not measured yet."""
    if random is None:
        return ["", ""]
    half = math.nan
    if freedom:
        half = float(stats.t.ppf(0.975, freedom)) * std * math.sqrt(1 / len(own) + 1 / len(random))
    return [percent(random), points((mean_std(own)[0] - mean_std(random)[0], half))]


def main() -> None:
    """Work through the list."""
    options = run.options(__doc__, "cifar10/", store="where trained teachers are kept")
    for setting in SETTINGS:
        if options.only in setting.name:
            store = home("expert_trajectories", options.store)
            run.once(setting.name, lambda setting=setting, store=store: measure(setting, options.root, store))


if __name__ == "__main__":
    main()
