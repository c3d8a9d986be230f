"""Memory of the lean exact engine over the number of student steps, and what a kept step costs.

    python scripts/bench/graph_memory.py [--steps 5,20,80] [--reuse 1,2] [--engine fast] [--json]

Setting: that of `matching_step.py` (ConvNet of depth 3, pictures 3×32×32, ten classes, every synthetic image in every
step, DSA, float32), the micro-batches of its lean row. Each row runs one outer iteration in a process of its own, with
glibc told to give blocks of 0.3 MB and more straight back (at 4 MB its heap hides tens of MB). Before the base is
read, a pass of one step with as many images as a micro-batch has loads libraries and compiles kernels, and the free
heap is given back to the kernel.

    peak_mb     high-water mark of the resident size, minus the base (10⁶ bytes)
    stored_mb   the student parameter vectors θ_0…θ_N that pass 1 leaves for pass 2: 4·(N + 1)·P bytes
    graph_mb    peak_mb − stored_mb: activations and graphs, which should not grow with N
    reuse_mb    what each of the last `reuse` steps costs that keeps what pass 1 computed: graph_mb minus graph_mb
                at reuse = 0 and equal N, divided by `reuse`. `Run(reuse=…)` bounds it. With few
                images the peak lies elsewhere and nothing shows; the heap itself adds some MB by chance

The first rows are N = `--steps` with nothing reused, the last ones `--reuse` at the smallest N.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from common import (
    MB,
    Setting,
    base_mb,
    command_line,
    give_back,
    high_water_mb,
    parsed,
    reset_high_water,
    run_child,
    tell,
    whole_numbers,
)
from matching_step import LEAN_ENVIRONMENT, LEAN_MICRO_BATCH

ENGINES = ("fast", "generic")


def measure(args: argparse.Namespace, steps: int, reuse: int) -> dict[str, Any]:
    """Run one row in this process."""
    from dd.base.process import tune_process
    from dd.inner import adjoint
    from dd.inner.fast import adjoint_fast, compiler_present

    tune_process(threads=args.threads, allocator=False)
    setting = Setting(args.images, args.width, "color_crop_cutout_flip_scale_rotate")

    def run(count: int, n: int) -> float:
        problem = setting.problem(count, n)
        if args.engine == "generic":
            return float(adjoint(problem, micro_batch=args.micro_batch, reuse=reuse).loss)
        compiled = not args.no_compile and compiler_present()
        return float(adjoint_fast(problem, args.micro_batch, reuse, compiled=compiled).loss)

    parts = -(-args.images // args.micro_batch)
    run(-(-args.images // parts), 1)
    give_back()
    was_reset = reset_high_water()
    base = base_mb(was_reset)
    loss = run(args.images, steps)
    peak, stored = high_water_mb(was_reset) - base, 4 * (steps + 1) * setting.student.size / MB
    return {
        "steps": steps,
        "reuse": reuse,
        "peak_mb": round(peak, 1),
        "stored_mb": round(stored, 1),
        "graph_mb": round(peak - stored, 1),
        "loss": loss,
    }


def child(steps: int, reuse: int, arguments: list[str]) -> dict[str, Any]:
    """Run one row in a process of its own."""
    return run_child(__file__, f"{steps},{reuse}", arguments, LEAN_ENVIRONMENT)


def add_reuse(rows: list[dict[str, Any]]) -> None:
    """Write `reuse_mb` into the rows that reuse."""
    lean = {row["steps"]: row["graph_mb"] for row in rows if row["reuse"] == 0}
    for row in rows:
        row["reuse_mb"] = round((row["graph_mb"] - lean[row["steps"]]) / row["reuse"], 1) if row["reuse"] else None


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [f"{'N':>4}{'reuse':>7}{'peak MB':>10}{'stored MB':>11}{'graph MB':>10}{'MB a kept step':>16}"]
    for row in rows:
        kept = "-" if row["reuse_mb"] is None else f"{row['reuse_mb']:.1f}"
        lines.append(
            f"{row['steps']:>4}{row['reuse']:>7}{row['peak_mb']:>10.1f}{row['stored_mb']:>11.1f}"
            f"{row['graph_mb']:>10.1f}{kept:>16}"
        )
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__)
    parser.add_argument("--steps", type=whole_numbers, default=[5, 20, 80], help="student steps N, by commas")
    parser.add_argument("--reuse", type=whole_numbers, default=[1, 2], help="steps kept, by commas; at the smallest N")
    parser.add_argument("--engine", choices=ENGINES, default="fast", help="the path of the exact engine")
    parser.add_argument("--no-compile", action="store_true", help="eager kernels in the fast path")
    parser.add_argument("--images", type=int, default=100, help="synthetic images, all in every step")
    parser.add_argument("--width", type=int, default=128, help="channels of the ConvNet")
    parser.add_argument("--micro-batch", type=int, default=LEAN_MICRO_BATCH, help="images at once")
    args = parsed(parser, arguments, images=1, width=1, micro_batch=1)
    if not args.steps or min(args.steps) < 1:
        parser.error(f"--steps must be numbers of at least 1; got {args.steps}")
    if any(not 1 <= kept <= min(args.steps) for kept in args.reuse):
        parser.error(f"--reuse must be in 1…{min(args.steps)}, the smallest of --steps; got {args.reuse}")
    return args


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        print(json.dumps(measure(args, *whole_numbers(args.child))))
        return
    rows = []
    for steps, reuse in [(n, 0) for n in args.steps] + [(min(args.steps), kept) for kept in args.reuse]:
        print(f"N = {steps}, reuse = {reuse} …", file=sys.stderr, flush=True)
        rows.append(child(steps, reuse, arguments))
    add_reuse(rows)
    head = f"{args.engine}, width {args.width}, {args.images} images, micro-batches of {args.micro_batch}"
    tell(f"{head}, {args.threads} threads\n{table(rows)}", {"engine": args.engine, "rows": rows}, args)


if __name__ == "__main__":
    main(sys.argv[1:])
