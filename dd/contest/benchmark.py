"""`dd.benchmark`: every method under one protocol beside random, herding, k-center and full-data rows; resumable."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch

from dd.base.home import home
from dd.base.parallel import is_main, together
from dd.base.paths import as_path
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter
from dd.base.shapes import as_list, check_whole, filled
from dd.contest.benchmark_graphs import GraphBench
from dd.contest.benchmark_images import ImageBench
from dd.contest.benchmark_nodes import NodeBench
from dd.contest.cells import cells_of, check_folder, claimed, work_units
from dd.contest.contest import given_lr
from dd.contest.plan import Bench, Settings, Unit
from dd.contest.recipes import Recipe, check_recipe, own_alone
from dd.data import Images, Source
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import refuse
from dd.evaluation.leaderboard import Benchmark
from dd.evaluation.selection import Protocol as Rule
from dd.evaluation.unseen import refuse_trained
from dd.methods import Method, Run
from dd.methods.panel import Member, check_members
from dd.run.plans import Plan, need_folder
from dd.run.resolve import Tier, load_real, published_aspect, resolve_device
from dd.run.work import WorkUnit, check_executor, make_named, spread

BUDGETS: Final = {"ipc": 10, "budget_bytes": 2048}
"""Where neither the call nor a value says one."""
DISTILLING: Final = ("engine", "micro_batch", "reuse", "compile")
"""Arguments of `dd.distill` that are passed on."""


@under_own_settings
@keeping_pages
def benchmark(
    data: object,
    methods: str | Method | Sequence[str | Method] = "all",
    *,
    ipc: int | Sequence[int] | None = None,
    budget_bytes: int | Sequence[int] | None = None,
    models: Any = None,
    repeats: int = 3,
    seeds: int = 1,
    baselines: Sequence[str] | None = None,
    preset: Tier = "auto",
    protocol: Rule = "clean",
    steps: int | None = None,
    lr: float | str = "recipe",
    recipe: Recipe = "own",
    committee: Sequence[Member] | None = None,
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
    executor: Any = None,
    **distilling: Any,
) -> Benchmark:
    """Every method under one protocol: the same networks, optimiser steps, test images and random streams.

    Args:
        data: as in `dd.evaluate`, with training and test images (or graphs).
        methods: `all` (every one for this kind of data that is no baseline), names, or `Method` values, whose `name`
            is their row's.
        ipc: images a class of each column of work; for images. `None`: that of the values, which must agree, or 10.
            What is given takes the place of the values' own.
        budget_bytes: likewise of graphs, by the published count, and of nodes, of features, edges and labels as stored;
            `None`: that of the values, or 2,048.
        models: names, `tv:NAME`, `dd.Model`s, and of images `unseen`, `ridge`, `nearest_mean` as in `dd.evaluate`
            (readers take the features of the first network, and are called by it where that is not the one of `None`);
            the first one is compared with random, the others are cross-architecture columns. `None`: the one of the
            trajectory presets of this data; of graphs and nodes, that of the first method.
        repeats: fresh networks a set and model.
        seeds: sets a method and budget, from `seed` on; with several, spread and interval are over sets.
        baselines: of images `random`, `herding`, `k_center` (by the features of a network trained on all training
            images), `class_mean`, `random_packed` and `random_bytes` (for each method with `factor`, `mirror` or
            `storage="fp16"` a row `random_packed of METHOD`: random images that are stored like its own; and with fewer
            bits one of as many random images in float32 as its bytes hold; a canvas counts as `canvas²` images, and has
            such rows too), `random_labels` (for each method with
            labels of teachers a row `random_labels of METHOD`: random images under the same teachers, labels and
            training recipe, and the difference to it), `full` (all training images, the same number of steps) and
            `full_converged` (steps doubled, up to 16 times as many, until validation images gain nothing: on large data
            the dearest row); `None`: all of these but `class_mean`, which is added at one image a class. Of graphs as
            in `dd.evaluate`; `None`: `random`, `herding`, `random_trees`, `full`, `naive_bayes`, `node_count`; of nodes
            all of them.
        preset, protocol: as in `dd.distill`, of every method.
        steps: optimiser steps of every network; `None`: those of the trajectory presets of this data and budget.
        lr: `recipe` (the one a set carries), `tuned` (by the validation split, for every set and model), or a number.
        recipe: of images, as in `dd.evaluate`: `hard` is the board of hard labels, `rd3` that of one teacher's labels,
            which has no row of all training images and its own number of steps.
        committee: of `recipe="rd3"`: another teacher than a ResNet-18, as in `dd.evaluate`.
        seed: the first seed.
        out: folder: one JSON a cell in `cells/`, run folders in `runs/`, and the table as `leaderboard.txt`, `.csv`,
            `.json`, `.md`. The same call goes on where it was interrupted and adds what is new; several processes
            may share the folder. `None` keeps everything in memory.
        resume: `False` measures again and replaces the cells asked for.
        device, threads, store, progress, root, download, size, aspect, split: as in `dd.evaluate`.
        executor: has `submit`, as of `concurrent.futures`: its workers measure what is missing in `out`; data and
            methods are then given by name.
        **distilling: `engine`, `micro_batch`, `reuse`, `compile` of `dd.distill`.

    Returns:
        A `Benchmark`. What a method refuses, or where it diverges, is a row marked n/a with the message. Rows of graphs
        and nodes that have no budget stand beside the set of the first budget that holds one. Experts and teachers are
        made once, and their seconds are counted where they were first needed.

    Raises:
        InputError: data without test images, or whose test items are its training items, an unknown name, names given
            twice, cells in `out` that were measured by another protocol, or files there that a benchmark would replace
            and has not written.
    """
    given = locals()
    with together({**given, "verb": "benchmark"}) as (rank, _):
        shown = progress if rank == 0 else False
        bench, settings = _opened(given)
        real, asked = bench.real, as_list(methods)
        report = reporter(f"benchmark on {real.name}", shown)
        if executor is not None and rank == 0:
            _spread(given, bench, settings, report)
        cells = _work(bench, settings, report)
    told: dict[str, Any] = {bench.counted: list(bench.budgets)}
    told |= {"models": None if models is None else list(bench.models), "repeats": repeats, "seeds": seeds}
    told |= {"baselines": None if baselines is None else as_list(baselines), "preset": preset, "protocol": protocol}
    told |= {"steps": steps, "lr": lr, "recipe": recipe, "committee": settings.committee, "seed": seed, "split": split}
    made = Benchmark(
        dataset=real.name,
        protocol=protocol,
        unit=bench.unit,
        models=tuple(bench.models),
        cells=tuple(cells),
        notes=tuple(bench.notes),
        asked=_asked(asked, told),
    )
    if settings.out is not None and is_main():
        made.save(settings.out)
    return made


def _spread(given: Mapping[str, Any], bench: Bench, settings: Settings, report: Progress) -> None:
    """Have the workers of an executor measure what is missing."""
    plan = plan_of_benchmark({**{k: v for k, v in given.items() if k != "distilling"}, **given["distilling"]})
    folder, units = Path(plan.arguments["out"]), work_units(bench, settings)
    spread(given["executor"], make_cell, plan, folder, units, report, given["progress"])


def _opened(given: Mapping[str, Any]) -> tuple[Bench, Settings]:
    """What measures, and how, of the arguments of `benchmark`."""
    given_lr(given["lr"])
    seed, out, split = given["seed"], given["out"], given["split"]
    device = resolve_device(given["device"])
    settings = Settings(
        repeats=check_whole(given["repeats"], "repeats"),
        seeds=tuple(range(seed, seed + check_whole(given["seeds"], "seeds"))),
        tier=given["preset"],
        protocol=given["protocol"],
        steps=None if given["steps"] is None else check_whole(given["steps"], "steps"),
        lr=given["lr"],
        recipe=check_recipe(given["recipe"]),
        committee=_committee(given.get("committee"), given["recipe"]),
        device=device,
        store=home("expert_trajectories", given["store"]),
        out=None if out is None else as_path(out, "out"),
        resume=given["resume"],
        distilling=_distilling(given.get("distilling", {}), device),
    )
    if settings.out is not None:
        check_folder(settings.out)
    if given["executor"] is not None:
        check_executor(given["executor"])
        need_folder(out)
    asked = as_list(given["methods"])
    shown = given["aspect"] or _shared_aspect(given["data"], asked, settings, _wanted(given, asked, "ipc"))
    source = filled(Source, given, aspect=shown, split=0 if split is None else split)
    real = load_real(given["data"], source, given["protocol"], "evaluate")
    return _bench(real, asked, given, settings), settings


def _committee(members: object, recipe: Recipe) -> tuple[Member, ...] | None:
    """Who labels every set under `rd3`; refused under another recipe, where a method's teachers are its own."""
    if members is not None and recipe != "rd3":
        way_out = "A method's own teachers are given in its value: `methods=[dd.RDED(committee=…)]`."
        raise refuse("committee", "left out unless `recipe='rd3'`", f"one, with recipe={recipe!r}", way_out)
    return None if members is None else check_members(members)


