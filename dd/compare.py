"""`evaluate`: a synthetic set beside its baselines, under one loop, one budget and one number of steps."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from dd._home import home
from dd._progress import Progress, reporter
from dd.api import load
from dd.compare_graphs import evaluate_graphs
from dd.data import Images
from dd.errors import InputError, refuse, unknown
from dd.evaluation import EvalReport, NetworkLearner, Row, Scorer, model_name, origin, tune_lr
from dd.evaluation.fast import CompiledForward, Forward, plain_forward
from dd.evaluation.report import no_better, support_of
from dd.evaluation.scores import Figures, check_metric
from dd.keep import Out, Place, place_of
from dd.methods import METHODS, Infer, Recover, Run, rebuild
from dd.methods.panel import Member
from dd.models import Model, ModelSpec
from dd.pages import write_run_page
from dd.paths import as_path, is_file
from dd.process import under_own_settings
from dd.repeat import evaluate_command
from dd.resolve import load_real, only_images, resolve_device, source_like
from dd.runs import REPORT
from dd.seeding import child_seed
from dd.shapes import as_list, check_whole
from dd.synthetic import AnySet, ImageSet, SyntheticImages, TreeSummary, need_set
from dd.unseen import standing, warn_trained

BASELINES = ("random", "random_tuned", "class_mean", "random_labels", "hard")
_DRAWS = 3
AnyModel = str | ModelSpec | Model | Callable[..., torch.nn.Module] | None


@under_own_settings
def evaluate(
    small: AnySet | str | Path,
    data: object,
    *,
    models: Sequence[AnyModel] | AnyModel = None,
    repeats: int = 5,
    steps: int | None = None,
    lr: float | str = "recipe",
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
    compile: bool = False,
    out: Out = None,
) -> EvalReport:
    """How well fresh networks do on real test data after training on the set, beside baselines of the same budget.

    Args:
        small: a set, its file or its run folder.
        data: as in `dd.distill`, in every form that it takes; a bare Dataset or pair is all test data, and then there
            are no baseline rows. Its classes are the set's; where some have no image,
            `dd.load_images(…, role="evaluate", classes=K)` says how many there are.
        models: names, `tv:NAME`, `dd.Model`s or factories; `None` is the one the set was distilled for.
        repeats: fresh networks per row.
        steps: optimiser steps; the set's recipe has them.
        lr: `recipe` (the one in the set), `tuned` (best of a grid on the validation split), or a number.
        baselines: of `random` (3 draws of as many real images with their classes, the recipe's lr), `random_tuned` (lr
            tuned on the validation split), `class_mean` (one image a class only); and for a set with labels of
            teachers `random_labels` (3 draws under the same teachers and labels) and `hard` (the set with its classes).
            `None`: `random`, and the last two where they can be. A canvas of c × c pictures counts as c² images.
            Of graphs: `random` (2 draws of whole graphs of as many bytes, pooled as the summary's recipe says, or by
            `random_sum`, `random_mean`), `herding`, `random_trees`, `all_trees` (every training graph a pattern),
            `full` (all graphs), and without a network `naive_bayes` (reads the summary's supports), `tree_counts`
            (logistic regression on the trees of all graphs), `node_count`, `edges_per_node`. `None`: `random`,
            `naive_bayes`, `node_count` and `edges_per_node`.
        committee: of `random_labels`: the set's teachers, where they are the user's own modules.
        store: as in `dd.distill`: where the teachers of `random_labels` are.
        seed: of all networks and draws.
        device, threads, progress, root, download, size, aspect: as in `dd.distill`; pictures of `imagefolder:PATH` are
            brought to the set's size by default.
        split: of graphs: `None` is the one of the summary; another one of the same data is refused. Of a summary whose
            test graphs were given, a bare list is all test graphs.
        metric: of the rows, and of tuning: `accuracy`, `balanced_accuracy` (mean recall over classes) or `auroc` (of
            several classes the mean of one against the rest); `None` is accuracy, and of graphs of two classes AUROC.
            A row has the others beside it, and the recall of every class.
        early_stop: of graphs: rows of the same trainings stopped where the validation graphs score best. They use the
            labels of all validation graphs.
        compile: of images: ConvNets are trained by a compiled pass, two to three times as fast on a CPU after up to 80
            seconds of compiling; rounding differs, so accuracies do by less than their spread over networks.
        out: where `report.json` is written: a folder, or a `.json` file. `None`: the run folder that the set was
            distilled into, loaded from, or is named by, which also gets the page `index.html`; nowhere for other sets.
            `False`: nowhere.

    Returns:
        An `EvalReport`; its first row is the set with the first model.

    Raises:
        InputError: classes or shape differ from the data's, no test split, an unknown baseline.
        WriteError: `out` cannot be written, before anything is trained; or the disk is full in the end: then the
            message has the numbers, and `error.answer` the report.

    Warns:
        UserWarning: the test data are those that the set was made from; the report calls them training data.
    """
    check_whole(repeats, "repeats")
    if isinstance(lr, str) and lr not in ("recipe", "tuned"):
        raise refuse("lr", "`recipe`, `tuned` or a number", repr(lr))
    place = place_of(small, out, REPORT)
    path = as_path(small, "small") if isinstance(small, str | Path) else None
    loaded: Any = load(path) if path is not None else need_set(small)
    source: dict[str, Any] = {"root": root, "download": download, **source_like(loaded, data, size, aspect)}
    if not (wanted := as_list(models)):
        raise refuse("models", "at least one network, or None for the one of the set", "none")
    asked: dict[str, Any] = {
        "store": store,
        "baselines": baselines,
        "compile": compile,
        "early_stop": early_stop,
        "lr": lr,
        "metric": metric,
    }
    asked |= {"repeats": repeats, "root": root, "seed": seed, "size": size, "split": split, "steps": steps}
    asked |= {"aspect": aspect}
    again = evaluate_command(str(place.run), data, wanted, inspect.unwrap(evaluate).__kwdefaults__ or {}, asked)
    if isinstance(loaded, TreeSummary):
        run = Run(seed=seed, device=resolve_device(device), progress=reporter("evaluate", progress))
        options: dict[str, Any] = {"metric": metric, "lr": lr, "steps": steps, "repeats": repeats}
        options["early_stop"] = early_stop
        real = load_real(data, role="evaluate", split=_split_of(loaded, data, split), **source)
        told = evaluate_graphs(loaded, real, models, baselines, run, path, **options)  # type: ignore[arg-type]
        return _kept(told, place, loaded, None, again)
    assert isinstance(loaded, ImageSet)
    for argument, value in (("split", split), ("early_stop", early_stop or None)):
        if value is not None:
            raise refuse(argument, "left out for images", repr(value))
    method = rebuild(loaded.method, committee)
    rows_beside = _baselines_of(loaded, method, None if baselines is None else as_list(baselines))
    protocol: Literal["clean", "paper"] = "paper" if loaded.provenance.get("protocol") == "paper" else "clean"
    real = only_images(load_real(data, protocol, "evaluate", **source), "a set of images")
    run = Run(
        seed=seed,
        device=resolve_device(device),
        store=home("expert_trajectories", store),
        progress=reporter("evaluate", progress),
    )
    forward = CompiledForward() if compile else plain_forward
    judge = _Judge(match_data(loaded, real), real, repeats, run, method, forward, metric or "accuracy")
    told = _report(judge, loaded, path, *judge.table(wanted, steps, lr, rows_beside))
    return _kept(told, place, judge.small, real, again)


def _kept(report: EvalReport, place: Place, small: AnySet, real: Images | None, command: str | None) -> EvalReport:
    """The report where it belongs, with its page in a run folder."""
    if place.page is None:
        place.keep(report, report.save)
        return report
    told, folder = dataclasses.replace(report, command=command), place.page.parent
    place.keep(told, lambda _: write_run_page(folder, small, told, real))
    return told


def _baselines_of(small: ImageSet, method: Recover | Infer | None, asked: Sequence[str] | None) -> Sequence[str]:
    """The baselines asked for, or those that a set of images has."""
    for name in asked or ():
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
    if asked is not None:
        return asked
    soft = method is not None and small.hard() is not small
    return ("random", *(("random_labels", "hard") if soft else ()))


def _report(judge: _Judge, small: ImageSet, path: Path | None, rows: Sequence[Row], notes: Sequence[str]) -> EvalReport:
    """The rows with the set's sizes; with `path`, the bytes of the file count."""
    name = str(small.method.get("name", "imported"))
    seen = standing(small.provenance, judge.real)
    support = support_of(judge.real.classes, judge.scorer.split.labels)
    sizes = dict(small.nbytes._asdict())
    if path is not None and is_file(path):
        sizes["total"] = path.stat().st_size
        sizes["extras"] = sizes["total"] - sizes["images"] - sizes["labels"]
    return EvalReport(
        dataset=judge.real.name,
        split=seen.split,
        protocol=seen.protocol,
        selection=str(small.provenance.get("selection", "unknown")),
        method=f"{name}, {len(small)} " + (f"canvases of {small.canvas}²" if small.canvas > 1 else "images"),
        rows=tuple(rows),
        bytes=sizes,
        origin=origin(judge.run.seed, judge.run.device),
        notes=(*seen.notes, *no_better(rows, list(support.values())), *notes),
        support=support,
    )


def _split_of(small: TreeSummary, data: object, split: int | str | None) -> int | str | None:
    """The split asked for, or that of the summary; `None` where the summary's test graphs were given: all of a list."""
    told = small.provenance
    if split is None and told.get("rule") == "given" and not isinstance(data, str):
        return None
    if split is not None:
        return split
    return "published" if told.get("rule") == "published" else int(told.get("split", 0))


def match_data(small: ImageSet, real: Images, test: bool = True) -> ImageSet:
    """The set with its transform ready, after comparing it with the data, which must have a `test` split.

    Raises:
        InputError: other classes or another shape, or no test split.

    Warns:
        UserWarning: the test images are those that the set was made from.
    """
    real = only_images(real, "a set of images")
    if len(small.classes) != real.num_classes:
        k, way = len(small.classes), ""
        if real.num_classes < k and not len(real.train):
            way = f'If some have no test image, give `dd.load_images(data, role="evaluate", classes={k})`.'
        raise refuse("data", f"of {k} classes, like the set", f"{real.num_classes} ({real.name})", way)
    shape = (real.channels, *real.size)
    own = (small.channels, *small.size)
    if own != shape:
        raise refuse("data", f"of images {list(own)}, like the set", list(shape), "Give `size=`.")
    if test and real.test is None:
        raise refuse("data", "with a test split", "none", "Give dd.Images(train=…, test=…) or a test Dataset.")
    if test:
        warn_trained(small.provenance, real)
    if small.transform is not None:
        return small
    if not len(real.train):
        return dataclasses.replace(small, transform=small.ready_transform())
    return small.attach(real.train)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Trains and scores the networks of every row."""

    small: ImageSet
    real: Images
    repeats: int
    run: Run
    method: Recover | Infer | None
    """The set's own, where its labels are of teachers that can be found again."""
    forward: Forward = plain_forward
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        assert self.real.test is not None
        check_metric(self.metric, self.real.test.labels, self.real.num_classes)

    @cached_property
    def scorer(self) -> Scorer:
        """The test images, normalised once."""
        assert self.real.test is not None
        return Scorer(self.real.test, self.run.device)

    def table(
        self, models: Sequence[AnyModel], steps: int | None, lr: float | str, baselines: Sequence[str]
    ) -> tuple[list[Row], list[str]]:
        """The set's rows first, then each baseline's, and what was left out."""
        sets, notes = self._sets(baselines)
        rows, done = [], 0
        name = str(self.small.method.get("name", "imported"))
        for label, draws in [(name, [self.small]), *sets]:
            for model in models:
                learner = NetworkLearner(
                    model=model,  # type: ignore[arg-type]
                    steps=steps,
                    lr=lr if isinstance(lr, float | int) else None,
                    device=self.run.device,
                    forward=self.forward,
                )
                tuned = label == "random_tuned" or (lr == "tuned" and label == name)
                rows.append(self._row(label, draws, learner, tuned))
                done += 1
                total = len(models) * (1 + len(sets))
                self.run.progress(done, total, f"{label} {100 * rows[-1].mean:.1f} %")
        return rows, notes

    def _row(self, label: str, draws: Sequence[ImageSet], learner: NetworkLearner, tuned: bool) -> Row:
        start = time.monotonic()
        if tuned:
            if self.real.val is None:
                raise refuse("lr", "`recipe` or a number, since this data holds out no validation split", "tuned")
            seed = child_seed(self.run.seed, "tune")
            learner = tune_lr(learner, draws[0], self.real.val, seed, metric=self.metric)
        each = self.repeats if len(draws) == 1 else max(2, -(-self.repeats // len(draws)))
        found: list[Figures] = []
        for d, draw in enumerate(draws):
            seeds = [child_seed(self.run.seed, "evaluate", d, r) for r in range(each)]
            found += learner.figures(draw, seeds, self.scorer, self.metric)
        recipe = learner.recipe(draws[0])
        return Row.of(
            found,
            self.metric,
            set=label,
            model=model_name(learner.model, draws[0]),
            steps=recipe.steps,
            lr=recipe.lr,
            seconds=time.monotonic() - start,
        )

    def _sets(self, baselines: Sequence[str]) -> tuple[list[tuple[str, list[ImageSet]]], list[str]]:
        """The baseline sets by label, and notes on those that cannot be made."""
        sets: list[tuple[str, list[ImageSet]]] = []
        notes = []
        ipc = self.small.ipc
        if self.small.canvas > 1 and baselines and len(self.real.train):
            smallest = int(torch.bincount(self.real.train.labels, minlength=self.real.num_classes).min())
            ipc = min(ipc * self.small.canvas**2, smallest)
            notes.append(f"a canvas counts as {self.small.canvas**2} images, its bytes: {ipc} a class in the baselines")
        draws: list[ImageSet] = []
        for label in baselines:
            if not len(self.real.train):
                notes.append(f"no {label} row: the data has no training images to draw from")
            elif label == "class_mean" and ipc != 1:
                notes.append(f"no class_mean row: it has one image a class, the set has {ipc}")
            elif label == "class_mean":
                sets.append((label, [self._baseline("class_mean", 1, 0)]))
            elif label == "hard":
                sets.append((label, [self.small.hard()]))
            elif label == "random_labels" and self.method is None:
                notes.append("no random_labels row: give the set's teachers as `committee=`")
            elif label == "random_labels":
                sets.append((label, [self._same_labels(draw) for draw in range(_DRAWS)]))
            else:
                draws = draws or [self._baseline("random", ipc, draw) for draw in range(_DRAWS)]
                sets.append((label, draws))
        return sets, notes

    def _baseline(self, name: str, ipc: int, draw: int) -> SyntheticImages:
        """A baseline set in the model space, and with the recipe, of the set it stands beside."""
        fields: dict[str, Any] = {"ipc": ipc, "train": self.small.recipe.hard()}
        run = Run(seed=child_seed(self.run.seed, "draw", draw))
        step = next(iter(METHODS[name](**fields).distill(self.real, run)))
        made = step.candidates[0].set
        if not isinstance(made, SyntheticImages):
            raise InputError(f"baseline {name!r} is not an image set.")
        transform = self.small.ready_transform()
        return dataclasses.replace(
            made, images=transform.forward(made.pixels()).float(), transform=transform, transform_record={}
        )

    def _same_labels(self, draw: int) -> ImageSet:
        """Random real images under the labels of the set's own teachers."""
        assert self.method is not None
        run = dataclasses.replace(self.run, seed=child_seed(self.run.seed, "draw", draw))
        last = list(self.method.of_random_images().distill(self.real, run))[-1]
        made = last.candidates[0].set
        assert isinstance(made, ImageSet)
        return made
