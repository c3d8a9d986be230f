"""The verbs of `ddistill` (also `python -m dd`), each also a function `dd.X`; options come from the dataclasses.

Exit codes: 0 done; 1 the work failed (missing or damaged file, full disk, divergence); 2 a wrong argument or data set;
130 interrupted (the checkpoint is written). With `--json` stdout holds one JSON object and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dd import api
from dd.compare import evaluate
from dd.data import list_cards
from dd.errors import DDError, InputError, unknown
from dd.experts import load_recipe, recipe_names
from dd.files import dump_json
from dd.methods import METHODS, Method
from dd.models import MODELS, as_spec
from dd.presets import cite, describe, preset
from dd.process import tune_process


@dataclass(frozen=True, kw_only=True)
class Common:
    """Data and machine.

    Attributes:
        root: folder of the data set's files.
        download: fetch the data set where it can be fetched.
        size: side in pixels.
        store: folder of expert stores.
        device: `cpu`, `cuda:0`, …
        threads: of torch.
        seed: of every random stream.
        json: print one JSON object on stdout, everything else on stderr.
        quiet: no progress bars, no announcements.
    """

    root: Path | None = None
    download: bool = False
    size: int | None = None
    store: Path | None = None
    device: str | None = None
    threads: int | None = None
    seed: int = 0
    json: bool = False
    quiet: bool = False

    def data_options(self) -> dict[str, Any]:
        """What `load_images` takes, and the device."""
        names = ("root", "download", "size", "device")
        return {name: getattr(self, name) for name in names}

    @property
    def progress(self) -> bool | None:
        """Bars on a terminal, or none."""
        return False if self.quiet else None


@dataclass(frozen=True, kw_only=True)
class DistillOptions(Common):
    """Options of the run; the method's fields follow.

    Attributes:
        out: run folder: set, log, checkpoint; the same command goes on where it was interrupted.
        preset: `paper` (published row), `cpu` (two-core budget) or `auto`.
        protocol: `clean` chooses the iterate on held-out training data, `paper` on the test set.
        precision: `fp32`, `fp64` or `bf16`.
        engine: `adjoint` or `unroll`.
        micro_batch: images whose second-order graph is alive at once.
        reuse: last steps that keep the graph of pass 1.
        restart: replace what is in `out`.
    """

    out: Path | None = None
    preset: Literal["auto", "paper", "cpu"] = "auto"
    protocol: Literal["clean", "paper"] = "clean"
    precision: Literal["fp32", "fp64", "bf16"] = "fp32"
    engine: Literal["adjoint", "unroll"] = "adjoint"
    micro_batch: int | None = None
    reuse: int = 1
    restart: bool = False


@dataclass(frozen=True, kw_only=True)
class EstimateOptions(Common):
    """Options of the estimate; the method's fields follow.

    Attributes:
        preset: `paper`, `cpu` or `auto`.
        protocol: `clean` or `paper`.
        calibrate: measure this machine for a few seconds.
    """

    preset: Literal["auto", "paper", "cpu"] = "auto"
    protocol: Literal["clean", "paper"] = "clean"
    calibrate: bool = False


@dataclass(frozen=True, kw_only=True)
class BufferOptions(Common):
    """Make the expert trajectories that are missing.

    Attributes:
        data: a card's name or `imagefolder:PATH`.
        recipe: a shipped recipe's name or a TOML path.
        experts: how many; the recipe's by default.
        snapshots: after the initialisation; the recipe's by default.
        protocol: `clean` or `paper`.
    """

    data: tyro.conf.Positional[str]
    recipe: tyro.conf.Positional[str]
    experts: int | None = None
    snapshots: int | None = None
    protocol: Literal["clean", "paper"] = "clean"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Common):
    """Train fresh networks on a set and test them on real images, beside baselines.

    Attributes:
        path: a saved set or a run folder.
        data: a card's name or `imagefolder:PATH`.
        models: by default the one it was distilled for.
        repeats: fresh networks a row.
        steps: optimiser steps.
        lr: `recipe`, `tuned` or a number.
        baselines: of random, random_tuned, class_mean.
        out: also write the report here, as JSON.
    """

    path: tyro.conf.Positional[Path]
    data: tyro.conf.Positional[str]
    models: tuple[str, ...] = ()
    repeats: int = 5
    steps: int | None = None
    lr: str = "recipe"
    baselines: tuple[str, ...] = ("random",)
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """List methods, data sets, models and recipes, or describe one method.

    Attributes:
        method: describe this one: its fields and presets, with their sources.
        cite: print its BibTeX entry instead.
        json: print one JSON object.
    """

    method: tyro.conf.Positional[str] = ""
    cite: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Check every checksum of a saved set, a run folder or an expert store's folder.

    Attributes:
        path: file or folder.
        json: print one JSON object.
    """

    path: tyro.conf.Positional[Path]
    json: bool = False


