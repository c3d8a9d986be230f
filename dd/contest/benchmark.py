"""`dd.benchmark`: every method under one protocol beside random, herding, k-center and full-data rows; resumable."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from dd.base.files import dump_json, read_foreign_json, read_json, sweep, write_json
from dd.base.home import home
from dd.base.locks import locked
from dd.base.names import file_name
from dd.base.paths import as_path, is_there, names_in
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.schema import conform
from dd.base.shapes import as_list, check_whole, filled
from dd.contest.benchmark_graphs import GraphBench
from dd.contest.benchmark_images import ImageBench
from dd.contest.contest import given_lr
from dd.contest.plan import Bench, Settings, Unit
from dd.contest.recipes import Recipe, check_recipe
from dd.data import Images, Source
from dd.data.graphs.graphs import Graphs
from dd.errors import DamagedError, DDError, DivergedError, InputError, MissingError, refuse
from dd.evaluation import origin
from dd.evaluation.leaderboard import FORMAT, FORMATS, Benchmark
from dd.evaluation.selection import Protocol as Rule
from dd.evaluation.unseen import refuse_trained
from dd.methods import Method
from dd.run.resolve import Tier, load_real, published_aspect, resolve_device


@under_own_settings
@keeping_pages
def benchmark(
    data: object,
    methods: str | Method | Sequence[str | Method] = "all",
    *,
    ipc: int | Sequence[int] = (10,),
    budget_bytes: int | Sequence[int] = (2048,),
    models: Any = None,
    repeats: int = 3,
    seeds: int = 1,
    baselines: Sequence[str] | None = None,
    preset: Tier = "auto",
    protocol: Rule = "clean",
    steps: int | None = None,
    lr: float | str = "recipe",
    recipe: Recipe = "own",
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    device: str | torch.device | None = None,
    threads: int | None = None,
    store: str | Path | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    split: int | str | None = None,
    **distilling: Any,
) -> Benchmark:
    """Every method under one protocol: the same networks, optimiser steps, test images and random streams.

    Args:
        data: as in `dd.evaluate`, with training and test images (or graphs).
        methods: `all` (every one for this kind of data that is no baseline), names, or `Method` values, whose `name`
            is their row's and whose `ipc` is replaced.
        ipc: images a class of each column of work; for images.
        budget_bytes: of graphs, by the published count.
        models: names, `tv:NAME`, `dd.Model`s, and of images `unseen`, `ridge`, `nearest_mean` as in `dd.evaluate`
            (readers take the features of the first network); the first one is compared with random, the others are
            cross-architecture columns. `None`: the one of the trajectory presets of this data; of graphs, that of
            Mirage's.
        repeats: fresh networks a set and model.
        seeds: sets a method and budget, from `seed` on; with several, spread and interval are over sets.
        baselines: of images `random`, `herding`, `k_center` (by the features of a network trained on all training
            images), `class_mean`, `random_labels` (for each method with labels of teachers a row `random_labels of
            METHOD`: random images under the same teachers, labels and training recipe, and the difference to it),
            `full` (all training images, the same number of steps) and `full_converged` (steps doubled, up to 16 times
            as many, until validation images gain nothing: on large data the dearest row); `None`: all of these but
            `class_mean`, which is added at one image a class. Of graphs as in `dd.evaluate`; `None`: `random`,
            `herding`, `random_trees`, `full`, `naive_bayes`, `node_count`.
        preset, protocol: as in `dd.distill`, of every method.
        steps: optimiser steps of every network; `None`: those of the trajectory presets of this data and budget.
        lr: `recipe` (the one a set carries), `tuned` (by the validation split, for every set and model), or a number.
        recipe: of images, as in `dd.evaluate`: `hard` is the board of hard labels, `rd3` that of one teacher's labels,
            which has no row of all training images and its own number of steps.
        seed: the first seed.
        out: folder: one JSON a cell in `cells/`, run folders in `runs/`, and the table as `leaderboard.txt`, `.csv`,
            `.json`, `.md`. The same call goes on where it was interrupted and adds what is new; several processes
            may share the folder. `None` keeps everything in memory.
        resume: `False` measures again and replaces the cells asked for.
        device, threads, store, progress, root, download, size, aspect, split: as in `dd.evaluate`.
        **distilling: `engine`, `micro_batch`, `reuse`, `compile` of `dd.distill`.

    Returns:
        A `Benchmark`. What a method refuses, or where it diverges, is a row marked n/a with the message. Experts and
        teachers are made once, and their seconds are counted where they were first needed.

    Raises:
        InputError: data without test images, or whose test items are its training items, an unknown name, names given
            twice, cells in `out` that were measured by another protocol, or files there that a benchmark would replace
            and has not written.
    """
    given = locals()
    given_lr(lr)
    settings = Settings(
        repeats=check_whole(repeats, "repeats"),
        seeds=tuple(range(seed, seed + check_whole(seeds, "seeds"))),
        tier=preset,
        protocol=protocol,
        steps=steps,
        lr=lr,
        recipe=check_recipe(recipe),
        device=resolve_device(device),
        store=home("expert_trajectories", store),
        out=None if out is None else as_path(out, "out"),
        resume=resume,
        distilling=distilling,
    )
    if settings.out is not None:
        _check_folder(settings.out)
    asked = as_list(methods)
    shown = aspect or _shared_aspect(data, asked, settings, ipc)
    source = filled(Source, given, aspect=shown, split=0 if split is None else split)
    real = load_real(data, source, protocol, "evaluate")
    bench = _bench(real, asked, {"ipc": ipc, "budget_bytes": budget_bytes}, models, baselines, settings)
    cells = _work(bench, settings, reporter(f"benchmark on {real.name}", progress))
    told: dict[str, Any] = {bench.counted: list(bench.budgets)}
    told |= {"models": None if models is None else list(bench.models), "repeats": repeats, "seeds": seeds}
    told |= {"baselines": None if baselines is None else as_list(baselines), "preset": preset, "protocol": protocol}
    told |= {"steps": steps, "lr": lr, "recipe": recipe, "seed": seed, "split": split}
    made = Benchmark(
        dataset=real.name,
        protocol=protocol,
        unit=bench.unit,
        models=tuple(bench.models),
        cells=tuple(cells),
        notes=tuple(bench.notes),
        asked=_asked(asked, told),
    )
    if settings.out is not None:
        made.save(settings.out)
    return made


def _bench(
    real: Images | Graphs,
    asked: Sequence[str | Method],
    budgets: Mapping[str, int | Sequence[int]],
    models: Any,
    baselines: Sequence[str] | None,
    settings: Settings,
) -> Bench:
    """What measures data of this kind."""
    refuse_trained(real)
    if settings.lr == "tuned" and real.val is None:
        raise refuse("lr", f"`recipe` or a number, since {real.name} has no validation split", "`tuned`")
    if real.kind == "graphs":
        if settings.recipe != "own":
            raise refuse("recipe", "`own` for graphs, whose summaries have no other labels", f"`{settings.recipe}`")
        return GraphBench(real, asked, _many(budgets, GraphBench.counted), models, baselines, settings)
    return ImageBench(_whole(real), asked, _many(budgets, ImageBench.counted), models, baselines, settings)


def _shared_aspect(
    data: object, methods: Sequence[str | Method], settings: Settings, ipc: int | Sequence[int]
) -> Literal["crop", "squash"] | None:
    """How the rows of all methods want pictures brought to one size; `None` where they say nothing, or differ."""
    pairs = [(method, count) for method in methods for count in as_list(ipc)]
    given = settings.tier, settings.device
    wanted = {published_aspect(data, method, *given, {"ipc": count}) for method, count in pairs}
    return wanted.pop() if len(wanted) == 1 else None


def _asked(methods: Sequence[str | Method], given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments that are not defaults, where all of them can be written down."""
    if not all(isinstance(method, str) for method in methods):
        return None
    plain = {name: p.default for name, p in inspect.signature(benchmark).parameters.items()}
    return {"methods": list(methods), **{name: v for name, v in given.items() if v != plain[name]}}


