"""Refusals for data, made before anything is trained. Each says: argument, expected, got, way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dd.data.labels import RENUMBER
from dd.errors import InputError, refuse, warn

SPLITS: Final = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""What splits are called, in any letters."""


def splits_by_name(data: Mapping[Any, Any]) -> dict[str, Any]:
    """The splits of a dict as `train`, `val` and `test`, in this order, those that there are.

    Raises:
        InputError: two names of one split.

    Warns:
        UserWarning: of what is called otherwise and left out.
    """
    found, names = {}, {str(name).casefold(): name for name in data}
    for split, words in SPLITS.items():
        called = [names.pop(word) for word in words if word in names]
        if len(called) > 1:
            raise refuse("data", f"splits with one of {', '.join(words)}", some(called), "Leave the others out.")
        if called:
            found[split] = data[called[0]]
    if found and names:
        left = some(list(map(str, names.values())))
        warn(f"splits left out of the data: {left}. Splits that are read: {', '.join(SPLITS)}, also by other names.")
    return found


def unread(data: object, name: str) -> str:
    """The way out for what is no sequence of items: a loader, a table of splits, an iterator."""
    if isinstance(data, DataLoader):
        return f"Give the data set that it reads: `{name}.dataset`."
    if isinstance(data, Mapping):
        return "Give the splits that it holds: `dd.Images(train=…, test=…)`, or a tuple (train, test) of graphs."
    return f"Read it: `list({name})`." if hasattr(data, "__iter__") and not hasattr(data, "ndim") else ""


def check_labels(labels: Tensor, classes: Sequence[str], argument: str, at_least: int = 0) -> None:
    """Refuse labels of no class, or fewer than `at_least` images of one.

    Args:
        labels: int64 `[N]`.
        classes: names, K of them.
        argument: what to call them in a message.
        at_least: images of each class; 0 where a class may be absent, 2 where some are held out.

    Raises:
        InputError: names the labels or the class.
    """
    k = len(classes)
    wrong = labels[(labels < 0) | (labels >= k)].unique().tolist()
    if wrong:
        way = "Number them from 0 in the order of the classes: those of `classes=`, else those of train."
        raise refuse(argument, f"0 … {k - 1} (there are {k} classes)", some(wrong), way)
    counts = torch.bincount(labels, minlength=k).tolist()
    if at_least and 0 in counts:
        raise _absent([k for k, n in enumerate(counts) if n == 0], classes, argument)
    few = [k for k, n in enumerate(counts) if n < at_least]
    if few:
        raise refuse(
            argument,
            f"at least {at_least} images a class, since some are held out for validation",
            f"{counts[few[0]]} of class {name_of(few[0], classes)}",
            "Add images, drop the class, or give your own validation set: `dd.Images(train=…, val=…)`.",
        )


def _absent(absent: Sequence[int], classes: Sequence[str], argument: str) -> InputError:
    """What is said of classes without images."""
    numbered = all(name == str(k) for k, name in enumerate(classes))
    if not numbered:
        way = "Add images of it, or leave its name out and number the others from 0."
    elif absent[-1] == len(classes) - 1:
        way = "Lower `classes=`, or add images."
    else:
        way = "Subtract 1 from the labels." if absent == [0] else f"Add images, or renumber them: {RENUMBER}."
    expected = f"0 … {len(classes) - 1} with every class present"
    return refuse(argument, expected, f"no image of class {some([name_of(k, classes) for k in absent])}", way)


def name_of(k: int, classes: Sequence[str]) -> str:
    """`3` or `3 ('cat')`."""
    return str(k) if classes[k] == str(k) else f"{k} ({classes[k]!r})"


def some(values: Sequence[object], most: int = 5) -> str:
    """The first few of a list, for a message."""
    more = f", … ({len(values)} in all)" if len(values) > most else ""
    return ", ".join(str(value) for value in values[:most]) + more
