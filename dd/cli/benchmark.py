"""`ddistill benchmark`: the leaderboard of a data set, shared by as many processes as there are cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dd.base.progress import say
from dd.cli.options import Answer, Data, Planned, as_lr, keywords, reads
from dd.cli.work import planned
from dd.errors import refuse


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Planned):
    """Every method under one protocol, beside random, herding, k-center and full-data rows.

    Attributes:
        data: a card's name or `imagefolder:PATH`; of graphs a graph card's name or `smiles:PATH.csv`; of one
            graph `Cora` and its like or `nodes:PATH.npz`.
        methods: `all`, or names, by spaces or commas.
        ipc: images a class: one or several, by commas.
        budget_bytes: of graphs, by the published count, and of nodes, as stored: one or several, by commas.
        models: the first one is compared, the others are columns; of images also unseen, ridge and nearest_mean.
        repeats: fresh networks a set and model.
        seeds: sets a method and budget; spread and interval are over sets where there are several.
        baselines: see `dd.benchmark`; by default all but `class_mean`.
        preset: `paper`, `cpu` or `auto`, of every method.
        protocol: `clean` or `paper`.
        steps: optimiser steps of every network.
        lr: `recipe`, `tuned` or a number.
        recipe: `own`, `hard` (classes for labels) or `rd3` (one teacher's labels and one student for all).
        committee: of `rd3`: another teacher than a ResNet-18.
        out: folder of the cells, the runs and the table; by default runs/DATA-benchmark. The same command goes on.
        restart: measure again what is in `out`.
        split: of graphs and nodes: as of `ddistill distill`.
        workers: processes of one thread that share the work; by default one a core on a CPU.
    """

    data: Data
    methods: tuple[str, ...] = ("all",)
    ipc: str = "10"
    budget_bytes: str = "2048"
    models: tuple[str, ...] = ()
    repeats: int = 3
    seeds: int = 1
    baselines: tuple[str, ...] | None = None
    preset: Literal["auto", "paper", "cpu"] = "auto"
    protocol: Literal["clean", "paper"] = "clean"
    steps: int | None = None
    lr: str = "recipe"
    recipe: Literal["own", "hard", "rd3"] = "own"
    committee: tuple[str, ...] | None = None
    out: Path | None = None
    restart: bool = False
    split: int | str | None = None
    workers: int | None = None


def run_benchmark(argv: Sequence[str]) -> Answer:
    """The verb: prints the table, or with `--json` gives the object."""

    @reads("benchmark", BenchmarkOptions)
    def run(options: BenchmarkOptions) -> Answer:
        return _benchmark(options, argv)

    return run(argv)


def _benchmark(options: BenchmarkOptions, argv: Sequence[str]) -> Answer:
    """The work, with the words for the other processes that share it."""
    from dd.base.process import tune_process
    from dd.contest.benchmark import benchmark

    out = options.out or Path("runs") / f"{Path(options.data.partition(':')[2] or options.data).name}-benchmark"
    workers = _workers(options)
    names = [name for told in options.methods for name in told.split(",") if name]
    told: dict[str, Any] = {name: _numbers(getattr(options, name), name) for name in ("ipc", "budget_bytes")}
    told |= {"models": list(options.models) or None, "lr": as_lr(options.lr), "out": out}
    told |= {"resume": not options.restart, "threads": 1 if workers > 1 else options.threads}
    given = keywords(options, benchmark, **told)
    if options.plan is not None:
        return planned("benchmark", options.plan, options.json, data=options.data, methods=names, **given)
    tune_process(told["threads"])
    with _helpers(argv, out, workers - 1):
        made = benchmark(options.data, names, **given)
    if not options.json:
        say(made)
    return {**made.to_json(), "json": options.json}


def _numbers(text: str, argument: str) -> tuple[int, ...]:
    """`1,10` as (1, 10)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise refuse(argument, "whole numbers, by commas", repr(text)) from error


def _workers(options: BenchmarkOptions) -> int:
    if options.workers is not None:
        if options.workers < 1:
            raise refuse("workers", "at least 1", options.workers)
        if options.restart and options.workers > 1:
            raise refuse("workers", "1 with `restart`, which replaces what others have measured", options.workers)
        return options.workers
    from dd.data.workers import usable_cpus
    from dd.run.resolve import resolve_device

    alone = options.restart or options.threads is not None or resolve_device(options.device).type != "cpu"
    return 1 if alone else usable_cpus()


@contextmanager
def _helpers(argv: Sequence[str], out: Path, count: int) -> Iterator[None]:
    """Processes that work on the same folder, and end with this block; what one of them leaves, this one makes."""
    own = ["--out", str(out), "--workers", "1", "--threads", "1", "--quiet", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dd", "benchmark", *argv, *own]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) for _ in range(count)]
    try:
        yield
        for process in started:
            process.wait()
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
