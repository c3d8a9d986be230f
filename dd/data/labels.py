"""Labels as their owner writes them (numbers, names, true or false), and the class of each.

Labels 0 … K−1 are the numbers of classes. Others are sorted, numbers by value and names by text, and the classes are
called as the labels are written, so that the same data has the same classes wherever it is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from dd.base.shapes import check_names
from dd.base.texts import clean_names, shown
from dd.errors import refuse

Label = int | bool | str
Labels = list[Label]
"""Of one kind: all whole numbers, all truth values or all texts."""

RENUMBER: Final = "`torch.unique(torch.as_tensor(labels), return_inverse=True)[1]`, train and test alike"
HOW_MANY: Final = '`dd.load_images(data, role="evaluate", classes=…)`'

_EXPECTED: Final = "one class {}, a whole number or a name"
_LEAVE: Final = "Leave out what has no label."
_ONE_HOT: Final = ", one-hot rows"
NO_CLASS: Final = "A class is needed, no quantity: cut it, as by `numpy.digitize(labels, edges)`."


@final
@dataclass(frozen=True)
class Encoding:
    """Which label is which class.

    Attributes:
        names: of the classes, in their order.
        numbered: whether whole numbers are numbers of classes; else they go by their text, as names always do.
    """

    names: tuple[str, ...]
    numbered: bool

    @classmethod
    def of(
        cls,
        labels: Labels,
        classes: Sequence[str] | int | None,
        argument: str,
        every: bool = True,
        like: Sequence[str] | None = None,
    ) -> Encoding:
        """That of labels.

        Args:
            labels: at least one.
            classes: names in the order of the classes, or their number; `None`: the labels say it.
            argument: what to call the labels in a message.
            every: whether every class is among them. Without one, numbers from 0 on are numbers of classes.
            like: classes of the set that is to be tested.

        Raises:
            InputError: no names, another number of classes than of different labels, or others than those of the set.
        """
        if classes is None and like is not None and (found := cls._of_set(labels, like, argument)) is not None:
            return found
        if classes is None or isinstance(classes, int):
            numbers = [int(label) for label in labels] if _are_numbers(labels) else []
            if numbers and (classes is not None or not (every or min(numbers) < 0)):
                return cls.numbers(numbers, classes)
            different = _sorted(labels)
            if classes is not None and len(different) != classes:
                raise refuse(argument, f"of {classes} classes, as `classes` says", _some(different))
            numbered = type(different[0]) is int and different == list(range(len(different)))
            return cls(tuple(map(str, different)), numbered=numbered)
        names, told = check_names(classes, "classes"), {str(label) for label in set(labels)}
        return cls(names, numbered=not (told <= set(names) and (_are_called(names) or not _are_within(labels, names))))

    @classmethod
    def of_dataset(cls, labels: Labels, classes: Sequence[str], argument: str) -> Encoding:
        """That of a Dataset which has names itself: its numbers are their places, as in torchvision."""
        names = check_names(classes, "classes")
        return cls(names, numbered=True) if _are_within(labels, names) else cls.of(labels, names, argument)

    @classmethod
    def numbers(cls, labels: Sequence[int], classes: Sequence[str] | int | None = None) -> Encoding:
        """That of numbers of classes: up to the largest one, unless it is said.

        Raises:
            InputError: no names, or a number below 0 or so large that most classes would have nothing.
        """
        if classes is not None and not isinstance(classes, int):
            return cls(check_names(classes, "classes"), numbered=True)
        n, low = len(labels), min(labels, default=0)
        k = classes if classes is not None else max(labels, default=-1) + 1
        if classes is None and low < 0:
            raise refuse("labels", "0 … K−1", low, f"Leave those out, or renumber: {RENUMBER}.")
        if classes is None and k > n:
            way_out = f"Of a test set, give {HOW_MANY}; else renumber them: {RENUMBER}."
            raise refuse("labels", "0 … K−1 with every class present", f"label {k - 1} in a set of {n}", way_out)
        return cls(tuple(map(str, range(k))), numbered=True)

    @classmethod
    def _of_set(cls, labels: Labels, names: Sequence[str], argument: str) -> Encoding | None:
        """That of a set's classes, where labels go by them; `None` where they are numbers of classes.

        Numbers go by their text where all classes are called by numbers that are not their own.
        """
        told, numbering = {str(label) for label in set(labels)}, is_numbering(names)
        truth = isinstance(labels[0], bool) and told <= set(names)
        if _are_numbers(labels) and not _are_called(names) and not truth:
            return None
        if numbering and not told <= set(names):
            way_out = f"Say which is which: `classes=` with the names in the order of the set's, as in {HOW_MANY}."
            raise refuse(argument, "numbers of classes, as those of the set are", _some(_sorted(labels)), way_out)
        known = cls(tuple(names), numbered=False)
        there = set(known.classes_of(labels, argument).tolist())
        if lacking := [name for k, name in enumerate(names) if k not in there]:
            way_out = f"If that is meant, give {HOW_MANY.replace('…', str(list(names)))}."
            raise refuse(argument, "of every class of the set", f"none of {_some(lacking)}", way_out)
        return known

    def classes_of(self, labels: Labels, argument: str) -> Tensor:
        """The class of each label, int64 `[N]`; numbers of classes are as they were given, right or wrong.

        Raises:
            InputError: a label of no class; names some.
        """
        by_text = {str(label) for label in set(labels)} <= set(self.names)
        if self.numbered and _are_numbers(labels) and not (by_text and isinstance(labels[0], bool)):
            return torch.tensor([int(label) for label in labels], dtype=torch.int64)
        different, place = _sorted(labels), {name: k for k, name in enumerate(self.names)}
        cleaned = dict(zip(different, clean_names(map(str, different)), strict=True))
        found = {label: place.get(str(label), place.get(cleaned[label], -1)) for label in different}
        if unknown := [label for label, k in found.items() if k < 0]:
            way_out = "Leave them out, or make the set of data that has them."
            raise refuse(argument, f"of the classes {_some(self.names)}", _some(unknown), way_out)
        return torch.tensor([found[label] for label in labels], dtype=torch.int64)


@final
@dataclass(frozen=True)
class Encoder:
    """How the labels of a split become classes.

    Attributes:
        argument: what to call the split in messages.
        classes: as of `Encoding.of`, or the encoding of train.
        own: names that its Dataset has.
        every, like: see `Encoding.of`.
    """

    argument: str
    classes: Sequence[str] | int | Encoding | None
    own: Sequence[str] | None
    every: bool = True
    like: Sequence[str] | None = None

    def read(self, labels: object, count: int) -> tuple[Tensor, Encoding]:
        """The class of each of `count` things, and which label is which; another count is refused."""
        what = f"{self.argument} labels"
        found = read_labels(labels, what)
        if len(found) != count:
            raise refuse(what, f"as many as there are images, {count}", str(len(found)))
        return self(found)

    def __call__(self, labels: Labels) -> tuple[Tensor, Encoding]:
        """The same of labels that were read, of one kind or not."""
        what, classes = f"{self.argument} labels", self.classes
        labels = one_kind(labels, what)
        if isinstance(classes, Encoding):
            return classes.classes_of(named(labels, self.own, classes.names), what), classes
        if classes is None and self.own:
            found = Encoding.of_dataset(labels, self.own, what)
        else:
            found = Encoding.of(labels, classes, what, self.every, self.like)
        return found.classes_of(labels, what), found

    def numbers(self, labels: Tensor) -> Encoding:
        """That of a split whose labels are numbers of classes."""
        if isinstance(self.classes, Encoding):
            return self.classes
        return Encoding.numbers(labels.tolist(), self.own if self.classes is None else self.classes)


def named(labels: Labels, own: Sequence[str] | None, names: Sequence[str]) -> Labels:
    """Numbers of classes as the names that their Dataset has, where other splits have some of these in another order.

    Args:
        labels: of the Dataset.
        own: the names that it has, if any.
        names: of the other splits.
    """
    if own is None or tuple(own) == tuple(names) or not set(own) & set(names) or not _are_within(labels, own):
        return labels
    return [own[int(label)] for label in labels]


def is_numbering(names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers, "0" … "K−1"."""
    return all(name == str(k) for k, name in enumerate(names))


