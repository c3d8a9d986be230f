"""One-shot federated distillation of digits: ten parties' sets merged, beside one set of all data and real images.

    python -m scripts.records.make.federated [--store EXPERTS] [--threads 1]

The training images are dealt to ten parties, evenly and by chance (IID). Each party trains experts on its own part,
learns one image a class by `mtt`, and gives away this set alone. The validation split is nobody's. All sets but that of
one party have ten images a class; their networks take the same number of optimiser steps. The set of all data sees as
many synthetic pictures in its matching as those of all parties together. A record a deal: another one has other
experts, draws and networks too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Final

import torch

import dd
from dd.base.home import home
from dd.base.seeding import child, child_seed
from dd.evaluation import origin
from dd.methods.presets import preset
from dd.synthetic import SyntheticImages
from scripts.records import kept
from scripts.records.make import run

PARTIES: Final = 10
DEALS: Final = 3
NETWORKS: Final = 2
STEPS: Final = 1000
EXPERTS: Final = 2
ITERATIONS: Final = {1: 50, PARTIES: 100}
"""By images a class; a student step of the larger set sees five times as many pictures."""


def deal(whole: dd.Images, number: int) -> list[dd.Images]:
    """The training images as parts of equal size, with one normalisation for all parties."""
    order = torch.randperm(len(whole.train), generator=child(number, "parties"))
    pixels, labels = (whole.train.pixels() * 255).round().to(torch.uint8), whole.train.labels
    constants: dict[str, Any] = {"classes": whole.classes, "mean": whole.mean, "std": whole.std}
    parts = enumerate(order.tensor_split(PARTIES))
    return [dd.Images(train=(pixels[rows], labels[rows]), name=f"party {i}", **constants) for i, rows in parts]


def mtt(ipc: int) -> dd.TrajectoryMatching:
    """The two-core preset with fewer experts and iterations."""
    row = preset("mtt", "digits", ipc, "cpu").fields
    expert = dataclasses.replace(row["expert"], experts=EXPERTS)
    return dd.MTT(**{**row, "expert": expert, "iterations": ITERATIONS[ipc]})


def sets_of(whole: dd.Images, number: int, store: Path) -> dict[str, SyntheticImages]:
    """The sets of a deal, by the names of their rows."""
    out = kept.RUNS / f"federated-{number}"
    road: dict[str, Any] = {"seed": number, "store": store, "progress": False}
    dealt = enumerate(deal(whole, number))
    parties: list[Any] = [dd.distill(part, mtt(1), out=out / f"party{i}", **road) for i, part in dealt]
    central: Any = dd.distill(whole, mtt(PARTIES), out=out / "all", **road)
    drawn: Any = dd.distill(whole, "random", ipc=PARTIES, train=parties[0].recipe.to_json(), **road)
    merged = dd.merge(parties, recipe=0)
    return {"merged": merged, "all data": central, "random": drawn, "one party": parties[0]}


def measure(number: int, store: Path) -> dict[str, Any]:
    """A row a set, of the test images of the whole data."""
    whole, rows = dd.load_images("digits"), {}
    options: dict[str, Any] = {"repeats": NETWORKS, "steps": STEPS, "baselines": (), "out": False, "progress": False}
    with run.counted(kept.RUNS / f"federated-{number}" / "spent.json") as spent:
        for name, small in sets_of(whole, number, store).items():
            report = dd.evaluate(small, whole, seed=child_seed(number, "networks"), **options)
            rows[name] = {**report.rows[0].to_json(), "images": len(small), "bytes": small.nbytes._asdict()}
    return {
        "dataset": "digits",
        "parties": PARTIES,
        "deal": number,
        "images_of_a_party": len(deal(whole, number)[0].train),
        "rows": rows,
        "method": mtt(1).describe(),
        "cpu_seconds": round(spent["cpu_seconds"], 1),
        "origin": origin(number, torch.device("cpu")),
    }


def main() -> None:
    """Make the records that are not there."""
    options = run.options(__doc__, "nothing: digits come with scikit-learn", store="where experts are kept")
    store = home("expert_trajectories", options.store)
    for number in range(DEALS):
        run.once(f"federated-digits-{number}", lambda number=number: measure(number, store))


if __name__ == "__main__":
    main()
