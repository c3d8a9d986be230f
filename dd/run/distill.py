"""`distill`: a run is resolved, its candidates are scored, and the best is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from dd.base.files import digest, dump_json, write_bytes
from dd.base.home import default_store, home
from dd.base.parallel import together
from dd.base.parts import Enough, Parts
from dd.base.paths import as_path, is_there
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, reporter, silent
from dd.base.schema import conform
from dd.base.shapes import filled
from dd.base.version import __version__
from dd.data import Images, Source
from dd.data.graphs.graphs import Graphs
from dd.data.items import Sketch
from dd.data.nodes.nodes import Nodes
from dd.errors import InputError, refuse
from dd.evaluation import origin
from dd.evaluation.fast import plain_forward
from dd.evaluation.selection import Protocol, Selector, check_sieve
from dd.experts import ExpertStore
from dd.inner import EngineName
from dd.methods import Method, Run, Step, own_network, reads_experts
from dd.methods.panel import has_weights
from dd.methods.steps import announce_skipped, steps_of
from dd.run.buffer import expert_units
from dd.run.folder import RunFolder, check_run, split_state, to_device
from dd.run.load import load
from dd.run.plans import Plan, need_folder
from dd.run.resolve import PLAIN, Opened, Tier, announce_preset, check_precision, opened, resolve_device
from dd.run.teach import teacher_units
from dd.run.work import WorkUnit, check_executor, make_named, spread
from dd.synthetic import AnySet
from dd.synthetic.file import Kept, mark_kept
from dd.teachers import TeacherRecipe, TeacherStore


@under_own_settings
@keeping_pages
def distill(
    data: object,
    method: str | Method,
    *,
    preset: Tier = "auto",
    protocol: Protocol = "clean",
    seed: int = 0,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: Literal["fp32", "fp64", "bf16", "hybrid", "tf32"] = "fp32",
    threads: int | None = None,
    store: str | Path | None = None,
    resume: bool = True,
    progress: bool | Progress | None = None,
    engine: EngineName = "adjoint",
    micro_batch: int | None = None,
    reuse: int | None = None,
    compile: bool | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    split: int | str = 0,
    sieve: int | None = None,
    executor: Any = None,
    **fields: Any,
) -> AnySet:
    """Turn a data set into a few synthetic samples a class, or into a few kilobytes of computation trees or of nodes.

    Args:
        data: a card's name, `imagefolder:PATH`, `dd.Images`, a map-style Dataset of (image, label), where an image is
            a PIL image, an array or a tensor, a Hugging Face `Dataset` or `DatasetDict` or another dict of splits, or
            a pair (images, labels). Images are uint8 or float in [0, 1]: tensors
            `[N, C, H, W]`, numpy arrays `[N, C, H, W]` or `[N, H, W, C]`, grey ones also `[N, H, W]`; labels `[N]`. An
            array's channels are the axis, first or last, that has 1, 3 or 4 entries; where that does not tell,
            `dd.load_images(…, layout="NCHW")` and `dd.Images(…, layout="NCHW")` do (or `"NHWC"`). A bare Dataset or
            pair is all training data.
            Graphs: a graph card's name, `smiles:PATH.csv` (a table of molecules), a PyG data set (also sliced, or a
            `Subset` of one), a list of `Data`, a tuple (train, test) or (train, val, test) of these, or `dd.Graphs`;
            see `dd.load_graphs`. One graph whose nodes have classes: a card's name such as `Cora`, or a PyG `Data` with
            `x`, `edge_index`, `y` and masks.
        method: a name of `dd.list_methods()` or a `Method` value.
        preset: `paper` (the published row or an error), `cpu` (the two-core budget), `auto` (the published row where a
            GPU is present and the row exists, else `cpu`).
        protocol: `clean` holds 10 % of train out and chooses the iterate there; `paper` trains on all of train, chooses
            on the test set as published, and is labelled so.
        seed: of every random stream; same seed, same bytes (one machine type, versions, thread count).
        out: run folder (set, log, checkpoint, run.json); the same call goes on where it was interrupted. What
            `dd.evaluate` and the measures find of the set is kept there too.
        device, precision, threads: of the machine; `None` takes the GPU if there is one, and torch's threads.
        store: folder of expert stores.
        resume: `False` starts again and replaces what is in `out`.
        progress: `None` shows bars on a terminal, `True`/`False`, or your own (done, total, text).
        engine, micro_batch, reuse, compile: see `dd.methods.Run`.
        root, download, size: of the data set.
        aspect: of pictures that are brought to one size: `crop` keeps proportions, `squash` does not, as in the
            published runs on ImageNet's subsets. `None`: what the preset's row says, else `crop`.
        split: of graphs and nodes: which of the random splits, or `published`.
        sieve: of a method that offers several sets (`candidate_every`): networks are trained on so many of them alone,
            those that ridge regression on the features of networks as they are initialised finds the best, on the
            images where the iterate is chosen. `None` trains on all. `dd.estimate` reckons without it.
        executor: has `submit`, as of `concurrent.futures`: its workers make what the set needs, experts or teachers;
            data and method are then given by name, and `out` is a folder that all workers see.
        **fields: fields of the method, with a name only (`ipc=10, iterations=200, …`; `budget_bytes=2048` for graphs).

    Returns:
        `SyntheticImages`, `CompensatedImages`, of graphs `TreeSummary`, or of nodes `NodeSet`.

    Raises:
        InputError, MissingError, DivergedError, WriteError: each with argument, expected, got and the way out.
        DamagedError: what is in `out` is damaged, or its finished set is of another run.
    """
    given, target = locals(), resolve_device(device)
    if executor is not None:
        check_executor(executor)
        need_folder(out)
    with together({**given, "verb": "distill"}) as (rank, size):
        given["progress"] = progress if rank == 0 else False
        asked = opened(data, method, filled(Source, given), protocol, preset, target, fields)
        check_sieve(sieve, asked.method)
        check_precision(precision, asked.method)
        announce_preset(asked, target, given["progress"])
        if executor is not None and rank == 0:
            spread_sets(asked, given, target, None)
        if size > 1:
            _teachers_as_one(asked, given, target)
        helps = rank > 0 and out is not None
        made = None if helps else _made(asked, given, target, size > 1)
        if helps:
            _help(asked, given, target)
    if size > 1 and rank == 0:
        _shared(asked, given, target).parts.forget()
    return load(as_path(out, "out")).attach(cast(Any, asked.real.train)) if helps else cast(AnySet, made)


def _shared(asked: Opened, given: Mapping[str, Any], target: torch.device, only: tuple[str, int] | None = None) -> Run:
    """A run whose parts are in a folder of the store, named by all that the set depends on; it says nothing."""
    store = home("expert_trajectories", given["store"])
    run = filled(Run, given, device=target, store=store, progress=silent)
    told = {"request": _request(asked, run, given), "version": __version__}
    folder = store / "parts" / digest(dump_json(told).encode())[:16]
    return dataclasses.replace(run, parts=Parts(folder, only))


def _teachers_as_one(asked: Opened, given: Mapping[str, Any], target: torch.device) -> None:
    """Train the teachers that want all processes at once, where they are missing and the set is not there."""
    recipes = [recipe for recipe in _trained(asked.method) if recipe.ranks > 1]
    run = _shared(asked, given, target)
    if recipes and not (given["out"] is not None and _folder(asked, given, run, {}).is_finished()):
        report = reporter(f"teachers on {asked.real.name}", given["progress"])
        store = TeacherStore(run.store / "teachers", cast(Images, asked.real))
        store.make_together(recipes, device=target, progress=report)


def _help(asked: Opened, given: Mapping[str, Any], target: torch.device) -> None:
    """Make what a set needs, and such of its parts as nobody else is making; nothing of a set that is finished."""
    run = _shared(asked, given, target)
    if _folder(asked, given, run, {}).is_finished():
        return
    for unit in _needs(asked, run.store, target):
        unit.make()
    if hasattr(asked.method, "parts_of"):
        for _ in steps_of(asked.method, asked.real, run):
            pass


def _made(asked: Opened, given: Mapping[str, Any], target: torch.device, together: bool = False) -> AnySet:
    """The set of the arguments of `distill`: made, gone on with, or found finished in its folder."""
    real, value, progress = asked.real, asked.method, given["progress"]
    report = reporter(f"{value.name} on {real.name}", progress)
    asks = reads_experts(value) or hasattr(value, "teacher")
    store = given["store"]
    kept = default_store(store, progress) if asks else home("expert_trajectories", store)
    run = filled(Run, given, device=target, store=kept, progress=report)
    if together or is_there(kept / "parts"):  # or units of a list have left parts
        parts = _shared(asked, given, target).parts
        run = dataclasses.replace(run, parts=parts if together or parts.begun else Parts())
    made = _alone(asked, given, run)
    if not together:
        run.parts.forget()
    return made


def _alone(asked: Opened, given: Mapping[str, Any], run: Run) -> AnySet:
    if given["out"] is None:
        return _run(asked, given, run, None)
    told = {**origin(run.seed, run.device), **_named(given["data"], filled(Source, given))}
    with _folder(asked, given, run, told) as folder:
        if folder.finished:
            made = load(folder.path)
            check_run(folder.path, made)
            return made.attach(cast(Any, asked.real.train))
        return _run(asked, given, run, folder)


def _folder(asked: Opened, given: Mapping[str, Any], run: Run, told: Mapping[str, Any]) -> RunFolder:
    return RunFolder(as_path(given["out"], "out"), _request(asked, run, given), told, given["resume"])


def seed_folder(out: str | Path, seed: int) -> Path:
    """The run folder of one seed in the folder of all."""
    return as_path(out, "out") / f"seed{seed}"


def distill_units(plan: Plan) -> list[WorkUnit]:
    """The experts or teachers of a plan's method, then its set, or a set for each of its `seeds`."""
    arguments = dict(plan.arguments)
    seeds = arguments.pop("seeds", None)
    given = {"fields": {}, **Plan(plan.verb, arguments).bound(distill), "progress": False}
    need_folder(given["out"])
    target = resolve_device(given["device"])
    source = filled(Source, given)
    opts = given["protocol"], given["preset"], target, given["fields"]
    return _units(opened(given["data"], given["method"], source, *opts), given, target, seeds)


