"""Pixels as users give them, made into tensors: which axis is the channels', which values are right."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dd.data.labels import Encoder, Encoding
from dd.errors import InputError, refuse

CHANNELS: Final = (1, 3, 4)
"""Sizes by which the axis of channels is known: grey, colour, colour with a fourth band."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def pair_values(
    images: object, labels: object, layout: str | None, argument: str, call: str, encode: Encoder
) -> tuple[Tensor, Tensor, Encoding]:
    """A pair of images and labels, whose every value is looked at here.

    Args:
        images, layout, call: see `images_of` and `image_values`.
        labels: see `read_labels`.
        argument: what to call the pair in messages.
        encode: which label is which class.

    Returns:
        `[N, C, H, W]`, uint8 or float32 in [0, 1], classes int64 `[N]`, and
        which label is which; N is at least 1.

    Raises:
        InputError: another form, other values, another number of labels than of images, or none.
    """
    x = images_of(images, layout, f"{argument} images", call)
    if not len(x):
        raise empty(argument)
    y, found = encode.read(labels, len(x))
    return image_values(x, f"{argument} images"), y, found


def empty(argument: str) -> InputError:
    """What is said of a set without images."""
    return refuse(argument, "a set with images", "an empty one")


def check_layout(layout: str | None) -> str | None:
    """Return `layout` if it is one, or None.

    Raises:
        InputError: another word.
    """
    if layout not in (None, "NCHW", "NHWC"):
        raise refuse("layout", "'NCHW' or 'NHWC' (or None: the axes decide)", repr(layout))
    return layout


def tensor_of(array: np.ndarray, argument: str) -> Tensor:
    """A numpy array as a tensor, sharing memory where it can; read-only arrays are copied, as torch asks for.

    Raises:
        InputError: an array of no numbers.
    """
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(np.require(native, requirements=["C", "W"]))
    except TypeError as error:
        way = "Convert them: `x.astype('float64')`." if array.dtype.kind in "Of" else ""
        raise refuse(argument, "numbers", f"an array of {array.dtype}", way) from error


def channels_first(images: np.ndarray | Tensor, layout: str | None, argument: str, call: str) -> Tensor:
    """Images `[…, C, H, W]` of an array with an axis of channels, or of a tensor, whose channels are first already.

    Args:
        images: at least three axes. Without a `layout`, the axis of an array's channels is the first or the last of
            three, whichever has 1, 3 or 4 entries.
        layout: where the channels are. Tensors are `NCHW` always.
        argument: what to call it in messages.
        call: the call that takes `layout`, for messages, up to where `layout=` is to stand.

    Raises:
        InputError: an array where both axes could be the channels', or neither; a tensor that looks like channels last.
    """
    first, last = images.shape[-3], images.shape[-1]
    shape = list(images.shape)
    if isinstance(images, Tensor):
        if layout == "NHWC":
            way = "Move the channels: `x.movedim(-1, -3)`."
            raise refuse("layout", "'NCHW' or left out for tensors, which have channels first", repr(layout), way)
        if layout is None and last in CHANNELS and first > max(CHANNELS):
            way = f'Move the channels: `x.movedim(-1, -3)`; or, if they are first, give `{call}layout="NCHW")`.'
            raise refuse(argument, "[…, C, H, W]", f"{shape}, which looks like channels last", way)
        return images
    if layout is None:
        if (first in CHANNELS) == (last in CHANNELS):
            raise refuse(
                argument,
                "an array with 1, 3 or 4 channels, along its first or its last axis",
                f"{shape}, where {'both' if first in CHANNELS else 'neither'} could be the channels'",
                f'Say which: give `{call}layout="NCHW")`, or `{call}layout="NHWC")`.',
            )
        layout = "NCHW" if first in CHANNELS else "NHWC"
    tensor = tensor_of(images, argument)
    return tensor if layout == "NCHW" else tensor.movedim(-1, -3)