def _twin(value: Any) -> Any:
    """A dataclass like `value`'s with its values as defaults and types that a command line can read."""
    hints = _hints(type(value))
    fields: list[tuple[str, Any, Any]] = []
    for f in dataclasses.fields(value):
        held = getattr(value, f.name)
        if dataclasses.is_dataclass(held) and f.name != "model":
            fields.append((f.name, type(_twin(held)), dataclasses.field(default=_twin(held))))
        elif f.name == "model":
            fields.append((f.name, str, dataclasses.field(default=str(as_spec(held)))))
        elif f.name not in ("name", "title", "source"):
            fields.append((f.name, hints[f.name], dataclasses.field(default=held)))
    made = dataclasses.make_dataclass(type(value).__name__, fields, frozen=True, kw_only=True)
    made.__doc__ = type(value).__doc__
    return made()


def _hints(cls: type) -> dict[str, Any]:
    import typing

    return typing.get_type_hints(cls, include_extras=True)


def _changes(before: Any, after: Any) -> dict[str, Any]:
    """Fields of `after` that differ from `before`, nested ones as dicts."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(before):
        a, b = getattr(before, f.name), getattr(after, f.name)
        if dataclasses.is_dataclass(a):
            if inner := _changes(a, b):
                changes[f.name] = inner
        elif a != b:
            changes[f.name] = b
    return changes


def _with_method(verb: str, options: type[Common], argv: Sequence[str]) -> tuple[str, str, Any, dict[str, Any]]:
    """(data, method, options, the method's fields) of `VERB DATA METHOD [options]`."""
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        help_only = any(word in ("-h", "--help") for word in argv)
        text = (
            f"usage: ddistill {verb} DATA METHOD [options]\n\n"
            f"DATA: {', '.join(list_cards())} or imagefolder:PATH\nMETHOD: {', '.join(METHODS)}\n\n"
            f"`ddistill {verb} DATA METHOD --help` shows the options of the run and of the method, with the preset's "
            "values as defaults."
        )
        print(text, file=sys.stdout if help_only else sys.stderr)
        raise SystemExit(0 if help_only else 2)
    data, name, *rest = argv
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--ipc", type=int, default=1 if name == "class_mean" else 10)
    early.add_argument("--preset", default="auto")
    early.add_argument("--device", default=None)
    known, _ = early.parse_known_args(rest)
    device = api.resolve_device(known.device)
    card = data if data in list_cards() else None
    row = preset(name, card, known.ipc, known.preset, gpu=device.type == "cuda")
    value: Method = METHODS[name](**{**row.fields, "ipc": known.ipc})
    twin = _twin(value)
    both = dataclasses.make_dataclass(
        f"{verb.title()}",
        [
            ("run", Annotated[options, tyro.conf.arg(prefix_name=False)]),
            (
                "method",
                Annotated[type(twin), tyro.conf.arg(prefix_name=False)],
                dataclasses.field(default=twin),
            ),
        ],
        kw_only=True,
    )
    parsed: Any = tyro.cli(both, args=rest, prog=f"ddistill {verb} {data} {name}", description=type(value).__doc__)
    fields = {"ipc": known.ipc, **_changes(twin, parsed.method)}
    return data, name, parsed.run, fields


def _distill(argv: Sequence[str]) -> dict[str, Any]:
    data, name, run, fields = _with_method("distill", DistillOptions, argv)
    if run.out is None:
        run = dataclasses.replace(run, out=Path("runs") / f"{Path(data.partition(':')[2] or data).name}-{name}")
    tune_process(run.threads)
    small = api.distill(
        data,
        name,
        preset=run.preset,
        protocol=run.protocol,
        seed=run.seed,
        out=run.out,
        precision=run.precision,
        store=run.store,
        resume=not run.restart,
        progress=run.progress,
        engine=run.engine,
        micro_batch=run.micro_batch,
        reuse=run.reuse,
        **run.data_options(),
        **fields,
    )
    from dd.plot import save_grid

    save_grid(small, run.out / "grid.png")
    path = run.out / "synthetic.safetensors"
    if not run.json:
        print(f"{len(small)} images in {path} ({path.stat().st_size:,} bytes); {small.provenance['selection']}")
    return {
        "path": str(path),
        "bytes": small.nbytes._asdict(),
        "provenance": dict(small.provenance),
        "json": run.json,
    }


def _evaluate(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(EvaluateOptions, args=argv, prog="ddistill evaluate")
    tune_process(options.threads)
    try:
        lr: float | str = float(options.lr)
    except ValueError:
        lr = options.lr
    report = evaluate(
        options.path,
        options.data,
        models=list(options.models) or None,
        repeats=options.repeats,
        steps=options.steps,
        lr=lr,
        baselines=options.baselines,
        seed=options.seed,
        progress=options.progress,
        **options.data_options(),
    )
    if options.out is not None:
        report.save(options.out)
    if not options.json:
        print(report)
    return {**report.to_json(), "json": options.json}


def _buffer(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(BufferOptions, args=argv, prog="ddistill buffer")
    tune_process(options.threads)
    recipe = load_recipe(options.recipe)
    store = api.buffer(
        options.data,
        recipe,
        experts=options.experts,
        snapshots=options.snapshots,
        protocol=options.protocol,
        store=options.store,
        progress=options.progress,
        **options.data_options(),
    )
    count = options.experts or recipe.experts
    last = [float(store.curve(seed)[1][-1]) for seed in range(count) if store.length(seed)]
    text = f"{len(last)} experts in {store.folder}; last held-out accuracy {100 * sum(last) / len(last):.1f} %"
    if not options.json:
        print(text)
    return {"folder": str(store.folder), "key": store.key, "experts": len(last), "json": options.json}


def _estimate(argv: Sequence[str]) -> dict[str, Any]:
    data, name, run, fields = _with_method("estimate", EstimateOptions, argv)
    tune_process(run.threads)
    value = api.estimate(
        data,
        name,
        preset=run.preset,
        protocol=run.protocol,
        calibrate=run.calibrate,
        **run.data_options(),
        **fields,
    )
    if not run.json:
        print(value)
    return {**value.to_json(), "json": run.json}


def _list(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(ListOptions, args=argv, prog="ddistill list")
    if options.method:
        text = cite(options.method) if options.cite else describe(options.method)
        if not options.json:
            print(text)
        return {"method": options.method, "text": text, "json": options.json}
    tables = {
        "methods": sorted(METHODS),
        "datasets": list(list_cards()),
        "models": sorted(MODELS),
        "recipes": recipe_names(),
    }
    if not options.json:
        print("\n".join(f"{kind}: {', '.join(names)}" for kind, names in tables.items()))
    return {**tables, "json": options.json}


def _verify(argv: Sequence[str]) -> dict[str, Any]:
    options = tyro.cli(VerifyOptions, args=argv, prog="ddistill verify")
    text = api.verify(options.path)
    if not options.json:
        print(text)
    return {"path": str(options.path), "ok": True, "text": text, "json": options.json}


VERBS: dict[str, tuple[Callable[[Sequence[str]], dict[str, Any]], str]] = {
    "buffer": (_buffer, "make the expert trajectories that are missing"),
    "distill": (_distill, "turn a data set into a few synthetic images a class"),
    "evaluate": (_evaluate, "train fresh networks on a set and test them, beside baselines"),
    "estimate": (_estimate, "disk, memory and time of a run, before it starts"),
    "list": (_list, "methods, data sets, models, recipes; or describe a method"),
    "verify": (_verify, "check every checksum of a set, a run or a store"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"ddistill {version('dd-distillation')}")
        return 0
    if not argv or argv[0] in ("-h", "--help"):
        verbs = "\n".join(f"  {name:<10}{text}" for name, (_, text) in VERBS.items())
        print(f"usage: ddistill VERB …\n\n{verbs}\n\n`ddistill VERB --help` shows its options; --version the version.")
        return 0 if argv else 2
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if argv[0] not in VERBS:
            raise unknown("verb", argv[0], VERBS)
        answer = VERBS[argv[0]][0](argv[1:])
        if answer.pop("json"):
            print(dump_json(answer))
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except DDError as error:
        print(f"ddistill {argv[0]}: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
