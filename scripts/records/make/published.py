"""One published row, run as published as far as the hours go, with the test accuracy of every candidate beside it.

    python -m scripts.records.make.published mtt cifar10 1 --experts 20 --iterations 2500 --root DATA --work FOLDER

The row's settings are those of `preset="paper"`; what differs is said in the record: the number of experts and of
iterations, how often a candidate is offered, and `protocol="clean"`, so that the iterate is chosen on held-out training
images. Test accuracies of all candidates are logged on the way, and their maximum is told as what the papers' way would
print. Experts, run folder and log are in FOLDER; the same command goes on where it was stopped, `--restart` begins the
matching again. `--init RUN` goes on from a finished run of the same row, with more experts: its iterations and curve
count too. `--hours` ends it in time, with what there is. The record is `published-DATA-ipcN-METHOD`; one that is
there already and is of another run stays, unless `--replace` is given.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

import dd
from dd.base.files import append_jsonl, read_json, read_jsonl, remove, write_json
from dd.base.process import tune_process
from dd.base.seeding import child_seed
from dd.errors import DDError, DivergedError, refuse
from dd.evaluation import NetworkLearner, mean_std, origin
from dd.experts import ExpertStore
from dd.methods import METHODS, Run, Step
from dd.methods.presets import preset
from dd.methods.trajectory.given import GivenSet, given_init
from dd.transforms.whiten import make_transform
from scripts.records import kept

LOG = "candidates.jsonl"
"""In the run folder, so that it goes with the run whose candidates it tells of."""

BEFORE = "before.json"
"""In the run folder: the runs that it goes on from."""

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
    if options.init is not None:
        start = given_init(str(options.init))
        assert isinstance(start, GivenSet)
        changes |= {"init": start, "lr_init": start.small.recipe.lr}
    return dataclasses.replace(value, **changes)


def earlier(folder: Path | None) -> list[dict[str, Any]]:
    """The runs that led to the set of a run folder, first one first: experts, iterations, seconds, and their curve.

    A set is that of the iteration which was chosen: what came after it does not count, nor is it in the curve, whose
    iterations are counted from the beginning of the first run.
    """
    if folder is None:
        return []
    told = read_json(folder / "run.json")
    found = read_json(folder / BEFORE)["runs"] if (folder / BEFORE).exists() else []
    last, experts = told["selection"]["iteration"], told["request"]["method"]["expert"]["experts"]
    points = [point for point in _after(found, folder) if point["iteration"] <= last + _done(found)]
    return [*found, {"experts": experts, "iterations": last, "distill_seconds": told["seconds"], "curve": points}]


def _after(before: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The curve of a run, its iterations counted on from those of the runs before it."""
    return [{**point, "iteration": _done(before) + point["iteration"]} for point in curve(folder / LOG)]


def _done(before: Sequence[Mapping[str, Any]]) -> int:
    return sum(run["iterations"] for run in before)


