"""Seconds of one iteration of recovery with two members, beside a plain transcription of the published loop.

    python scripts/bench/recover_step.py [--members resnet18(norm=batch);mobilenet_v2] [--batch 10] [--json]

Rows, each in a process of its own, one working at a time:

    library   `dd.methods.decoupled.recovery.recover_block`: crops, flip, roll, both members with R, Adam, clipping
    plain     the same written the usual way (`plain.plain_recovery`): hooks that compute the statistics by hand
    members   forward and backward of the two members alone, no statistics: what no loop can leave out

Pictures are seeded noise of 3×32×32, one a class; teachers are not trained: neither changes the time. `--repeats`
rounds, in which every row in turn runs `--steps` iterations; `seconds` and `cpu_seconds` are an iteration of a row's
fastest round, `ratio` is that of `plain` to it, by both. All rows have the allocator settings of
`dd.tune_process`. `share` is that of `members` in `library`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from common import Clock, command_line, launched, parsed, ratios, rounds, take_turns, tell

ROWS = ("library", "plain", "members")


def setting(args: argparse.Namespace) -> tuple[list[Any], Any, Any, Any]:
    """(teachers, first images in model space, classes, transform)."""
    import torch

    from dd.models import build
    from dd.teachers import Teacher
    from dd.transforms.whiten import Normalise

    transform = Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    names = args.members.split(";")
    nets = [build(name, channels=3, classes=args.batch, size=(32, 32), seed=i) for i, name in enumerate(names)]
    nets = [net.to(args.device) for net in nets]
    teachers = [Teacher(name, net, transform) for name, net in zip(names, nets, strict=True)]
    x = torch.randn(args.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return teachers, x.to(args.device), torch.arange(args.batch).to(args.device), transform


def run_row(row: str, args: argparse.Namespace) -> Any:
    """A function that runs `--steps` iterations."""
    import torch
    from plain import plain_recovery
    from torch.nn import functional as F

    from dd.methods.decoupled.recovery import Recovery, recover_block

    teachers, x, y, transform = setting(args)
    votes = [(teacher, 1 / len(teachers)) for teacher in teachers]
    how = Recovery(
        iterations=args.steps,
        lr=0.1,
        bn_weight=0.01,
        first_bn=10.0,
        bn_norm="sum",
        crop=True,
        shared_crop=True,
        jitter=4,
    )

    def members() -> None:
        for _ in range(args.steps):
            z = x.clone().requires_grad_()
            loss = sum(weight * F.cross_entropy(teacher.module(z), y) for teacher, weight in votes)
            torch.autograd.grad(loss, z)

    if row == "members":
        return members
    if row == "plain":
        nets = [(teacher.module, weight) for teacher, weight in votes]
        return lambda: plain_recovery(nets, x, y, transform.mean, transform.std, how.iterations, how.lr, how.bn_weight)
    return lambda: recover_block(votes, x, y, transform, how, 0, (0,))


def measure(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in this process."""
    from dd.base.process import tune_process

    tune_process(threads=args.threads)
    run, clock = run_row(row, args), Clock()
    run()
    for _ in rounds():
        clock.time(run)
    return clock.result(args.steps)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, ROWS, device=True)
    parser.add_argument("--members", default="resnet18(norm=batch);mobilenet_v2", help="model names, by semicolons")
    parser.add_argument("--batch", type=int, default=10, help="pictures, one a class")
    parser.add_argument("--steps", type=int, default=10, help="iterations a round")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    return parsed(parser, arguments, ROWS, batch=1, steps=1, repeats=1)


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    results = take_turns(launched(__file__, args.rows, arguments), args.repeats)
    lines = [
        f"{args.members}, {args.batch} pictures, {args.threads} threads",
        f"{'row':<10}{'ms':>9}{'CPU ms':>9}{'ratio':>8}{'CPU':>8}",
    ]
    base = results.get("plain")
    for row, r in results.items():
        lines.append(f"{row:<10}{1000 * r['seconds']:>9.1f}{1000 * r['cpu_seconds']:>9.1f}{ratios(base, r)}")
    if "members" in results and "library" in results:
        results["library"]["share"] = results["members"]["seconds"] / results["library"]["seconds"]
        lines.append(f"share of the members in library: {100 * results['library']['share']:.0f} %")
    tell("\n".join(lines), results, args)


if __name__ == "__main__":
    main(sys.argv[1:])
