"""CPU and wall seconds of a start: of `import dd` beside `import torch`, and of the command line's short answers.

    python scripts/bench/start.py [--repeats 7] [--rows torch,dd,help] [--json]

Rows, each a fresh process, started and ended:

    python    nothing: what the interpreter itself takes
    torch     `import torch`
    dd        `import dd`
    distill   `import dd; dd.distill`, which loads torch and all that the verb needs
    help      `ddistill --help`
    list      `ddistill list`
    method    `ddistill list mtt`
    wrong     `ddistill distil digits mtt`, a verb that there is not
    verb      `ddistill evaluate --help`, by tyro

One pass over the rows comes first and is not counted: it compiles and reads the files. Then `--repeats` rounds, in
which every row in turn is run once; `cpu` (user and system, threads and children included) and `wall` are medians, and
`ratio` is `cpu` by that of `torch`. Each process has one thread.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import command_line, parsed, tell

ROWS = {
    "python": ["-c", "pass"],
    "torch": ["-c", "import torch"],
    "dd": ["-c", "import dd"],
    "distill": ["-c", "import dd; dd.distill"],
    "help": ["-m", "dd", "--help"],
    "list": ["-m", "dd", "list"],
    "method": ["-m", "dd", "list", "mtt"],
    "wrong": ["-m", "dd", "distil", "digits", "mtt"],
    "verb": ["-m", "dd", "evaluate", "--help"],
}
CODES = {"wrong": 2}
"""Exit codes other than 0."""


def start(row: str) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of one process."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *ROWS[row]], env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != CODES.get(row, 0):
        raise SystemExit(f"row {row} failed with exit code {done.returncode}\n{done.stderr}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def measure(rows: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """The rows with their medians, and the ratio to `torch` where that is among them."""
    for row in rows:
        start(row)
    seen: dict[str, list[tuple[float, float]]] = {row: [] for row in rows}
    for i in range(repeats):
        print(f"round {i + 1} of {repeats} …", file=sys.stderr, flush=True)
        for row in rows:
            seen[row].append(start(row))
    middle = {row: [statistics.median(part) for part in zip(*runs, strict=True)] for row, runs in seen.items()}
    torch = middle["torch"][0] if "torch" in middle else None
    return [
        {"row": row, "cpu": round(cpu, 4), "wall": round(wall, 4), "ratio": torch and round(cpu / torch, 3)}
        for row, (cpu, wall) in middle.items()
    ]


def main() -> None:
    parser = command_line(__doc__, list(ROWS), threads=1)
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    args = parsed(parser, sys.argv[1:], list(ROWS), repeats=1)
    made = measure(args.rows, args.repeats)
    lines = [f"{'row':<10}{'cpu s':>8}{'wall s':>8}{'by torch':>10}"]
    for row in made:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        lines.append(f"{row['row']:<10}{row['cpu']:>8.3f}{row['wall']:>8.3f}{ratio:>10}")
    tell("\n".join(lines), {"repeats": args.repeats, "rows": made}, args)


if __name__ == "__main__":
    main()
