"""Seconds of evaluating fresh ConvNets on a synthetic set, beside the usual sequential loop.

    python scripts/bench/evaluate.py [--networks 5] [--images 100] [--steps 40] [--test 2000] [--json]

Rows, each in a process of its own, one working at a time; each trains `--networks` networks and tests each of them:

    usual      a plain transcription of the published loop (`plain.plain_evaluation`) with torch's own layers: a
               DataLoader over the set, augmentation, SGD, and a DataLoader over the test set, whose images are
               normalised one by one, for each network anew
    library    `dd.evaluation`, the default of a training of 1,000 steps: one batch, test images normalised once, and
               on a CPU with a compiler built kernels
    layers     the same with `compile=False`: by the network's own layers
    compiled   the same with `compile=True`; its compilation is the untimed first round
    vmap       the networks side by side by `torch.func.vmap` over stacked parameters, without test: what one would hope
               for, and on a CPU a grouped convolution, slower than one network after the other
    convolutions, convolutions_last   the convolutions of all that alone, forward and in training both gradients,
               contiguous as in `usual`, and channels-last: what no rearrangement of the rest can leave out

Pictures are seeded noise of 3×32×32 in ten classes. `seconds` and `cpu_seconds` are a row's fastest of `--repeats`
rounds, `ratio` is that of `usual` to it by both. All rows have the allocator settings of `dd.tune_process`. Training
takes `--steps` of the published 1,000 or so steps, so tests weigh more here than in a real run: `train` and `test` are
told apart.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from common import (
    ALONE,
    Clock,
    bound,
    command_line,
    convolutions,
    launched,
    parsed,
    ratios,
    rounds,
    take_turns,
    tell,
)

ROWS = ("usual", "library", "layers", "compiled", "vmap", *ALONE)
LR = 0.01
KEYS = ("seconds", "cpu_seconds")


def setting(args: argparse.Namespace) -> tuple[Any, Any]:
    """(synthetic set, test split)."""
    import torch

    import dd
    from dd.transforms.whiten import Normalise

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(args.images) % 10
    recipe = dd.TrainRecipe(model=args.model, steps=args.steps, lr=LR, augment="color_crop_cutout_flip_scale_rotate")
    small = dd.SyntheticImages(
        images=torch.randn(args.images, 3, 32, 32, generator=generator),
        labels=labels,
        classes=tuple("0123456789"),
        recipe=recipe,
        transform=Normalise((0.5,) * 3, (0.25,) * 3),
    )
    pixels = torch.randint(0, 256, (args.test, 3, 32, 32), generator=generator).to(torch.uint8)
    return small, dd.Images(train=(pixels, torch.arange(args.test) % 10)).train


Spent = tuple[dict[str, float], dict[str, float]]
"""`seconds` and `cpu_seconds` of training, and of testing."""


def run_row(row: str, args: argparse.Namespace) -> Callable[[], Spent]:
    """A function that trains and tests every network."""
    import torch
    from plain import plain_evaluation

    from dd.evaluation import NetworkLearner, Scorer, fresh
    from dd.evaluation.fast import CompiledForward, plain_forward, usual_forward

    small, test = setting(args)
    device = torch.device(args.device)
    if row == "usual":
        return lambda: plain_evaluation(small, test, args.networks, args.device)
    if row in ALONE:
        return alone(small, test, args.networks, row == "convolutions_last", device)
    if row == "vmap":
        return lambda: (side_by_side(small, args.networks, device), Clock().sum())
    net = fresh(small, small.recipe.model, 0, device)
    road = {"library": usual_forward(net, 1000 * len(small), small.size, device), "layers": plain_forward}
    learner = NetworkLearner(device=device, forward=road.get(row) or CompiledForward())

    def library() -> Spent:
        scorer, train, tested = Scorer(test, device), Clock(), Clock()
        nets = train.time(lambda: [learner.fit(small, seed).net for seed in range(args.networks)])
        for net in nets:
            tested.time(partial(scorer.figures, net, small.ready_transform()))
        return train.sum(), tested.sum()

    return library


def alone(small: Any, test: Any, networks: int, last: bool, device: Any) -> Callable[[], Spent]:
    """A function that does the convolutions of all networks' training and tests."""
    import torch

    from dd.evaluation import fresh

    net = fresh(small, small.recipe.model, 0, device)
    step = convolutions(net, small.images.to(device), last)
    noise = torch.randn(len(test), 3, 32, 32).to(device)
    shown = [convolutions(net, part, last, backward=False) for part in noise.split(256)]

    def run() -> Spent:
        train, tested = Clock(), Clock()
        for _ in range(networks):
            train.time(lambda: [step() for _ in range(small.recipe.steps)])
            tested.time(lambda: [batch() for batch in shown])
        return train.sum(), tested.sum()

    return run


