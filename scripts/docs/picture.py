"""The README's picture, from the folder of a benchmark: a row a method, one image a class, and its accuracy.

    python scripts/docs/picture.py runs/leaderboards/cifar10-ipc1 --ipc 1 --root DATA [--out docs/cifar10-ipc1.png]

The first row is the random real images of the benchmark. Methods follow in the order of the leaderboard, refusals left
out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dd
from dd.base.files import read_json, write_bytes
from dd.base.raster import as_png
from dd.contest.report import sets_of
from dd.data import Source
from dd.evaluation import mean_std
from dd.evaluation.leaderboard import Benchmark
from dd.run.resolve import load_real
from dd.synthetic.figures import gallery

ROOT = Path(__file__).resolve().parents[2]


def picture(folder: Path, ipc: int, root: Path | None) -> bytes:
    """The PNG; equal folders give equal bytes."""
    board = Benchmark.from_json(read_json(folder / "leaderboard.json"))
    real: Any = load_real(board.dataset, Source(root=root))
    drawn = dd.distill(real, "random", ipc=ipc, seed=board.cells[0]["seed"], preset="cpu", progress=False)
    mean, _ = mean_std(board.row("random", ipc).values)
    sets = {f"random {100 * mean:.1f} %": drawn.attach(real.train)}  # type: ignore[union-attr]
    return as_png(gallery({**sets, **sets_of(folder, board.to_json(), ipc, real)}))


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
