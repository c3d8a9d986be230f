"""The jobs of `gpu_check.py`, each in a worker process: a method by the clock, and the published row."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

import dd
from dd.evaluation import NetworkLearner, mean_std
from dd.experts import ExpertStore
from dd.methods import METHODS, Run, kind_of
from dd.methods.cards import card, is_baseline
from dd.methods.presets import preset
from dd.testing import tiny
from dd.testing.made import pictures
from dd.transforms.whiten import make_transform
from scripts.gpu_carry import unpack_pictures
from scripts.gpu_check import interrupted

IPC: Final = 10


def image_methods() -> list[str]:
    """All for images but baselines, those that have nothing to train first at the end, and experts before."""
    order = ("experts", "teachers", "nothing")
    found = [name for name in METHODS if kind_of(name) == "images" and not is_baseline(name)]
    return sorted(found, key=lambda name: order.index(card(name).cost))


def real(args: argparse.Namespace) -> tuple[dd.Images, str]:
    """The pictures that are there, and what they are."""
    path = args.carry / "pictures.npz"
    if args.device == "cpu" or not path.is_file():
        return pictures(), "made"
    own: dict[str, Any] = unpack_pictures(path)
    told = f"cifar10, {len(own['train'][1]):,} of 50,000 for training, {len(own['test'][1]):,} of 10,000 for tests"
    constants = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.201)}  # of the card
    return dd.load_images(dd.Images(**own, name="cifar10", **constants)), told


def hello(job: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Load what jobs need, and begin to use the device."""
    del job
    return {"sum": float(torch.ones(8, device=args.device).sum())}


def method(job: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """A method until its time is over, then a network on its set where there is one."""
    name, phases, start = job["method"], Phases(), time.monotonic()
    data, told = real(args)
    small: Any = None
    asked: tuple[Any, dict[str, Any]] = (name, {"preset": "cpu", "ipc": IPC})
    if told == "made":
        asked = tiny(name), {}
    begin_memory(args.device)
    with interrupted(job["limit"]):
        try:
            options = {"device": args.device, "store": args.scratch / "store", "progress": phases.tell, **asked[1]}
            small = dd.distill(data, asked[0], out=args.scratch / "sets" / name, **options)
            seconds = time.monotonic() - start
            found: dict[str, Any] = {"finished": True, "accuracy": tested(small, data, args.device, 1, 0)[0]}
        except KeyboardInterrupt:
            seconds = time.monotonic() - start
            found = {"finished": small is not None}
    return {**found, "pictures": told, "distill_seconds": round(seconds, 1), "phases": phases.told(), **memory(args)}


class Phases:
    """What a run tells of itself: work of the same length in a row is a phase."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def tell(self, done: int, total: int, text: str) -> None:
        """As `dd.base.progress.Progress`."""
        now = time.monotonic()
        last = self._found[-1] if self._found else {}
        if last.get("total") != total or done < last["done"]:
            self._found.append({"total": total, "first": done, "start": now, "done": done, "end": now, "text": text})
        else:
            last.update(done=done, end=now, text=text)

    def told(self) -> list[dict[str, Any]]:
        """The phases, with milliseconds a step where there were two."""
        made = []
        for one in self._found:
            steps = one["done"] - one["first"]
            each = {"ms_a_step": round(1000 * (one["end"] - one["start"]) / steps, 2)} if steps > 0 else {}
            made.append({"done": one["done"], "total": one["total"], "text": one["text"], **each})
        return made


def published(job: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """MTT's row of CIFAR-10 at one picture a class: experts for a third of the time, then iterations; the last set."""
    data, told = real(args)
    start, limit = time.monotonic(), job["limit"]
    row = preset("mtt", "cifar10", 1, "paper")
    value: Any = tiny("mtt") if told == "made" else METHODS["mtt"](**row.fields)
    device, phases = torch.device(args.device), Phases()
    store = ExpertStore(args.scratch / "published", value.expert, data)
    transform, count = make_transform(data, value.expert.whiten), 0
    begin_memory(args.device)
    with interrupted(limit / 2), contextlib.suppress(KeyboardInterrupt):
        while count < value.expert.experts and time.monotonic() - start < limit / 3:
            store.ensure(transform, experts=count + 1, snapshots=value.snapshots_read, device=device)
            count += 1
    bought = time.monotonic() - start
    if not count:
        return {"failed": f"not one expert in {bought:.0f} s", "pictures": told}
    own = {"expert": dataclasses.replace(value.expert, experts=count), "candidate_every": 1}
    value = dataclasses.replace(value, **own)
    run = Run(device=device, store=args.scratch / "published", progress=phases.tell)
    small, done, loss = None, 0, None
    with interrupted(max(0.8 * limit - bought, 1.0)), contextlib.suppress(KeyboardInterrupt):
        for step in value.distill(data, run):
            done, loss = step.iteration, step.metrics.get("loss")
            small = step.candidates[0].set if step.candidates else small
    spent = time.monotonic() - start
    found: dict[str, Any] = {"iterations": [done, value.iterations], "experts": [count, row.fields["expert"].experts]}
    found |= {"loss": loss, "expert_seconds": round(bought, 1), "iteration_seconds": round(spent - bought, 1)}
    found |= {"pictures": told, "published": dataclasses.asdict(row)["published"], **memory(args)}
    if small is not None:
        values: list[float] = []
        with interrupted(max(limit - spent, 1.0)), contextlib.suppress(KeyboardInterrupt):
            for repeat in range(3):
                values += tested(small, data, args.device, 1, repeat)
        mean, std = mean_std(values) if values else (None, None)
        found["accuracy"] = {"values": values, "mean": mean, "std": std}
    return found


def tested(small: Any, data: dd.Images, device: str, networks: int, first: int) -> list[float]:
    """Test accuracies of fresh networks."""
    learner = NetworkLearner(device=torch.device(device))
    assert data.test is not None
    return [learner.fit(small, first + repeat).score(data.test) for repeat in range(networks)]


def begin_memory(device: str) -> None:
    """Count the highest memory of the device anew."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)


def memory(args: argparse.Namespace) -> dict[str, float]:
    """The highest memory of the device in 10⁶ bytes, or of the process."""
    if args.device == "cpu":
        return {"process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)}
    return {"device_mb": round(torch.cuda.max_memory_allocated(args.device) / 1e6, 1)}


JOBS: Final[dict[str, Callable[[Mapping[str, Any], argparse.Namespace], dict[str, Any]]]] = {
    "hello": hello,
    "method": method,
    "published": published,
}
