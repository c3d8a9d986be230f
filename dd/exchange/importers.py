"""Sets that others have made, as synthetic sets: `.pt` files of tensors, and image folders.

Expert buffers of others go into a store: `import_buffer`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dd.base.paths import as_path, need_folder
from dd.base.process import under_own_settings
from dd.base.shapes import check, check_finite
from dd.data.images.checks import check_labels
from dd.data.images.folders import Files
from dd.data.images.resize import check_aspect, parse_size
from dd.data.images.walk import LeftOut, class_folders, pictures_in
from dd.errors import DDError, refuse
from dd.exchange.buffers import import_buffer
from dd.exchange.pt import read_pt
from dd.synthetic.images import SyntheticImages
from dd.synthetic.recipe import PUBLISHED_LR, TrainRecipe
from dd.transforms.whiten import Normalise, Transform

__all__ = ["import_buffer", "import_folder", "import_pt"]

_log = logging.getLogger(__name__)


@under_own_settings
def import_pt(
    images_path: str | Path,
    labels_path: str | Path | None = None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Transform | None = None,
    classes: Sequence[str] | int | None = None,
    lr: float | None = None,
    recipe: TrainRecipe | None = None,
    ipc: int | None = None,
    experiment: int | None = None,
) -> SyntheticImages:
    """A set from `.pt` files: `images_best.pt` and `labels_best.pt` of trajectory matching, `res_*.pt` of DC, DSA, DM.

    Networks are trained on it as in the papers, see `TrainRecipe.published`. The step size that trajectory matching
    has learned is in neither file; it is in the log of the run:

        small = dd.import_pt(
            "images_best.pt",
            "labels_best.pt",
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2023, 0.1994, 0.2010),
            lr=0.0213,
        )
        report = dd.evaluate(small, "cifar10")

    Args:
        images_path: one float tensor `[n, C, H, W]` in model space: normalised, or whitened; or a dict whose `data`
            lists the pair (images, labels) of each experiment, as DC, DSA and DM save them.
        labels_path: one integer tensor `[n]`, or probabilities `[n, K]`. Without it the images are taken to
            come class by class, 0, 0, …, 1, 1, …, equally many each.
        mean: with `std`, what the images were normalised with, in pixels in [0, 1].
        std: likewise.
        transform: in place of `mean` and `std`, such as the `ZCA` of the training images.
        classes: names in label order, or their number; by default the labels tell.
        lr: step size of the published recipe; `None` takes 0.01, that of DC, DSA and DM, and logs a warning.
            `dd.evaluate(…, lr="tuned")` finds one on validation images.
        recipe: how a network is trained on it, in place of the published one at `lr`.
        ipc: images a class, where neither labels nor classes say it.
        experiment: which pair of `data`, counted from 0, where there are several.

    Raises:
        MissingError, DamagedError: no such file, or one that is not tensors alone.
        InputError: a tensor of another shape, type or range, too little to know the labels, or both `lr` and `recipe`.
    """
    road = _transform(mean, std, transform)
    found, own = _images(as_path(images_path, "images_path"), experiment)
    if own is not None and labels_path is not None:
        raise refuse("labels_path", "left out where the images' file holds the labels too", str(labels_path))
    given = (
        own
        if labels_path is None
        else _tensor(read_pt(as_path(labels_path, "labels_path")), "labels_path", labels_path)
    )
    images = check(found, "images", "N C H W")
    if not images.is_floating_point():
        way_out = "Pixels 0 … 255 belong in a folder of PNG files: `import_folder`."
        raise refuse("images", "floats in model space", images.dtype, way_out)
    _fits(road, images)
    labels, names = _labels(given, len(images), classes, ipc)
    files = [Path(images_path)] + ([] if labels_path is None else [Path(labels_path)])
    return SyntheticImages(
        images=images.to(torch.float32).contiguous(),
        labels=labels,
        classes=names,
        recipe=_recipe(recipe, lr, len(images)),
        transform=road,
        method={"name": "imported"},
        provenance={"imported": {file.name: _sha256([file]) for file in files}},
    )


@under_own_settings
def import_folder(
    path: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform: Transform | None = None,
    classes: Sequence[str] | None = None,
    lr: float | None = None,
    recipe: TrainRecipe | None = None,
    size: int | tuple[int, int] | None = None,
    aspect: str = "crop",
) -> SyntheticImages:
    """A set from `PATH/<class>/*.png` (or another format that Pillow reads), files in the order of their names.

    Files are found and read as in `imagefolder:`: turned by EXIF, on white; what is left out is counted in a warning.

    Args:
        path: the folder of the class folders.
        mean, std, transform: pixels in [0, 1] to model space; one channel makes grey images of grey files.
        classes: folder names in label order. By default the sorted names, as for a real image folder; where
            these are numbers that sort otherwise than as text (0, 1, 10, 2), the order must be given.
        lr: step size of the published recipe; `None` takes 0.01, that of DC, DSA and DM, and logs a warning.
            `dd.evaluate(…, lr="tuned")` finds one on validation images.
        recipe: how a network is trained on it, in place of the published one at `lr`.
        size, aspect: bring the images to one size, see `dd.data.images.resize.fit`.

    Raises:
        MissingError, DamagedError: no such folder, or a file that cannot be read.
        InputError: no or other class folders, an empty one, unequal sizes, colours where grey is expected, or both
            `lr` and `recipe`.
    """
    road, base = _transform(mean, std, transform), as_path(path)
    pair, left = parse_size(size), LeftOut()
    names = _class_folders(base, classes, left)
    samples = pictures_in(base, "", {name: k for k, name in enumerate(names)}, left)
    left.warn(base)
    files = [name for name, _ in samples]
    pixels = _pixels(base, files, pair, check_aspect(aspect), _channels(road))
    return SyntheticImages(
        images=road.forward(pixels).contiguous(),
        labels=torch.tensor([label for _, label in samples]),
        classes=names,
        recipe=_recipe(recipe, lr, len(pixels)),
        transform=road,
        method={"name": "imported"},
        provenance={"imported": {base.resolve().name: _sha256([base / name for name in files])}},
    )


def _recipe(recipe: TrainRecipe | None, lr: float | None, images: int) -> TrainRecipe:
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


def _images(path: Path, experiment: int | None) -> tuple[Tensor, Tensor | None]:
    """The images of a file, and the labels where it holds both."""
    value = read_pt(path)
    pairs = value.get("data") if isinstance(value, Mapping) else None
    if not (isinstance(pairs, list | tuple) and pairs and all(_is_pair(pair) for pair in pairs)):
        if experiment is not None:
            raise refuse("experiment", "left out where a file does not list experiments as `data`", experiment)
        return _tensor(value, "images_path", path), None
    last = len(pairs) - 1
    if experiment is None and last:
        raise refuse("experiment", f"given, 0 … {last}: {path} holds {len(pairs)} sets", None, "Give `experiment=0`.")
    if experiment is not None and not (type(experiment) is int and 0 <= experiment <= last):
        raise refuse("experiment", f"0 … {last}, of the sets in {path}", repr(experiment))
    images, labels = pairs[experiment or 0]
    return images.detach(), labels.detach()


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, Tensor) for one in value)


def _tensor(value: object, argument: str, path: str | Path) -> Tensor:
    if not isinstance(value, Tensor):
        way_out = ""
        if isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values()):
            way_out = "Save the one that is meant with `torch.save`; a saved set of this library is for `dd.load`."
        raise refuse(argument, "a file of one tensor", f"a {type(value).__name__} in {path}", way_out)
    return value.detach()


def _transform(mean: Sequence[float] | None, std: Sequence[float] | None, transform: Transform | None) -> Transform:
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
    return Normalise(tuple(float(m) for m in mean), tuple(float(s) for s in std))


def _channels(road: Transform) -> int:
    """C of the transform; 0 where it does not tell."""
    told = road.describe()
    return int(told["shape"][0]) if "shape" in told else len(told.get("mean", ()))


def _fits(road: Transform, images: Tensor) -> None:
    """Refuse images that the transform cannot take back to pixels."""
    if not len(images):
        raise refuse("images", "at least one", "none")
    try:
        road.inverse(images[:1].to(torch.float32))
    except DDError as error:
        kind = road.describe().get("kind", "transform")
        way_out = "Give the mean and std (or the transform) that these images were made with."
        raise refuse("images", f"what the {kind} makes", f"[{error}]", way_out) from error


def _labels(
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
    raise refuse("labels", "integers [N] or floats [N, K]", f"{labels.dtype} {list(labels.shape)}")


def _class_folders(base: Path, classes: Sequence[str] | None, left: LeftOut) -> tuple[str, ...]:
    need_folder(base, way_out="Expected layout: PATH/<class>/*.png")
    found = list(class_folders(base, "", left))
    if not found:
        raise refuse("path", "a folder with a folder of images for each class", f"none in {base}")
    if classes is None:
        if all(re.fullmatch(r"\d+", name) for name in found) and found != sorted(found, key=int):
            way_out = "Give the label order with `classes=`."
            raise refuse("classes", "given where folders are numbers without leading zeros", None, way_out)
        return tuple(found)
    if sorted(classes) != found:
        other = sorted(set(found) ^ set(classes))[:5]
        raise refuse("classes", f"the {len(found)} folder names of {base}", f"{len(classes)} with others: {other}")
    return tuple(classes)


def _pixels(base: Path, files: Sequence[str], size: tuple[int, int] | None, aspect: str, channels: int) -> Tensor:
    """float32 `[n, C, H, W]` in [0, 1]."""
    reader = Files(base, files, size, aspect)
    rows = list[Tensor]()
    for i, file in enumerate(files):
        row = reader[i]
        if isinstance(row, DDError):
            raise row
        if channels == 1:
            if not bool((row == row[:1]).all()):
                raise refuse(str(base / file), "a grey image, as the mean has one channel", "colours")
            row = row[:1]
        if rows and row.shape != rows[0].shape:
            got = f"{row.shape[1]}×{row.shape[2]} in {base / file}"
            expected = f"images of one size ({rows[0].shape[1]}×{rows[0].shape[2]})"
            raise refuse("path", expected, got, "Give `size=`: images are then resized and cropped to it.")
        rows.append(row)
    return torch.stack(rows).to(torch.float32) / 255


def _sha256(files: Sequence[Path]) -> str:
    """Of the names and contents of some files; of the content alone for one."""
    total = hashlib.sha256()
    for file in files:
        if len(files) > 1:
            total.update(f"{file.parent.name}/{file.name}\n".encode())
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