def record(options: argparse.Namespace, value: dd.TrajectoryMatching, folder: Path) -> dict[str, Any]:
    """What is kept: settings, published and measured accuracy, the curve, and the maximum on the test set."""
    row = preset(options.method, options.data, options.ipc, "paper")
    report = dd.evaluate(folder, options.data, root=options.root, repeats=5, seed=options.seed, progress=False)
    before = earlier(options.init)
    write_json(folder / BEFORE, {"runs": before})
    points = [*(point for run in before for point in run["curve"]), *_after(before, folder)]
    best = max(points, key=lambda point: point["mean"])
    told = read_json(folder / "run.json")
    return {
        "row": {"method": options.method, "dataset": options.data, "ipc": options.ipc, "published": row.published},
        "departures": {
            "experts": [row.fields["expert"].experts, value.expert.experts],
            "iterations": [dict(row.fields).get("iterations"), _done(before) + value.iterations],
            "candidate_every": [dict(row.fields).get("candidate_every"), value.candidate_every],
            "protocol": ["paper", "clean"],
        },
        "method": value.describe(),
        "before": [{name: told for name, told in run.items() if name != "curve"} for run in before],
        "report": report.to_json(),
        "selection": told["selection"],
        "distill_seconds": told["seconds"] + sum(run["distill_seconds"] for run in before),
        "test_curve": points,
        "maximum_on_test": {**best, "networks": TESTED, "note": "chosen on the test set, as the papers do"},
        "origin": origin(options.seed, torch.device("cpu")),
    }


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; got {text!r}")
        return int(text)

    return number


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("method", choices=("mtt", "ftd", "datm"))
    parser.add_argument("data")
    parser.add_argument("ipc", type=int)
    parser.add_argument("--experts", type=_whole(1), default=20)
    parser.add_argument("--iterations", type=_whole(1), default=2500)
    parser.add_argument(
        "--every", type=_whole(0), default=0, help="iterations between candidates; a fifth of all by default"
    )
    parser.add_argument("--root", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="experts, run and log; outside the checkout")
    parser.add_argument("--threads", type=_whole(1), default=torch.get_num_threads())
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--seed", type=_whole(0), default=0)
    parser.add_argument("--init", type=Path, help="the folder of a finished run to go on from")
    parser.add_argument("--restart", action="store_true", help="begin the matching again; experts stay")
    parser.add_argument("--replace", action="store_true", help="put the record in the place of one of another run")
    return parser.parse_args(argv)


def main(options: argparse.Namespace) -> int:
    """Buffer, distil, evaluate, keep; 1 where the hours or Ctrl-C ended it first, 2 where it cannot be."""
    try:
        return _made(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", flush=True)
        return 1
    except DDError as error:
        print(error, file=sys.stderr, flush=True)
        return 2


def _made(options: argparse.Namespace) -> int:
    """All of it.

    Raises:
        DDError: no such row, data, experts or iterations, another run in FOLDER, or another record of the name.
        KeyboardInterrupt: the hours ended.
    """
    tune_process(options.threads)
    value, until = made(options), time.monotonic() + 3600 * options.hours
    store, folder = options.work / "store", options.work / "run"
    name = f"published-{options.data}-ipc{options.ipc}-{options.method}"
    if not options.replace:
        _check_free(name, value, options.seed)
    real = dd.load_images(options.data, root=options.root)
    buffer, transform = ExpertStore(store, value.expert, real), make_transform(real, value.expert.whiten)
    for count in range(1, value.expert.experts + 1):  # one at a time, so that the hours can end between two
        if time.monotonic() > until:
            raise KeyboardInterrupt
        buffer.ensure(transform, experts=count, snapshots=value.snapshots_read)
        print(f"experts: {count} of {value.expert.experts}", flush=True)
    if options.restart:
        remove(folder / LOG)
    watched: Any = Watched(value, folder / LOG, until)
    given: dict[str, Any] = {"store": store, "seed": options.seed, "threads": options.threads}
    dd.distill(real, watched, out=folder, resume=not options.restart, **given)
    told = record(options, value, folder)
    print(f"{name}: {told['report']['rows'][0]['mean']:.3f}, kept in {kept.keep(name, told)}", flush=True)
    return 0


def _check_free(name: str, value: dd.TrajectoryMatching, seed: int) -> None:
    """Refuse to replace a record of other settings or another seed, before hours are spent on one of the name."""
    for told in kept.named(name).values():
        if (told["method"], told["origin"]["seed"]) != (json.loads(json.dumps(value.describe())), seed):
            was = told["departures"]
            had = f"{was['experts'][1]} experts, {was['iterations'][1]} iterations, seed {told['origin']['seed']}"
            raise refuse("--replace", f"given where there is another record {name} ({had})", "nothing")


if __name__ == "__main__":
    raise SystemExit(main(parsed()))
