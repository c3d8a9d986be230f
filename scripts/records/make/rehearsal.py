"""A rehearsal of ImageNet-1K: its classes, a tenth of its pictures, tiny, by two ranks; what the whole would take.

    python -m scripts.records.make.rehearsal --out DIR [--classes 1000] [--each 130] [--shares 0.25 1] [--methods …]

A folder of pictures is generated in `DIR/data-CLASSES`: 32 × 32 JPEGs, a pattern of colours a class under noise. RDED,
SRe2L++ and CV-DD make ten images a class of it with tiny teachers, each as one call of two ranks, at several shares of
the classes.

A record a method, `rehearsal-METHOD`, has the processor seconds and the peak of memory of each rank, what `dd.estimate`
predicted for the same call, how seconds grow from the smallest share to the largest (1 is linear in the number of
classes), and the real set's time, disk and memory: its estimate, times measured by predicted here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import dd
from dd.base.files import json_at, write_text
from dd.base.process import tune_process
from dd.evaluation import origin
from scripts.bench.common import high_water_mb, reset_high_water
from scripts.records import kept
from scripts.records.tables.rehearsal import rehearsal_records, rehearsal_table

SIZE, HELD_OUT, RANKS = 32, 2, 2
TINY: dict[str, Any] = {
    "ipc": 10,
    "teacher": {"epochs": 1, "min_steps": 100},
    "batch": 100,
    "label_epochs": 3,
    "candidates": 30,
    "crops": 2,
    "train": {"model": "convnet(width=16)", "batch_size": 100, "accumulate": 2},
}
METHODS: dict[str, dict[str, Any]] = {
    "rded": {**TINY, "committee": ("convnet(norm=batch,width=16)",)},
    "sre2l++": {**TINY, "committee": ("convnet(norm=batch,width=16)",), "iterations": 20},
    "cvdd": {**TINY, "committee": ("convnet(norm=batch,width=16)", "convnet(norm=batch,width=12)"), "iterations": 20},
}


def make_folder(root: Path, classes: int, each: int) -> Path:
    """`root/train/CLASS/N.jpg` and `root/val/…`: 4 × 4 patches of colours that name the class, in noise and light."""
    done = root / "done"
    if done.exists():
        return root
    for k in range(classes):
        draws = np.random.default_rng(k)
        pattern = np.kron(draws.integers(0, 256, (4, 4, 3)), np.ones((SIZE // 4, SIZE // 4, 1)))
        for part, count in (("train", each), ("val", HELD_OUT)):
            folder = root / part / f"n{k:08d}"
            folder.mkdir(parents=True, exist_ok=True)
            for n in range(count):
                pixels = pattern * draws.uniform(0.6, 1.0) + draws.normal(0, 40, pattern.shape)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{n}.jpg", quality=90)
    done.touch()
    return root


def one_rank(method: str, data: Path, out: Path) -> None:
    """A rank's part of a call; its seconds and its memory are left in a file."""
    tune_process(1)
    was_reset, cpu, wall = reset_high_water(), time.process_time(), time.monotonic()
    small = dd.distill(f"imagefolder:{data}", method, size=SIZE, out=out, store=out / "store", **_settings(method))
    told = {
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "peak_mb": round(high_water_mb(was_reset)),
        "bytes": small.nbytes._asdict(),
    }
    write_text(out.with_name(f"{out.name}-rank{os.environ['RANK']}.json"), json.dumps(told))


def _settings(method: str) -> dict[str, Any]:
    return {**METHODS[method], "threads": 1, "device": "cpu", "progress": False}


def two_ranks(method: str, data: Path, out: Path) -> list[dict[str, Any]]:
    """One call of two ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    words = [sys.executable, "-m", "scripts.records.make.rehearsal", "--rank-of", method, "--data", str(data)]
    group = [
        subprocess.Popen([*words, "--out", str(out)], env={**own, "WORLD_SIZE": str(RANKS), "RANK": str(rank)})
        for rank in range(RANKS)
    ]
    codes = [process.wait() for process in group]
    if any(codes):
        raise SystemExit(f"{method}: a rank ended with {codes}")
    return [json_at(out.with_name(f"{out.name}-rank{rank}.json")) for rank in range(RANKS)]


def measured(method: str, classes: int, each: int, folder: Path) -> dict[str, Any]:
    """What a call took, and what was predicted for it."""
    data, out = make_folder(folder / f"data-{classes}", classes, each), folder / f"{file_of(method)}-{classes}"
    shutil.rmtree(out, ignore_errors=True)  # what is finished would take no time
    ranks = two_ranks(method, data, out)
    blank = dd.blank_images(classes=classes, train=classes * each, size=SIZE)
    predicted = dd.estimate(blank, method, device="cpu", **METHODS[method])
    cpu = sum(rank["cpu_seconds"] for rank in ranks)
    print(f"{method}, {classes} classes: {cpu:.0f} CPU s, {max(r['peak_mb'] for r in ranks)} MB a rank", flush=True)
    return {"classes": classes, "each": each, "ranks": ranks, "cpu_seconds": cpu, "predicted": predicted.to_json()}


def file_of(method: str) -> str:
    """A method's name in that of a folder."""
    return method.replace("+", "p")


def growth(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The power of the number of classes by which seconds grow, from the smallest call to the largest."""
    if len(rows) < 2:
        return None
    first, last = rows[0], rows[-1]
    return round(math.log(last["cpu_seconds"] / first["cpu_seconds"]) / math.log(last["classes"] / first["classes"]), 2)


def extrapolated(method: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The real set at ten images a class by the published settings: predicted, and as much more as was measured."""
    whole, last = dd.estimate("imagenet", method, ipc=10, preset="paper", device="cpu"), rows[-1]
    ratio = last["cpu_seconds"] / last["predicted"]["seconds"]
    return {
        "predicted_hours": round(whole.seconds / 3600, 1),
        "measured_by_predicted": round(ratio, 2),
        "hours": round(ratio * whole.seconds / 3600, 1),
        "store_bytes": whole.disk_bytes,
        "set_bytes": whole.set_bytes,
        "peak_bytes": whole.peak_bytes,
        "rate": whole.rate,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Rehearse, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--each", type=int, default=130)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 1.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.rank_of:
        one_rank(asked.rank_of, asked.data, asked.out)
        return
    for method in asked.methods:
        counts = sorted({max(2, round(share * asked.classes)) for share in asked.shares})
        rows = [measured(method, count, asked.each, asked.out) for count in counts]
        record = {
            "dataset": f"generated-{asked.classes}",
            "method_name": method,
            "settings": METHODS[method],
            "size": SIZE,
            "ranks": RANKS,
            "rows": rows,
            "growth": growth(rows),
            "imagenet": extrapolated(method, rows),
            "origin": origin(0, torch.device("cpu")),
        }
        kept.keep(f"rehearsal-{file_of(method)}", record)
    print("\n".join(rehearsal_table(rehearsal_records())))


if __name__ == "__main__":
    main()
