"""Memory that big sets cost: how many times its own size a set or a label store takes while it is made and kept.

    python scripts/bench/copies.py [--images 60,120,240] [--records 100,200,400] [--rows recovery,labels] [--json]

Rows, each at three sizes, each size in a process of its own; the first four by default:

    recovery   `dd.distill` of `sre2l` with hard labels into a run folder, in blocks of ten images: from the drawn
               images over recovery, checkpoints and previews to the file; MB is that of the set in float32
    labels     `make_labels`: teachers label batches; MB is that of the store
    save       `LabelStore.save` of a store that is in memory
    load       `LabelStore.load`; the store itself is in the peak
    patches    as `recovery`, from patches of real images, which are not recovered (`rded`)
    pruned     as `labels`, where a quarter of the batches is kept; MB is that of the part that is kept
    count      bytes of a store as `nbytes` of a set counts them

Pictures are 3×128×128, of ten classes that differ in their colour, and the teacher is a batch norm with a linear layer
on the mean colour, so that activations weigh little. Records are 100 images with logits of `--classes` classes.

    peak_mb    high-water mark of the resident size, minus the base (10⁶ bytes). Before the base is read, the same at a
               tenth of the size has loaded libraries, and the free heap is given back to the kernel
    ratio      peak_mb / MB
    exponent   of the size, fitted to the peaks of a row by least squares of their logarithms: 1 is in proportion
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import (
    MB,
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
from matching_step import LEAN_ENVIRONMENT

SETS = ("recovery", "patches")
ROWS = ("recovery", "labels", "save", "load", "patches", "pruned", "count")
DEFAULT = ",".join(ROWS[:4])
SIDE, CLASSES, BATCH = 128, 10, 100
LEAST_MB = 0.1
"""A smaller peak is the heap's: the exponent takes it for this one."""


