"""What rounding a distilled set costs: one set a seed, its networks on it in float32, float16 and 256 levels.

    python -m scripts.records.make.storage --root DATA [--work FOLDER] [--seeds 10] [--threads 1]

A seed is one set of MTT, ten images a class of CIFAR-10 by the `cpu` preset, distilled in float32 and packed
(`SyntheticImages.pack`). Networks of the three forms share initialisation, order and augmentation, so their differences
are paired; accuracies are of the validation split, which decides on a default, and of the test split, for readers. A
seed is one record and resumes inside: the run folder and the experts lie in FOLDER. At the end the table is printed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

import dd
from dd.base.seeding import child_seed
from dd.data import Source
from dd.evaluation import NetworkLearner, origin
from dd.methods import Method
from dd.methods.presets import preset
from dd.run.resolve import load_real
from scripts.records import kept
from scripts.records.make import run
from scripts.records.tables.storage import STORAGES, storage_records, storage_table

DATASET: Final = "cifar10"
IPC: Final = 10
NETWORKS: Final = 3


def name_of(seed: int) -> str:
    """Of the record of a seed."""
    return f"storage-{DATASET}-ipc{IPC}-mtt-{seed}"


def method() -> Method:
    """The preset for two cores, in float32."""
    return dd.MTT(**{**preset("mtt", DATASET, IPC, "cpu").fields, "storage": "fp32"})


def measure(real: dd.Images, seed: int, work: Path) -> dict[str, Any]:
    """Distil the set of a seed, or go on with it, and train the same networks on its three forms."""
    assert real.val is not None
    assert real.test is not None
    start, value, out = time.process_time(), method(), work / name_of(seed)
    begun = out.exists()
    road: dict[str, Any] = {"seed": seed, "out": out, "store": work / "experts", "progress": False}
    small: Any = dd.distill(real, value, **road)
    distilled, learner = time.process_time(), NetworkLearner(device=torch.device("cpu"))
    forms: dict[str, dict[str, Any]] = {}
    for storage in STORAGES:
        packed = small.pack(storage)
        nets = [learner.fit(packed, child_seed(seed, "storage", r)) for r in range(NETWORKS)]
        scores = {name: [net.score(split) for net in nets] for name, split in (("val", real.val), ("test", real.test))}
        forms[storage] = {**scores, "bytes": packed.nbytes._asdict()}
    return {
        "dataset": DATASET,
        "ipc": IPC,
        "seed": seed,
        "forms": forms,
        "method": dict(small.method),
        "recipe": small.recipe.to_json(),
        "distill_cpu_seconds": None if begun else round(distilled - start, 1),
        "networks_cpu_seconds": round(time.process_time() - distilled, 1),
        "origin": origin(seed, torch.device("cpu")),
    }


def main() -> None:
    """Make the records that are not there, and print the table."""
    more: Mapping[str, dict[str, Any]] = {
        "--work": {"type": Path, "default": kept.RUNS / "storage", "help": "where run folders and experts lie"},
        "--seeds": {"type": int, "default": 10, "help": "how many sets, from seed 0 on"},
    }
    given = run.options(__doc__, "cifar10/", more=more)
    real = load_real(DATASET, Source(root=given.root))
    for seed in range(given.seeds):
        run.once(name_of(seed), lambda seed=seed: measure(real, seed, given.work))
    print("\n".join(storage_table(storage_records())))


if __name__ == "__main__":
    main()
