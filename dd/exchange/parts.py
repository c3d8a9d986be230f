"""What every import asks for beside the images: their transform, labels, recipe and the checksum of the files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dd.base.bounds import check_range
from dd.base.shapes import check_finite
from dd.data.images.checks import check_labels
from dd.errors import DDError, refuse
from dd.synthetic.recipe import PUBLISHED_LR, TrainRecipe
from dd.transforms.whiten import Normalise, Transform

_log = logging.getLogger(__name__)


def recipe_of(recipe: TrainRecipe | None, lr: float | None, images: int) -> TrainRecipe:
    """What is given, or the published recipe for so many images."""
    if recipe is not None:
        if lr is not None:
            way_out = "Put it into the recipe: `TrainRecipe.published(ipc, lr, classes=…)`."
            raise refuse("lr", "left out where `recipe` is given", lr, way_out)
        return recipe
    if lr is None:
        _log.warning(
            "no step size is known for the imported set: %g is taken, that of DC, DSA and DM. A set of trajectory "
            "matching has learned its own: give it as `lr=`, or evaluate with `lr='tuned'`.",
            PUBLISHED_LR,
        )
    return TrainRecipe.published(images, PUBLISHED_LR if lr is None else lr, classes=1)  # the product counts


def transform_of(mean: Sequence[float] | None, std: Sequence[float] | None, transform: Transform | None) -> Transform:
    if transform is not None and mean is None and std is None:
        return transform
    if transform is not None or mean is None or std is None:
        given = {"mean": mean, "std": std, "transform": transform}
        got = " and ".join(name for name, value in given.items() if value is not None) or "none of them"
        way_out = "They are those that the authors' code normalised its images with, one number a channel."
        raise refuse("mean, std", "given together, or `transform` instead", got, way_out)
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, Iterable):
            raise refuse(name, "one number a channel", repr(values), f"Of grey images: `{name}=({values!r},)`.")
    try:
        mean, std = ([float(value) for value in values] for values in (mean, std))
    except (TypeError, ValueError) as error:
        raise refuse("mean, std", "one number a channel each", f"others ({error})", "Such as `mean=(0.5,)`.") from error
    return Normalise(tuple(mean), tuple(std))


def channels_of(road: Transform) -> int:
    """C of the transform; 0 where it does not tell."""
    told = road.describe()
    return int(told["shape"][0]) if "shape" in told else len(told.get("mean", ()))


def check_fits(road: Transform, images: Tensor) -> None:
    """Refuse images that the transform cannot take back to pixels."""
    if not len(images):
        raise refuse("images", "at least one", "none")
    try:
        road.inverse(images[:1].to(torch.float32))
    except DDError as error:
        kind = road.describe().get("kind", "transform")
        way_out = "Give the mean and std (or the transform) that these images were made with."
        raise refuse("images", f"what the {kind} makes", f"[{error}]", way_out) from error


def labels_of(
    given: Tensor | None, n: int, classes: Sequence[str] | int | None, ipc: int | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels and class names from what is given, which must agree."""
    names = tuple(str(k) for k in range(classes)) if isinstance(classes, int) else classes
    if isinstance(names, str) or (names is not None and (not names or len(set(names)) != len(names))):
        raise refuse("classes", "different names in label order, or their number", repr(classes))
    if ipc is not None and ipc < 1:
        raise refuse("ipc", "at least 1", ipc)
    if given is not None:
        labels = _label_values(given, n)
        k = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        check_range("classes", k)
    elif (unit := len(names) if names is not None else ipc) is not None:
        if n % unit:
            raise refuse("images", f"a multiple of {unit}, as no labels are given", n, "Give `labels_path`.")
        k = n // unit if names is None else unit
        labels = torch.arange(k).repeat_interleave(n // k)
    else:
        raise refuse("labels_path", "given, or else `classes` or `ipc`", None)
    names = tuple(str(i) for i in range(k)) if names is None else tuple(names)
    if labels.ndim == 2 and k != len(names):
        raise refuse("classes", f"{k} names, as many as the labels have columns", len(names))
    if labels.ndim == 1:
        check_labels(labels, names, "labels")
    if ipc is not None and n != ipc * len(names):
        raise refuse("ipc", f"{n / len(names):g}, for {n} images of {len(names)} classes", ipc)
    return labels, names


def _label_values(labels: Tensor, n: int) -> Tensor:
    """int64 `[n]` or float32 `[n, K]` rows of probabilities."""
    if not labels.ndim or len(labels) != n:
        raise refuse("labels", f"one for each of {n} images", f"shape {list(labels.shape)}")
    if labels.ndim == 1 and not labels.is_floating_point() and labels.dtype != torch.bool:
        return labels.to(torch.int64)
    if labels.ndim == 2 and labels.is_floating_point():
        rows = check_finite(labels.to(torch.float32), "labels")
        if float(rows.min()) < 0 or float((rows.sum(1) - 1).abs().max()) > 1e-3:
            raise refuse("labels", "rows of probabilities", "other rows", "For logits save `.softmax(1)`.")
        return rows.contiguous()
    way_out = "Save `labels.flatten().long()`." if labels.numel() == n else ""
    if labels.ndim == 2 and labels.shape[1] > 1:
        way_out = "Of one-hot rows save `labels.argmax(1)`."
    raise refuse("labels", "integers [N] or floats [N, K]", f"{labels.dtype} {list(labels.shape)}", way_out)


def sha256_of(files: Sequence[Path]) -> str:
    """Of the names and contents of some files; of the content alone for one."""
    total = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            total.update(f"{file.parent.name}/{file.name}\n".encode())
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