def _distilling(given: Mapping[str, Any], device: torch.device) -> Mapping[str, Any]:
    """What sets are distilled with; refuse what `benchmark` has no argument of that name for, and what is no value.

    A method that refuses its data has a row that says so; a slip in the call would be in all of them, and stay there.
    """
    if unknown := [name for name in given if name not in DISTILLING]:
        expected = f"an argument of `dd.benchmark` (of `dd.distill` it takes {', '.join(DISTILLING)})"
        way_out = "Fields of a method are given in its value: `methods=[dd.MTT(factor=2)]`."
        raise refuse(unknown[0], expected, repr(given[unknown[0]]), way_out)
    Run(device=device, **given)
    return given


def plan_of_benchmark(given: Mapping[str, Any]) -> Plan:
    """The plan of a call.

    Raises:
        InputError: no folder, or an argument that a file cannot hold.
    """
    need_folder(given.get("out"))
    if not given.get("resume", True):
        raise refuse("resume", "left out where work is shared", "False", "Name another `out`.")
    plan = Plan.of("benchmark", given)
    plan.bound(benchmark)
    return plan


def benchmark_units(plan: Plan) -> list[WorkUnit]:
    """The cells of a plan, those of all models of a set being one unit."""
    return work_units(*_opened(plan.bound(benchmark)))