def make_part(plan: str, unit: str) -> str:
    """A unit of a set, or of several, in a worker: `dd.run.work.make_named`."""
    return make_named(plan, unit, distill_units)


def plan_of_sets(given: Mapping[str, Any]) -> Plan:
    """The plan of a call of `distill`, or of `distill_many` with its `seeds`.

    Raises:
        InputError: no folder, or an argument that a file cannot hold.
    """
    need_folder(given.get("out"))
    if not given.get("resume", True):
        raise refuse("resume", "left out where work is shared", "False", "Name another `out`.")
    plan = Plan.of("distill", {**{k: v for k, v in given.items() if k != "fields"}, **given.get("fields", {})})
    plan.bound(distill)  # `seeds` passes as a field
    return plan


def spread_sets(asked: Opened, given: Mapping[str, Any], target: torch.device, seeds: Sequence[int] | None) -> None:
    """Have the workers of `given["executor"]` make what is missing: of one set what it needs, or sets of seeds too."""
    plan = plan_of_sets(given if seeds is None else {**given, "seeds": list(seeds), "seed": None})
    units = _units(asked, given, target, seeds)
    units = [unit for unit in units if seeds is not None or unit.kind != "set"]
    progress = given["progress"]
    report = reporter(f"{asked.method.name} on {asked.real.name}", progress)
    spread(given["executor"], make_part, plan, Path(plan.arguments["out"]), units, report, progress)