def side_by_side(small: Any, networks: int, device: Any) -> dict[str, float]:
    """Seconds of training the networks as one, by vmap over their stacked parameters."""
    import torch
    from torch.func import functional_call, stack_module_state, vmap
    from torch.nn import functional as F

    from dd.base.seeding import child
    from dd.evaluation import fresh

    images, labels = small.images.to(device), small.labels.to(device)
    nets = [fresh(small, small.recipe.model, seed, device) for seed in range(networks)]
    stacked, _ = stack_module_state(nets)
    parameters = {name: p.detach().requires_grad_() for name, p in stacked.items()}
    optimizer = torch.optim.SGD(parameters.values(), lr=LR, momentum=0.9, weight_decay=5e-4)
    dsa = small.recipe.dsa()

    def loss(one: dict[str, Any], x: Any) -> Any:
        return F.cross_entropy(functional_call(nets[0], one, (x,)), labels)

    def train() -> None:
        for step in range(small.recipe.steps):
            draws = [dsa.draw(len(small), small.size, child(seed, "draw", step)) for seed in range(networks)]
            x = torch.stack([draw(images) for draw in draws])
            optimizer.zero_grad(set_to_none=True)
            vmap(loss)(parameters, x).sum().backward()
            optimizer.step()

    clock = Clock()
    clock.time(train)
    return clock.sum()


def measure(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in this process."""
    from dd.base.process import tune_process

    tune_process(threads=args.threads)
    run = run_row(row, args)
    run()
    times = [run() for _ in rounds()]
    found: dict[str, Any] = {}
    for key in KEYS:
        totals = [train[key] + test[key] for train, test in times]
        found[key], best = min(totals), times[totals.index(min(totals))]
        found |= {f"{part}_{key}": spent[key] for part, spent in zip(("train", "test"), best, strict=True)}
        found[f"all_{key}"] = totals
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, ROWS, device=True)
    parser.add_argument("--model", default="convnet", help="a ConvNet")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--images", type=int, default=100, help="of the set, ten classes")
    parser.add_argument("--steps", type=int, default=40, help="of each network")
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    return parsed(parser, arguments, ROWS, networks=1, images=10, steps=1, test=10, repeats=1)


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    results = take_turns(launched(__file__, args.rows, arguments), args.repeats)
    told = f"{args.networks} × {args.model}, {args.images} images, {args.steps} steps, {args.test} test images"
    heads = ("s", "train", "test", "CPU s")
    lines = [f"{told}, {args.threads} threads", f"{'row':<18}" + "".join(f"{h:>9}" for h in (*heads, "ratio", "CPU"))]
    base = results.get("usual")
    for row, r in results.items():
        compared = r if row != "vmap" or not base else {k: r[k] * base[k] / base[f"train_{k}"] for k in KEYS}
        cells = (r["seconds"], r["train_seconds"], r["test_seconds"], r["cpu_seconds"])
        lines.append(f"{row:<18}" + "".join(f"{cell:>9.2f}" for cell in cells) + ratios(base, compared, 9))
    if base:
        lines.append(bound(base["cpu_seconds"], {row: results[row]["cpu_seconds"] for row in ALONE if row in results}))
    tell("\n".join(filter(None, lines)), results, args)


if __name__ == "__main__":
    main(sys.argv[1:])