def make_cell(plan: str, unit: str) -> str:
    """A unit of a benchmark in a worker: `dd.run.work.make_named`."""
    return make_named(plan, unit, benchmark_units)


def _bench(
    real: Images | Graphs | Nodes, asked: Sequence[str | Method], given: Mapping[str, Any], settings: Settings
) -> Bench:
    """What measures data of this kind."""
    refuse_trained(real)
    if settings.lr == "tuned" and real.val is None:
        raise refuse("lr", f"`recipe` or a number, since {real.name} has no validation split", "`tuned`")
    if real.kind != "images":
        own_alone(settings.recipe, real.kind)
    rest = given["models"], given["baselines"], settings
    if real.kind == "graphs":
        return GraphBench(real, asked, _many(given, asked, GraphBench.counted), *rest)
    if real.kind == "nodes":
        return NodeBench(real, asked, _many(given, asked, NodeBench.counted), *rest)
    return ImageBench(_whole(real), asked, _many(given, asked, ImageBench.counted), *rest)


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
    if not all(isinstance(one, str) for one in (*methods, *(given["committee"] or ()))):
        return None
    plain = {name: p.default for name, p in inspect.signature(benchmark).parameters.items()}
    return {"methods": list(methods), **{name: v for name, v in given.items() if v != plain[name]}}


def _wanted(given: Mapping[str, Any], asked: Sequence[str | Method], argument: str) -> int | Sequence[int]:
    """The budgets that were given, or the one that values have, or the default."""
    if given[argument] is not None:
        return cast(int | Sequence[int], given[argument])
    said = {str(getattr(one, "name", "")): getattr(one, argument, None) for one in asked if not isinstance(one, str)}
    own = {name: value for name, value in said.items() if isinstance(value, int)}
    if len(set(own.values())) > 1:
        got = ", ".join(f"{value:,} ({name})" for name, value in own.items())
        raise refuse(argument, "given, where methods have different ones", got, "It takes the place of theirs.")
    return next(iter(own.values()), BUDGETS[argument])


def _many(given: Mapping[str, Any], asked: Sequence[str | Method], argument: str) -> tuple[int, ...]:
    whole = tuple(check_whole(one, argument) for one in as_list(_wanted(given, asked, argument)))
    if not whole or len(set(whole)) != len(whole):
        raise refuse(argument, "one or more whole numbers, each once", whole)
    return whole


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
            with claimed(unit, settings) as free:
                if free:
                    made[unit] = cells_of(bench, unit, settings)
                    text = unit.name + (" n/a" if made[unit][0].get("refused") else "")
                    report(len(made), len(units), text)
        if len(made) == before:
            time.sleep(0.5)
    return [cell for unit in units for cell in made[unit]]


__all__ = ["benchmark"]
