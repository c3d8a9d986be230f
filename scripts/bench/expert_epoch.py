"""Training images a second of an expert, library beside a plain loop.

    python scripts/bench/expert_epoch.py [--steps 4] [--repeats 2] [--rows compiled,plain] [--json]

Setting: ConvNet of width 128 (depth 3, instance norm), seeded random uint8 pictures 3×32×32, ten classes, batch 256,
DSA as published, SGD of lr 0.01 without momentum, float32.

Rows, each measurement in a process of its own, repeats interleaved (a, b, a, b, …):

    compiled   the library's compiled road
    side_by_side   as many such processes at once as `--threads`, one thread each, as under `torchrun`; images a second
               of all of them
    eager      the library without it
    plain      a plain transcription of the usual loop with torch's own layers: normalised float pictures in a
               `TensorDataset`, a shuffling `DataLoader`, DSA a batch, `nn.Module`, `torch.optim.SGD`
    convolutions, convolutions_last   the convolutions of such a step alone, forward and both gradients, contiguous as
               in `plain`, and channels-last: what no rearrangement of the rest can leave out

All have the allocator settings of `dd.tune_process`. `images_per_s` is that of the fastest repeat, `per_cpu_s` is by
CPU seconds, `all` has every repeat. The first steps (`warm_seconds`: compilation,
kernels, memory) are timed apart. Other work on the machine moves the numbers; ratios of one run move less.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common import ALONE, Clock, bound, command_line, convolutions, parsed, run_child, tell, usual

ROWS = ("compiled", "side_by_side", "eager", "plain", *ALONE)
WARM = 2  # steps


def plain_steps(args: argparse.Namespace, images: Any, labels: Any) -> Iterator[None]:
    """The usual loop, one yield a step."""
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from dd.base.seeding import child
    from dd.models import build
    from dd.transforms.dsa import DSA

    mean, std = images.float().div(255).mean((0, 2, 3)), images.float().div(255).std((0, 2, 3))
    pixels = (images.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    net = (
        usual(build(f"convnet(width={args.width})", channels=3, classes=10, size=(32, 32), seed=0))
        .train()
        .to(args.device)
    )
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=args.batch, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    dsa, step = DSA(), 0
    while True:
        for x, y in loader:
            x, y = x.to(args.device), y.to(args.device)
            loss = F.cross_entropy(net(dsa.draw(len(x), (32, 32), child(0, "draw", step))(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            step += 1
            yield


def alone_steps(row: str, args: argparse.Namespace) -> Iterator[None]:
    """The convolutions of a step, one yield a step."""
    import torch

    from dd.models import build

    net = build(f"convnet(width={args.width})", channels=3, classes=10, size=(32, 32), seed=0).to(args.device)
    run = convolutions(net, torch.randn(args.batch, 3, 32, 32).to(args.device), row == "convolutions_last")
    while True:
        run()
        yield


def library_steps(row: str, args: argparse.Namespace, images: Any, labels: Any) -> Iterator[None]:
    """The library's loop, one yield a step."""
    import torch

    from dd.data import Images, load_images
    from dd.experts import ExpertRecipe, ExpertTrainer, make_student
    from dd.experts.train import on_device
    from dd.transforms.whiten import make_transform

    real = load_images(Images(train=(images, labels), test=(255 - images[:10], labels[:10]))).all_train()
    recipe = ExpertRecipe(model=f"convnet(width={args.width})", batch_size=args.batch)
    device = torch.device(args.device)
    trainer = ExpertTrainer(recipe, real, make_transform(real, False), device, compile=row == "compiled")
    student, pick = make_student(recipe, real, 0), on_device(real.train, device)
    theta, step = student.initial.to(device), 0
    velocity = torch.zeros_like(theta)
    while True:
        order = torch.randperm(len(images))
        for rows, pixels in pick(order.split(args.batch)):
            theta, velocity = trainer._step(student, theta, velocity, rows, pixels, 0, step)
            step += 1
            args.road = trainer.road.name
            yield


def measure(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in this process."""
    import torch

    from dd.base.process import tune_process

    tune_process(threads=args.threads)
    generator = torch.Generator().manual_seed(0)
    count = args.batch * 4
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 10
    args.road = "plain"
    if row in ALONE:
        stream = alone_steps(row, args)
    else:
        stream = plain_steps(args, images, labels) if row == "plain" else library_steps(row, args, images, labels)
    warm, clock = Clock(), Clock()
    warm.time(lambda: [next(stream) for _ in range(WARM)])
    clock.time(lambda: [next(stream) for _ in range(args.steps)])
    shown, (took,), (cpu,) = args.steps * args.batch, clock.wall, clock.cpu
    return {"images_per_s": shown / took, "per_cpu_s": shown / cpu, "warm_seconds": warm.wall[0], "road": args.road}


def measure_apart(row: str, args: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """Run one row in a process of its own; `side_by_side` in several at once."""
    if row != "side_by_side":
        return run_child(__file__, row, arguments, {})
    with ThreadPoolExecutor(args.threads) as pool:
        alone = [*arguments, "--threads", "1"]
        each = list(pool.map(lambda _: run_child(__file__, "compiled", alone, {}), range(args.threads)))
    together = sum(r["images_per_s"] for r in each)
    return {**each[0], "images_per_s": together, "per_cpu_s": sum(r["per_cpu_s"] for r in each) / len(each)}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The rows for people; ratios are to `plain`."""
    base = results.get("plain")
    heads = f"{'images/s':>10}{'a CPU s':>10}{'ratio':>8}{'CPU':>8}{'warm s':>9}"
    lines = [f"{'row':<18}{heads}  {'road':<10}all"]
    for row, r in results.items():
        pairs = ("images_per_s", "per_cpu_s")
        ratio = "".join(f"{f'{r[k] / base[k]:.2f}x' if base else '-':>8}" for k in pairs)
        every = " ".join(f"{value:.0f}" for value in r["all"])
        shown = f"{r['images_per_s']:>10.1f}{r['per_cpu_s']:>10.1f}{ratio}{r['warm_seconds']:>9.1f}"
        lines.append(f"{row:<18}{shown}  {r['road']:<10}{every}")
    if base:
        lines.append(
            bound(1 / base["per_cpu_s"], {row: 1 / results[row]["per_cpu_s"] for row in ALONE if row in results})
        )
    return "\n".join(filter(None, lines))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, ROWS, threads=1, device=True)
    parser.add_argument("--steps", type=int, default=4, help="timed steps a repeat")
    parser.add_argument("--repeats", type=int, default=2, help="processes a row, interleaved")
    parser.add_argument("--batch", type=int, default=256, help="pictures a step")
    parser.add_argument("--width", type=int, default=128, help="channels of the ConvNet")
    return parsed(parser, arguments, ROWS, steps=1, repeats=1, batch=1, width=1)


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in args.rows}
    for repeat in range(args.repeats):
        for row in args.rows:
            print(f"{row}, repeat {repeat + 1} …", file=sys.stderr, flush=True)
            found[row].append(measure_apart(row, args, arguments))
    results = {}
    for row, each in found.items():
        best = max(each, key=lambda r: r["images_per_s"])
        results[row] = {
            **best,
            "per_cpu_s": max(r["per_cpu_s"] for r in each),
            "all": [r["images_per_s"] for r in each],
        }
    tell(f"width {args.width}, batch {args.batch}, {args.threads} threads\n{table(results)}", results, args)


if __name__ == "__main__":
    main(sys.argv[1:])