def _units(
    asked: Opened, given: Mapping[str, Any], target: torch.device, seeds: Sequence[int] | None
) -> list[WorkUnit]:
    """What the sets need, then the sets."""
    needs = _needs(asked, home("expert_trajectories", given["store"]), target)
    if seeds is None:
        return [*needs, *_set_units("set", asked, given, target)]
    own = {seed: {**given, "seed": seed, "out": seed_folder(given["out"], seed)} for seed in seeds}
    return [*needs, *(unit for seed, one in own.items() for unit in _set_units(f"seed{seed}", asked, one, target))]


def _set_units(name: str, asked: Opened, given: Mapping[str, Any], target: torch.device) -> list[WorkUnit]:
    """The parts of a set, where its method has some, and the set."""
    whole = _shared(asked, given, target)

    def done() -> bool:
        return _folder(asked, given, whole, {}).is_finished()

    def part(kind: str, place: int) -> WorkUnit:
        def make() -> None:
            with contextlib.suppress(Enough):
                for _ in steps_of(asked.method, asked.real, _shared(asked, given, target, (kind, place))):
                    pass

        there = lambda: whole.parts.has(kind, place) or done()  # noqa: E731
        return WorkUnit(f"{name}-{kind}-{place:06d}", "part", whole.parts.folder or Path(), there, make)

    method: Any = asked.method
    counts = method.parts_of(asked.real, given["seed"]) if hasattr(method, "parts_of") else {}
    parts = [part(kind, place) for kind, count in counts.items() for place in range(count)]
    return [*parts, WorkUnit(name, "set", Path(given["out"]), done, lambda: _made(asked, given, target))]


