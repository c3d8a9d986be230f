"""Arrays and tensors as images with the channels first: which axis is the channels'."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from dd.errors import InputError, refuse

Layout = Literal["NCHW", "NHWC"]

CHANNELS: Final = (1, 3, 4)
"""Sizes by which the axis of channels is known: grey, colour, colour with a fourth band."""


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