def _are_called(names: Sequence[str]) -> bool:
    """Whether classes are called by rising numbers that are not their places, as those of numbers with gaps are."""
    numbers = [int(name) for name in names if _is_number(name)]
    return len(numbers) == len(names) and not is_numbering(names) and numbers == sorted(numbers)


def _are_within(labels: Labels, names: Sequence[str]) -> bool:
    """Whether labels are numbers of classes that there are."""
    return _are_numbers(labels) and all(0 <= int(label) < len(names) for label in set(labels))


def check_same_classes(own: Sequence[str], data: Sequence[str], of: str) -> None:
    """Refuse classes of data that are not those of a set in their order, as far as both have names.

    Classes that share no name with the set's are taken for other names of the same. Numbers of classes are names where
    both have the same ones in another order.

    Args:
        own: of the set.
        data: as many.
        of: what the set is called: "set" or "summary".

    Raises:
        InputError: names a class that is not the same.
    """
    if tuple(own) == tuple(data) or not set(own) & set(data):
        return
    permuted = set(own) == set(data)  # as folders 0, 1, 10, 2 are, whose names are numbers of classes too
    if not permuted and (is_numbering(own) or is_numbering(data)):
        return
    k = next(k for k, (a, b) in enumerate(zip(own, data, strict=True)) if a != b)
    raise refuse(
        "data",
        f"of the classes of the {of} in their order, class {k} {own[k]!r}",
        f"class {k} {data[k]!r}",
        f"Give the names of the {of} as `classes=` of `dd.Images` or `dd.load_graphs` if these are the same classes."
        + (" If labels are names, give them as texts too: `[str(label) for label in labels]`." if permuted else ""),
    )


