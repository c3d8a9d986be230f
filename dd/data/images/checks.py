"""Refusals for data, made before anything is trained. Each says: argument, expected, got, way out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dd.data.images.layout import tensor_of
from dd.errors import refuse

RENUMBER: Final = "`torch.unique(torch.as_tensor(labels), return_inverse=True)[1]`, train and test alike"
_ONE_HOT: Final = ", one-hot rows"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def image_values(images: Tensor, argument: str) -> Tensor:
    """Images as uint8, or float32 in [0, 1] where the values are not all k/255, as their type rounds it.

    Args:
        images: `[C, H, W]` or `[N, C, H, W]`, uint8 or float in [0, 1].
        argument: what to call it in a message.

    Raises:
        InputError: another dtype, no channel, NaN, or out of range.
    """
    shape = list(images.shape)
    if min(shape[-3:]) < 1:
        raise refuse(argument, "images with at least one channel and one pixel", f"shape {shape}")
    if images.dtype == torch.uint8:
        return images.detach().cpu()
    if images.dtype not in _FLOATS:
        raise refuse(argument, "uint8 0 … 255, or float in [0, 1]", *_no_pixels(images))
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
    half = images.dtype if images.dtype.itemsize < 4 else torch.float32  # as `ToTensor` and a cast leave k/255
    if all(bool(((_quantised(part).to(torch.float32) / 255).to(half) == part.to(half)).all()) for part in parts):
        return torch.cat([_quantised(part) for part in parts])
    return x


def _no_pixels(images: Tensor) -> tuple[str, str]:
    """What was given in place of uint8 or float, and the way out."""
    got = str(images.dtype)
    if images.dtype.is_complex or not images.numel():
        return got, "Give real pixels."
    low, high = (int(value) for value in images.long().aminmax())
    if low < 0:
        return f"{got}, {low} … {high}", "Scale the pixels to [0, 1]."
    top = next((top for top in (1, 255, 65535) if high <= top), high)
    return f"{got}, {low} … {high}", f"Scale the pixels to [0, 1], as by `torch.as_tensor(x) / {top}`."


def _quantised(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def range_hint(low: float, high: float) -> str:
    """The way out for float images out of [0, 1]."""
    if low > -0.1 and high < 1.1:
        return "If a resize went past the ends, cut it off: `x.clip(0, 1)`."
    if low < 0:
        return "Undo the normalisation: give pixels as they are, the library normalises them itself."
    return "Divide by 255: `x / 255`, or give uint8." if high <= 255 else "Scale the pixels to [0, 1]."


def unread(data: object, name: str) -> str:
    """The way out for what is no sequence of items: a loader, a table of splits, an iterator."""
    if isinstance(data, DataLoader):
        return f"Give the data set that it reads: `{name}.dataset`."
    if isinstance(data, Mapping):
        return "Give the splits that it holds: `dd.Images(train=…, test=…)`, or a tuple (train, test) of graphs."
    return f"Read it: `list({name})`." if hasattr(data, "__iter__") and not hasattr(data, "ndim") else ""


def label_values(labels: object, argument: str) -> Tensor:
    """Labels as int64 `[N]`.

    Args:
        labels: whole numbers of any dtype, as a tensor, array or list, `[N]` or `[N, 1]`.
        argument: what to call them in a message.

    Raises:
        InputError: names, several numbers an image, or numbers that are not whole.
    """
    expected = "one class an image, integers [N]"
    try:
        array = labels if isinstance(labels, Tensor) else np.asarray(labels)
    except (TypeError, ValueError):  # rows of unequal length, tensors of another device
        array = np.empty(0, object)
    if isinstance(array, np.ndarray) and array.dtype.kind in "US":
        way = "Number them, train and test alike: `names, labels = numpy.unique(labels, return_inverse=True)`."
        raise refuse(argument, expected, f"names such as {str(array.flat[0])!r}", way)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
        if not isinstance(labels, Sequence | np.ndarray) or not np.shape(labels[:1]):
            raise refuse(argument, expected, type(labels).__name__)
        found = [label_value(label, f"{argument}[{i}]") for i, label in enumerate(labels)]
        return torch.tensor(found, dtype=torch.int64)
    y = array if isinstance(array, Tensor) else tensor_of(array, argument)
    y = y.detach().cpu()
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        way = (
            "Take the class: `torch.as_tensor(labels).int().argmax(1)`."
            if _rows(y) == _ONE_HOT
            else "One class an image is needed."
        )
        raise refuse(argument, expected, f"shape {list(y.shape)}{_rows(y)}", way)
    if y.dtype.is_complex or not torch.equal(y, y.long().to(y.dtype)):
        wrong = y.dtype if y.dtype.is_complex else some(y[y != y.long().to(y.dtype)].unique().tolist())
        raise refuse(argument, expected, f"{wrong} among them", "One class an image is needed.")
    return y.to(torch.int64)


def _rows(y: Tensor) -> str:
    """What rows of labels are."""
    if y.ndim != 2 or y.dtype.is_complex:
        return ""
    if not bool(((y == 0) | (y == 1)).all()):
        return ", rows of numbers"
    return _ONE_HOT if bool((y.sum(1) == 1).all()) else ", rows of several classes or none (multi-label)"


def label_value(label: object, argument: str) -> int:
    """A label as an int: a whole number of Python, numpy or a tensor, or one in an array of one.

    Raises:
        InputError: a name, several numbers, or a number that is not whole.
    """
    given = label
    if isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    if isinstance(label, Tensor | np.ndarray | np.generic) and math.prod(label.shape) == 1:
        label = label.item()
    expected = "one class, an integer 0 … K−1"
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        if not abs(label) < 2**63:
            raise refuse(argument, expected, f"{label:.3g}", "One class an image is needed.")
        return int(label)
    if isinstance(label, Tensor) or (isinstance(label, np.ndarray) and label.dtype.kind in "biuf"):
        y = torch.as_tensor(label)[None]
        way = (
            "Take the class: `torch.as_tensor(label).int().argmax()`."
            if _rows(y) == _ONE_HOT
            else "One class an image is needed."
        )
        raise refuse(argument, expected, f"shape {list(y.shape[1:])}{_rows(y)}", way)
    way = "Number the names: `names.index(label)`." if isinstance(label, str) else "One class an image is needed."
    raise refuse(argument, expected, f"{label!r} ({type(given).__name__})", way)


def label_range(labels: Tensor, k: int, argument: str) -> None:
    """Refuse labels that are not in 0 … K−1.

    Raises:
        InputError: names the offending values.
    """
    wrong = labels[(labels < 0) | (labels >= k)].unique().tolist()
    if wrong:
        way = "Number them from 0 in the order of the classes: those of `classes=`, else those of train."
        raise refuse(argument, f"0 … {k - 1} (there are {k} classes)", some(wrong), way)


def every_class(labels: Tensor, classes: Sequence[str], argument: str, at_least: int = 1) -> None:
    """Refuse a train split in which a class has fewer than `at_least` images.

    Raises:
        InputError: names the class.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    empty = [k for k, n in enumerate(counts) if n == 0]
    if empty:
        numbered = all(name == str(k) for k, name in enumerate(classes))
        if not numbered:
            way = "Add images of it, or leave its name out and number the others from 0."
        elif empty[-1] == len(classes) - 1:
            way = "Lower `classes=`, or add images."
        else:
            way = "Subtract 1 from the labels." if empty == [0] else f"Add images, or renumber them: {RENUMBER}."
        raise refuse(
            argument,
            f"0 … {len(classes) - 1} with every class present",
            f"no image of class {some([name_of(k, classes) for k in empty])}",
            way,
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
