"""`evaluate`: a set beside its baselines, under one loop, one budget and one number of steps."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch

from dd.base.files import digest, dump_json
from dd.base.home import home
from dd.base.parallel import together
from dd.base.parts import Enough, Parts
from dd.base.paths import as_path, is_file, is_there
from dd.base.process import keeping_pages, under_own_settings
from dd.base.progress import Progress, announce, reporter
from dd.base.shapes import as_list, check_whole, filled
from dd.contest.contest import Given, Rules, given_lr
from dd.contest.graphs import given_graphs
from dd.contest.images import given_images, pick_images
from dd.contest.nodes import as_good as good_notes
from dd.contest.nodes import given_nodes
from dd.contest.readings import expanded
from dd.contest.recipes import NOTES, RD3, Recipe, check_recipe, own_alone, suited, under
from dd.data import Images, Source, about
from dd.errors import InputError, refuse
from dd.evaluation import EvalReport, Reader, Row, model_of, origin
from dd.evaluation.fast import asked_forward
from dd.evaluation.report import no_better, support_of
from dd.evaluation.unseen import standing
from dd.methods import Run, rebuild
from dd.methods.panel import Member
from dd.models import AnyModel, is_own_name
from dd.pages.commands import evaluate_command
from dd.pages.report import write_run_page
from dd.run.folder import REPORT
from dd.run.keep import Out, Place, place_of, set_aside
from dd.run.load import load
from dd.run.plans import Plan
from dd.run.resolve import load_real, only_images, protocol_of, resolve_device, resolve_method, source_like
from dd.run.work import WorkUnit, check_executor, make_named, spread
from dd.synthetic import AnySet, NodeSet, TreeSummary, digest_of, need_set
from dd.teachers import TeacherRecipe

_UNTOLD: Final = {"models", "committee", "device", "threads", "progress", "download", "out", "executor"}
"""Arguments of `evaluate` that no report's command says: those of the machine, and what it says in another place."""


