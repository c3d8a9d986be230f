"""`merge`: sets of images of the same classes and model space as one set."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dd.base.bounds import check_memory
from dd.base.files import read_digest
from dd.base.paths import as_path, is_folder, is_there
from dd.base.process import under_own_settings
from dd.data.items import Sketch
from dd.errors import DDError, InputError, refuse
from dd.synthetic import AnySet, Stored, SyntheticImages, TrainRecipe, digest_of, set_at
from dd.synthetic.file import SET

_COMMON = ("dataset", "data_sha256", "protocol", "aspect")
"""What the provenance of a merged set keeps where all its parents say the same."""


@under_own_settings
def merge(
    sets: Sequence[AnySet | str | Path], *others: object, recipe: int | TrainRecipe | None = None
) -> SyntheticImages:
    """Join sets of images: one set with the images of all, each once, in the order of the sets.

    So parties that never share their data make one set, and a class gets more images. Numbers of images a class may
    differ afterwards; baselines beside it have as many of each class. Step sizes and numbers of steps were made for the
    parents alone: `recipe=` says which one of theirs rules, and `dd.evaluate(…, lr="tuned")` finds a step size.

    Args:
        sets: sets, their files or their run folders; different ones, of the same classes in the same order, one shape
            and one model space, all with classes for labels or all with soft labels. Images of other bits, or of 256
            levels of their own (`uint8`), are joined in float32, number for number; `small.pack("uint8")` rounds them.
        *others: nothing: the sets are one list, `dd.merge([a, b])`.
        recipe: the place in `sets`, from 0 on, of the one whose recipe the merged set has, or a recipe; may be left out
            where all are equal.

    Returns:
        The set. Its provenance names the parents by hash, and says of data, protocol and training images what all say.
        What one parent held out for validation another may have seen.

    Raises:
        InputError: no set; a summary of graphs, compensated images, stored labels, the same set twice; other classes,
            shapes, canvases, layouts, model spaces or kinds of labels; unequal recipes without `recipe=`.
        MissingError, DamagedError: see `dd.load`.
    """
    if others or isinstance(sets, str | Path | AnySet) or not isinstance(sets, Sequence):
        got = f"{1 + len(others)} arguments" if others else f"a {type(sets).__name__}"
        raise refuse("sets", "a list of sets, their files or their run folders", got, "Write `dd.merge([a, b])`.")
    if not sets:
        raise refuse("sets", "at least one set", "none")
    parents = [_image_set(one, place) for place, one in enumerate(sets)]
    hashes = [digest_of(one) for one in parents]
    first = parents[0]
    for place, (one, digest) in enumerate(zip(parents, hashes, strict=True)):
        if digest in hashes[:place]:
            got = f"the same one at {hashes.index(digest)} and {place}"
            raise refuse("sets", "different sets", got, "Leave it out: it would only count its images twice.")
        _check_alike(first, one, place)
    rule, parents = _recipe(parents, recipe), _stored_alike(parents)
    first = parents[0]
    shape = (sum(map(len, parents)), *first.images.shape[1:])
    check_memory("the merged set", shape, "Merge fewer sets.")
    ready = next((one for one in parents if one.transform is not None), first)
    return SyntheticImages(
        images=torch.cat([one.images for one in parents]),
        labels=torch.cat([one.labels for one in parents]),
        stored=_stored([one.stored for one in parents if one.stored is not None]),
        classes=first.classes,
        recipe=rule,
        transform=ready.transform,
        transform_record=ready.transform_record,
        method={"name": "merged", "of": sorted({str(one.method.get("name")) for one in parents})},
        provenance=_provenance(parents, hashes),
        canvas=first.canvas,
        canvas_samples=first.canvas_samples,
    )


def check_apart(out: Path, paths: Sequence[Path]) -> None:
    """Refuse a file for the merged set that would replace a parent, or the set of a run.

    Args:
        out: the file.
        paths: files and run folders of the parents.

    Raises:
        InputError: likewise.
    """
    files = [path / SET if is_folder(path) else path for path in paths]
    if is_there(out) and any(is_there(file) and out.samefile(file) for file in files):
        raise refuse("out", "another file than those that are merged", str(out), "Name another file.")
    if out.name == SET and is_there(out.parent / "run.json"):
        raise refuse("out", "a file beside no run.json, whose set it would be", str(out), "Name another file.")


def check_replaced(out: Path, made: SyntheticImages) -> None:
    """Refuse to replace what is at `out`, unless it is the merged set itself.

    Raises:
        InputError: likewise.
    """
    if not is_there(out) or not out.stat().st_size:
        return
    there = None
    with contextlib.suppress(DDError):
        there = read_digest(out)
    if there != digest_of(made):
        way_out = "Name another file, or move that one away."
        raise refuse("out", "a new file, or that of the same merged set", f"{out}, which is neither", way_out)


def _image_set(given: object, place: int) -> SyntheticImages:
    """One of the sets, if it can be joined with others."""
    argument = f"sets[{place}]"
    small = set_at(as_path(given, argument)) if isinstance(given, str | Path) else given
    if not isinstance(small, AnySet):
        raise refuse(argument, "a set, its file or its run folder", f"a {type(small).__name__}")
    if small.kind == "graphs":
        way_out = "Distil the graphs together, or evaluate each summary by itself."
        got = "a summary of graphs: what one left out, it has no count of, so sums of supports would be too low"
        raise refuse(argument, "a set of images", got, way_out)
    if small.kind == "nodes":
        way_out = "Distil one with a larger budget."
        raise refuse(argument, "a set of images", "a set of nodes, whose budget was spent on one graph", way_out)
    if not isinstance(small, SyntheticImages):
        way_out = "Merge sets whose images are tensors of their own."
        got = "compensated images: base images and compensators of a set belong to each other alone"
        raise refuse(argument, "a set of plain images", got, way_out)
    if small.store is not None:
        got = "stored labels of augmented batches, each of images of one set"
        raise refuse(argument, "a set with one label an image", got, "Give `small.hard()`.")
    return small.to("cpu")


def _check_alike(first: SyntheticImages, one: SyntheticImages, place: int) -> None:
    argument = f"sets[{place}]"
    if one.classes != first.classes:
        other = [name for name in one.classes if name not in first.classes][:5]
        got = (
            f"others, such as {', '.join(other)}" if other else f"{len(one.classes)} of them in another order or number"
        )
        way_out = "Bring labels into one order, with `dataclasses.replace(small, labels=…, classes=…)`."
        raise refuse(argument, f"of the classes of sets[0] ({len(first.classes)})", got, way_out)
    if one.images.shape[1:] != first.images.shape[1:]:
        shape = list(first.images.shape[1:])
        raise refuse(argument, f"of images {shape}, like sets[0]", list(one.images.shape[1:]), "Distil at one `size=`.")
    if (one.canvas, one.canvas_samples) != (first.canvas, first.canvas_samples):
        expected = f"of canvas={first.canvas}, canvas_samples={first.canvas_samples}, like sets[0]"
        got = f"canvas={one.canvas}, canvas_samples={one.canvas_samples}: batches crop all images of a set alike"
        raise refuse(argument, expected, got)
    if (one.layout.factor, one.layout.mirror) != (first.layout.factor, first.layout.mirror):
        way_out = "Give `dataclasses.replace(small, stored=None)` of each: its pictures, in float32."
        raise refuse(argument, f"of images stored as {first.layout}, like sets[0]", str(one.layout), way_out)
    if _space(one) != _space(first):
        raise _other_space(first, one, argument)
    if one.labels.ndim != first.labels.ndim:
        kinds = {1: "classes for labels", 2: "soft labels"}
        way_out = "Give `small.hard()` of those with soft labels."
        raise refuse(argument, f"with {kinds[first.labels.ndim]}, like sets[0]", kinds[one.labels.ndim], way_out)


def _stored_alike(parents: list[SyntheticImages]) -> list[SyntheticImages]:
    """The sets as they are where all have the same bits and levels, else in float32, which has the numbers of each."""
    levels = [one.stored.levels for one in parents if one.stored is not None and one.stored.levels is not None]
    same = all(one.layout == parents[0].layout for one in parents) and all(torch.equal(x, levels[0]) for x in levels)
    return parents if same else [one.pack("fp32") for one in parents]


def _stored(parts: Sequence[Stored]) -> Stored | None:
    """The stored images of all, which are of one layout and one set of levels."""
    return dataclasses.replace(parts[0], values=torch.cat([one.values for one in parts])) if parts else None


def _space(small: SyntheticImages) -> dict[str, Any]:
    """What the record of a transform says of the model space."""
    return {name: value for name, value in small.transform_record.items() if name != "tensors"}


def _other_space(first: SyntheticImages, one: SyntheticImages, argument: str) -> InputError:
    kinds = [small.transform_record.get("kind") for small in (first, one)]
    if kinds == ["normalise", "normalise"]:
        way_out = (
            "Give all parties the same constants, `dd.Images(train=…, mean=…, std=…)`; or take this one there: "
            "`dataclasses.replace(small, stored=None, "
            "images=first.transform.forward(small.transform.inverse(small.images)), "
            "transform=first.transform, transform_record={})`."
        )
        return refuse(argument, "normalised like sets[0]", "by another mean and std", way_out)
    way_out = "A whitening is of its own training images: distil with `whiten=False`, or whiten by the same images."
    expected = "whitened by the same images as sets[0]" if kinds[0] == "zca" else "normalised, like sets[0]"
    return refuse(argument, expected, "another whitening" if kinds[1] == "zca" else str(kinds[1]), way_out)


def _recipe(parents: Sequence[SyntheticImages], recipe: int | TrainRecipe | None) -> TrainRecipe:
    if isinstance(recipe, TrainRecipe):
        return recipe
    if recipe is not None:
        if isinstance(recipe, bool) or not isinstance(recipe, int) or not 0 <= recipe < len(parents):
            raise refuse("recipe", f"a TrainRecipe, or one of 0…{len(parents) - 1}, a place in `sets`", repr(recipe))
        return parents[recipe].recipe
    told = [one.recipe.to_json() for one in parents]
    for place, other in enumerate(told):
        if names := [name for name, value in other.items() if value != told[0][name]]:
            first = f"`{names[0]}` {told[0][names[0]]!r} in sets[0] and {other[names[0]]!r} in sets[{place}]"
            got = f"sets with {', '.join(names)} of their own ({first})"
            way_out = "Say which one rules: `recipe=0` is that of the first."
            raise refuse("recipe", "given where sets have unequal recipes", got, way_out)
    return parents[0].recipe


def _provenance(parents: Sequence[SyntheticImages], hashes: Sequence[str]) -> dict[str, Any]:
    """The parents by hash; what all of them say alike; of training images what any has seen."""
    told: Sequence[Mapping[str, Any]] = [one.provenance for one in parents]
    common = {name: told[0][name] for name in _COMMON if all(one.get(name) == told[0].get(name, ...) for one in told)}
    if any(one.get("protocol") == "paper" for one in told):
        common["protocol"] = "paper"
    sketch = Sketch.union([Sketch.from_json(one.get("training_items")) for one in told])
    made = [
        {"method": str(one.method.get("name")), "images": len(one), "sha256": digest}
        | {name: one.provenance[name] for name in ("data_sha256", "seed") if name in one.provenance}
        for one, digest in zip(parents, hashes, strict=True)
    ]
    return {
        **common,
        "parents": made,
        "training_items": None if sketch is None else sketch.to_json(),
        "selection": f"merged of {len(parents)} sets" if len(parents) > 1 else "one set",
    }
