"""The user's own data as a split: a Dataset of (image, label), a pair of tensors, or a split as it is."""

from __future__ import annotations

import hashlib
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dd.data.checks import image_values, label_values
from dd.data.resize import as_float, fit, fit_all, rule
from dd.data.splits import JoinedSplit, LazySplit, Split, TensorSplit
from dd.errors import refuse

LIMIT: Final = 2 * 1024**3
"""Bytes of pixels, after the resize, up to which a set is kept in memory."""

FORMS: Final = "a map-style Dataset of (image, label), a pair of tensors (images, labels), or a Split"


def as_split(
    data: object,
    *,
    argument: str = "data",
    size: tuple[int, int] | None = None,
    aspect: str = "crop",
    limit: int = LIMIT,
    workers: int = 0,
) -> Split:
    """The user's data as a split.

    Args:
        data: a Dataset whose items are (image, label), an image being a PIL image, a numpy array `[H, W]` or
            `[H, W, C]`, or a tensor `[H, W]` or `[C, H, W]`; or a pair (images, labels), the images being a
            tensor `[N, C, H, W]` or a numpy array `[N, H, W, C]`; or a Split, which is returned as it is.
            Values are uint8 or float in [0, 1]. Floats are kept as uint8 where all are k/255 (what
            `ToTensor` makes), else as float32, which takes four times the memory.
        argument: what to call it in messages.
        size: bring every image to (H, W).
        aspect: `"crop"` or `"squash"`, see `resize.fit`.
        limit: bytes of pixels up to which the set is read into memory, once; above, it is read when asked
            for.
        workers: processes that read a set above the limit.

    Raises:
        InputError: another form, empty, unequal sizes, labels that are not integers, pixels out of range or
            NaN.
    """
    if isinstance(data, TensorSplit | LazySplit | JoinedSplit):
        if size is not None and data.shape[1:] != size:
            raise refuse(argument, f"{size[0]}x{size[1]} images", f"a split of {data.shape[1]}x{data.shape[2]}")
        return data
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return _from_pair(data.tensors[0], data.tensors[1], argument, size, aspect)
    if is_pair(data):
        return _from_pair(data[0], data[1], argument, size, aspect)  # type: ignore[index]
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise refuse(argument, FORMS, type(data).__name__)
    return _from_dataset(data, argument, size, aspect, limit, workers)


def is_pair(data: object) -> bool:
    """Whether `data` is (images, labels) rather than a list of items."""
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray)


def _from_pair(images: object, labels: object, argument: str, size: tuple[int, int] | None, aspect: str) -> TensorSplit:
    try:
        y = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    except (TypeError, ValueError) as error:
        raise refuse(f"{argument} labels", "integers [N]", type(labels).__name__) from error
    y = label_values(y, f"{argument} labels")
    x = _channels_first(images, f"{argument} images") if isinstance(images, np.ndarray) else images
    if not isinstance(x, Tensor) or x.ndim != 4:
        got = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise refuse(f"{argument} images", "a tensor [N, C, H, W]", got, "Grey images need an axis: `x[:, None]`.")
    if len(x) != len(y):
        raise refuse(f"{argument} labels", f"as many as there are images, {len(x)}", str(len(y)))
    if not len(x):
        raise _empty(argument)
    x = image_values(x, f"{argument} images")
    return TensorSplit(fit_all(x, size, aspect).contiguous(), y)


def _from_dataset(
    dataset: Any, argument: str, size: tuple[int, int] | None, aspect: str, limit: int, workers: int
) -> Split:
    n = len(dataset)
    if not n:
        raise _empty(argument)
    items = Items(dataset, argument, size, aspect)
    for i in range(min(n, 4)):
        # A set that changes between two readings would get another fingerprint, hence other experts, at each
        # run.
        if not torch.equal(items[i], items[i]):
            raise refuse(
                argument,
                "the same pixels each time it is read",
                f"another image when item {i} was read again",
                "Take random transforms out: the library augments by itself.",
            )
    first = items[0]
    if n * first.numel() * first.element_size() > limit:
        return _lazily(items, n, size, aspect, workers)
    labels, store = torch.empty(n, dtype=torch.int64), torch.empty((n, *first.shape), dtype=first.dtype)
    for i in range(n):
        image, labels[i] = items.pair(i)
        items.same_shape(image, i, first)
        if image.dtype != store.dtype:
            store, image = as_float(store), as_float(image)
        store[i] = image
    return TensorSplit(store, labels)


