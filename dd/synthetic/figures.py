"""Figures of a set: its grid, each image beside its nearest real one, sets beside sets; PNG or SVG, equal bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from dd.base.curves import KINDS, heat_map, loss_curve, scores_of
from dd.base.files import read_jsonl, write_bytes
from dd.base.markup import Pictures, image, join, paragraph
from dd.base.paths import as_path, is_folder
from dd.base.raster import as_png, as_svg, default_scale, paste, paste_rows, picture
from dd.base.shapes import check_word
from dd.data import Images, Split
from dd.data.images.nearest import nearest
from dd.errors import DDError, refuse
from dd.synthetic.sets import AnySet, ImageSet

PIXELS: Final = 600_000
"""Of a set, in a grid whose number of columns is not given; keeps a PNG of noise below 3 MB."""
NOTEBOOK: Final = (64, 65_000, 20)
"""Of a set in a notebook: sides of its pictures in px, pixels, and classes, at most; a PNG of noise is below 300 kB."""
PAIRS: Final = 5
"""Synthetic images of a class that are shown beside their nearest real ones."""
CLASSES: Final = 20
DRAWN: Final = {"images": "grid", "graphs": "trees", "nodes": "graph"}
"""By kind of set, the name of the figure that shows what is in it."""
_OTHER_KINDS: Final = ("pdf", "jpg", "jpeg", "gif", "webp", "eps", "tif", "tiff")


def grid(small: ImageSet, columns: int | None = None, *, scale: float | None = None, classes: int = 100) -> Image.Image:
    """The images of a set as one picture: a row for each class with its name, clipped to [0, 1].

    A tall grid is folded into blocks side by side. Three channels are colour, any other number is shown as
    its mean. What is left out is said in the last line.

    Args:
        small: the set; of soft labels the largest counts.
        columns: images of a class at most; by default 10, or less so that `PIXELS` are not exceeded.
        scale: size on the picture in units of the image's own; by default see `SIDE`.
        classes: rows at most.

    Returns:
        RGBA, transparent between the images.

    Raises:
        InputError: a number below its range, or a whitened set without its matrix.
    """
    for name, value in (("columns", columns), ("classes", classes)):
        if value is not None and value < 1:
            raise refuse(name, "at least 1", value)
    height, width = (side * small.canvas for side in small.size)
    scale = default_scale(max(height, width)) if scale is None else scale
    if not 0 < scale < math.inf:
        raise refuse("scale", "positive and finite", scale)
    labels = small.hard_labels
    names = small.classes[:classes]
    largest = max(1, int(torch.bincount(labels, minlength=len(names))[: len(names)].max()))
    if columns is None:
        columns = max(1, min(10, PIXELS // (len(names) * height * width)))
    shown = [(labels == k).nonzero().flatten()[:columns] for k in range(len(names))]
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = iter(small.pixels(torch.cat(shown)))
    rows = [[picture(next(pixels), cell) for _ in index] for index in shown]
    left_out = []
    if largest > columns:
        left_out.append(f"{columns} of up to {largest} images a class")
    if len(names) < len(small.classes):
        left_out.append(f"{len(names)} of {len(small.classes)} classes")
    return paste(rows, names, cell, min(columns, largest), ", ".join(left_out))


def grid_png(small: ImageSet, columns: int | None = None, *, scale: float | None = None) -> bytes:
    """`grid` as the bytes of a PNG file without time or software."""
    return as_png(grid(small, columns, scale=scale))


def save_grid(small: ImageSet, path: str | Path, columns: int | None = None, *, scale: float | None = None) -> Path:
    """Write `grid` as a PNG file, whole or not at all.

    Raises:
        WriteError: the disk refuses; an earlier file is intact.
    """
    write_bytes(as_path(path), grid_png(small, columns, scale=scale))
    return Path(path)


def neighbours(small: ImageSet, train: Split) -> Image.Image:
    """Synthetic images each with the nearest real training image of its class to the right of it, a row a class.

    Args:
        small: the set, with its transform ready; no canvases.
        train: the real images it was distilled from; nearest in pixels.

    Returns:
        RGBA; `PAIRS` pairs a class and `CLASSES` classes at most.

    Raises:
        InputError: a set of canvases, which have no neighbour of their size, or images of another shape.
    """
    if small.canvas > 1:
        raise refuse("small", "a set without canvases", f"canvases of {small.canvas}²")
    labels, names = small.hard_labels, small.classes[:CLASSES]
    shown = [(labels == k).nonzero().flatten()[:PAIRS] for k in range(len(names))]
    rows = torch.cat(shown)
    pixels = small.pixels(rows)
    index, _ = nearest(pixels, train, within=labels[rows])
    found = iter(zip(pixels, train.pixels(index), strict=True))
    left_out = []
    if len(names) < len(small.classes):
        left_out.append(f"{len(names)} of {len(small.classes)} classes")
    most = int(torch.bincount(labels, minlength=len(names)).max())
    if most > PAIRS:
        left_out.append(f"{PAIRS} of up to {most} images a class")
    pairs = [[x for _ in part for x in next(found)] for part in shown]
    return paste_rows(pairs, names, ", ".join(left_out), together=2)


def gallery(sets: Mapping[str, ImageSet]) -> Image.Image:
    """The first image of each class of several sets of one data set, a row a set with its name.

    Args:
        sets: name → set with its transform ready; equal classes and sizes, no canvases.

    Returns:
        RGBA; `CLASSES` classes at most, black where a set has no image of one.

    Raises:
        InputError: no set, or sets of different classes or sizes.
    """
    if len({(s.classes, s.channels, s.size, s.canvas) for s in sets.values()}) != 1:
        raise refuse("sets", "one or more of equal classes and sizes", ", ".join(sets) or "none")
    rows = []
    for small in sets.values():
        labels = small.hard_labels
        first = [(labels == k).nonzero().flatten()[:1] for k in range(min(len(small.classes), CLASSES))]
        pixels = iter(small.pixels(torch.cat(first)))
        rows.append([next(pixels) if len(i) else torch.zeros(small.channels, *small.size) for i in first])
    classes = len(next(iter(sets.values())).classes)
    return paste_rows(rows, list(sets), f"{CLASSES} of {classes} classes" if classes > CLASSES else "")


def figures(
    small: AnySet,
    *,
    real: Images | None = None,
    log: Sequence[Mapping[str, Any]] | str | Path = (),
    report: Mapping[str, Any] | None = None,
    kind: str = "png",
) -> Pictures:
    """What the report shows of a set, by name: `grid`, `trees` or `graph`, `neighbours`, `loss`, `models`.

    Args:
        small: the set, with its transform ready.
        real: its data, for `neighbours`.
        log: rows of `log.jsonl`, or the file, for `loss`.
        report: the content of `report.json`, for `models` where it has several.
        kind: `png` or `svg` (pictures of images are a PNG inside).

    Raises:
        InputError: another kind.
    """
    check_word(kind, "kind", KINDS)
    made: dict[str, bytes | None] = {}
    if small.kind != "images":
        made[DRAWN[small.kind]] = as_svg(small.draw()) if kind == "svg" else small.draw()
    else:
        pictures = {"grid": grid(small)}
        if real is not None and len(real.train) and small.canvas == 1:
            pictures["neighbours"] = neighbours(small, real.train)
        made.update({k: as_svg(p) if kind == "svg" else as_png(p) for k, p in pictures.items()})
    made["loss"] = loss_curve(read_jsonl(as_path(log, "log"), "log") if isinstance(log, str | Path) else log, kind)
    made["models"] = heat_map(scores_of((report or {}).get("rows") or ()), kind)
    return Pictures({name: content for name, content in made.items() if content is not None})


def plot(small: AnySet, path: str | Path | None = None, **options: Any) -> Pictures:
    """`figures`, which a notebook shows, also written where a path is given.

    Args:
        small: the set.
        path: a file NAME.png or NAME.svg, for the grid of the images, the trees or the graph alone; any other name is a
            folder, which gets every figure as NAME.png, or as NAME.svg with `kind="svg"`.
        **options: of `figures`.

    Raises:
        InputError, WriteError: see `figures`; a file of another kind; the disk refuses.
    """
    if path is None:
        return figures(small, **options)
    place = as_path(path)
    suffix = "" if is_folder(place) else place.suffix.lower().lstrip(".")
    if suffix in _OTHER_KINDS or (suffix in KINDS and options.get("kind", suffix) != suffix):
        raise refuse("path", "a folder, or a file NAME.png or NAME.svg of the `kind` given", repr(str(path)))
    if suffix not in KINDS:
        made = figures(small, **options)
        for name, content in made.items():
            write_bytes(place / f"{name}.{options.get('kind', 'png')}", content)
        return made
    made = figures(small, **{**options, "kind": suffix})
    write_bytes(place, made[DRAWN[small.kind]])
    return made


def notebook(small: AnySet) -> str:
    """A set as HTML for a notebook: one line, and some of its images or trees; of a set that has no picture, why."""
    try:
        shown = image(_drawn(small), "What is in the set")
    except DDError as error:
        shown = paragraph(error)
    return join([paragraph(repr(small)), shown])


def _drawn(small: AnySet) -> bytes:
    """The picture of a set in a notebook."""
    from dd.synthetic.tree_views import draw

    if small.kind == "nodes":
        return small.draw()
    return draw(small, None, 3, 4) if small.kind == "graphs" else _few_images(small)


def _few_images(small: ImageSet) -> bytes:
    """A grid within `NOTEBOOK`."""
    side, most, classes = NOTEBOOK
    height, width = (length * small.canvas for length in small.size)
    scale = min(default_scale(max(height, width)), side / max(height, width))
    drawn = min(1.0, scale) ** 2 * height * width * min(classes, len(small.classes))
    return as_png(grid(small, max(1, min(10, int(most / drawn))), scale=scale, classes=classes))