def _needs(asked: Opened, store: Path, target: torch.device) -> list[WorkUnit]:
    """The experts or the teachers that a method reads from the store."""
    method, real = asked.method, asked.real
    if isinstance(real, Graphs | Nodes):
        return []
    if reads_experts(method):
        recipe = method.expert
        return expert_units(ExpertStore(store, recipe, real), recipe.experts, method.snapshots_read, target)
    return teacher_units(TeacherStore(store / "teachers", real), _trained(method), target)


def _trained(method: object) -> list[TeacherRecipe]:
    """How the teachers of a method are trained that do not come with their weights."""
    teacher = getattr(method, "teacher", None)
    if not isinstance(teacher, TeacherRecipe):
        return []
    members = getattr(method, "committee", (teacher.model,))
    return [dataclasses.replace(teacher, model=m) for m in members if isinstance(m, str) and not has_weights(m)]


def _named(data: object, source: Source) -> dict[str, Any]:
    """How data was named and read, for whoever makes the set again; nothing of data that has no name."""
    if not isinstance(data, str):
        return {}
    told = {name: value for name, value in vars(source).items() if value != getattr(PLAIN, name) and name != "download"}
    return {"data": {"name": data, **{k: str(v) if isinstance(v, Path) else v for k, v in told.items()}}}


def _run(asked: Opened, given: Mapping[str, Any], run: Run, folder: RunFolder | None) -> AnySet:
    """Consume the method's steps: log, score, checkpoint, save."""
    method, real, protocol = asked.method, asked.real, given["protocol"]
    forward = plain_forward if run.compile is False else None
    selector = Selector(real, protocol, run.seed, run.device, own_network(method), given["sieve"], forward)
    state, start = None, time.monotonic()
    if folder is not None:
        tensors, kept = folder.restore()
        if tensors is not None:
            state, best = split_state(tensors, "best/")
            state = to_device(state, run.device)
            conform(kept, "selection", folder.path / "checkpoint.safetensors")
            selector.restore(kept["selection"], best)
            start -= kept["seconds"]
    scored: Step | None = None

    def save_point(step: Step | None) -> None:
        """Never after the last step, which a method need not give again; the state before it is kept until the end."""
        if folder is not None and step is not None and step.iteration < step.total:
            told, best = selector.kept()
            kept = {"selection": told, "seconds": time.monotonic() - start}
            folder.checkpoint(step, kept, {f"best/{k}": t for k, t in best.items()})
            _preview(step, real, folder)

    try:
        for step in steps_of(method, real, run, state):
            run.progress(step.iteration, step.total, _text(step.metrics))
            if folder is not None:
                folder.log(step)
            selector.offer(step, run.progress)
            scored = step  # at once: an interruption while it is kept must not have it offered again
            every = max(1, min(50, step.total // 20))
            if step.iteration % every == 0 or step.iteration == step.total - 1:
                save_point(step)
    except BaseException:
        save_point(scored)
        raise
    selector.finish()
    announce_skipped(scored, given["progress"])
    if selector.best is None:
        raise InputError(f"method {method.name!r} offered no candidate.")
    small = dataclasses.replace(selector.best, provenance=_provenance(real, run.seed, protocol, selector))
    if folder is not None:
        if scored is not None:
            _preview(scored, real, folder)
        small.save(folder.synthetic)
        folder.finish(selection=selector.record, seconds=round(time.monotonic() - start, 3))
        mark_kept(small, Kept.of(folder.path))
    return small


def _preview(step: Step, real: Images | Graphs | Nodes, folder: RunFolder) -> None:
    """The images so far as `preview.png`, where a method shows them: drawing takes longer than some steps."""
    if step.preview is not None:
        from dd.base.raster import preview_png

        write_bytes(folder.path / "preview.png", preview_png(step.preview, real.classes))


def _text(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {metrics[k]:.4g}" for k in ("loss", "lr") if isinstance(metrics.get(k), int | float))


def _request(asked: Opened, run: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": {"name": asked.real.name, "sha256": asked.real.fingerprint},
        "method": asked.method.describe(),
        "protocol": given["protocol"],
        **({} if given["sieve"] is None else {"sieve": given["sieve"]}),
        **run.request(),
    }


def _provenance(real: Images | Graphs | Nodes, seed: int, protocol: Protocol, selector: Selector) -> dict[str, Any]:
    seen = Sketch.of(real.train, real.val)
    return {
        **real.drawn,
        "dataset": real.name,
        "data_sha256": real.fingerprint,
        "training_items": None if seen is None else seen.to_json(),
        "protocol": protocol,
        "selection": selector.rule,
        "seed": seed,
    }
