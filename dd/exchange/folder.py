"""Sets as folders of pictures: a folder a class, and beside them what `to_imagefolder` says of the set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dd.base.files import read_json, write_json
from dd.base.foreign import NOTE
from dd.base.paths import as_path, is_there, need_folder
from dd.base.process import under_own_settings
from dd.data.images.folders import Files
from dd.data.images.resize import check_aspect, parse_size
from dd.data.images.walk import LeftOut, class_folders, pictures_in
from dd.errors import DamagedError, DDError, InputError, refuse
from dd.exchange.parts import channels_of, recipe_of, sha256_of, transform_of
from dd.synthetic.images import SyntheticImages
from dd.synthetic.recipe import TrainRecipe
from dd.synthetic.sets import ImageSet
from dd.transforms.whiten import Transform, transform_from


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

    A folder of `dd.to_imagefolder`, `PATH/train`, says itself what is asked for below, in its `set.json`: class names
    and their order, the order of the images, recipe, mean and std, method and provenance. Pictures come back as they
    were written: rounded to 1/255 and cut to [0, 1]. What is given here goes before what is said there.

    Args:
        path: the folder of the class folders.
        mean, std, transform: pixels in [0, 1] to model space; one channel makes grey images of grey files. Of a
            whitened set `transform` is asked for, as its matrix is no part of the folder.
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
    base = as_path(path)
    told = read_json(base / NOTE, "folder of a set") if is_there(base / NOTE) else None
    road = _road(told, mean, std, transform)
    pair, left = parse_size(size), LeftOut()
    folders, names = _named(told, base, classes, left)
    samples = pictures_in(base, "", {name: k for k, name in enumerate(folders)}, left)
    left.warn(base)
    if told is not None:  # `to_imagefolder` numbers pictures through the whole set
        samples.sort(key=lambda sample: (Path(sample[0]).name, sample[1]))
    files = [name for name, _ in samples]
    pixels = _pixels(base, files, pair, check_aspect(aspect), channels_of(road))
    if told is not None and recipe is None and lr is None:
        recipe = _recipe(told, base)
    return SyntheticImages(
        images=road.forward(pixels).contiguous(),
        labels=torch.tensor([label for _, label in samples]),
        classes=names,
        recipe=recipe_of(recipe, lr, len(pixels)),
        transform=road,
        method={"name": "imported"} if told is None else told["method"],
        provenance={
            **({} if told is None else told["provenance"]),
            "imported": {base.resolve().name: sha256_of([base / name for name in files])},
        },
    )


def write_note(base: Path, small: ImageSet, folders: Sequence[str]) -> None:
    """Say beside the class folders what pictures cannot.

    Args:
        base: the folder of the class folders.
        small: the set, with hard labels.
        folders: of its classes, in label order.
    """
    road = small.ready_transform().describe()
    note = {"kind": "imagefolder", "format": 1, "classes": list(small.classes), "folders": list(folders)}
    note |= {"recipe": small.recipe.to_json(), "transform": road}
    note |= {"method": dict(small.method), "provenance": dict(small.provenance)}
    write_json(base / NOTE, note)


def _recipe(told: Mapping[str, Any], base: Path) -> TrainRecipe:
    try:
        return TrainRecipe.from_json(told["recipe"])
    except (InputError, TypeError) as error:
        raise DamagedError(f"{base / NOTE} has a recipe that is none ({error}). Give `recipe=` or `lr=`.") from error


def _road(
    told: Mapping[str, Any] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    transform: Transform | None,
) -> Transform:
    """The transform that is given, or that of the note."""
    if told is None or not (mean is None and std is None and transform is None):
        return transform_of(mean, std, transform)
    if told["transform"]["kind"] == "zca":
        way_out = "Fit it anew: `transform=fit_zca(real.train)` of `dd.transforms.whiten`, with the set's own data."
        raise refuse("transform", "given for a whitened set, whose matrix no folder holds", None, way_out)
    return transform_from(told["transform"], {})


def _named(
    told: Mapping[str, Any] | None, base: Path, classes: Sequence[str] | None, left: LeftOut
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folders in label order, and the names of their classes."""
    if told is None or classes is not None:
        names = _class_folders(base, classes, left)
        return names, names
    return _class_folders(base, told["folders"], left), tuple(told["classes"])


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