def _many(budgets: Mapping[str, int | Sequence[int]], argument: str) -> tuple[int, ...]:
    value = budgets[argument]
    found = (value,) if isinstance(value, int) else tuple(value)
    if not found or len(set(found)) != len(found):
        raise refuse(argument, "one or more whole numbers, each once", found)
    return tuple(check_whole(one, argument) for one in found)


def _whole(real: Images) -> Images:
    if not len(real.train):
        way_out = "Give dd.Images(train=…, test=…), a card's name or imagefolder:PATH."
        raise refuse("data", "a set with training and test images", repr(real), way_out)
    return real


def _work(bench: Bench, settings: Settings, report: Progress) -> list[dict[str, Any]]:
    """All cells in the order of the table; a unit that another process works on is waited for."""
    units = bench.units()
    made: dict[Unit, list[dict[str, Any]]] = {}
    while len(made) < len(units):
        before = len(made)
        for unit in units:
            if unit in made:
                continue
            with _claimed(unit, settings) as free:
                if free:
                    made[unit] = _cells(bench, unit, settings)
                    text = unit.name + (" n/a" if made[unit][0].get("refused") else "")
                    report(len(made), len(units), text)
        if len(made) == before:
            time.sleep(0.5)
    return [cell for unit in units for cell in made[unit]]


