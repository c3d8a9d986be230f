"""Sets that others have made, as synthetic sets: `.pt` files of tensors, NumPy's files, and image folders.

Expert buffers of others go into a store: `import_buffer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.foreign import foreign, two_lines
from dd.base.paths import as_path, is_file
from dd.base.process import under_own_settings
from dd.base.shapes import check
from dd.data.images.values import check_layout, images_of, tensor_of
from dd.errors import refuse
from dd.exchange.arrays import read_numpy
from dd.exchange.buffers import import_buffer
from dd.exchange.folder import import_folder
from dd.exchange.pairs import Pair, alone, pair_in
from dd.exchange.parts import check_fits, labels_of, recipe_of, sha256_of, transform_of
from dd.exchange.pt import read_pt
from dd.synthetic.images import SyntheticImages
from dd.synthetic.recipe import TrainRecipe
from dd.transforms.whiten import Transform

__all__ = ["import_buffer", "import_folder", "import_numpy", "import_pt"]


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
        images_path: one tensor `[n, C, H, W]`: floats in model space, normalised or whitened, or uint8 pixels; or
            both, as a list `[images, labels]`, or as a dict of `images` and `labels` (or `x` and `y`, or `data` and
            `targets`); or a dict whose `data` lists the pair of each experiment, as DC, DSA and DM save them.
        labels_path: one integer tensor `[n]`, or probabilities `[n, K]`. Without it the images are taken to
            come class by class, 0, 0, …, 1, 1, …, equally many each.
        mean: with `std`, what the images were normalised with, or pixels are to be, for pixels in [0, 1].
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
    road = transform_of(mean, std, transform)
    (images, labels), files = _read("import_pt", images_path, labels_path, experiment)
    return _made(images, labels, files, road, (classes, ipc), (recipe, lr))


@under_own_settings
def import_numpy(
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
    layout: str | None = None,
) -> SyntheticImages:
    """A set from NumPy's files: one `.npz` of images and labels, or a pair of `.npy` files.

    Args:
        images_path: `[n, C, H, W]`, `[n, H, W, C]`, or grey `[n, H, W]`: floats in model space, or uint8 pixels. In a
            `.npz` they are `images` beside `labels`, `x` beside `y`, or `data` beside `targets`.
        labels_path: integers `[n]`, or probabilities `[n, K]`, where they are not in the images' file.
        layout: `NCHW` or `NHWC`, where the axes do not say which one is the channels'.
        mean, std, transform, classes, lr, recipe, ipc: as in `import_pt`.

    Raises:
        MissingError, DamagedError: no such file, or one that is not arrays of numbers alone.
        InputError: as `import_pt`.
    """
    road = transform_of(mean, std, transform)
    check_layout(layout)
    (images, labels), files = _read("import_numpy", images_path, labels_path, None)
    found = images_of(images, layout, "images", "dd.import_numpy(…, ")
    given = None if labels is None else tensor_of(labels, "labels")
    return _made(found, given, files, road, (classes, ipc), (recipe, lr))


_READ: Final[dict[str, tuple[Callable[[Path], Any], str]]] = {
    "import_pt": (read_pt, two_lines("t = torch.load({!r})", "torch.save([t[I], t[L]], 'set.pt')")),
    "import_numpy": (read_numpy, two_lines("t = numpy.load({!r})", "numpy.savez('set.npz', images=t[I], labels=t[L])")),
}
"""What reads a file of each verb, and how others become one."""


def _read(
    verb: str, images_path: str | Path, labels_path: str | Path | None, experiment: int | None
) -> tuple[Pair, list[Path]]:
    """Images, labels and the files that they are in."""
    paths = {"images_path": as_path(images_path, "images_path")}
    if labels_path is not None:
        paths["labels_path"] = as_path(labels_path, "labels_path")
    read, lines = _READ[verb]
    found = {argument: _value(verb, read, path, argument) for argument, path in paths.items()}
    file = paths["images_path"]
    pair = pair_in(found["images_path"], file, experiment, lines.format(str(file)))
    if labels_path is not None:
        if pair.labels is not None:
            raise refuse("labels_path", "left out where the images' file holds the labels too", str(labels_path))
        file = paths["labels_path"]
        pair = Pair(pair.images, alone(found["labels_path"], "labels_path", file, lines.format(str(file))))
    return pair, list(paths.values())


def _value(verb: str, read: Callable[[Path], Any], path: Path, argument: str) -> Any:
    """What a file holds, if it is one for that verb."""
    told = foreign(path) if is_file(path) else None
    if told is not None and told.verb and told.verb != verb:
        raise refuse(argument, f"a file for `dd.{verb}`", f"{told.what}, {path}", told.way_out)
    return read(path)


def _made(
    given: Tensor,
    labels: Tensor | None,
    files: Sequence[Path],
    road: Transform,
    named: tuple[Sequence[str] | int | None, int | None],
    trained: tuple[TrainRecipe | None, float | None],
) -> SyntheticImages:
    """The set of images and labels; pixels are brought to the model space."""
    images = check(given, "images", "N C H W").detach()
    if not images.is_floating_point() and images.dtype != torch.uint8:
        way_out = "Of pixels 0 … 255 save `x.to(torch.uint8)`."
        raise refuse("images", "floats in model space, or uint8 pixels", images.dtype, way_out)
    check_fits(road, images)
    y, names = labels_of(None if labels is None else labels.detach(), len(images), *named)
    if images.dtype == torch.uint8:
        images = road.forward(images.to(torch.float32) / 255)
    return SyntheticImages(
        images=images.to(torch.float32).contiguous(),
        labels=y,
        classes=names,
        recipe=recipe_of(*trained, len(images)),
        transform=road,
        method={"name": "imported"},
        provenance={"imported": {file.name: sha256_of([file]) for file in files}},
    )
