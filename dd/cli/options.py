"""The options of the command line: one dataclass a verb, of what can be told without torch (others: `dd.cli.twins`)."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from dd.cli.values import fault_of
from dd.data import Source

Options = TypeVar("Options")
Answer = dict[str, Any]
"""What a verb says with `--json`, and under `json` whether that was asked for."""
Data = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]


Hidden = tyro.conf.Fixed[tyro.conf.Suppress[int | str | None]]
"""An option that a verb does not have."""


@dataclass(frozen=True, kw_only=True)
class Common(Source):
    """Data and machine.

    Attributes:
        size: side in pixels.
        store: folder of expert stores.
        device: `cpu`, `cuda:0`, …
        threads: of torch.
        seed: of every random stream.
        json: print one JSON object on stdout, everything else on stderr.
        quiet: no progress bars, no announcements.
    """

    root: Path | None = None
    size: int | None = None  # one word, since two would take the word behind them too
    split: Hidden = 0
    store: Path | None = None
    device: str | None = None
    threads: int | None = None
    seed: int = 0
    json: bool = False
    quiet: bool = False

    @property
    def progress(self) -> bool | None:
        """Bars on a terminal, or none."""
        return False if self.quiet else None


def parsed(kind: type[Options], words: Sequence[str], prog: str, description: str | None = None) -> Options:
    """The options that words say; of a value that is none, one line is said, as of all other refusals.

    Args:
        kind: the dataclass.
        words: of the command line.
        prog, description: for the help.

    Raises:
        InputError: a word that an option cannot have as its value.
        SystemExit: help that was asked for, or what tyro has said itself.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, args=words, prog=prog, description=description)
    except SystemExit:
        if (fault := fault_of(said.getvalue(), prog)) is not None:
            said = io.StringIO()
            raise fault from None
        raise
    finally:
        if sys.stderr is not None:
            sys.stderr.write(said.getvalue())


def reads(verb: str, kind: type[Options]) -> Callable[[Callable[[Options], Answer]], Callable[[Sequence[str]], Answer]]:
    """Make a function of the options of a verb one of its words, which computes in `own_settings`.

    Torch is loaded after the words were read: help and refusals do without it, and so what the function calls is
    imported inside it.

    Args:
        verb: its name.
        kind: its options.
    """

    def made(function: Callable[[Options], Answer]) -> Callable[[Sequence[str]], Answer]:
        @wraps(function)
        def run(argv: Sequence[str]) -> Answer:
            options = parsed(kind, argv, f"ddistill {verb}")
            from dd.base.process import own_settings

            with own_settings():
                return function(options)

        return run

    return made


def keywords(options: object, verb: Callable[..., Any], **instead: Any) -> dict[str, Any]:
    """What is given to a verb by name: the options that have the names of its keywords.

    Args:
        options: as the command line was read.
        verb: the function of the library that does the work.
        **instead: what the command line says in another way.
    """
    known = inspect.signature(verb).parameters.values()
    names = [p.name for p in known if p.kind is p.KEYWORD_ONLY and hasattr(options, p.name)]
    return {**{name: getattr(options, name) for name in names}, **instead}


def as_lr(text: str) -> float | str:
    """A step size, or the word that stands for one."""
    try:
        return float(text)
    except ValueError:
        return text


@dataclass(frozen=True, kw_only=True)
class Planned(Common):
    """Data, machine and plan.

    Attributes:
        plan: write the call into this file and compute nothing; `ddistill work` makes shares of it.
    """

    plan: Path | None = None


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
class BufferOptions(Planned):
    """Make the expert trajectories that are missing.

    Attributes:
        data: a card's name or `imagefolder:PATH`.
        recipe: a shipped recipe's name or a TOML path.
        experts: how many; the recipe's by default.
        snapshots: after the initialisation; the recipe's by default.
        protocol: `clean` or `paper`.
    """

    data: Data
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    experts: int | None = None
    snapshots: int | None = None
    protocol: Literal["clean", "paper"] = "clean"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Planned):
    """Train fresh networks on a set and test them on real images, beside baselines.

    Attributes:
        path: a saved set or a run folder.
        data: a card's name or `imagefolder:PATH`; of graphs a graph card's name or `smiles:PATH.csv`; of one
            graph `Cora` and its like or `nodes:PATH.npz`.
            Hugging Face data, Datasets and arrays are for `dd.evaluate` in Python.
        models: by default the one it was distilled for; of images also unseen, ridge and nearest_mean.
        repeats: fresh networks a row.
        steps: optimiser steps.
        lr: `recipe`, `tuned` or a number.
        recipe: `own`, `hard` (classes for labels) or `rd3` (one teacher's labels and one student for all).
        committee: of `rd3`: another teacher than a ResNet-18.
        baselines: of random, random_packed, random_tuned, class_mean, random_labels, hard; by default random, the
            second for sets with factor, mirror or fp16, and the last two for labels of teachers. Of graphs:
            random, random_sum, random_mean, herding, random_trees, all_trees, full, naive_bayes, tree_counts,
            node_count, edges_per_node. Of nodes: random, random_egos, herding, k_center, features,
            label_propagation, class_means, full; by default the first and the last four.
        out: a folder for `report.json`, or a `.json` file; by default the run folder, with a page.
        split: of graphs and nodes: the one of the set by default.
        compile: train ConvNets by a compiled pass; by default where that is a matter of a second.
        metric: `accuracy`, `balanced_accuracy` or `auroc`; by default accuracy, and AUROC for graphs of two classes.
        early_stop: of graphs: also the same trainings stopped where the validation graphs score best.
    """

    path: tyro.conf.Positional[Path]
    data: Data
    models: tuple[str, ...] = ()
    repeats: int = 5
    steps: int | None = None
    lr: str = "recipe"
    recipe: Literal["own", "hard", "rd3"] = "own"
    committee: tuple[str, ...] | None = None
    baselines: tuple[str, ...] = ()
    out: Path | None = None
    split: int | str | None = None
    compile: bool | None = None
    metric: str | None = None
    early_stop: bool = False


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Join sets of images of the same classes and model space.

    Attributes:
        paths: saved sets or run folders.
        out: the file of the merged set.
        recipe: whose recipe it has, by its place among the paths, from 0 on; needed where they differ.
        json: print one JSON object.
    """

    paths: tyro.conf.Positional[tuple[Path, ...]]
    out: Path
    recipe: int | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """List methods, data sets, models and recipes, or describe one method.

    Attributes:
        method: describe this one: its fields and presets, with their sources.
        cite: print its BibTeX entry instead.
        json: print one JSON object.
    """

    method: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")] = ""
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