@contextmanager
def _claimed(unit: Unit, settings: Settings) -> Iterator[bool]:
    if settings.out is None:
        yield True
        return
    with locked(settings.out / "runs" / f".{unit.name}.lock") as free:
        yield free


def _cells(bench: Bench, unit: Unit, settings: Settings) -> list[dict[str, Any]]:
    """A cell for each model: those that are in the folder, and the others measured."""
    found: dict[str, dict[str, Any]] = {}
    names = tuple(bench.models) if unit.networks else ("",)
    about: dict[str, Any] = {"format": FORMAT, "set": unit.set, "budget": unit.budget, "seed": unit.seed}
    try:
        about["request"] = bench.request(unit)
    except InputError as error:
        return [_refused(about, name, error, settings) for name in names]
    for name in names:
        kept = _kept(unit, name, about["request"], settings)
        if kept is not None:
            found[name] = kept
    missing = [name for name in names if name not in found]
    stream = iter(bench.measure(unit, missing) if missing else ())
    for name in missing:
        try:
            cell = {**about, **next(stream), "model": name, "origin": origin(unit.seed, settings.device)}
        except (InputError, DivergedError, MissingError) as error:
            if str(error).startswith("`out`"):  # the folder's own message, nothing that the method says
                raise
            cell = _refused(about, name, error, settings)
            stream = iter(bench.measure(unit, missing[missing.index(name) + 1 :]))
        found[name] = cell
        if settings.out is not None:
            path = _path(unit, name, settings.out)
            sweep(path.parent, re.escape(path.name))
            write_json(path, cell)
    return [found[name] for name in names]


def _refused(about: Mapping[str, Any], model: str, error: Exception, settings: Settings) -> dict[str, Any]:
    told = {"refused": str(error), "values": [], "origin": origin(about["seed"], settings.device)}
    return {**about, **told, "model": model}


def _path(unit: Unit, model: str, out: Path) -> Path:
    return out / "cells" / (unit.name + (f"-{file_name(model)}" if model else "") + ".json")


def _looks_like_a_cell(path: Path) -> bool:
    """Whether a damaged file may have been a cell: it is cut off, or has a cell's keys."""
    try:
        found = read_foreign_json(path, "json")
    except DamagedError:
        return True
    return isinstance(found, dict) and "request" in found


def _kept(unit: Unit, model: str, request: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """The cell in the folder, or refuse one that was measured otherwise, and a file that is none."""
    if settings.out is None:
        return None
    path = _path(unit, model, settings.out)
    try:
        cell = read_json(path, "any")  # whose file it is, is told first
    except MissingError:
        return None
    except DamagedError:
        if not _looks_like_a_cell(path):
            raise _not_ours(settings.out, f"cells/{path.name} that is no cell") from None
        if settings.resume:
            raise
        return None
    if "request" not in cell:
        raise _not_ours(settings.out, f"cells/{path.name} that is no cell")
    if not settings.resume:
        return None
    if dump_json(cell.get("request")) != dump_json(request):
        there = cell["request"] if isinstance(cell["request"], dict) else {}
        names = dict.fromkeys([*request, *there])  # one of another recipe may have more of them
        differ = [k for k in names if dump_json(there.get(k)) != dump_json(request.get(k))]
        raise InputError(
            f"`out` = {settings.out} holds {path.name} of another benchmark (other {', '.join(differ)}). "
            "Name another folder, or give resume=False (`--restart`) to replace it."
        )
    conform(cell, "cell", path)
    wanted = {"set": unit.set, "budget": unit.budget, "seed": unit.seed, "model": model}
    if told := [f"{key} {cell[key]!r}" for key in wanted if cell[key] != wanted[key]]:
        raise DamagedError(f"{path} is the cell of another row ({', '.join(told)}). Remove it and run again.")
    return cell


def _check_folder(out: Path) -> None:
    """Refuse a folder whose files a benchmark would replace and has not written.

    Raises:
        InputError: files named as a leaderboard, and no cells.
    """
    there = [name for name in (f"leaderboard.{kind}" for kind in FORMATS) if is_there(out / name)]
    if not there or names_in(out / "cells", "*.json"):
        return
    try:
        board = read_json(out / "leaderboard.json", "any")
    except DDError:
        board = None
    if not isinstance(board, dict) or "cells" not in board:
        raise _not_ours(out, f"{', '.join(there)} and no cells")


def _not_ours(out: Path, got: str) -> InputError:
    way_out = "Name another folder, or move these files away."
    return refuse("out", "a new folder, or one of a benchmark", f"{out}, which has {got}", way_out)


__all__ = ["benchmark"]