@under_own_settings
@keeping_pages
def evaluate(
    small: AnySet | str | Path,
    data: object,
    *,
    models: Sequence[AnyModel | Reader] | AnyModel | Reader | None = None,
    repeats: int = 5,
    steps: int | None = None,
    lr: float | str = "recipe",
    recipe: Recipe = "own",
    baselines: Sequence[str] | None = None,
    committee: Sequence[Member] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    threads: int | None = None,
    store: str | Path | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    split: int | str | None = None,
    metric: str | None = None,
    early_stop: bool = False,
    compile: bool | None = None,
    out: Out = None,
    executor: Any = None,
) -> EvalReport:
    """How well fresh networks do on real test data after training on the set, beside baselines of the same budget.

    Args:
        small: a set, its file or its run folder.
        data: as in `dd.distill`, in every form that it takes; a bare Dataset or pair is all test data, and then there
            are no baseline rows. Its classes are the set's, and go by their names where labels have some; where some
            have no image, `dd.load_images(…, role="evaluate", classes=K)` says how many there are.
        models: names, `tv:NAME`, `dd.Model`s or factories; `None` is the one the set was distilled for,
            if that is no network of your own: such a one is given again. Of images also `unseen` (the set's own, and
            three that it has not seen: another depth, norm and family), and `ridge` or `nearest_mean`, which train
            nothing and read the features of a random network (`dd.evaluation.Reader`).
        repeats: fresh networks per row.
        steps: optimiser steps; the set's recipe has them.
        lr: `recipe` (the one in the set), `tuned` (best of a grid on the validation split), or a number.
        recipe: of images, how the set and its baselines are trained: `own` (as the set says), `hard` (one class an
            image, cross-entropy), or `rd3` (the rectified protocol: 400 epochs of batches of 50 under the labels of one
            ResNet-18, which is trained where the store has none, for a ResNet-18); see `dd.contest.recipes`.
        baselines: of `random` (3 draws of as many real images with their classes, the recipe's lr), `random_tuned` (lr
            tuned on the validation split), `class_mean` (one image a class only); for a set with `factor`, `mirror` or
            `storage="fp16"` `random_packed` (3 draws of real images that are stored like its own),
            beside which `random` has as many in float32 as its bytes hold; and for a set with labels of
            teachers `random_labels` (3 draws under the same teachers and labels) and `hard` (the set with its classes).
            `None`: `random`, and the last three where they can be. A canvas of c × c pictures counts as c² images.
            Of graphs: `random` (2 draws of whole graphs of as many bytes, pooled as the summary's recipe says, or by
            `random_sum`, `random_mean`), `herding`, `random_trees`, `all_trees` (every training graph a pattern),
            `full` (all graphs), and without a network `naive_bayes` (reads the summary's supports), `tree_counts`
            (logistic regression on the trees of all graphs), `node_count`, `edges_per_node`. `None`: `random`,
            `naive_bayes`, `node_count` and `edges_per_node`.
            Of nodes, at the set's bytes `random` (2 draws of training nodes), `random_egos` (with their neighbours),
            `herding`, `k_center`; and of the whole graph `features` (an MLP that sees no edges), `label_propagation`
            and `class_means` (of propagated features), both without a network, and `full`. `None`: `random` and
            those of the whole graph.
        committee: of `random_labels`: the set's teachers, where they are the user's own modules; of `recipe="rd3"`:
            another teacher than a ResNet-18.
        store: as in `dd.distill`: where the teachers of `random_labels` are.
        seed: of all networks and draws.
        device, threads, progress, root, download, size, aspect: as in `dd.distill`; data of one's own, but for
            `dd.Images`, are brought to the set's size by default, by its `aspect`.
        split: of graphs: `None` is the one of the summary; another one of the same data is refused. Of a summary whose
            test graphs were given, a bare list is all test graphs.
        metric: of the rows, and of tuning: `accuracy`, `balanced_accuracy` (mean recall over classes) or `auroc` (of
            several classes the mean of one against the rest); `None` is accuracy, and of graphs of two classes AUROC.
            A row has the others beside it, and the recall of every class.
        early_stop: of graphs: rows of the same trainings stopped where the validation graphs score best. They use the
            labels of all validation graphs.
        compile: of images: whether ConvNets are trained by a compiled pass. `None`: on a CPU with a C++ compiler, where
            a training is long enough, by kernels that are built in a second (of the published ConvNet with even maps);
            `True` also elsewhere, by `torch.compile`, up to 80 seconds; `False` never. Rounding differs, so
            accuracies do by less than their spread over networks.
        out: where `report.json` is written: a folder, or a `.json` file. `None`: the run folder that the set was
            distilled into, loaded from, or is named by, which also gets the page `index.html`; nowhere for other sets.
            `False`: nowhere. An earlier report there is replaced, and one on other data is kept as `report-1.json`.
        executor: has `submit`, as of `concurrent.futures`: its workers train the networks; the set is then a file or a
            run folder, and data and models are names.

    Returns:
        An `EvalReport`; its first row is the set with the first model.

    Raises:
        InputError: classes or shape differ from the data's, no test split, an unknown baseline.
        WriteError: `out` cannot be written, before anything is trained; or the disk is full in the end: then the
            message has the numbers, and `error.answer` the report.

    Warns:
        UserWarning: the test data are those that the set was made from; the report calls them training data.
    """
    arguments = locals()
    if executor is not None:
        check_executor(executor)
    with together({**arguments, "small": "a set", "verb": "evaluate"}) as (rank, size):
        if rank:
            arguments |= {"out": False, "progress": False}
        place, again, given, wanted, run = _opened(arguments)
        path = as_path(small, "small") if isinstance(small, str | Path) else None
        asked = size > 1 or executor is not None or is_there(run.store / "parts")  # or units of a list are there
        parts = _parts(given, arguments, run.store) if asked else Parts()
        if executor is not None and rank == 0:
            plan, units = plan_of_evaluation(arguments), _network_units(given, wanted, parts)
            spread(executor, make_network, plan, run.store / "plans", units, run.progress, arguments["progress"])
        if shared := size > 1 or parts.begun:
            given = _sharing(given, parts)
        told = dataclasses.replace(judged(given, wanted, run, path), recipe=check_recipe(recipe))
    if shared and not rank:
        parts.forget()
    return _kept(told, place, given, again, arguments["progress"])


def _parts(given: Given, arguments: Mapping[str, Any], store: Path) -> Parts:
    """Where the figures of networks are that several processes share, by set, data and call; nowhere without names."""
    if not hasattr(given.contest, "parts"):
        return Parts()
    told = {name: value for name, value in arguments.items() if name not in (*_UNTOLD - {"models"}, "small", "data")}
    try:
        call = Plan.of("evaluate", told).to_json()
    except InputError:  # a network of the user's own, which other processes do not have
        return Parts()
    told = {"set": digest_of(given.small), "data": given.real.fingerprint, "call": call}
    return Parts(store / "parts" / digest(dump_json(told).encode())[:16])