def images_of(images: object, layout: str | None, argument: str, call: str) -> Tensor:
    """A set of images as `[N, C, H, W]`: a tensor or array of four axes, or of three if they are grey.

    Raises:
        InputError: another form; see `channels_first`.
    """
    if not isinstance(images, Tensor | np.ndarray):
        raise _no_images(argument, type(images).__name__)
    if images.ndim == 4:
        return channels_first(images, layout, argument, call)
    got = f"shape {list(images.shape)}"
    if isinstance(images, np.ndarray) and images.dtype == object and images.ndim == 1:
        raise _no_images(argument, f"an array of objects, {got}", "Make it one of numbers: `numpy.stack(list(x))`.")
    if images.ndim != 3:
        raise _no_images(argument, got, "Give each image its axes: `x.reshape(-1, C, H, W)`.")
    if images.shape[1] in CHANNELS or images.shape[2] in CHANNELS:
        way = "Give them four axes: grey images `torch.as_tensor(x)[:, None]`, flat ones `x.reshape(-1, C, H, W)`."
        raise _no_images(argument, got, way)
    tensor = images if isinstance(images, Tensor) else tensor_of(images, argument)
    return tensor[:, None]


def _no_images(argument: str, got: str, way_out: str = "") -> InputError:
    expected = "a tensor [N, C, H, W], a numpy array [N, C, H, W] or [N, H, W, C], or grey images [N, H, W]"
    return refuse(argument, expected, got, way_out)


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
    check_unit(x, argument)
    parts = x.split(1024)
    half = images.dtype if images.dtype.itemsize < 4 else torch.float32  # as `ToTensor` and a cast leave k/255
    if all(bool(((_quantised(part).to(torch.float32) / 255).to(half) == part.to(half)).all()) for part in parts):
        return torch.cat([_quantised(part) for part in parts])
    return x


def check_unit(images: Tensor, argument: str) -> None:
    """Refuse floats that are not all in [0, 1].

    Raises:
        InputError: NaN, or out of range.
    """
    low, high = (float(value) for value in images.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(images)).sum())
        raise refuse(argument, "finite", f"{bad} NaN or infinite of {images.numel()} values", "Remove those images.")
    if low < 0 or high > 1:
        raise refuse(argument, "floats in [0, 1]", f"{low:.4g} … {high:.4g}", _range_hint(low, high))


def _no_pixels(images: Tensor) -> tuple[str, str]:
    """What was given in place of uint8 or float, and the way out."""
    got = str(images.dtype)
    if images.dtype.is_complex or not images.numel():
        return got, "Give real pixels."
    low, high = (int(value) for value in images.long().aminmax())
    if low < 0:
        return f"{got}, {low} … {high}", "Scale the pixels to [0, 1]."
    top = next((top for top in (1, 255, 65535) if high <= top), high)
    how = f"`torch.as_tensor(x) / {top}`"
    way_out = _divide(how, top, high) if top in (255, 65535) else f"Scale the pixels to [0, 1], as by {how}."
    return f"{got}, {low} … {high}", way_out


def _quantised(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8)


def _range_hint(low: float, high: float) -> str:
    """The way out for float images out of [0, 1]."""
    if low > -0.1 and high < 1.1:
        return "If a resize went past the ends, cut it off: `x.clip(0, 1)`."
    if low < 0:
        return "Undo the normalisation: give pixels as they are, the library normalises them itself."
    top = next((top for top in (255, 65535) if high <= top), None)
    return "Scale the pixels to [0, 1]." if top is None else _divide(f"`x / {top}`", top, high)


def _divide(how: str, top: int, high: float) -> str:
    """By what pixels are to be divided; what is far above the largest of them would leave them black."""
    bits = "8 bits, which may also be given as uint8" if top == 255 else "16 bits"
    text = f"Divide by the largest value that the format can have: {how} of {bits}"
    return text + (f"; the largest of this data is {high:.4g}." if high < top else ".")
