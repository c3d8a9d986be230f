"""Curves and tables of numbers as PNG or SVG: losses, accuracy against bytes, sets under models; equal bytes.

Backgrounds are transparent and text is a middle grey, as in `dd.base.raster`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dd.base.raster import INK, short
from dd.base.shapes import check_word

LOSS: Final = "#3b82f6"
STEP: Final = "#d97706"
SKIPPED: Final = "#dc2626"
COLOURS: Final = ("#3b82f6", "#d97706", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#be185d", "#65a30d", "#7f848c")

POINTS: Final = 400
"""Of a curve; more rows are averaged in bins and their range is shaded."""

KINDS: Final = ("png", "svg")
_LETTERS: Final = 48


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


def accuracy_by(
    points: Sequence[tuple[str, float, float, float | None]], kind: str = "png", cost: str = "bytes on disk"
) -> bytes | None:
    """Accuracy in per cent over a cost, bytes or minutes, with its spread.

    Args:
        points: (label, cost, mean as a fraction, sample std or `None`); sets with one label are joined by a line.
        kind: `png` or `svg`.
        cost: what the cost is and its unit, for the axis.

    Returns:
        `None` where fewer than two points have different costs.
    """
    if len({size for _, size, _, _ in points}) < 2:
        return None
    names = list(dict.fromkeys(point[0] for point in points))
    figure, axis = _axes(4.8, 3.2)
    for place, name in enumerate(names):
        own = sorted((size, mean, std or 0.0) for label, size, mean, std in points if label == name)
        colour, x = COLOURS[place % len(COLOURS)], [size for size, _, _ in own]
        y, error = [100 * mean for _, mean, _ in own], [100 * std for _, _, std in own]
        marker = "osD^v"[place // len(COLOURS) % 5]
        axis.errorbar(
            x, y, error, color=colour, marker=marker, markersize=4.5, linewidth=1.1, capsize=2, label=_label(name)
        )
    axis.set_xscale("log")
    costs = [size for _, size, _, _ in points]
    if max(costs) < 100 * min(costs):
        _plain(axis.xaxis, min(costs), max(costs))
    axis.set_xlabel(cost, color=INK, fontsize=11)
    axis.set_ylabel("score %", color=INK, fontsize=11)
    _legend(figure, len(names))
    return figure_bytes(figure, kind)


def _legend(figure: Any, names: int) -> None:
    """The names below, in as many columns, three at most, as there is room for; rows make the figure higher."""
    for columns in (3, 2, 1):
        legend = figure.legend(loc="outside lower center", fontsize=8, frameon=False, labelcolor=INK, ncols=columns)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + 0.18 * -(-names // columns))
            return
        legend.remove()


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
    from matplotlib import colormaps

    wider, higher = (0.07 * max(0, *(len(_label(name)) - 20 for name in names)) for names in (scores, models))
    figure, axis = _axes(1.6 + 0.95 * len(models) + wider, 1.1 + 0.32 * len(scores) + higher / 2)
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
    axis.set_xticks(range(len(models)), map(_label, models), rotation=25, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(scores)), map(_label, scores))
    return figure_bytes(figure, kind)


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Set → model → mean, of the rows of a report or of a leaderboard that have one."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.get("mean") is not None and row.get("model"):
            found.setdefault(str(row["set"]), {})[str(row["model"])] = float(row["mean"])
    return found


def figure_bytes(figure: Any, kind: str) -> bytes:
    """A figure of matplotlib as PNG or SVG, without time, software or random names.

    Raises:
        InputError: another kind.
    """
    check_word(kind, "kind", KINDS)
    import matplotlib

    buffer = io.BytesIO()
    if kind == "png":
        options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        figure.savefig(buffer, format="png", transparent=True, **options)
        return buffer.getvalue()
    with matplotlib.rc_context({"svg.hashsalt": "dd"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _label(name: str) -> str:
    """A name of others as a label: no formula, not hidden from a legend, and there is room for it."""
    text = short(name, _LETTERS)
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _line(axis: Any, rows: Sequence[Mapping[str, Any]], key: str, colour: str, label: str) -> None:
    """One curve; above `POINTS` rows as means of bins, with their range."""
    x, y = (np.array([float(row[name]) for row in rows]) for name in ("iteration", key))
    if y.min() > 0 and y.max() > 3 * y.min():
        axis.set_yscale("log")
        _plain(axis.yaxis, y.min(), y.max())
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


def _plain(axis: Any, low: float, high: float) -> None:
    """Ticks of a logarithmic axis as plain numbers, more of them where it spans less than two decades."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 100 * low else (1,)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FormatStrFormatter("%.10g"))


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