def _lazily(items: Items, n: int, size: tuple[int, int] | None, aspect: str, workers: int) -> LazySplit:
    """Read everything once for labels, checks and hashes, keep no pixels."""
    first, keys, labels = items[0], [], torch.empty(n, dtype=torch.int64)
    for i in range(n):
        image, labels[i] = items.pair(i)
        items.same_shape(image, i, first)
        keys.append(hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:32])
    c, h, w = first.shape
    return LazySplit(items, labels, (c, h, w), keys, rule(size, aspect), workers)


@final
class Items:
    """A user's Dataset as a map-style source of checked `[C, H, W]` tensors, uint8 or float32 in [0, 1]."""

    def __init__(self, dataset: Any, argument: str, size: tuple[int, int] | None, aspect: str) -> None:
        self._dataset, self._argument, self._size, self._aspect = dataset, argument, size, aspect

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, i: int) -> Tensor:
        return self.pair(i)[0]

    def pair(self, i: int) -> tuple[Tensor, int]:
        """Item i as (image, label)."""
        where = f"{self._argument}[{i}]"
        try:
            item = self._dataset[i]
        except Exception as error:
            error.add_note(f"while reading {where}")
            raise
        if not isinstance(item, tuple | list) or len(item) != 2:
            got = f"{type(item).__name__}" + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
            raise refuse(where, "(image, label)", got, "Wrap the Dataset so that it gives these two.")
        image = image_values(_channels_first(item[0], f"{where} image"), f"{where} image")
        return fit(image, self._size, self._aspect), _label(item[1], f"{where} label")

    def same_shape(self, image: Tensor, i: int, first: Tensor) -> None:
        """Refuse image i if its shape is not that of item 0."""
        if image.shape != first.shape:
            channels = image.shape[0] != first.shape[0]
            raise refuse(
                f"{self._argument}[{i}] image",
                f"of the shape of the first, {list(first.shape)}",
                str(list(image.shape)),
                "Convert all to one mode, as with PIL's `.convert('RGB')`." if channels else "Give `size=`.",
            )


def _channels_first(image: Any, where: str) -> Tensor:
    """A PIL image, array or tensor as `[C, H, W]` (or `[N, C, H, W]` for an array of images)."""
    if hasattr(image, "getbands"):
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise refuse(where, "8 bits a channel", f"PIL mode {image.mode!r}", "Scale it to uint8 first.")
        image = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if isinstance(image, np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(image))
        return tensor[None] if tensor.ndim == 2 else tensor.movedim(-1, -3) if tensor.ndim > 2 else tensor
    if not isinstance(image, Tensor) or image.ndim not in (2, 3):
        got = f"a tensor of shape {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise refuse(where, "a PIL image, a numpy array [H, W, C] or a tensor [C, H, W]", got)
    return image[None] if image.ndim == 2 else image


def _label(label: object, where: str) -> int:
    """A label as an int: Python's, numpy's or a tensor's with one value."""
    if isinstance(label, Tensor) and label.numel() == 1 and not label.dtype.is_floating_point:
        label = label.item()
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer):
        got = f"{label!r} ({type(label).__name__})" if not isinstance(label, Tensor) else f"{label.dtype} tensor"
        raise refuse(where, "an integer 0 … K−1", got, "Convert with `int(label)`.")
    return int(label)


def _empty(argument: str) -> Exception:
    return refuse(argument, "a set with images", "an empty one")
