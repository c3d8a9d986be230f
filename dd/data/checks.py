"""Refusals for data, made before anything is trained. Each says: argument, expected, got, way out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dd.errors import refuse

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def image_values(images: Tensor, argument: str) -> Tensor:
    """Images as uint8, or float32 in [0, 1] where the values are not all k/255 with k an integer.

    Args:
        images: `[C, H, W]` or `[N, C, H, W]`, uint8 or float in [0, 1].
        argument: what to call it in a message.

    Raises:
        InputError: another dtype, channels last, no channel, NaN, or out of range.
    """
    shape = list(images.shape)
    c, w = shape[-3], shape[-1]
    if w in (1, 3) and c > 4:
        raise refuse(
            argument,
            "[…, C, H, W]",
            f"{shape}, which looks like channels last",
            "Move the channels with `.movedim(-1, -3)`.",
        )
    if min(shape[-3:]) < 1:
        raise refuse(argument, "images with at least one channel and one pixel", f"shape {shape}")
    if images.dtype == torch.uint8:
        return images.detach().cpu()
    if images.dtype not in _FLOATS:
        raise refuse(
            argument,
            "uint8 0 … 255, or float in [0, 1]",
            str(images.dtype),
            "Convert with `.to(torch.uint8)` if the values are 0 … 255.",
        )
    x = images.detach().cpu().to(torch.float32)
    if not x.numel():
        return x.to(torch.uint8)
    low, high = (float(value) for value in x.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(x)).sum())
        raise refuse(argument, "finite", f"{bad} NaN or infinite of {x.numel()} values", "Remove those images.")
    if low < 0 or high > 1:
        raise refuse(argument, "floats in [0, 1]", f"{low:.4g} … {high:.4g}", range_hint(low, high))
    parts = x.split(1024)
    if all(bool((_quantised(part).to(torch.float32) / 255 == part).all()) for part in parts):
        return torch.cat([_quantised(part) for part in parts])
    return x


def _quantised(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def range_hint(low: float, high: float) -> str:
    """The way out for float images out of [0, 1]."""
    if low < 0:
        return "Undo the normalisation: give pixels as they are, the library normalises them itself."
    return "Divide by 255, or give uint8." if high <= 255 else "Scale the pixels to [0, 1]."


def label_values(labels: Tensor, argument: str) -> Tensor:
    """Labels as int64 `[N]`.

    Raises:
        InputError: not one axis, or not integers.
    """
    if labels.ndim != 1:
        raise refuse(argument, "integers [N]", f"shape {list(labels.shape)}", "For one-hot rows give `.argmax(1)`.")
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise refuse(argument, "integers", str(labels.dtype), "Convert with `.long()`.")
    return labels.detach().cpu().to(torch.int64)


def label_range(labels: Tensor, k: int, argument: str) -> None:
    """Refuse labels that are not in 0 … K−1.

    Raises:
        InputError: names the offending values.
    """
    wrong = labels[(labels < 0) | (labels >= k)].unique().tolist()
    if wrong:
        raise refuse(argument, f"0 … {k - 1} (there are {k} classes)", some(wrong), "Renumber them from 0.")


def every_class(labels: Tensor, classes: Sequence[str], argument: str, at_least: int = 1) -> None:
    """Refuse a train split in which a class has fewer than `at_least` images.

    Raises:
        InputError: names the class.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    empty = [k for k, n in enumerate(counts) if n == 0]
    if empty:
        way = "Subtract 1 from the labels" if empty == [0] else "Renumber the labels, or add images"
        raise refuse(
            argument,
            f"0 … {len(classes) - 1} with every class present",
            f"no image of class {some([name_of(k, classes) for k in empty])}",
            f"{way}, or name the classes with `classes=`.",
        )
    few = [k for k, n in enumerate(counts) if n < at_least]
    if few:
        raise refuse(
            argument,
            f"at least {at_least} images a class, since some are held out for validation",
            f"{counts[few[0]]} of class {name_of(few[0], classes)}",
            "Add images, drop the class, or give your own validation set: `dd.Images(train=…, val=…)`.",
        )


def name_of(k: int, classes: Sequence[str]) -> str:
    """`3` or `3 ('cat')`."""
    return str(k) if classes[k] == str(k) else f"{k} ({classes[k]!r})"


def some(values: Sequence[object], most: int = 5) -> str:
    """The first few of a list, for a message."""
    more = f", … ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more