def _sharing(given: Given, parts: Parts) -> Given:
    """The contest, its networks being parts."""
    if not parts.shared:
        return given
    return dataclasses.replace(given, contest=dataclasses.replace(cast(Any, given.contest), parts=parts))


def plan_of_evaluation(given: Mapping[str, Any]) -> Plan:
    """The plan of a call.

    Raises:
        InputError: a set that is no file, or an argument that a file cannot hold.
    """
    small = given.get("small")
    if not isinstance(small, str | Path):
        raise refuse("small", "a set's file or run folder, where work is shared", f"a {type(small).__name__}")
    plan = Plan.of("evaluate", {**given, "small": Path(small), "out": None})
    plan.bound(evaluate)
    return plan


def evaluate_units(plan: Plan) -> list[WorkUnit]:
    """The networks of a plan, row by row."""
    arguments = {**plan.bound(evaluate), "out": False, "progress": False}
    _, _, given, wanted, run = _opened(arguments)
    return _network_units(given, wanted, _parts(given, arguments, run.store))


def make_network(plan: str, unit: str) -> str:
    """A network in a worker: `dd.run.work.make_named`."""
    return make_named(plan, unit, evaluate_units)


def _network_units(given: Given, models: Sequence[Any], parts: Parts) -> list[WorkUnit]:
    contest: Any = given.contest
    if parts.folder is None:
        raise refuse("small", "a set whose networks can be shared, of images or of graphs", given.title)

    def made(place: int) -> WorkUnit:
        def make() -> None:
            own = Parts(parts.folder, ("network", place))
            with contextlib.suppress(Enough):
                dataclasses.replace(contest, parts=own).network(models, place)

        there = lambda: parts.has("network", place)  # noqa: E731
        return WorkUnit(f"network-{place:06d}", "network", parts.folder or Path(), there, make)

    return [made(place) for place in contest.places(models)]


def _opened(told: Mapping[str, Any]) -> tuple[Place, str | None, Given, list[Any], Run]:
    """Where the report belongs, how it is made again, the contest, its models, and what runs it."""
    small, data = told["small"], told["data"]
    rules = Rules(
        repeats=check_whole(told["repeats"], "repeats"),
        seed=told["seed"],
        device=resolve_device(told["device"]),
        metric=told["metric"],
        steps=None if told["steps"] is None else check_whole(told["steps"], "steps"),
        lr=given_lr(told["lr"]),
    )
    place = place_of(small, told["out"], REPORT)
    loaded = load(as_path(small, "small")) if isinstance(small, str | Path) else need_set(small)
    source = source_like(loaded, data, filled(Source, told))
    if not (wanted := as_list(told["models"])):
        raise refuse("models", "at least one network, or None for the one of the set", "none")
    defaults = inspect.unwrap(evaluate).__kwdefaults__ or {}
    asked = {name: told[name] for name in defaults.keys() - _UNTOLD}
    again = evaluate_command(str(place.run), data, wanted, defaults, asked)
    run = Run(
        seed=rules.seed,
        device=rules.device,
        store=home("expert_trajectories", told["store"]),
        progress=reporter("evaluate", told["progress"]),
    )
    given, wanted = _contest(loaded, source, wanted, rules, run, told)
    return place, again, given, wanted, run


def _contest(
    loaded: AnySet, source: Source, wanted: list[Any], rules: Rules, run: Run, told: Mapping[str, Any]
) -> tuple[Given, list[Any]]:
    """The contest of a set on its data, and its models."""
    data, split, how, baselines = told["data"], told["split"], check_recipe(told["recipe"]), told["baselines"]
    if loaded.kind == "graphs":
        _left_out("graphs", committee=told["committee"])
        source = dataclasses.replace(source, split=_split_of(loaded, data, split, source.root))
        graphs = load_real(data, source, role="evaluate", like=loaded.classes)
        own_alone(how, "graphs")
        return given_graphs(loaded, graphs, baselines, rules, told["early_stop"]), wanted
    if loaded.kind == "nodes":
        if told["early_stop"]:
            raise refuse("early_stop", "left out for nodes, whose recipe says it (`stop`)", True)
        own_alone(how, "nodes")
        _left_out("nodes", committee=told["committee"])
        source = dataclasses.replace(source, split=_split_of(loaded, data, split, source.root))
        whole = load_real(data, source, role="evaluate", like=loaded.classes)
        return given_nodes(loaded, whole, baselines, rules), wanted
    _left_out("images", split=split, early_stop=told["early_stop"] or None)
    if any(model is None for model in wanted) and how != "rd3":
        model_of(loaded.recipe, "models")
    own = RD3.model if how == "rd3" else None if is_own_name(loaded.recipe.model) else loaded.recipe.model
    method = rebuild(loaded.method, told["committee"] if how == "own" else None)
    if told["committee"] is not None and (how == "hard" or (how == "own" and method is None)):
        expected = "left out where no teachers label: `rd3` has some, and a set with labels of teachers under `own`"
        raise refuse("committee", expected, f"one, with recipe={how!r}")
    picked = suited(how, pick_images(loaded, method, baselines), baselines is not None)
    unsplit = dataclasses.replace(source, split=0)  # of graphs given by mistake: they are refused, and no split is
    real = load_real(data, unsplit, protocol_of(loaded), "evaluate", loaded.classes)
    real = only_images(real, "a set of images")
    forward = asked_forward(told["compile"])
    trained = under(how, real, lambda: _teacher(real, rules.device), run, told["steps"], told["committee"])
    given = given_images(loaded, real, method, picked, rules, run, forward, trained)
    given = dataclasses.replace(given, notes=[*given.notes, *NOTES[how]])
    return given, expanded(wanted, own, loaded.size)


