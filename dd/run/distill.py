"""The door's functions: names are parsed once, streams are seeded, candidates are scored, results are saved."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from dd.base.files import write_bytes
from dd.base.home import home
from dd.base.paths import as_path, is_folder
from dd.base.process import under_own_settings
from dd.base.progress import Progress, announce, reporter
from dd.base.schema import conform
from dd.base.shapes import filled
from dd.cost.estimate import Estimate, estimated, estimator_of
from dd.data import Images, Source
from dd.data.graphs.graphs import Graphs
from dd.data.items import Sketch
from dd.errors import InputError, find_name, refuse
from dd.evaluation import NetworkLearner, check_own, fit, fresh, origin
from dd.evaluation.selection import Protocol, Selector
from dd.evaluation.trees import TreeLearner
from dd.experts import ExpertRecipe, ExpertStore, load_recipe
from dd.inner import EngineName
from dd.methods import METHODS, FromExperts, Method, Run, Step, class_of, need_method
from dd.run.folder import RunFolder, check_run, split_state, to_device
from dd.run.resolve import Opened, Tier, load_real, only_images, opened, resolve_device
from dd.run.verify import verify
from dd.synthetic import AnySet, load_set, need_set
from dd.synthetic.file import Kept, mark_kept, set_in
from dd.transforms.whiten import make_transform


@under_own_settings
def distill(
    data: object,
    method: str | Method,
    *,
    preset: Tier = "auto",
    protocol: Protocol = "clean",
    seed: int = 0,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: Literal["fp32", "fp64", "bf16", "hybrid"] = "fp32",
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
    **fields: Any,
) -> AnySet:
    """Turn a data set into a few synthetic samples a class, or into a few kilobytes of computation trees.

    Args:
        data: a card's name, `imagefolder:PATH`, `dd.Images`, a map-style Dataset of (image, label), where an image is
            a PIL image, an array or a tensor, or a pair (images, labels). Images are uint8 or float in [0, 1]: tensors
            `[N, C, H, W]`, numpy arrays `[N, C, H, W]` or `[N, H, W, C]`, grey ones also `[N, H, W]`; labels `[N]`. An
            array's channels are the axis, first or last, that has 1, 3 or 4 entries; where that does not tell,
            `dd.load_images(…, layout="NCHW")` and `dd.Images(…, layout="NCHW")` do (or `"NHWC"`). A bare Dataset or
            pair is all training data.
            Graphs: a graph card's name, a PyG data set (also sliced, or a `Subset` of one), a list of `Data`, a tuple
            (train, test) or (train, val, test) of these, or `dd.Graphs`; see `dd.data.load_graphs`.
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
        split: of graphs: which of the random splits, or `published`.
        **fields: fields of the method, with a name only (`ipc=10, iterations=200, …`; `budget_bytes=2048` for graphs).

    Returns:
        `SyntheticImages`, `CompensatedImages` or, of graphs, `TreeSummary`.

    Raises:
        InputError, MissingError, DivergedError, WriteError: each with argument, expected, got and the way out.
        DamagedError: what is in `out` is damaged, or its finished set is of another run.
    """
    given, target = locals(), resolve_device(device)
    asked = opened(data, method, filled(Source, given), protocol, preset, target, fields)
    real, value = asked.real, asked.method
    announce_preset(asked, target, progress)
    report = reporter(f"{value.name} on {real.name}", progress)
    run = filled(Run, given, device=target, store=home("expert_trajectories", store), progress=report)
    if out is None:
        return _run(value, real, run, protocol, None)
    with RunFolder(as_path(out, "out"), _request(value, real, run, protocol), origin(seed, target), resume) as folder:
        if folder.finished:
            made = load(folder.path)
            check_run(folder.path, made)
            return made.attach(cast(Any, real.train))
        return _run(value, real, run, protocol, folder)


def _run(method: Method, real: Images | Graphs, run: Run, protocol: Protocol, folder: RunFolder | None) -> AnySet:
    """Consume the method's steps: log, score, checkpoint, save."""
    selector = Selector(real, protocol, run.seed, run.device)
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

    try:
        for step in method.distill(real, run, state):
            run.progress(step.iteration, step.total, _text(step.metrics))
            if folder is not None:
                folder.log(step)
            selector.offer(step)
            scored = step  # at once: an interruption while the picture is written must not have it offered again
            if folder is not None:
                _preview(step, real, folder)
            every = max(1, min(50, step.total // 20))
            if step.iteration % every == 0 or step.iteration == step.total - 1:
                save_point(step)
    except BaseException:
        save_point(scored)
        raise
    if selector.best is None:
        raise InputError(f"method {method.name!r} offered no candidate.")
    small = dataclasses.replace(selector.best, provenance=_provenance(real, run.seed, protocol, selector))
    if folder is not None:
        small.save(folder.synthetic)
        folder.finish(selection=selector.record, seconds=round(time.monotonic() - start, 3))
        mark_kept(small, Kept.of(folder.path))
    return small


def _preview(step: Step, real: Images | Graphs, folder: RunFolder) -> None:
    """The images so far as `preview.png`, where a method shows them."""
    if step.preview is not None:
        from dd.base.raster import preview_png

        write_bytes(folder.path / "preview.png", preview_png(step.preview, real.classes))


def _text(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {metrics[k]:.4g}" for k in ("loss", "lr") if k in metrics)


def _request(method: Method, real: Images | Graphs, run: Run, protocol: Protocol) -> dict[str, Any]:
    return {
        "data": {"name": real.name, "sha256": real.fingerprint},
        "method": method.describe(),
        "protocol": protocol,
        **run.request(),
    }


def _provenance(real: Images | Graphs, seed: int, protocol: Protocol, selector: Selector) -> dict[str, Any]:
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


def announce_preset(run: Opened, device: torch.device, progress: bool | Progress | None) -> None:
    """Say which preset a run has and what it will cost, where it has one."""
    if (row := run.row) is None:
        return
    text = f"{run.method.name} on {run.real.name}: preset `{row.tier}` ({row.source or 'no source'}"
    text += "" if row.settings else ", settings not verified"
    text += ")" if row.run else ", never run here)"
    if (predict := estimator_of(type(run.method))) is not None:
        text += f"; {predict(run.method, run.real, device, calibrate=False)}"
    announce(text, progress)


@under_own_settings
def buffer(
    data: object,
    recipe: str | ExpertRecipe | FromExperts,
    *,
    experts: int | None = None,
    snapshots: int | None = None,
    protocol: Protocol = "clean",
    store: str | Path | None = None,
    device: str | torch.device | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
) -> ExpertStore:
    """Make the expert trajectories that are missing in the store, and nothing twice.

    Args:
        data: as in `distill`.
        recipe: a shipped recipe's name, a TOML path, an `ExpertRecipe`, or a method that reads experts, such as a
            trajectory-matching value: then the snapshots stop at the last one that it reads.
        experts, snapshots: how many; the recipe's by default.
        protocol, store, device, threads, progress, root, download, size, aspect: as in `distill`;
            a recipe says nothing of `aspect`, so give that of the run that it is for.
    """
    given, target = locals(), resolve_device(device)
    real = only_images(load_real(data, filled(Source, given), protocol), "`buffer`")
    if isinstance(recipe, FromExperts):
        snapshots = recipe.snapshots_read if snapshots is None else snapshots
        recipe = recipe.expert
    value = recipe if isinstance(recipe, ExpertRecipe) else load_recipe(recipe)
    made = ExpertStore(home("expert_trajectories", store), value, real)
    made.ensure(
        make_transform(real, value.whiten),
        experts=experts,
        snapshots=snapshots,
        device=target,
        progress=reporter(f"experts {value.name} on {real.name}", progress),
    )
    return made


@under_own_settings
def load(path: str | Path) -> AnySet:
    """Read a saved set; a run folder means its `synthetic.safetensors`, and then what is measured is kept there.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`.
    """
    path = as_path(path)
    if not is_folder(path):
        return load_set(path)
    kept = Kept.of(path)
    return mark_kept(load_set(set_in(path)), kept)


@under_own_settings
def train(
    small: AnySet | str | Path,
    model: str | nn.Module | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    lr: float | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Train a fresh network on a synthetic set by the recipe that it carries; in eval mode.

    Args:
        small: a set or its path.
        model: a name, `tv:NAME`, `dd.Model`, a factory f(channels, classes, size), or an untrained module that is
            trained in place; `None` takes the one it was distilled for.
        seed: of initialisation, order and augmentation.
        steps, lr: replace the recipe's.
        device: where to train.

    Raises:
        InputError: a network that does not give logits for the set's pictures and classes, or has nothing to train.
        DivergedError: the loss or a weight is not finite.
    """
    if isinstance(small, str | Path):
        small = load(small)
    small, target = need_set(small), resolve_device(device)
    if small.kind == "graphs":
        return TreeLearner(model=model, steps=steps, lr=lr, device=target).fit(small, seed).net
    learner = NetworkLearner(steps=steps, lr=lr)
    recipe = learner.recipe(small)
    if isinstance(model, nn.Module):
        check_own(model, small, seed)
        net = model
    else:
        net = fresh(small, model or recipe.model, seed, target)
    return fit(small, net.to(target), recipe, seed, target)


@under_own_settings
def estimate(
    data: object,
    method: str | Method,
    *,
    preset: Tier = "auto",
    protocol: Protocol = "clean",
    calibrate: bool = False,
    device: str | torch.device | None = None,
    root: str | Path | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    aspect: Literal["crop", "squash"] | None = None,
    **fields: Any,
) -> Estimate:
    """Disk, memory and time of a run before it starts; nothing is written.

    Args:
        calibrate: measure this machine for at most ten seconds, in place of assumed rates.
        method: as in `distill`, of trajectory matching, or a value of one's own with a method
            `estimate(real, device, calibrate)`; others have no estimate.
        data, preset, protocol, device, root, download, size, aspect, **fields: as in `distill`.

    Raises:
        InputError: a method without an estimate; and as `distill`.
    """
    given, target = locals(), resolve_device(device)
    name = find_name("method", method, METHODS) if isinstance(method, str) else need_method(method).name
    predict = estimator_of(class_of(name) if isinstance(method, str) else type(method))
    if predict is None:
        known = f"one of trajectory matching ({', '.join(estimated())}), or one with a method `estimate`"
        raise refuse("method", known, name, "Others have no estimate.")
    asked = opened(data, method, filled(Source, given), protocol, preset, target, fields)
    return predict(asked.method, asked.real, target, calibrate)


def list_methods() -> list[str]:
    """Names that `distill` takes."""
    return sorted(METHODS)


__all__: Sequence[str] = [
    "buffer",
    "distill",
    "estimate",
    "list_methods",
    "load",
    "train",
    "verify",
]
