"""Seconds and peak memory of one outer iteration of trajectory matching, engine beside engine.

    python scripts/bench/matching_step.py [--steps 30] [--rows adjoint,plain] [--json]

Setting: ConvNet (depth 3, instance norm), pictures 3×32×32, ten classes, every synthetic image in every student step,
DSA as published, float32. Images are seeded noise and θ* is near θ_0: neither time nor memory depends on the values.

Rows, each in a process of its own, one working at a time:

    adjoint          the fast path: written-out tangents, compiled kernels, micro-batches of 50, all of pass 1 reused
    adjoint_lean     the same in micro-batches of 5, nothing reused; glibc gives blocks of 0.3 MB and more straight back
                     to the kernel (`LEAN_ENVIRONMENT`): its heap otherwise holds twice what is alive
    adjoint_generic  the exact adjoint by double backward, micro-batches of 50, as many graphs reused
                     as fit in a gigabyte
    adjoint_recorded the same by CUDA graphs (with `--device cuda`)
    adjoint_hybrid   `adjoint` with bfloat16 in the convolutions that are linear in the tangent
    unroll           the library's reference engine
    plain            a plain transcription of the usual create-graph loop (`plain.py`) with torch's own layers
    plain_untuned    the same under the default allocator; all others but `adjoint_lean` have that of `dd.tune_process`

How memory is counted. The child builds data, model and target and runs one iteration of one step, so that libraries,
compiled kernels and thread pools are loaded. Then the kernel's high-water mark is reset (`/proc/self/clear_refs`) and
the resident size read: the base. `peak_mb` is the high-water mark after all passes, minus the base, in 10⁶ bytes; where
the mark cannot be reset, `ru_maxrss` stands in. With
`--device cuda` both are those of torch's allocator on it. What the one-step pass leaves in the heap belongs to the
base: for the plain rows a tenth of the graph at N = 10. `stored_mb` is what the N student parameter vectors take
(4·N·P).

How time is counted. One warm pass a row, then `--repeats` rounds in which every row in turn does one timed pass while
the others sleep, so that a slow minute of the machine falls on all of them; `seconds` and `cpu_seconds` are a row's
fastest, and ratios are to `plain`;
`compile_seconds` is the one-step pass at the start. With `--repeats 0` it is that of the warm pass: good for memory,
not for speed.

`peak_share`: FLOPs of the convolutions that the row executes (counted by torch's flop counter on four images, scaled to
all), each over the peak of its type, over `seconds`: the best of forward and input gradient of a 128→128 3×3
convolution on 25 maps of 16×16 in channels-last memory, in float32 and in bfloat16, timed in the same child before and
after each of its passes (`conv_gflops`, `bf16_gflops`). The weight
gradient of torch's library runs at two thirds of the peak for that layer here; the fast path has its own.

`gradient_error`, `cosine`: the image gradient against the generic adjoint in float64 (equal to the unrolled loop to
1e-12, see the tests), in a process of its own; `--no-reference` leaves it out. In float32 ReLU masks flip by rounding:
errors of 1e-3 to 1e-2 are those of float32 itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import (
    MB,
    Child,
    Clock,
    Setting,
    base_mb,
    command_line,
    device_mb,
    high_water_mb,
    parsed,
    ratios,
    reset_high_water,
    rounds,
    settle,
    take_turns,
    tell,
    usual,
)

ROWS = (
    "adjoint",
    "adjoint_lean",
    "adjoint_generic",
    "adjoint_recorded",
    "adjoint_hybrid",
    "unroll",
    "plain",
    "plain_untuned",
)
USUAL = [row for row in ROWS if row != "adjoint_recorded"]
UNTUNED = ("adjoint_lean", "plain_untuned")
LEAN_MICRO_BATCH = 5
LEAN_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "300000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}


def make_pass(row: str, args: argparse.Namespace) -> Callable[..., Any]:
    """A function (images, steps, compiled) → (L, image gradient) that runs one outer iteration as `row` does it."""
    from dd.inner import adjoint, unroll
    from dd.inner.fast import adjoint_fast
    from dd.inner.recorded import adjoint_recorded

    setting = Setting(args.images, args.width, args.augment, row == "reference", args.device)

    def plain(count: int, n: int, compiled: bool = True) -> Any:
        from plain import plain_matching

        del compiled
        ends = [list(setting.student.views(t).values()) for t in (setting.theta, setting.target)]
        pairs = [(step.index, step.draw) for step in setting.steps(count, n)]
        images, labels = setting.images[:count], setting.labels[:count]
        loss, gradient, _ = plain_matching(usual(setting.net), *ends, images, labels, setting.lr, pairs)
        return float(loss), gradient

    part = 50 if args.device == "cpu" else None  # as the library chooses

    def engine(count: int, n: int, compiled: bool = True) -> Any:
        problem = setting.problem(count, n)
        if row == "unroll":
            found = unroll(problem)
        elif row in ("adjoint_generic", "reference"):
            found = adjoint(problem, micro_batch=part)
        elif row == "adjoint_recorded":
            found = adjoint_recorded(problem)
        elif row == "adjoint_lean":
            found = adjoint_fast(problem, LEAN_MICRO_BATCH, 0, compiled)
        else:
            found = adjoint_fast(problem, part, None, compiled, hybrid=row == "adjoint_hybrid")
        return float(found.loss), found.images

    args.parameters = setting.student.size
    return plain if row.startswith("plain") else engine


def conv_flops(run: Callable[..., Any], args: argparse.Namespace) -> dict[str, float]:
    """FLOPs of the convolutions of one iteration by type, from a pass on four images."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    found: dict[str, float] = {}

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, given: Any = (), named: Any = None) -> Any:
            made = func(*given, **(named or {}))
            if "convolution" in str(func):
                kind = str(given[0].dtype).removeprefix("torch.")
                flops = flop_registry[func.overloadpacket](*given, **(named or {}), out_val=made)
                found[kind] = found.get(kind, 0) + flops * args.images / few
            return made

    few = min(4, args.images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the counter sees its own thread only
    with Counter():
        run(few, args.steps, False)
    torch.set_num_threads(threads)
    return found


def conv_peak(dtype: str, device: str = "cpu") -> float:
    """FLOP/s of the better of forward and input gradient of a 128→128 3×3 convolution."""
    import torch

    kind = getattr(torch, dtype)
    x, g = (
        torch.randn(25, 128, 16, 16).to(device, kind).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    w = torch.randn(128, 128, 3, 3).to(device, kind).contiguous(memory_format=torch.channels_last)
    one, back = [1, 1], torch.ops.aten.convolution_backward
    best = float("inf")
    for _ in range(20):
        for call in (
            lambda: torch.conv2d(x, w, padding=1),
            lambda: back(g, x, w, None, one, one, one, False, [0, 0], 1, [True, False, False]),
        ):
            settle()
            start = time.perf_counter()
            call()
            settle()
            best = min(best, time.perf_counter() - start)
    return 2 * 25 * 128 * 128 * 9 * 256 / best


def measure(row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one row in this process."""
    import torch

    from dd.base.process import tune_process

    tune_process(threads=args.threads, allocator=row not in UNTUNED)
    run, warm, clock = make_pass(row, args), Clock(), Clock()
    if row == "reference":
        torch.save(run(args.images, args.steps)[1], args.reference)
        return {}
    kinds = ("float32", "bfloat16") if row == "adjoint_hybrid" else ("float32",)
    warm.time(lambda: run(args.images, 1))
    peaks = {kind: conv_peak(kind, args.device) for kind in kinds}
    was_reset = reset_high_water()
    base = base_mb(was_reset) if args.device == "cpu" else device_mb(args.device)
    loss, gradient = clock.time(lambda: run(args.images, args.steps))
    for number, _ in enumerate(rounds()):
        if not number:
            clock = Clock()
        loss, gradient = clock.time(lambda: run(args.images, args.steps))
        peaks = {kind: max(peak, conv_peak(kind, args.device)) for kind, peak in peaks.items()}
    most = high_water_mb(was_reset) if args.device == "cpu" else device_mb(args.device, peak=True)
    spent, mb, flops = clock.result(), most - base, conv_flops(run, args)
    found = {
        "seconds": round(spent["seconds"], 4),
        "cpu_seconds": round(spent["cpu_seconds"], 4),
        "peak_mb": round(mb, 1),
        "stored_mb": round(4 * args.steps * args.parameters / MB, 1),
        "peak_share": float(f"{sum(n / peaks[kind] for kind, n in flops.items()) / spent['seconds']:.3g}"),
        "conv_gflop": round(sum(flops.values()) / 1e9, 1),
        "conv_gflops": round(peaks["float32"] / 1e9, 1),
        **({"bf16_gflops": round(peaks["bfloat16"] / 1e9, 1)} if "bfloat16" in peaks else {}),
        "compile_seconds": round(warm.wall[0], 1),
        "loss": loss,
    }
    if args.reference:
        true, mine = torch.load(args.reference, weights_only=True).flatten(), gradient.double().flatten()
        found["gradient_error"] = float((mine - true).norm() / true.norm())
        found["cosine"] = float(torch.dot(mine, true) / (mine.norm() * true.norm()))
    return found


def launch(row: str, arguments: list[str]) -> Child:
    """A row in a process of its own, up to its first timed pass."""
    print(f"{row} …", file=sys.stderr, flush=True)
    made = Child(__file__, row, arguments, LEAN_ENVIRONMENT if row == "adjoint_lean" else {})
    if row != "reference":
        made.wait()
    return made


def table(results: dict[str, dict[str, Any]]) -> str:
    """The rows for people; ratios are to `plain`: how many times faster, and what part of its memory."""
    base = results.get("plain")
    heads = ("seconds", "CPU s", "speed-up", "CPU", "peak MB", "of plain", "stored MB", "of peak", "error", "L")
    lines = [f"{'row':<16}" + "".join(f"{head:>11}" for head in heads)]
    for row, r in results.items():
        part = f"{r['peak_mb'] / base['peak_mb']:.3f}" if base and base["peak_mb"] > 0 else "-"
        error = f"{r['gradient_error']:.2e}" if "gradient_error" in r else "-"
        first = f"{r['seconds']:>11.3f}{r['cpu_seconds']:>11.3f}{ratios(base, r, 11)}"
        cells = (f"{r['peak_mb']:.1f}", part, f"{r['stored_mb']:.1f}")
        cells += (f"{r['peak_share']:.3f}", error, f"{r['loss']:.6f}")
        lines.append(f"{row:<16}{first}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, ROWS, ",".join(USUAL), device=True)
    parser.add_argument("--steps", type=int, default=10, help="student steps N")
    parser.add_argument("--images", type=int, default=100, help="synthetic images, all in every step")
    parser.add_argument("--width", type=int, default=128, help="channels of the ConvNet")
    parser.add_argument("--augment", default="color_crop_cutout_flip_scale_rotate", help='DSA strategy or "none"')
    parser.add_argument("--repeats", type=int, default=2, help="timed passes after the warm one")
    parser.add_argument("--no-reference", action="store_true", help="leave the float64 comparison out")
    parser.add_argument("--reference", help=argparse.SUPPRESS)
    return parsed(parser, arguments, ROWS, steps=1, images=1, width=1, repeats=0)


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args.child, args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if not args.no_reference:
            arguments = [*arguments, "--reference", str(Path(folder) / "gradient.pt")]
            launch("reference", arguments).result()
        results = take_turns({row: launch(row, arguments) for row in args.rows}, args.repeats)
    head = f"width {args.width}, {args.images} images, N = {args.steps}, {args.threads} threads"
    tell(f"{head}\n{table(results)}", results, args)


if __name__ == "__main__":
    main(sys.argv[1:])
