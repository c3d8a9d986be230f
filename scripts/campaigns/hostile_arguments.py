"""Arguments that nobody means, of every verb, from Python and from the command line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch

import dd
from dd.cli.main import main as ddistill
from dd.models import build
from scripts.campaigns import jobs
from scripts.campaigns.hostile import Trial

BIG: Final = 10**9
NAN, INF = float("nan"), float("inf")
SET: Final = "set.safetensors"
WHOLE: Final[tuple[Any, ...]] = (
    10**30,
    10**5000,
    -1,
    1.5,
    NAN,
    True,
    np.int64(3),
    torch.tensor(3),
    "x",
    [],
    "\x1b[31m",
)
"""What no option that is a whole number takes."""
NUMBER: Final[tuple[Any, ...]] = (NAN, INF, -INF, True, "x\x1b", [], 10**400)


def saved() -> None:
    """A set of six pictures."""
    jobs.distilled(jobs.method("random"))()
    dd.load(jobs.OUT).save(SET)


def distil(method: str = "random", **options: Any) -> Callable[[], object]:
    """A call of `dd.distill` that would do little."""
    data: Any = jobs.graphs if method == "mirage" else jobs.pictures
    given = {"out": jobs.OUT, "store": jobs.STORE, "progress": False, **options}
    return lambda: dd.distill(data(), method, **given)


def _good() -> object:
    return distil(ipc=1)()


def distilling() -> list[Trial]:
    """Of `dd.distill`: options of the run and fields of methods."""
    made = []
    options: dict[str, tuple[Any, ...]] = {
        "seed": WHOLE,
        "threads": (*WHOLE, 0, BIG),
        "micro_batch": (*WHOLE, 0, BIG),
        "reuse": (*WHOLE, BIG),
        "precision": ("fp8", 3, None, "\x1b"),
        "engine": ("x", 3, None),
        "protocol": ("x", 3, None),
        "preset": ("x\x1b", 3),
        "device": ("tpu9", "cuda:99", "\x1b[31m", "meta"),
        "split": (-1, BIG, "x\x1b"),
        "ipc": (*WHOLE, 0, BIG, 10**6),
        "no_such_field\x1b": (1,),
    }
    for name, values in options.items():
        made += [Trial("distill", f"{name}={_short(value)}", distil(**{name: value}), after=_good) for value in values]
    for name in ("iterations", "student_steps", "expert_epochs", "canvas", "canvas_samples", "batch_syn", "factor"):
        for value in (10**12, 10**30, -1, 1.5, NAN):
            made.append(Trial("fields", f"{name}={_short(value)}", distil("mtt", **{name: value})))
    for name in ("lr_img", "lr_lr", "lr_init", "momentum", "ema"):
        made += [Trial("fields", f"{name}={_short(v)}", distil("mtt", **{name: v})) for v in NUMBER]
    for method in ("sre2l", "rded", "infer", "herding"):
        made += [Trial("fields", f"{method} ipc={_short(v)}", distil(method, ipc=v)) for v in (10**30, NAN, -1)]
    for name in ("depth", "budget_bytes", "max_patterns", "min_support"):
        made += [
            Trial("fields", f"mirage {name}={_short(v)}", distil("mirage", **{name: v})) for v in (10**30, NAN, -1)
        ]
    for out in ("nul\0", "x" * 5000, "/dev/null/x", "/proc/x", "a\x1b\udcff\0"):
        made.append(Trial("paths", f"out={_short(out)}", distil(out=out)))
    return made


def networks() -> list[Trial]:
    """Of models."""
    texts = [
        *(
            "convnet(width=1000000000)",
            "convnet(width=-1)",
            "convnet(width=1.5)",
            "convnet(width=nan)",
            "convnet(width=1e300)",
        ),
        *(
            "convnet(depth=100000)",
            f"convnet(width={'9' * 5000})",
            "resnet9(width=16384)",
            "convnet(",
            "\x1b[31m",
            "",
            "()",
        ),
        *("convnet(width=4, width=5)", "efficientnet_b0(dropout=nan)", "tv:\x1b", "timm:../../x", "x" * 10_000),
    ]

    def made(text: Any) -> Callable[[], object]:
        return lambda: build(text, channels=3, classes=3, size=(8, 8), seed=0)

    values: list[Any] = [*texts, 3, None, [], b"mlp"]
    trials = [Trial("models", _short(value), made(value)) for value in values]
    graphs = ("gin(width=1000000000)", "gin(width=16384, layers=100)", "gat(heads=1000000000)", "gin(dropout=nan)")

    def evaluated(text: str) -> object:
        small = jobs.distilled(jobs.method("mirage"))()
        return dd.evaluate(small, jobs.graphs(), models=[text], repeats=1, steps=1, progress=False)  # type: ignore[arg-type]

    return [*trials, *(Trial("models", text, functools.partial(evaluated, text)) for text in graphs)]


def verbs() -> list[Trial]:
    """Of the other verbs, on a saved set."""
    data: dict[str, Any] = {"progress": False}
    calls: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]] = {
        "evaluate": (
            lambda **how: dd.evaluate(SET, jobs.pictures(), **data, **how),
            {
                "repeats": (0, -1, BIG, 10**5000, 1.5, NAN, True),
                "steps": (-1, 10**12, NAN, "x"),
                "lr": (NAN, INF, "x\x1b", -1.0),
                "seed": (-1, 1.5, 10**30),
                "threads": (BIG, 0),
                "metric": ("x\x1b", 3),
                "baselines": (("x\x1b",), (3,)),
                "models": (("x\x1b",), (3,), ("convnet(width=1000000000)",)),
            },
        ),
        "train": (
            lambda **how: dd.train(SET, **how),
            {"steps": (-1, BIG, 1.5), "lr": (NAN, INF, True), "seed": (-1, 10**30), "model": (3, "x\x1b")},
        ),
        "benchmark": (
            lambda **how: dd.benchmark(jobs.pictures(), ["mtt"], out=jobs.OUT, **data, **how),
            {"ipc": (BIG, [1, 10**30], 0), "seeds": (BIG, 0), "repeats": (BIG, NAN), "lr": (NAN, "x"), "seed": (-1,)},
        ),
        "buffer": (
            lambda **how: dd.buffer(jobs.pictures(), jobs.EXPERTS, store=jobs.STORE, **data, **how),
            {"experts": (0, -1, BIG, NAN), "snapshots": (0, 10**30, 1.5), "threads": (BIG,)},
        ),
        "teach": (
            lambda **how: dd.teach(jobs.pictures(), store=jobs.STORE, **{"models": ["mlp"], **data, **how}),
            {"models": (["x\x1b"], [3]), "threads": (BIG, NAN), "protocol": ("x",)},
        ),
        "estimate": (
            lambda **how: dd.estimate(jobs.pictures(), "mtt", **how),
            {"ipc": (10**30, NAN, 0), "iterations": (10**12,), "device": ("x\x1b",)},
        ),
        "calibration": (
            lambda **how: dd.calibration(SET, jobs.pictures(), **{**data, "repeats": 1, "steps": 1, **how}),
            {"bins": (0, BIG, NAN), "repeats": (BIG, 0)},
        ),
        "load_images": (
            lambda **how: dd.load_images([(torch.zeros(3, 8, 8), 0), (torch.ones(3, 8, 8), 1)] * 4, **how),
            {"size": (10**6, -1, (8, 10**30), np.int64(-8)), "classes": (BIG, [3, 4], "ab"), "workers": (BIG,)},
        ),
    }
    made = []
    for verb, (call, options) in calls.items():
        for name, values in options.items():
            for value in values:
                work = functools.partial(call, **{name: value})
                before = saved if verb in ("evaluate", "train", "calibration") else jobs.nothing
                made.append(Trial(verb, f"{name}={_short(value)}", work, before))
    labels = (10**30, -1, NAN, "x\x1b", 1.5, [1, 2], None)
    made += [Trial("labels", _short(v), functools.partial(_labelled, v)) for v in labels]
    return made


def _labelled(label: Any) -> object:
    return dd.load_images([(torch.zeros(3, 8, 8), label), (torch.ones(3, 8, 8), 1)] * 4)


def command_line() -> list[Trial]:
    """Of `ddistill`."""
    lines = [
        "distill digits mtt --ipc 1000000000",
        f"distill digits mtt --ipc {'9' * 5000}",
        "distill digits mtt --threads 1000000000",
        "distill digits random --seed -1",
        "distill digits random --seed 1.5",
        "distill digits random --size 1000000",
        "distill digits mtt --iterations 1000000000000",
        "distill digits mtt --lr-img nan",
        "distill digits \x1b[31m",
        "distill \x1b[31m mtt",
        "distill",
        "evaluate nothing digits --lr nan",
        "evaluate nothing digits --threads 1000000000",
        "evaluate nothing\x1b\udcff digits",
        "benchmark digits --methods mtt --ipc 1000000000",
        "buffer digits cpu-digits-mtt --experts 1000000000",
        "buffer digits /dev/null",
        "buffer digits nothing\x1b.toml",
        "estimate digits mtt --ipc 1000000000",
        "teach digits convnet(norm=batch,width=1000000000)",
        "measure nothing digits --repeats 1000000000",
        "report nothing\x1b",
        "verify /dev/zero",
        "verify nothing\udcff",
        "list \x1b",
        "\x1b",
        "--x",
    ]
    return [Trial("command line", _short(line), functools.partial(ddistill, line.split(" "))) for line in lines]


def _short(value: Any) -> str:
    from dd.base.texts import shown

    return shown(value, 40)


def every() -> list[Trial]:
    """All of them."""
    return [*distilling(), *networks(), *verbs(), *command_line()]
