"""Pictures of a run: the grid of a synthetic set and the curve of its losses. Equal input gives equal bytes.

Backgrounds are transparent and text is a middle grey, so that both read on a white and on a dark page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dd.errors import refuse
from dd.files import write_bytes
from dd.paths import as_path
from dd.synthetic import ImageSet

INK: Final = "#7f848c"
"""Contrast of at least 3.7 on white and on #16181d."""
LOSS: Final = "#3b82f6"
STEP: Final = "#d97706"
SKIPPED: Final = "#dc2626"

SIDE: Final = (48, 128)
"""In px: sides below the first are enlarged by a whole number, above the second reduced to it."""
PIXELS: Final = 600_000
"""Of a set, in a grid whose number of columns is not given; keeps a PNG of noise below 3 MB."""
POINTS: Final = 400
"""Of a curve; more rows are averaged in bins and their range is shaded."""

KINDS: Final = ("png", "svg")

_GAP: Final = 3
_LETTERS: Final = 18


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
    pixels = small.pixels()
    height, width = pixels.shape[2:]  # of a canvas where there are canvases
    scale = _default_scale(max(height, width)) if scale is None else scale
    if not 0 < scale < math.inf:
        raise refuse("scale", "positive and finite", scale)
    labels = small.hard().labels
    names = small.classes[:classes]
    largest = max(1, int(torch.bincount(labels, minlength=len(names))[: len(names)].max()))
    if columns is None:
        columns = max(1, min(10, PIXELS // (len(names) * height * width)))
    shown = [(labels == k).nonzero().flatten()[:columns] for k in range(len(names))]
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    rows = [[_picture(pixels[i], cell) for i in index.tolist()] for index in shown]
    left_out = []
    if largest > columns:
        left_out.append(f"{columns} of up to {largest} images a class")
    if len(names) < len(small.classes):
        left_out.append(f"{len(names)} of {len(small.classes)} classes")
    return _paste(rows, names, cell, min(columns, largest), ", ".join(left_out))


def grid_png(small: ImageSet, columns: int | None = None, *, scale: float | None = None) -> bytes:
    """`grid` as the bytes of a PNG file without time or software."""
    buffer = io.BytesIO()
    grid(small, columns, scale=scale).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_grid(small: ImageSet, path: str | Path, columns: int | None = None, *, scale: float | None = None) -> Path:
    """Write `grid` as a PNG file, whole or not at all.

    Raises:
        WriteError: the disk refuses; an earlier file is intact.
    """
    write_bytes(as_path(path), grid_png(small, columns, scale=scale))
    return Path(path)


def preview_png(pixels: Tensor, classes: Sequence[str]) -> bytes:
    """Pixels in [0, 1] `[K, n, C, H, W]` as a PNG like `grid`'s: ten images a class, a hundred classes at most."""
    shown = pixels[:100, :10]
    scale = _default_scale(max(shown.shape[3:]))
    cell = (max(1, round(shown.shape[4] * scale)), max(1, round(shown.shape[3] * scale)))
    rows = [[_picture(picture, cell) for picture in row] for row in shown]
    buffer = io.BytesIO()
    _paste(rows, classes[: len(rows)], cell, shown.shape[1], "").save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def paste_rows(rows: Sequence[Sequence[Tensor]], names: Sequence[str], left_out: str, together: int = 1) -> Image.Image:
    """Pixels in [0, 1] `[C, H, W]`, a row a class with its name, every `together` of them side by side."""
    height, width = next(x for row in rows for x in row).shape[1:]
    scale = _default_scale(max(height, width))
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    joined = []
    for row in rows:
        pictures = [_picture(x, cell) for x in row]
        joined.append([_side_by_side(pictures[i : i + together]) for i in range(0, len(pictures), together)])
    whole = (cell[0] * together, cell[1])
    return _paste(joined, names, whole, max(len(row) for row in joined), left_out)


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (sum(p.width for p in pictures), pictures[0].height))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place * picture.width, 0))
    return sheet


def _default_scale(side: int) -> float:
    low, high = SIDE
    return max(1, round(low / side)) if side <= high else high / side


