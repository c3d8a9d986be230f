"""Figures of a set and of a report: neighbours, accuracy against bytes, models beside models; PNG or SVG, equal bytes.

Backgrounds are transparent and text is a middle grey, as in `dd.plot`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from dd.data import Images, Split
from dd.data.nearest import nearest
from dd.errors import refuse
from dd.files import read_jsonl, write_bytes
from dd.paths import as_path, is_folder
from dd.plot import INK, KINDS, figure_bytes, grid, loss_curve, paste_rows
from dd.synthetic import AnySet, ImageSet, TreeSummary

PAIRS: Final = 5
"""Synthetic images of a class that are shown beside their nearest real ones."""
CLASSES: Final = 20
_OTHER_KINDS: Final = ("pdf", "jpg", "jpeg", "gif", "webp", "eps", "tif", "tiff")
COLOURS: Final = ("#3b82f6", "#d97706", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#be185d", "#65a30d", "#7f848c")


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
    pixels, labels = small.pixels(), small.hard().labels
    names = small.classes[:CLASSES]
    shown = [(labels == k).nonzero().flatten()[:PAIRS] for k in range(len(names))]
    rows = torch.cat(shown)
    index, _ = nearest(pixels[rows], train, within=labels[rows])
    beside = dict(zip(rows.tolist(), train.pixels(index), strict=True))
    left_out = []
    if len(names) < len(small.classes):
        left_out.append(f"{len(names)} of {len(small.classes)} classes")
    most = int(torch.bincount(labels, minlength=len(names)).max())
    if most > PAIRS:
        left_out.append(f"{PAIRS} of up to {most} images a class")
    pairs = [[picture for i in part.tolist() for picture in (pixels[i], beside[i])] for part in shown]
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
        pixels, labels = small.pixels(), small.hard().labels
        first = [(labels == k).nonzero().flatten()[:1] for k in range(min(len(small.classes), CLASSES))]
        rows.append([pixels[i[0]] if len(i) else torch.zeros_like(pixels[0]) for i in first])
    classes = len(next(iter(sets.values())).classes)
    return paste_rows(rows, list(sets), f"{CLASSES} of {classes} classes" if classes > CLASSES else "")


def accuracy_by_bytes(points: Sequence[tuple[str, int, float, float | None]], kind: str = "png") -> bytes | None:
    """Accuracy in per cent over bytes on disk, both with their spread.

    Args:
        points: (label, bytes, mean as a fraction, sample std or `None`); sets with one label are joined by a line.
        kind: `png` or `svg`.

    Returns:
        `None` where fewer than two points have different bytes.
    """
    if len({size for _, size, _, _ in points}) < 2:
        return None
    names = list(dict.fromkeys(point[0] for point in points))
    figure, axis = _axes(4.8, 3.2 + 0.18 * -(-len(names) // 3))
    for place, name in enumerate(names):
        own = sorted((size, mean, std or 0.0) for label, size, mean, std in points if label == name)
        colour, x = COLOURS[place % len(COLOURS)], [size for size, _, _ in own]
        y, error = [100 * mean for _, mean, _ in own], [100 * std for _, _, std in own]
        marker = "osD^v"[place // len(COLOURS) % 5]
        axis.errorbar(x, y, error, color=colour, marker=marker, markersize=4.5, linewidth=1.1, capsize=2, label=name)
    axis.set_xscale("log")
    axis.set_xlabel("bytes on disk", color=INK, fontsize=11)
    axis.set_ylabel("score %", color=INK, fontsize=11)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, labelcolor=INK, ncols=3)
    return figure_bytes(figure, kind)


def heat_map(scores: Mapping[str, Mapping[str, float]], kind: str = "png") -> bytes | None:
    """Scores of sets (rows) under models (columns) in per cent, each cell with its number.

    Args:
        scores: set → model → fraction; what is missing stays empty.
        kind: `png` or `svg`.

    Returns:
        `None` with fewer than two models: there is nothing to compare across.
    """
    models = list(dict.fromkeys(model for row in scores.values() for model in row))
    if len(models) < 2:
        return None
    import numpy as np
    from matplotlib import colormaps

    figure, axis = _axes(1.6 + 0.95 * len(models), 1.1 + 0.32 * len(scores))
    table = np.array([[100 * row.get(model, np.nan) for model in models] for row in scores.values()])
    low, high = np.nanmin(table), np.nanmax(table)
    place = (table - low) / (high - low) if high > low else np.full_like(table, 0.5)
    axis.imshow(table, cmap="viridis", aspect="auto", vmin=low, vmax=high if high > low else low + 1)
    for (i, j), value in np.ndenumerate(table):
        if np.isnan(value):
            continue
        red, green, blue, _ = colormaps["viridis"](place[i, j])
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=9, color=ink)
    axis.grid(visible=False)
    axis.set_xticks(range(len(models)), models, rotation=25, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(scores)), list(scores))
    return figure_bytes(figure, kind)


def as_svg(picture: Image.Image | bytes) -> bytes:
    """A raster picture (or the bytes of its PNG) inside an SVG file of its size, its pixels kept sharp."""
    if isinstance(picture, Image.Image):
        picture = as_png(picture)
    width, height = Image.open(io.BytesIO(picture)).size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<image width="{width}" height="{height}" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{base64.b64encode(picture).decode()}"/></svg>\n'
    ).encode()


def figures(
    small: AnySet,
    *,
    real: Images | None = None,
    log: Sequence[Mapping[str, Any]] | str | Path = (),
    report: Mapping[str, Any] | None = None,
    kind: str = "png",
) -> dict[str, bytes]:
    """What the report shows of a set, by name: `grid` or `trees`, `neighbours`, `loss`, `models`.

    Args:
        small: the set, with its transform ready.
        real: its data, for `neighbours`.
        log: rows of `log.jsonl`, or the file, for `loss`.
        report: the content of `report.json`, for `models` where it has several.
        kind: `png` or `svg` (pictures of images are a PNG inside).

    Raises:
        InputError: another kind.
    """
    if kind not in KINDS:
        raise refuse("kind", " or ".join(f"`{k}`" for k in KINDS), repr(kind))
    made: dict[str, bytes | None] = {}
    if isinstance(small, TreeSummary):
        made["trees"] = as_svg(small.draw()) if kind == "svg" else small.draw()
    else:
        pictures = {"grid": grid(small)}
        if real is not None and len(real.train) and small.canvas == 1:
            pictures["neighbours"] = neighbours(small, real.train)
        made.update({k: as_svg(p) if kind == "svg" else as_png(p) for k, p in pictures.items()})
    made["loss"] = loss_curve(read_jsonl(as_path(log, "log"), "log") if isinstance(log, str | Path) else log, kind)
    made["models"] = heat_map(scores_of((report or {}).get("rows") or ()), kind)
    return {name: picture for name, picture in made.items() if picture is not None}


def plot(small: AnySet, path: str | Path | None = None, **options: Any) -> dict[str, bytes]:
    """`figures`, also written where a path is given.

    Args:
        small: the set.
        path: a file NAME.png or NAME.svg, for the grid of the images or the trees alone; any other name is a folder,
            which gets every figure as NAME.png, or as NAME.svg with `kind="svg"`.
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
        for name, picture in made.items():
            write_bytes(place / f"{name}.{options.get('kind', 'png')}", picture)
        return made
    made = figures(small, **{**options, "kind": suffix})
    write_bytes(place, made["trees" if isinstance(small, TreeSummary) else "grid"])
    return made


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Set → model → mean, of the rows of a report or of a leaderboard that have one."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.get("mean") is not None and row.get("model"):
            found.setdefault(str(row["set"]), {})[str(row["model"])] = float(row["mean"])
    return found


def as_png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file without time or software."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    figure.patch.set_alpha(0)
    axis = figure.subplots()
    axis.patch.set_alpha(0)
    axis.tick_params(which="both", colors=INK, labelsize=9)
    axis.grid(visible=True, color=INK, alpha=0.2, linewidth=0.5)
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axis
