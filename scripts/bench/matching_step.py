"""Seconds and peak memory of one outer iteration of trajectory matching, engine beside engine.

    python scripts/bench/matching_step.py [--steps 30] [--rows adjoint,plain] [--json]

Setting: ConvNet (depth 3, instance norm), pictures 3×32×32, ten classes, every synthetic image in every student step,
DSA as published, float32. Images are seeded noise and θ* is near θ_0: neither time nor memory depends on the values.

Rows, each in a process of its own, one after the other:

    adjoint        as the library runs it on a CPU: micro-batches of 50, the last step's graph is reused;
                   allocator settings of `dd.process.tune_process`
    adjoint_lean   micro-batches of 10, nothing reused; glibc is told (`LEAN_ENVIRONMENT`) to give blocks of 4 MB and
                   more straight back to the kernel. Its heap otherwise holds twice what is alive (memalign leaves
                   holes just too small for the next block of the same size), as much as 60 MB more, by chance
    unroll         the library's reference engine; default allocator
    plain          a plain transcription of the usual create-graph loop (`plain.py`); default allocator
    plain_tuned    the same under the allocator settings of `adjoint`

How memory is counted. The child imports everything, builds data, model and target, and runs one tiny iteration (two
images, one step, the same augmentation and engine), so that libraries, kernels and thread pools are loaded. Then the
kernel's high-water mark is reset (`/proc/self/clear_refs`) and the resident size read: the base. `peak_mb` is the
high-water mark after the warm pass and all timed passes, minus the base, in 10⁶ bytes. Where the mark cannot be
reset, `ru_maxrss` stands in for it. `stored_mb` is what the N student parameter vectors take on their own (4·N·P).

How time is counted. One warm pass, then `--repeats` timed ones; `seconds` is the fastest. With `--repeats 0` it is that
of the warm pass: good for memory, not for speed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROWS = ("adjoint", "adjoint_lean", "unroll", "plain", "plain_tuned")
TUNED = ("adjoint", "plain_tuned")
LEAN_MICRO_BATCH = 10
LEAN_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "4000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
MB = 1e6


def read_kib(key: str) -> int | None:
    """A size in KiB from `/proc/self/status`, or None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) if found else None


def reset_high_water() -> bool:
    """Set the high-water mark of the resident size to the present size; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return read_kib("VmHWM") is not None


def high_water_mb(was_reset: bool) -> float:
    """The resident size's high-water mark in 10⁶ bytes: since the reset, or else of the whole process."""
    if was_reset:
        return (read_kib("VmHWM") or 0) * 1024 / MB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def make_pass(row: str, args: argparse.Namespace) -> Callable[[int, int], float]:
    """A function (images, steps) → L that runs one outer iteration as `row` does it."""
    import torch

    from dd.augment import DSA
    from dd.inner import InnerStep, Problem, Student, Target, adjoint, unroll
    from dd.models import build
    from dd.seeding import child

    net = build(f"convnet(width={args.width})", channels=3, classes=10, size=(32, 32), seed=0)
    student = Student(net)
    theta = student.initial
    target = theta + 0.1 * theta.std() * torch.randn(theta.shape, generator=child(0, "target"))
    images = torch.randn(args.images, 3, 32, 32, generator=child(0, "images"))
    labels = torch.arange(args.images) % 10
    lr = torch.tensor(0.01)
    dsa = DSA(args.augment)

    def steps(count: int, n: int) -> list[InnerStep]:
        draws = [dsa.draw(count, (32, 32), child(0, "draw", i)) for i in range(n)]
        return [InnerStep(torch.randperm(count, generator=child(0, "order", i)), d) for i, d in enumerate(draws)]

    def plain(count: int, n: int) -> float:
        from plain import plain_matching

        ends = [list(student.views(t).values()) for t in (theta, target)]
        pairs = [(step.index, step.draw) for step in steps(count, n)]
        return float(plain_matching(net, *ends, images[:count], labels[:count], lr, pairs)[0])

    def engine(count: int, n: int) -> float:
        problem = Problem(student, theta, [Target(n, target)], images[:count], labels[:count], lr, steps(count, n))
        if row == "unroll":
            return float(unroll(problem).loss)
        if row == "adjoint_lean":
            return float(adjoint(problem, micro_batch=LEAN_MICRO_BATCH, reuse=0).loss)
        return float(adjoint(problem, micro_batch=50, reuse=1).loss)

    args.parameters = student.size
    return plain if row.startswith("plain") else engine


def measure(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in this process."""
    from dd.process import tune_process

    tune_process(threads=args.threads, allocator=row in TUNED)
    run = make_pass(row, args)
    run(min(2, args.images), 1)
    was_reset = reset_high_water()
    base_kib = read_kib("VmRSS")
    base = high_water_mb(was_reset) if base_kib is None else base_kib * 1024 / MB
    times = []
    for _ in range(1 + args.repeats):
        start = time.perf_counter()
        loss = run(args.images, args.steps)
        times.append(time.perf_counter() - start)
    return {
        "seconds": round(min(times[1:] or times), 4),
        "peak_mb": round(high_water_mb(was_reset) - base, 1),
        "stored_mb": round(4 * args.steps * args.parameters / MB, 1),
        "loss": loss,
    }


def child(row: str, arguments: list[str]) -> dict[str, Any]:
    """Run one row in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--child", row]
    environment = {**os.environ, **(LEAN_ENVIRONMENT if row == "adjoint_lean" else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"row {row} failed with exit code {done.returncode}")
    return json.loads(done.stdout)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The rows for people; ratios are to `plain`: how many times faster, and what part of its memory."""
    base = results.get("plain")
    lines = [f"{'row':<14}{'seconds':>9}{'speed-up':>10}{'peak MB':>10}{'of plain':>10}{'stored MB':>11}{'L':>10}"]
    for row, r in results.items():
        faster = f"{base['seconds'] / r['seconds']:.2f}x" if base else "-"
        part = f"{r['peak_mb'] / base['peak_mb']:.3f}" if base and base["peak_mb"] > 0 else "-"
        lines.append(
            f"{row:<14}{r['seconds']:>9.3f}{faster:>10}{r['peak_mb']:>10.1f}{part:>10}"
            f"{r['stored_mb']:>11.1f}{r['loss']:>10.6f}"
        )
    return "\n".join(lines)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=10, help="student steps N")
    parser.add_argument("--images", type=int, default=100, help="synthetic images, all in every step")
    parser.add_argument("--width", type=int, default=128, help="channels of the ConvNet")
    parser.add_argument("--augment", default="color_crop_cutout_flip_scale_rotate", help='DSA strategy or "none"')
    parser.add_argument("--threads", type=int, default=cores(), help="default: all cores")
    parser.add_argument("--repeats", type=int, default=2, help="timed passes after the warm one")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, the rest on stderr")
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    for name, least in (("steps", 1), ("images", 1), ("width", 1), ("threads", 1), ("repeats", 0)):
        if getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}; got {getattr(args, name)}")
    args.rows = args.rows.split(",")
    for row in args.rows:
        if row not in ROWS:
            parser.error(f"unknown row {row!r}; known: {', '.join(ROWS)}")
    return args


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    results: dict[str, dict[str, Any]] = {}
    for row in args.rows:
        print(f"{row} …", file=sys.stderr, flush=True)
        results[row] = child(row, arguments)
    text = f"width {args.width}, {args.images} images, N = {args.steps}, {args.threads} threads\n{table(results)}"
    print(text, file=sys.stderr if args.json else sys.stdout)
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
