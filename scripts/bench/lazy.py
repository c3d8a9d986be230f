"""Pictures a second of an epoch over a folder of JPEG files that are read when asked for, with each way of reading.

    python scripts/bench/lazy.py [--pictures 1024] [--side 500] [--size 128] [--batches 64,512] [--workers 2] [--json]

The folder is made for the bench: pictures of `--side` × 3/4 `--side` pixels with edges and shades, of seeded noise, as
JPEG of quality 90; a split is brought to `--size`. An epoch is one order of all pictures in batches, which nothing is
done with: so this is what the reading costs, not what is hidden behind the training of a network.

Rows, each in a process of its own, for each size of a batch:

    thread     each batch by `pixels(rows)` in the calling thread
    anew       each batch by `pixels(rows)`, by processes that are started for it where it has more than 256 pictures
    stream     `Split.stream`: processes that are started once an epoch and read ahead of what is asked for
    kept       a second pass over a split whose decoded pictures are kept as bytes, as test pictures are

`cpu` are processor seconds of the process and of those that it started, `seconds` those of the clock, of the cheapest
of `--repeats` epochs; `ahead` is the share of the clock's seconds in which the caller had not to wait, where it works
`--pause` seconds on each batch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import command_line, cores, parsed, run_child, tell

WAYS = ("thread", "anew", "stream", "kept")


def make_folder(base: Path, pictures: int, side: int) -> None:
    """`pictures` JPEG files in two classes."""
    import numpy as np
    from PIL import Image

    height = side * 3 // 4
    for i in range(pictures):
        generator = np.random.default_rng(i)
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        shades = np.asarray(Image.fromarray(coarse).resize((side, height), Image.Resampling.BICUBIC)).astype(np.int16)
        edges = 40 * generator.integers(-1, 2, (height // 25 + 1, side // 25 + 1, 1))
        edges = edges.repeat(25, axis=0).repeat(25, axis=1)[:height, :side]
        noise = generator.integers(-6, 7, (height, side, 1))
        path = base / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((shades + edges + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def open_split(base: Path, size: int, workers: int) -> Any:
    """All pictures of the folder, read when asked for."""
    import torch

    from dd.data import LazySplit
    from dd.data.images.folders import Files

    names = sorted(str(path.relative_to(base)) for path in base.glob("*/*.jpg"))
    labels = torch.tensor(["ab".index(Path(name).parent.name) for name in names])
    files, shape = Files(base, names, (size, size)), (3, size, size)
    return LazySplit(files, labels, shape, names, workers=workers, keep=2**62)


def epoch(split: Any, way: str, batch: int, number: int, pause: float = 0.0) -> tuple[list[Any], float]:
    """(sums of the pixels of each batch of an order, seconds that were not waited for) of one epoch."""
    import torch

    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(number)).split(batch)
    read = split.stream(rows) if way in ("stream", "kept") else ((part, split.pixels(part)) for part in rows)
    sums, worked = [], 0.0
    for _, pixels in read:
        start = time.perf_counter()
        sums.append(pixels.double().sum().item())
        time.sleep(pause)
        worked += time.perf_counter() - start
    return sums, worked


def cpu() -> float:
    """Processor seconds of this process and of its children that have ended."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def measure(row: str, args: argparse.Namespace) -> dict[str, float]:
    """Run one row, a way and a size of a batch, in this process."""
    from dd.base.process import tune_process

    tune_process(threads=args.threads)
    way, _, batch = row.partition(",")
    split = open_split(Path(args.folder), args.size, 0 if way == "thread" else args.workers)
    if way == "kept":
        split = split.kept()
        epoch(split, way, int(batch), 0)
    found = []
    for number in range(args.repeats):
        before, start = cpu(), time.perf_counter()
        _, worked = epoch(split, way, int(batch), number, args.pause)
        seconds = time.perf_counter() - start
        found.append({"cpu": cpu() - before, "seconds": seconds, "ahead": worked / seconds})
    best = min(found, key=lambda one: one["cpu"])
    return {**best, "pictures_per_cpu_s": len(split) / best["cpu"], "pictures_per_s": len(split) / best["seconds"]}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, WAYS, threads=1)
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--side", type=int, default=500, help="width of the files in pixels")
    parser.add_argument("--size", type=int, default=128, help="side of the split")
    parser.add_argument("--batches", default="64,512", help="sizes of a batch")
    parser.add_argument("--workers", type=int, default=min(cores(), 4), help="processes that read")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of work on each batch")
    parser.add_argument("--repeats", type=int, default=2, help="epochs")
    parser.add_argument("--folder", default="", help="where the pictures are, or come to; default: a temporary folder")
    args = parsed(parser, arguments, WAYS, pictures=2, side=16, size=1, workers=0, repeats=1)
    args.batches = args.batches.split(",")
    for batch in args.batches:
        if not batch.isdecimal() or int(batch) < 1:
            parser.error(f"--batches must be whole numbers of at least 1; got {batch!r}")
    return args


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(args.folder or made)
        if not (folder / "a").exists():
            print(f"making {args.pictures} pictures …", file=sys.stderr, flush=True)
            make_folder(folder, args.pictures, args.side)
        results = {}
        for batch in args.batches:
            for way in args.rows:
                print(f"{way}, batches of {batch} …", file=sys.stderr, flush=True)
                home = {"DD_HOME": os.environ.get("DD_HOME", made)}
                row = f"{way},{batch}"
                results[row] = run_child(__file__, row, [*arguments, "--folder", str(folder)], home)
    told = f"{args.pictures} JPEG files of {args.side} px to {args.size} px, {args.workers} processes"
    names = ("cpu", "seconds", "pictures_per_cpu_s", "pictures_per_s", "ahead")
    lines = [told, f"{'row':<12}{'CPU s':>9}{'s':>9}{'a CPU s':>9}{'a s':>9}{'ahead':>8}"]
    for row, r in results.items():
        cpu_s, seconds, per_cpu, per_s, ahead = (r[name] for name in names)
        lines.append(f"{row:<12}{cpu_s:>9.2f}{seconds:>9.2f}{per_cpu:>9.0f}{per_s:>9.0f}{ahead:>8.2f}")
    tell("\n".join(lines), results, args)


if __name__ == "__main__":
    main(sys.argv[1:])