def real_images(each: int) -> Any:
    """Training images `each` a class, in noise around the colour of their class; a few are held out."""
    import torch

    from dd.data import Images, load_images

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(each)
    pixels = torch.randint(0, 30, (len(labels), 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    pixels += (200 * colours()).to(torch.uint8)[labels][:, :, None, None]
    rows = torch.arange(CLASSES) * each
    return load_images(Images(train=(pixels, labels), test=(pixels[rows].flip(-1), labels[rows]), name="colours"))


def colours() -> Any:
    """A colour in [0, 1] for each class `[10, 3]`."""
    import torch

    return torch.rand(CLASSES, 3, generator=torch.Generator().manual_seed(1))


def colour_teacher() -> Any:
    """A teacher that knows the classes by their mean colour."""
    import torch
    from torch import nn

    from dd.teachers import Teacher
    from dd.transforms.whiten import Normalise

    centres = 200 / 255 * colours() + 15 / 255
    last = nn.Linear(3, CLASSES)
    last.weight.data, last.bias.data = 400 * centres, -200 * centres.square().sum(1)
    net = nn.Sequential(nn.BatchNorm2d(3, eps=0.0), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    torch.manual_seed(0)
    return Teacher("colours", net, Normalise(mean=(0.0,) * 3, std=(1.0,) * 3))


def distilled(row: str, images: int, real: Any) -> Callable[[], object]:
    """A run of a decoupled method into a run folder, of so many images."""
    import dd
    from dd.methods.decoupled.recover import Recover
    from dd.teachers import Teacher

    setattr(Teacher, "check", lambda *_: 1.0)  # noqa: B010  it looks at up to 200 real images, whatever the set is
    how: dict[str, Any] = {"init": "real", "iterations": 2, "jitter": 0, "crop": False}
    if row == "patches":
        how = {"init": "rded", "iterations": 0, "candidates": images // CLASSES, "crops": 1}
    method = Recover(ipc=images // CLASSES, committee=(colour_teacher(),), labels="hard", **how)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            dd.distill(real, method, out=Path(folder) / "run", progress=False, device="cpu")

    return run


def labelled(records: int, classes: int, **options: Any) -> Any:
    """A store of so many records of 100 images, labelled by a linear teacher on 8 pixels."""
    import torch
    from torch import nn

    from dd.methods.decoupled.relabel import make_labels
    from dd.teachers import Teacher
    from dd.transforms.whiten import Normalise

    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, classes))
    teacher = Teacher("linear", net, Normalise(mean=(0.5,) * 3, std=(0.25,) * 3))
    pictures = torch.zeros(BATCH, 3, 8, 8, dtype=torch.uint8)
    return make_labels(pictures, [(teacher, 1.0)], epochs=records, batch=BATCH, scale=None, **options)


def of_store(row: str, records: int, classes: int, folder: Path) -> tuple[Callable[[], object], float]:
    """(what a row does, MB of the store)."""
    from dd.synthetic import LabelStore
    from dd.synthetic.records import record_bytes

    whole = records * record_bytes(BATCH, classes, 0)
    if row == "labels":
        return lambda: labelled(records, classes), whole / MB
    if row == "pruned":
        return lambda: labelled(records, classes, nbytes=whole // 4), whole / 4 / MB
    store = labelled(records, classes)
    size = store.nbytes / MB
    if row == "save":
        return lambda: store.save(folder), size
    if row == "count":
        return lambda: store.file_bytes, size
    store.save(folder)
    return lambda: LabelStore.load(folder), size


def measure(args: argparse.Namespace, row: str, size: int) -> dict[str, Any]:
    """Run one row at one size in this process."""
    from dd.base.process import tune_process

    tune_process(threads=args.threads, allocator=False)
    with tempfile.TemporaryDirectory() as folder:
        if row in SETS:
            real = real_images(size // CLASSES * 5 // 4 + 2)
            small = max(2 * CLASSES, size // 10 // CLASSES * CLASSES)
            distilled(row, small, real)()
            run, told = distilled(row, size, real), 4 * size * 3 * SIDE**2 / MB
        else:
            of_store(row, max(4, size // 10), args.classes, Path(folder) / "small")[0]()
            run, told = of_store(row, size, args.classes, Path(folder) / "store")
        give_back()
        was_reset = reset_high_water()
        base = base_mb(was_reset)
        kept = run()
        peak = high_water_mb(was_reset) - base
        del kept
    return {"row": row, "mb": round(told, 3), "peak_mb": round(peak, 1), "ratio": round(peak / told, 2)}


def exponent(rows: list[dict[str, Any]]) -> float:
    """The slope of log peak over log size."""
    x = [math.log(row["mb"]) for row in rows]
    y = [math.log(max(row["peak_mb"], LEAST_MB)) for row in rows]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    across = sum((a - mean_x) ** 2 for a in x)
    return round(sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / across, 2)


def table(found: dict[str, dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [f"{'row':<10}{'MB':>8}{'peak MB':>10}{'ratio':>8}{'exponent':>10}"]
    for row, told in found.items():
        for place, one in enumerate(told["sizes"]):
            fitted = f"{told['exponent']:.2f}" if place == len(told["sizes"]) - 1 else ""
            lines.append(f"{row:<10}{one['mb']:>8.1f}{one['peak_mb']:>10.1f}{one['ratio']:>8.2f}{fitted:>10}")
    return "\n".join(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, ROWS, DEFAULT)
    parser.add_argument("--images", type=whole_numbers, default=[60, 120, 240], help="sizes of sets, by commas")
    parser.add_argument("--records", type=whole_numbers, default=[100, 200, 400], help="sizes of stores, by commas")
    parser.add_argument("--classes", type=int, default=1000, help="of the logits")
    args = parsed(parser, arguments, ROWS, classes=2)
    if len(set(args.images)) < 2 or min(args.images) < 2 * CLASSES or any(size % CLASSES for size in args.images):
        parser.error(f"--images must be two or more multiples of {CLASSES} from {2 * CLASSES} on; got {args.images}")
    if len(set(args.records)) < 2 or min(args.records) < 4:
        parser.error(f"--records must be two or more numbers of at least 4; got {args.records}")
    return args


def main(arguments: list[str]) -> None:
    """Measure every row and print the table, or with `--json` the object."""
    args = parse(arguments)
    if args.child:
        row, size = args.child.split(",")
        print(json.dumps(measure(args, row, int(size))))
        return
    found: dict[str, dict[str, Any]] = {}
    for row in args.rows:
        print(f"{row} …", file=sys.stderr, flush=True)
        sizes = args.images if row in SETS else args.records
        told = [run_child(__file__, f"{row},{size}", arguments, LEAN_ENVIRONMENT) for size in sizes]
        found[row] = {"sizes": told, "exponent": exponent(told)}
    tell(table(found), found, args)


if __name__ == "__main__":
    main(sys.argv[1:])
