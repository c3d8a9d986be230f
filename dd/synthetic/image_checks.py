"""What a set of images must hold, and its sizes in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from dd.base.shapes import check, check_finite, check_whole
from dd.base.texts import a_class, count
from dd.errors import refuse

if TYPE_CHECKING:
    from dd.synthetic.images import SyntheticImages

_SUM_TOLERANCE: Final = 1e-3
"""Of rows of 1,000 rounded probabilities."""


def how_many(small: Any) -> str:
    """`100 images (uint8)`, `25 canvases of 2²`, `800 images of 100 stored (factor 2, mirrored, uint8)`."""
    number = len(small)
    what = count(number, "image") if small.canvas == 1 else f"{number:,} canvases of {small.canvas}²"
    if small.layout.whole:
        return what if small.layout.plain else f"{what} ({small.layout})"
    return f"{what} of {sum(small.counts):,} stored ({small.layout})"


def sizes_of(small: Any, what: str = "") -> list[str]:
    """Labels, classes, images a class (`what` they are) and their shape, of a set of images, in words."""
    counts = torch.bincount(small.hard_labels, minlength=len(small.classes)).tolist()
    labels = ["soft labels"] if small.labels.ndim == 2 else []
    if small.store is not None:
        labels = [f"labels of {len(small.store):,} stored batch{'es' if len(small.store) > 1 else ''}"]
    shape = "x".join(map(str, (small.channels, *(side * small.canvas for side in small.size))))
    return [*labels, f"{len(small.classes):,} classes", a_class(counts, what), shape]


def check_canvas(small: SyntheticImages) -> None:
    """Refuse canvases that are not whole pictures wide and high, or whitened."""
    canvas, height, width = check_whole(small.canvas, "canvas"), *small.images.shape[2:]
    if check_whole(small.canvas_samples, "canvas_samples") > 1 and canvas == 1:
        raise refuse("canvas_samples", "1 in a set without canvases", small.canvas_samples, "Give `canvas=` too.")
    if height % canvas or width % canvas:
        raise refuse("canvas", "a divisor of height and width of `images`", f"{canvas} for {height} × {width}")
    if canvas > 1 and small.transform_record.get("kind") == "zca":
        way_out = "Use mean and std, or `canvas=1`."
        raise refuse("canvas", "1 in a whitened set, whose matrix is of one picture size", canvas, way_out)


def check_labels(labels: object, count: int, classes: int) -> None:
    """Refuse what is neither int64 `[n]` in 0…K−1 nor float32 `[n, K]` rows of probabilities, or n = 0."""
    if not isinstance(labels, Tensor) or labels.dtype not in (torch.int64, torch.float32):
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise refuse("labels", "a tensor, int64 [n] or float32 [n, K]", got)
    soft = labels.dtype == torch.float32
    if soft:
        check(labels, "labels", "N K", K=classes)
    else:
        check(labels, "labels", "N")
    if len(labels) != count or count == 0:
        raise refuse("labels", f"one for each of {count} ≥ 1 images", len(labels))
    if soft:
        check_finite(labels, "labels")
        off = float((labels.sum(1) - 1).abs().max())
        if float(labels.min()) < 0 or off > _SUM_TOLERANCE:
            got = f"a smallest value of {float(labels.min()):g}, a sum off by {off:.2g}"
            raise refuse("labels", "rows of probabilities that sum to 1", got, "Give the softmax of logits.")
    elif int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise refuse("labels", f"in 0…{classes - 1}", f"{int(labels.min())}…{int(labels.max())}")


def check_stored(small: SyntheticImages) -> None:
    """Refuse images and labels that are not those of the stored ones, and what stored ones cannot be with."""
    stored = small.stored
    if stored is None:
        return
    layout = stored.layout
    if layout.plain:
        raise refuse("stored", "None where stored images are the pictures", str(layout))
    if small.store is not None:
        way_out = "Leave `stored` out."
        raise refuse("stored", "None with a label store, whose pictures are uint8 pixels in the file", layout, way_out)
    if small.canvas > 1 and layout.copies > 1:
        way_out = "Leave `factor` and `mirror` out, or use `canvas=1`."
        raise refuse("stored", "of factor 1 and not mirrored with canvases, which are cropped", layout, way_out)
    if not stored.shows(small.images):
        way_out = "Give `stored=None` for new images, or make both by `Layout.parts`."
        raise refuse("images", "what the set's stored images are decoded to", "others", way_out)
    if not torch.equal(layout.repeat(layout.first(small.labels)), small.labels):
        way_out = "Give `stored=None` for labels of their own."
        raise refuse("labels", "equal ones for all pictures of a stored image", "unequal ones", way_out)