def _picture(x: Tensor, cell: tuple[int, int]) -> Image.Image:
    """Pixels `[C, H, W]` in [0, 1] at `cell` = (width, height)."""
    x = x if len(x) == 3 else x.mean(0, keepdim=True).expand(3, -1, -1)
    values = (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    larger = cell[0] >= values.shape[1]
    how = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
    return Image.fromarray(values).resize(cell, how)


def _paste(
    rows: Sequence[Sequence[Image.Image]],
    names: Sequence[str],
    cell: tuple[int, int],
    columns: int,
    left_out: str,
) -> Image.Image:
    """The rows with their names, folded into blocks, and a last line where something is left out."""
    font = _font(max(11, min(16, cell[1] // 3)))
    texts = [name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…" for name in names]
    margin = math.ceil(max(font.getlength(text) for text in texts)) + 8
    line = max(cell[1], math.ceil(font.size) + 2) + _GAP
    block = margin + columns * (cell[0] + _GAP) + 8
    blocks = max(1, round(math.sqrt(len(rows) * line / block)))
    deep = -(-len(rows) // blocks)
    blocks = -(-len(rows) // deep)
    foot = math.ceil(font.size) + 10 if left_out else 0
    width = max(blocks * block, math.ceil(font.getlength(left_out)) + 8)
    sheet = Image.new("RGBA", (width, deep * line + foot), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sheet)
    for k, (text, row) in enumerate(zip(texts, rows, strict=True)):
        x, y = k // deep * block, k % deep * line
        draw.text((x + margin - 5, y + (line - _GAP) // 2), text, fill=INK, font=font, anchor="rm")
        for i, picture in enumerate(row):
            sheet.paste(picture, (x + margin + i * (cell[0] + _GAP), y))
    if left_out:
        draw.text((4, deep * line + 4), left_out, fill=INK, font=font, anchor="lt")
    return sheet


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters everywhere, Greek and Cyrillic too."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), size)


def loss_curve(rows: Sequence[Mapping[str, Any]], kind: str = "png") -> bytes | None:
    """The rows of `log.jsonl` as a PNG or SVG (`kind`): matching loss, step size below it, skipped iterations as ticks.

    The loss of a skipped iteration is not drawn. Rows without `iteration`, such as scores, are passed over.

    Args:
        rows: with `iteration` and, where they are known, `loss`, `lr` and `skipped`.

    Returns:
        `None` where no row has a loss (a baseline).
    """
    kept = [row for row in rows if _number(row.get("iteration"))]
    losses = [row for row in kept if _number(row.get("loss")) and not row.get("skipped")]
    if not losses:
        return None
    steps = [row for row in kept if _number(row.get("lr"))]
    skipped = [row["iteration"] for row in kept if row.get("skipped")]

    from matplotlib.figure import Figure  # half a second that only a figure should pay

    figure = Figure(figsize=(4.8, 3.6 if steps else 2.7), dpi=200, layout="constrained")
    figure.patch.set_alpha(0)
    ratios = [3, 1] if steps else [1]
    axes = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    _line(axes[0], losses, "loss", LOSS, "matching loss")
    if skipped:
        bottom = axes[0].get_xaxis_transform()
        axes[0].plot(skipped, [0.02] * len(skipped), "|", color=SKIPPED, transform=bottom, markersize=6, clip_on=False)
        axes[0].set_title(f"{len(skipped)} skipped", color=SKIPPED, fontsize=10, loc="right", pad=2)
    if steps:
        _line(axes[1], steps, "lr", STEP, "step size")
    axes[-1].set_xlabel("iteration", color=INK, fontsize=11)
    return figure_bytes(figure, kind)


def figure_bytes(figure: Any, kind: str) -> bytes:
    """A figure of matplotlib as PNG or SVG, without time, software or random names.

    Raises:
        InputError: another kind.
    """
    if kind not in KINDS:
        raise refuse("kind", " or ".join(f"`{k}`" for k in KINDS), repr(kind))
    import matplotlib

    buffer = io.BytesIO()
    if kind == "png":
        options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        figure.savefig(buffer, format="png", transparent=True, **options)
        return buffer.getvalue()
    with matplotlib.rc_context({"svg.hashsalt": "dd"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(axis: Any, rows: Sequence[Mapping[str, Any]], key: str, colour: str, label: str) -> None:
    """One curve; above `POINTS` rows as means of bins, with their range."""
    x, y = (np.array([float(row[name]) for row in rows]) for name in ("iteration", key))
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    if y.min() > 0 and y.max() > 3 * y.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if y.max() < 100 * y.min() else (1,)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    if len(rows) > POINTS:
        bins = np.split(np.arange(len(rows)), np.arange(0, len(rows), -(-len(rows) // POINTS))[1:])
        low, high = (np.array([f(y[part]) for part in bins]) for f in (np.min, np.max))
        x, y = (np.array([values[part].mean() for part in bins]) for values in (x, y))
        axis.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.plot(x, y, color=colour, linewidth=1.2, marker="." if len(x) < 3 else None)
    axis.set_ylabel(label, color=INK, fontsize=11)
    axis.tick_params(which="both", colors=INK, labelsize=9.5)
    axis.grid(visible=True, color=INK, alpha=0.2, linewidth=0.5)
    axis.patch.set_alpha(0)
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(INK)
