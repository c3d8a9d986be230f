"""The user's own data as a split: a Dataset of (image, label), a pair of tensors or arrays, or a split as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from dd.data.images.adapters import check_no_graph, from_hf, is_rows
from dd.data.images.checks import unread
from dd.data.images.lazy import LazySplit
from dd.data.images.noise import BlankSplit
from dd.data.images.pictures import picture, shown_size
from dd.data.images.resize import fit, fit_all, parse_size, rule
from dd.data.images.splits import JoinedSplit, Split, TensorSplit, as_float, image_items
from dd.data.images.values import (
    channels_first,
    check_layout,
    empty,
    image_values,
    pair_values,
    tensor_of,
)
from dd.data.labels import Encoder, Encoding, Label, Labels, read_label
from dd.errors import refuse

LIMIT: Final = 2 * 1024**3
"""Bytes of pixels, after the resize, up to which a set is kept in memory."""

_SPLITS: Final = (TensorSplit, LazySplit, JoinedSplit, BlankSplit)

FORMS: Final = "a map-style Dataset of (image, label), a pair (images, labels) of tensors or arrays, or a Split"


def as_split(
    data: object,
    *,
    argument: str = "data",
    size: int | tuple[int, int] | None = None,
    aspect: str = "crop",
    limit: int = LIMIT,
    workers: int = 0,
    layout: str | None = None,
    call: str = "as_split(data, ",
) -> Split:
    """The user's data as a split.

    Args:
        data: one of
            - a map-style Dataset, or a list, whose items are (image, label): a PIL image; a numpy array `[H, W]`,
              `[C, H, W]` or `[H, W, C]`; or a tensor `[H, W]` or `[C, H, W]`;
            - a pair (images, labels), or a `TensorDataset` of two: the images a tensor `[N, C, H, W]`, a numpy array
              `[N, C, H, W]` or `[N, H, W, C]`, or either as grey `[N, H, W]`;
            - a Hugging Face dataset, one split of it, see `from_hf`, or a list of rows that are dicts;
            - a Split, which is returned as it is.
            A tensor always has channels first. An array has them first or last, on the axis that has 1, 3 or 4
            entries; where both have, or neither, `layout` must say it. Values are uint8 or float in [0, 1]. Floats
            are kept as uint8 where all are k/255 (what `ToTensor` makes), else as float32, which takes four times
            the memory. All channels are kept as they are, a fourth one too. Labels are whole numbers of any dtype,
            names or truth values, one an image: `[N]` or `[N, 1]`, a list, or an item's label or one-element array; see
            `dd.data.labels`. A PIL image is turned as its EXIF orientation says and put on white, see `pictures`.
        argument: what to call it in messages.
        size: bring every image to this size, a number or (H, W).
        aspect: `"crop"` or `"squash"`, see `resize.fit`.
        limit: bytes of pixels up to which the set is read into memory, once; above, it is read when asked
            for.
        workers: processes that read a set above the limit.
        layout: `"NCHW"` or `"NHWC"`: where numpy arrays have their channels; `None`: the axes decide. Items of a
            Dataset are read alike, without the N. PIL images know theirs.
        call: the call that takes `layout`, for messages, up to where `layout=` is to stand.

    Raises:
        InputError: another form, empty, unequal sizes, an array whose channels cannot be told, labels that are not
            one class an image, pixels out of range or NaN.
    """
    options: dict[str, Any] = {"size": size, "aspect": aspect, "limit": limit, "workers": workers, "layout": layout}
    return read_split(data, None, argument=argument, call=call, **options)[0]


def read_split(
    data: object,
    classes: Sequence[str] | int | Encoding | None,
    *,
    argument: str,
    size: int | tuple[int, int] | None,
    aspect: str,
    layout: str | None,
    call: str,
    limit: int = LIMIT,
    workers: int = 0,
    every: bool = True,
    like: Sequence[str] | None = None,
) -> tuple[Split, Encoding]:
    """`as_split`, and which label is which class.

    Args:
        data, argument, size, aspect, limit, workers, layout, call: see `as_split`.
        classes: names in the order of the classes, or their number, or the encoding of train; `None`: those of the
            attribute `classes` of a Dataset, else the labels say it.
        every, like: see `Encoding.of`.

    Raises:
        InputError: likewise.
    """
    check_layout(layout)
    hw = parse_size(size)
    if not is_pair(data):
        check_no_graph(data, argument)
        data = from_hf(data) if is_rows(data) else data
    encode = Encoder(argument, classes, _own_names(data), every, like)
    if isinstance(data, _SPLITS):
        if hw is not None and data.shape[1:] != hw:
            raise refuse(
                argument,
                f"{hw[0]}x{hw[1]} images",
                f"a split of {data.shape[1]}x{data.shape[2]}",
                "A Split keeps its size: give images and labels.",
            )
        return data, encode.numbers(data.labels)
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        data = data.tensors
    if is_pair(data):
        x, y, found = pair_values(data[0], data[1], layout, argument, call, encode)
        return TensorSplit(x.contiguous() if hw is None else fit_all(x, hw, aspect).contiguous(), y), found
    _check_form(data, argument)
    return _from_dataset(Items(data, argument, hw, aspect, layout, call), limit, workers, encode)


def _own_names(data: object) -> list[str] | tuple[str, ...] | None:
    """The names of classes that a Dataset has."""
    own = getattr(data, "classes", None)
    named = isinstance(own, list | tuple) and own and all(isinstance(name, str) for name in own)
    return own if named else None


def is_pair(data: object) -> TypeGuard[Sequence[Any]]:
    """Whether `data` is (images, labels) rather than a list of items."""
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray)


def _check_form(data: object, argument: str) -> None:
    """Refuse what is no sequence of items, and several sets in one."""
    if isinstance(data, str):
        way = "Give its splits: `dd.load_images(NAME).train` and `.test`."
        raise refuse(argument, FORMS, f"the name {data!r}", way)
    if isinstance(data, Mapping | Tensor | np.ndarray | IterableDataset) or not (
        hasattr(data, "__len__") and hasattr(data, "__getitem__")
    ):
        raise refuse(argument, FORMS, type(data).__name__, unread(data, argument))
    if not isinstance(data, tuple | list) or len(data) not in (2, 3, 4, 6):
        return
    got = f"a {type(data).__name__} of {', '.join(type(part).__name__ for part in data)}"
    if len(data) < 4 and all(_is_set(part) for part in data):
        raise refuse(argument, FORMS, got, f"Give `dd.Images(train={argument}[0], test={argument}[-1])`.")
    if all(isinstance(part, Tensor | np.ndarray) for part in data) and data[1].ndim <= 2:
        raise refuse(argument, FORMS, got, "Give `dd.Images(train=(images, labels), test=(images, labels))`.")
    listed = len(data) == 2 and isinstance(data[0], list) and isinstance(data[1], Sequence | Tensor | np.ndarray)
    if listed and not (hasattr(data[1], "ndim") and data[1].ndim == 0) and len(data[0]) == len(data[1]) > 2:
        way = f"Give pairs: `list(zip(*{argument}))`."
        if isinstance(data[0][0], list):
            way = f"Give an array: `(numpy.array({argument}[0], dtype='uint8'), {argument}[1])`, or float in [0, 1]."
        raise refuse(argument, FORMS, f"{got}, images and labels", way)


def _is_set(part: object) -> bool:
    """Whether it would be a set by itself: where all parts of `data` are, these are splits."""
    if isinstance(part, (Dataset, DataLoader, *_SPLITS)):
        return True
    if is_pair(part):
        x, y = part[0], part[1]
        return bool(x.ndim == 4 or (np.ndim(y) == 1 and np.shape(y)[0] == len(x) > 0))
    return isinstance(part, tuple | list) and bool(part) and isinstance(part[0], tuple)


def _from_dataset(items: Items, limit: int, workers: int, encode: Encoder) -> tuple[Split, Encoding]:
    n = len(items)
    if not n:
        raise empty(items.argument)
    for i in range(min(n, 4)):
        # A set that changes between two readings would get another fingerprint, hence other experts, at each
        # run.
        if not torch.equal(items[i], items[i]):
            raise refuse(
                items.argument,
                "the same pixels each time it is read",
                f"another image when item {i} was read again",
                "Take random transforms out: the library augments by itself.",
            )
    first = items[0]
    if n * first.numel() * first.element_size() > limit:
        return _lazily(items, n, limit, workers, encode)
    labels, store = Labels(), torch.empty((n, *first.shape), dtype=first.dtype)
    for i in range(n):
        image, label = items.pair(i)
        labels.append(label)
        items.same_shape(image, i, first)
        if image.dtype != store.dtype:
            store, image = as_float(store), as_float(image)
        store[i] = image
    y, found = encode(labels)
    return TensorSplit(store, y), found


def _lazily(items: Items, n: int, limit: int, workers: int, encode: Encoder) -> tuple[LazySplit, Encoding]:
    """Read everything once for labels, checks and hashes, keep no pixels."""
    first, keys, labels, hashed = items[0], [], Labels(), torch.empty(n, dtype=torch.int64)
    itemsize = first.element_size()
    for i in range(n):
        image, label = items.pair(i)
        labels.append(label)
        items.same_shape(image, i, first)
        keys.append(hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:32])
        hashed[i] = image_items(image[None])[0]
        itemsize = max(itemsize, image.element_size())
    c, h, w = first.shape
    y, found = encode(labels)
    items.seal(hashed)
    words = rule(items.size, items.aspect)
    return LazySplit(items, y, (c, h, w), keys, words, workers, hashed, itemsize, limit // 2), found


@final
class Items:
    """A user's Dataset as a map-style source of checked `[C, H, W]` tensors, uint8 or float32 in [0, 1]."""

    def __init__(
        self,
        dataset: Any,
        argument: str,
        size: tuple[int, int] | None,
        aspect: str,
        layout: str | None,
        call: str,
    ) -> None:
        self._dataset, self.argument, self.size, self.aspect = dataset, argument, size, aspect
        self._layout, self._call = layout, call
        self._hashes: Tensor | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int) -> Tensor:
        image = self.pair(i)[0]
        if self._hashes is not None and image_items(image[None])[0] != self._hashes[i]:
            raise refuse(
                f"{self.argument}[{i}] image",
                "the same pixels each time it is read",
                "another image than when the data was loaded",
                "Take random transforms out. Where the Dataset has a file open, which processes that read would share, "
                "give `workers=0`.",
            )
        return image

    def seal(self, hashes: Tensor) -> None:
        """From now on refuse images other than those of these hashes, int64 `[n]` (`image_items`)."""
        self._hashes = hashes

    def pair(self, i: int) -> tuple[Tensor, Label]:
        """Item i as (image, label)."""
        image, label = self._given(i)
        return fit(self._values(image, i), self.size, self.aspect), read_label(label, f"{self.argument}[{i}] label")

    def original(self, i: int) -> Tensor:
        """The image of item i before it is brought to a size."""
        return self._values(self._given(i)[0], i)

    def original_size(self, i: int) -> tuple[int, int]:
        """(h, w) of `original`."""
        image = self._given(i)[0]
        if hasattr(image, "getbands"):
            return shown_size(image)
        shape = self._values(image, i).shape
        return shape[1], shape[2]

    def _given(self, i: int) -> tuple[Any, Any]:
        where = f"{self.argument}[{i}]"
        try:
            item = self._dataset[i]
        except Exception as error:
            error.add_note(f"while reading {where}")
            raise
        if not isinstance(item, tuple | list) or len(item) != 2:
            got = f"{type(item).__name__}" + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise refuse(where, "(image, label)", got, "Wrap the Dataset so that it gives these two.")
        return item[0], item[1]

    def _values(self, image: Any, i: int) -> Tensor:
        where = f"{self.argument}[{i}] image"
        return image_values(_image(image, self._layout, where, self._call), where)

    def same_shape(self, image: Tensor, i: int, first: Tensor) -> None:
        """Refuse image i if its shape is not that of item 0."""
        if image.shape != first.shape:
            channels = image.shape[0] != first.shape[0]
            raise refuse(
                f"{self.argument}[{i}] image",
                f"of the shape of the first, {list(first.shape)}",
                str(list(image.shape)),
                "Convert all to one mode, as with PIL's `.convert('RGB')`." if channels else "Give `size=`.",
            )


def _image(image: Any, layout: str | None, where: str, call: str) -> Tensor:
    """A PIL image, array or tensor as `[C, H, W]`."""
    if hasattr(image, "getbands"):
        return picture(image, where)
    if not isinstance(image, Tensor | np.ndarray) or image.ndim not in (2, 3):
        kind = "a tensor" if isinstance(image, Tensor) else "an array"
        got = f"{kind} of shape {list(image.shape)}" if hasattr(image, "shape") else type(image).__name__
        raise refuse(where, "a PIL image, a numpy array [H, W, C] or [C, H, W], or a tensor [C, H, W]", got)
    if image.ndim == 3:
        return channels_first(image, layout, where, call)
    return (image if isinstance(image, Tensor) else tensor_of(image, where))[None]
