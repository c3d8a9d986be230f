"""One published row, run as published as far as the hours go, with the test accuracy of every candidate beside it.

    python -m scripts.records.make.published mtt cifar10 1 --experts 20 --iterations 2500 --root DATA --work FOLDER

The row's settings are those of `preset="paper"`; what differs is said in the record: the number of experts and of
iterations, how often a candidate is offered, and `protocol="clean"`, so that the iterate is chosen on held-out training
images. Test accuracies of all candidates are logged on the way, and their maximum is told as what the papers' way would
print. Experts, run folder and log are in FOLDER; the same command goes on where it was stopped. `--hours` ends it in
time, with what there is. The record is `published-DATA-ipcN-METHOD`.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import dd
from dd.base.files import append_jsonl, read_json, read_jsonl
from dd.base.process import tune_process
from dd.base.seeding import child_seed
from dd.errors import DivergedError
from dd.evaluation import NetworkLearner, mean_std, origin
from dd.experts import ExpertStore
from dd.methods import METHODS, Run, Step
from dd.methods.presets import preset
from dd.transforms.whiten import make_transform
from scripts.records import kept

TESTED = 3
"""Fresh networks a candidate for its test accuracy, which chooses nothing."""


@dataclass(frozen=True)
class Watched:
    """A method whose candidates are also tested, into a log; the sets are those of the method.

    Attributes:
        inner: the method.
        log: JSON lines: candidate, iteration, test accuracies.
        until: `time.monotonic()` at which the run is interrupted, as by Ctrl-C.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    inner: dd.TrajectoryMatching
    log: Path
    until: float

    @property
    def name(self) -> str:
        """That of the method."""
        return self.inner.name

    @property
    def ipc(self) -> int:
        """That of the method."""
        return self.inner.ipc

    def describe(self) -> dict[str, Any]:
        """That of the method."""
        return self.inner.describe()

    def distill(self, real: Any, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """The steps of the method."""
        known = {(row["candidate"], row["iteration"]) for row in read_jsonl(self.log)}
        for step in self.inner.distill(real, run, state):
            for candidate in step.candidates:
                if (candidate.name, candidate.iteration) not in known:
                    values = tested(candidate.set, real, run.seed)
                    told = {"candidate": candidate.name, "iteration": candidate.iteration, "values": values}
                    append_jsonl(self.log, [told])
            yield step
            if time.monotonic() > self.until:
                raise KeyboardInterrupt


def tested(small: Any, real: dd.Images, seed: int) -> list[float]:
    """Test accuracies of fresh networks on a candidate; 0 where training diverges."""
    learner, values = NetworkLearner(device=torch.device("cpu")), []
    for repeat in range(TESTED):
        try:
            values.append(learner.fit(small, child_seed(seed, "watch", repeat)).score(real.test))
        except DivergedError:
            values.append(0.0)
    return values


def curve(log: Path) -> list[dict[str, Any]]:
    """The candidates' test accuracies in order: mean and spread of each."""
    rows = []
    for row in read_jsonl(log):
        mean, std = mean_std(row["values"])
        rows.append({"candidate": row["candidate"], "iteration": row["iteration"], "mean": mean, "std": std})
    return rows


def made(options: argparse.Namespace) -> dd.TrajectoryMatching:
    """The published row with what two cores cannot do cut down."""
    row = preset(options.method, options.data, options.ipc, "paper")
    value = METHODS[options.method](**row.fields)
    assert isinstance(value, dd.TrajectoryMatching)
    expert = dataclasses.replace(value.expert, experts=options.experts)
    every = options.every or max(1, options.iterations // 5)
    changes: dict[str, Any] = {"expert": expert, "iterations": options.iterations, "candidate_every": every}
    return dataclasses.replace(value, **changes)


def record(options: argparse.Namespace, value: dd.TrajectoryMatching, folder: Path) -> dict[str, Any]:
    """What is kept: settings, published and measured accuracy, the curve, and the maximum on the test set."""
    row = preset(options.method, options.data, options.ipc, "paper")
    report = dd.evaluate(folder, options.data, root=options.root, repeats=5, seed=options.seed, progress=False)
    points = curve(options.work / "candidates.jsonl")
    best = max(points, key=lambda point: point["mean"])
    told = read_json(folder / "run.json")
    return {
        "row": {"method": options.method, "dataset": options.data, "ipc": options.ipc, "published": row.published},
        "departures": {
            "experts": [row.fields["expert"].experts, value.expert.experts],
            "iterations": [dict(row.fields).get("iterations"), value.iterations],
            "candidate_every": [dict(row.fields).get("candidate_every"), value.candidate_every],
            "protocol": ["paper", "clean"],
        },
        "method": value.describe(),
        "report": report.to_json(),
        "selection": told["selection"],
        "distill_seconds": told["seconds"],
        "test_curve": points,
        "maximum_on_test": {**best, "networks": TESTED, "note": "chosen on the test set, as the papers do"},
        "origin": origin(options.seed, torch.device("cpu")),
    }


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("method", choices=("mtt", "ftd", "datm"))
    parser.add_argument("data")
    parser.add_argument("ipc", type=int)
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=2500)
    parser.add_argument("--every", type=int, default=0, help="iterations between candidates; a fifth of all by default")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="experts, run and log; outside the checkout")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(options: argparse.Namespace) -> int:
    """Buffer, distil, evaluate, keep; 1 where the hours ended first."""
    tune_process(options.threads)
    value, until = made(options), time.monotonic() + 3600 * options.hours
    store, folder = options.work / "store", options.work / "run"
    real = dd.load_images(options.data, root=options.root)
    buffer = ExpertStore(store, value.expert, real)
    for count in range(1, value.expert.experts + 1):  # one at a time, so that the hours can end between two
        if time.monotonic() > until:
            return 1
        transform = make_transform(real, value.expert.whiten)
        buffer.ensure(transform, experts=count, snapshots=value.snapshots_read)
        print(f"experts: {count} of {value.expert.experts}", flush=True)
    watched: Any = Watched(value, options.work / "candidates.jsonl", until)
    try:
        dd.distill(real, watched, out=folder, store=store, seed=options.seed, threads=options.threads)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", flush=True)
        return 1
    kept.keep(f"published-{options.data}-ipc{options.ipc}-{options.method}", record(options, value, folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(parsed()))
