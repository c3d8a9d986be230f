"""The README's picture, from the folder of a benchmark: a row a method, one image a class, and its accuracy.

    python scripts/docs/picture.py runs/leaderboards/cifar10 --ipc 1 --root DATA [--out docs/cifar10-ipc1.png]

The first row is the random real images of the benchmark. Methods follow in the order of the leaderboard, refusals left
out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dd
from dd.benchmark_plan import Unit
from dd.figures import as_png, gallery
from dd.files import read_json, write_bytes
from dd.leaderboard import Benchmark
from dd.resolve import load_real

ROOT = Path(__file__).resolve().parents[2]


def picture(folder: Path, ipc: int, root: Path | None) -> bytes:
    """The PNG; equal folders give equal bytes."""
    board = Benchmark.from_json(read_json(folder / "leaderboard.json"))
    real: Any = load_real(board.dataset, root=root)
    seed = board.cells[0]["seed"]
    shown: dict[str, Any] = {"random": dd.distill(real, "random", ipc=ipc, seed=seed, preset="cpu", progress=False)}
    for entry in board.entries:
        path = folder / "runs" / Unit(entry.set, ipc, seed).name
        if entry.budget == ipc and (path / "synthetic.safetensors").exists():
            shown.setdefault(entry.set, dd.load(path))
    named = {}
    for name, small in shown.items():
        values = board.row(name, ipc).values
        named[f"{name} {100 * sum(values) / len(values):.1f} %"] = small.attach(real.train)
    return as_png(gallery(named))


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "cifar10-ipc1.png")
    given = parser.parse_args()
    write_bytes(given.out, picture(given.folder, given.ipc, given.root))


if __name__ == "__main__":
    main()