def read_labels(labels: object, argument: str, each: str = "an image") -> Labels:
    """Labels, one a thing.

    Args:
        labels: whole numbers of any dtype, names or truth values, as a tensor, array, list or column, `[N]` or
            `[N, 1]`.
        argument: what to call them in a message.
        each: what has one.

    Raises:
        InputError: several labels a thing, numbers that are not whole, missing ones, several kinds of labels.
    """
    listed = isinstance(labels, list | tuple)
    if isinstance(labels, Tensor) and (labels.is_nested or labels.is_meta or labels.layout != torch.strided):
        kind = "without its numbers" if labels.is_meta else "that is not dense"
        raise refuse(argument, _EXPECTED.format(each), f"a tensor {kind}", "Give `.to_dense()` of it.")
    if bool(np.any(getattr(labels, "mask", False))) and isinstance(labels, np.ma.MaskedArray):
        raise refuse(argument, _EXPECTED.format(each), f"{int(np.sum(labels.mask))} masked of {labels.size}", _LEAVE)
    try:
        array = labels.detach().cpu() if isinstance(labels, Tensor) else np.asarray(labels)
    except (TypeError, ValueError):  # rows of unequal length, tensors of another device
        array = np.empty(0, object)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":  # numpy makes texts of a list of both
        rows: Any = labels if listed else array
        if not np.ndim(rows[:1] if listed else array):
            raise refuse(argument, _EXPECTED.format(each), type(labels).__name__)
        return one_kind([read_label(label, f"{argument}[{i}]", each) for i, label in enumerate(rows)], argument)
    y = array if isinstance(array, Tensor) else torch.from_numpy(_native(array))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        way_out = _way_out(y, "torch.as_tensor(labels).int().argmax(1)")
        raise refuse(argument, _EXPECTED.format(each), f"shape {list(y.shape)}{_rows(y)}", way_out)
    _check_whole(y, argument, each)
    return y.tolist() if y.dtype == torch.bool else y.to(torch.int64).tolist()