def _teacher(real: Images, device: torch.device) -> TeacherRecipe:
    """How teachers are trained for this data: as those of the decoupled presets, with which the store shares them."""
    value: Any = resolve_method("rded", real, "auto", device, {})[0]
    found: TeacherRecipe = value.teacher
    return found


def _left_out(kind: str, **given: object) -> None:
    """Refuse arguments that are for other kinds of data alone."""
    for argument, value in given.items():
        if value is not None:
            raise refuse(argument, f"left out for {kind}", repr(value))


def _split_of(
    small: TreeSummary | NodeSet, data: object, split: int | str | None, root: str | Path | None
) -> int | str | None:
    """The split asked for, or that of the set; `None` where the summary's test graphs were given: all of a list."""
    told = small.provenance
    if about(data, root).kind != small.kind:
        return 0  # that data is refused, and no split is
    if split is None and told.get("rule") == "given" and not isinstance(data, str) and small.kind == "graphs":
        return None
    if split is not None:
        return split
    rule, number = told.get("rule"), int(told.get("split", 0))
    return {"published": "published", "random": f"random:{number}"}.get(str(rule), number)


def judged(given: Given, models: Sequence[Any], run: Run, path: Path | None = None) -> EvalReport:
    """The report of a contest: its rows, and what a reader should know of the set and of its data.

    Args:
        given: the contest.
        models: `None` is the one that the set was distilled for.
        run: seed, device, progress.
        path: of the set's file, whose bytes then count.
    """
    rows: list[Row] = []
    for row in given.contest.rows(models):
        rows.append(row)
        run.progress(len(rows), given.contest.count(models), f"{row.set} {100 * row.mean:.1f} %")
    real, told = given.real, given.small.provenance
    assert real.test is not None
    seen, support = standing(told, real, given.split), support_of(real.classes, real.test.labels)
    as_good = good_notes(rows) if real.kind == "nodes" else []
    return EvalReport(
        dataset=real.name,
        split=seen.split,
        protocol=seen.protocol,
        selection=str(told.get("selection", "unknown")) + given.selection,
        method=given.title,
        rows=tuple(rows),
        bytes=_sizes(given.small, path),
        origin=origin(run.seed, run.device),
        notes=(*seen.notes, *no_better(rows, list(support.values())), *as_good, *given.notes),
        support=support,
        about=given.about,
    )


def _sizes(small: AnySet, path: Path | None) -> dict[str, int]:
    """Bytes of the parts of a set; with `path`, those of the file count."""
    sizes = dict(small.nbytes._asdict())
    if path is not None and is_file(path):
        sizes["total"] = path.stat().st_size
        if small.kind == "images":
            sizes["total"] += 0 if small.store is None else small.store.file_bytes
            sizes["extras"] = sizes["total"] - sizes["images"] - sizes["labels"]
    return sizes


def _kept(
    report: EvalReport, place: Place, given: Given, command: str | None, progress: bool | Progress | None
) -> EvalReport:
    """The report where it belongs, with its page in a run folder; an earlier one is told of."""
    told = report if place.page is None else dataclasses.replace(report, command=command)
    real = given.real if given.real.kind == "images" else None

    def write(path: Path) -> None:
        if before := set_aside(path, told.dataset, told.split):
            announce(before, progress)
        if place.page is None:
            told.save(path)
        else:
            write_run_page(place.page.parent, given.small, told, real)

    place.keep(told, write)
    return told
