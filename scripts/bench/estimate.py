"""What `dd.estimate(calibrate=True)` predicts, beside what small cells then cost.

    python scripts/bench/estimate.py [--cells digits-mtt-1,digits-ftd-10] [--root DATA] [--repeats 3] [--json]

A cell is a preset for two cores, of trajectory matching with few experts and outer iterations. For every repeat a
process of its own loads the data, calls the estimate, then distils into a folder with an empty store. `cpu` is
processor seconds a thread, which is what a calibration predicts, `wall` what went by. `disk` is the store, `set` the
set with its labels. `peak` is the high-water mark of the resident size, reset after the estimate, over the resident
size at that moment: libraries and data are in both. `table` is the peak without a calibration. Printed are medians
over the repeats and predicted / measured. The cells are too short to be compiled.

The cells `cifar10-…` take the first 500 training and 100 test pictures of every class of CIFAR-10; they are left out
where `--root` does not hold it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import MB, base_mb, give_back, high_water_mb, reset_high_water, run_child

# name: (data set, method, fields). Few iterations: what an estimate multiplies is measured all the same.
CELLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    f"digits-{method}-{ipc}": ("digits", method, {"ipc": ipc, "experts": 2, "iterations": 30})
    for method in ("mtt", "ftd", "ast")
    for ipc in (1, 10)
}
CELLS["cifar10-mtt-1"] = ("cifar10", "mtt", {"ipc": 1, "experts": 1, "iterations": 12})
CELLS["cifar10-mtt-10"] = ("cifar10", "mtt", {"ipc": 10, "experts": 1, "iterations": 6, "max_start_epoch": 3})
CELLS["digits-sre2l++-10"] = ("digits", "sre2l++", {"ipc": 10})
CELLS["digits-cvdd-1"] = ("digits", "cvdd", {"ipc": 1})
CELLS["digits-infer-10"] = ("digits", "infer", {"ipc": 10})
CELLS["digits-rded-10"] = ("digits", "rded", {"ipc": 10})
CELLS["digits-herding-10"] = ("digits", "herding", {"ipc": 10})
CELLS["digits-random-10"] = ("digits", "random", {"ipc": 10})
CELLS["digits-graphs-mirage"] = ("digits-graphs", "mirage", {"budget_bytes": 8192})
TEACHER = {"teacher": {"epochs": 1, "min_steps": 1}}
CELLS["cifar10-sre2l++-10"] = ("cifar10", "sre2l++", {"ipc": 10, "iterations": 5, "label_epochs": 5, **TEACHER})
CELLS["cifar10-cvdd-1"] = ("cifar10", "cvdd", {"ipc": 1, "iterations": 5, "label_epochs": 5, **TEACHER})
CELLS["cifar10-rded-10"] = ("cifar10", "rded", {"ipc": 10, "label_epochs": 20, **TEACHER})
CELLS["cifar10-infer-10"] = ("cifar10", "infer", {"ipc": 10, "iterations": 5, **TEACHER})
CELLS["cifar10-herding-10"] = ("cifar10", "herding", {"ipc": 10, **TEACHER})
CELLS["cifar10-random-10"] = ("cifar10", "random", {"ipc": 10})
CELLS["cifar10-class_mean-1"] = ("cifar10", "class_mean", {"ipc": 1})
FIELDS = ("cpu", "wall", "disk", "set", "peak", "table")


def cut(root: str) -> Any:
    """CIFAR-10 with 500 training and 100 test pictures a class, under its own card."""
    import torch

    import dd
    from dd.data import Source
    from dd.run.resolve import load_real

    whole = load_real("cifar10", Source(root=root)).all_train()
    assert whole.test is not None
    parts = []
    for split, count in ((whole.train, 500), (whole.test, 100)):
        rows = [torch.nonzero(split.labels == k)[:count, 0] for k in range(whole.num_classes)]
        parts.append(split.subset(torch.cat(rows)))
    return dd.Images(train=parts[0], test=parts[1], classes=whole.classes, name="cifar10 (cut)", card=whole.card)


def child(name: str, root: str) -> dict[str, Any]:
    """Predict and run one cell: {field: [predicted, measured]}."""
    import torch

    import dd
    from dd.cost.meter import Moment
    from dd.run.resolve import load_real, resolve_method

    data, method, fields = CELLS[name]
    real = load_real(cut(root) if data == "cifar10" else data)
    start = time.perf_counter()
    guess = dd.estimate(real, method, calibrate=True, device="cpu", **fields)
    calibration = time.perf_counter() - start
    table = dd.estimate(real, method, device="cpu", **fields)
    value, _ = resolve_method(method, real, "auto", torch.device("cpu"), fields)
    with tempfile.TemporaryDirectory() as folder:
        store, out = Path(folder) / "store", Path(folder) / "run"
        give_back()
        was_reset = reset_high_water()
        base = base_mb(was_reset)
        begun = Moment.now()
        dd.distill(real, value, out=out, store=store, device="cpu", progress=False)
        ended = Moment.now()
        peak = round((high_water_mb(was_reset) - base) * MB) if was_reset else 0
        disk = sum(path.stat().st_size for path in store.rglob("*.safetensors"))
        made = [*out.glob("synthetic.safetensors"), *out.glob("labels/**/*.safetensors")]
        of_set = sum(path.stat().st_size for path in made)
    measured = {
        "cpu": [guess.seconds, begun.until(ended)],
        "wall": [guess.seconds, ended.wall - begun.wall],
        "disk": [guess.disk_bytes, disk],
        "set": [guess.set_bytes, of_set],
        "peak": [guess.peak_bytes, peak],
        "table": [table.peak_bytes, peak],
    }
    return {"calibration_seconds": calibration, **measured}


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the repeats of one cell."""
    results = [run_child(__file__, name, ["--root", args.root], {}) for _ in range(args.repeats)]
    row: dict[str, Any] = {"calibration_seconds": max(r["calibration_seconds"] for r in results)}
    for field in FIELDS:
        predicted, measured = (statistics.median(r[field][i] for r in results) for i in (0, 1))
        ratio = predicted / measured if measured else None
        row[field] = {"predicted": predicted, "measured": measured, "ratio": ratio}
    return row


def main() -> None:
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="", help=f"some of {', '.join(CELLS)}")
    parser.add_argument("--root", default="data", help="folder of the data sets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child, args.root)))
        return
    names = args.cells.split(",") if args.cells else list(CELLS)
    if unknown := [name for name in names if name not in CELLS]:
        parser.error(f"unknown cell {', '.join(unknown)}; known: {', '.join(CELLS)}")
    if not args.cells and not (Path(args.root) / "cifar10").is_dir():
        names = [name for name in names if not name.startswith("cifar10")]
    table = {}
    for name in names:
        table[name] = run(name, args)
        if not args.json:
            cells = [f"{field} {_text(field, table[name][field])}" for field in FIELDS]
            print(f"{name:20s} " + "   ".join(cells), flush=True)
    if args.json:
        print(json.dumps(table))


def _text(field: str, value: dict[str, Any]) -> str:
    if value["ratio"] is None:
        return "-"
    unit, name = (1.0, "s") if field in ("cpu", "wall") else (1e6, "MB")
    predicted, measured = value["predicted"] / unit, value["measured"] / unit
    return f"{predicted:.3g} / {measured:.3g} {name} = {value['ratio']:.2f}"


if __name__ == "__main__":
    main()