def read_label(label: object, argument: str, each: str = "an image") -> Label:
    """One label: a whole number, a name or a truth value of Python, numpy or a tensor, or one in an array of one.

    Raises:
        InputError: none, several, or a number that is not whole.
    """
    given, expected = label, _EXPECTED.format(each)
    if isinstance(label, list | tuple) and len(label) == 1:
        label = label[0]
    if isinstance(label, Tensor | np.ndarray | np.generic) and math.prod(label.shape) == 1:
        label = label.item()
    if isinstance(label, bytes):
        label = label.decode(errors="backslashreplace")
    if isinstance(label, str) and label.strip().casefold() not in ("", "nan"):  # `str(float("nan"))` is no name
        return label
    if isinstance(label, bool):
        return label
    if isinstance(label, int | float):
        if isinstance(label, float) and not label.is_integer():
            raise refuse(argument, expected, f"{label!r} ({type(given).__name__})", _way_of_number(label))
        if not -(2**63) <= label < 2**63:
            raise refuse(argument, expected, f"{label:.3g}", "Number the classes from 0.")
        return int(label)
    if isinstance(label, Tensor) or (isinstance(label, np.ndarray) and label.dtype.kind in "biuf"):
        y = torch.as_tensor(label).reshape(1, -1)
        way_out = _way_out(y, "torch.as_tensor(label).int().argmax()")
        raise refuse(argument, expected, f"shape {list(label.shape)}{_rows(y)}", way_out)
    missing = label is None or isinstance(label, str) or str(label) in ("<NA>", "NaT")
    way_out = _LEAVE if missing else f"One class {each} is needed."
    raise refuse(argument, expected, f"{shown(label)} ({type(given).__name__})", way_out)


def one_kind(labels: Labels, argument: str) -> Labels:
    """The labels, if they are all numbers, all names or all truth values; truth values among numbers are 0 and 1.

    Raises:
        InputError: names one of each kind.
    """
    kinds: dict[type, Label] = {}
    for label in labels:
        kinds.setdefault(type(label), label)
    if str in kinds and len(kinds) > 1:
        got = " and ".join(f"{shown(label)} ({kind.__name__})" for kind, label in kinds.items())
        raise refuse(argument, "labels of one kind", got, "Write them alike, as by `[str(label) for label in labels]`.")
    return labels if len(kinds) < 2 else [int(label) for label in labels]


def _are_numbers(labels: Labels) -> bool:
    return not isinstance(labels[0], str)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and str(int(text)) == text


def _sorted(labels: Labels) -> Labels:
    """The different labels: numbers and texts of whole numbers by value, other texts as texts."""
    different = set(labels)
    texts = all(isinstance(label, str) and len(label) < 20 and _is_number(label) for label in different)
    return sorted(different, key=int if texts else None)


def _some(values: Sequence[Label], most: int = 10) -> str:
    """The first few, for a message."""
    more = f", … ({len(values):,} in all)" if len(values) > most else ""
    return ", ".join(shown(value, 50) for value in values[:most]) + more


def _native(array: np.ndarray) -> np.ndarray:
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    whole = native.astype(np.float64) if native.dtype.kind == "f" and native.dtype.itemsize > 8 else native
    return np.require(whole, requirements=["C", "W"])


def _check_whole(y: Tensor, argument: str, each: str) -> None:
    """Refuse labels `[N]` that are complex, missing or not whole."""
    expected = _EXPECTED.format(each)
    if y.dtype.is_complex:
        raise refuse(argument, expected, str(y.dtype), f"One class {each} is needed.")
    if y.dtype == torch.uint64 and int(y.view(torch.int64).min()) < 0:
        raise refuse(argument, expected, "numbers of 2^63 or more", "Number the classes from 0.")
    if not y.is_floating_point():
        return
    if bad := int((~torch.isfinite(y)).sum()):
        raise refuse(argument, expected, f"{bad} NaN or infinite of {len(y)}", _LEAVE)
    if len(wrong := y[(y != y.round()) | (y.abs() >= 2**63)].unique()):
        raise refuse(argument, expected, f"{_some(wrong.tolist())} among them", NO_CLASS)


def _way_of_number(number: float) -> str:
    return NO_CLASS if math.isfinite(number) else _LEAVE


def _rows(y: Tensor) -> str:
    """What rows of labels are."""
    if y.ndim != 2 or y.dtype.is_complex or not y.numel():
        return ""
    if not bool(((y == 0) | (y == 1)).all()):
        return ", rows of numbers"
    return _ONE_HOT if bool((y.sum(1) == 1).all()) else ", rows of several classes or none (multi-label)"


def _way_out(y: Tensor, argmax: str) -> str:
    """What helps where there are rows of labels."""
    if _rows(y) == _ONE_HOT:
        return f"Take the class: `{argmax}`."
    return "Choose one class each: of several tasks one column, as by `labels[:, 0]`." if y.ndim == 2 else ""
