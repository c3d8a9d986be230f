"""Resize and crop, for uint8 and float images alike."""

from __future__ import annotations

from math import prod
from typing import Final

from torch import Tensor

from dd.base.bounds import check_memory, check_ranges
from dd.base.texts import shown
from dd.data.images.pictures import most_pixels
from dd.errors import refuse

CROP: Final = "crop"
ASPECTS: Final = (CROP, "squash")
_AT_ONCE: Final = 2**26
"""Pixels of all channels that are resized together."""


def parse_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """`size=` as (H, W): a number means a square, None means as it is.

    Raises:
        InputError: not a positive integer or a pair of them.
    """
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if isinstance(size, bool) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise refuse("size", "a positive integer, or a pair (H, W) of them", shown(size))
    check_ranges("size", pair)
    return pair[0], pair[1]


def check_aspect(aspect: str) -> str:
    """Return `aspect` if it is a known rule.

    Raises:
        InputError: another word.
    """
    if not isinstance(aspect, str) or aspect not in ASPECTS:  # an array would answer with one
        raise refuse(
            "aspect",
            "'crop' (resize the short side, centre crop) or 'squash' (both sides, as the papers did)",
            shown(aspect),
        )
    return aspect


def rule(size: tuple[int, int] | None, aspect: str) -> str:
    """The resize rule in words; part of the fingerprint of a folder set."""
    return "as it is" if size is None else f"{aspect} {size[0]}x{size[1]} bilinear antialias"


def fit(images: Tensor, size: tuple[int, int] | None, aspect: str = "crop") -> Tensor:
    """Images brought to (H, W), dtype kept.

    Args:
        images: `[C, H0, W0]` or `[N, C, H0, W0]`, uint8 or float.
        size: (H, W), or None to change nothing.
        aspect: `"crop"` resizes until the image covers (H, W), keeping its proportions, and cuts the centre
            out. `"squash"` resizes both sides whatever the proportions: the geometry of the published
            ImageNet-subset runs (a resize to a pair, so that their centre crop cut nothing). Both are
            bilinear with antialias.
    """
    if size is None or tuple(images.shape[-2:]) == size:
        return images
    from torchvision.transforms.v2 import functional as tv

    (h, w), (h0, w0) = size, (int(images.shape[-2]), int(images.shape[-1]))
    if aspect == "squash":
        h1, w1 = h, w
    else:
        scale = max(h / h0, w / w0)
        h1, w1 = max(h, round(h0 * scale)), max(w, round(w0 * scale))
    if h1 * w1 > most_pixels():
        got = f"{h0:,} x {w0:,}, which would become {h1:,} x {w1:,} before it is cut to {h} x {w}"
        raise refuse("images", f"of at most {most_pixels():,} pixels", got, 'Cut them, or give aspect="squash".')
    if (h1, w1) != (h0, w0):
        images = tv.resize(images, [h1, w1], interpolation=tv.InterpolationMode.BILINEAR, antialias=True)
    top, left = (h1 - h) // 2, (w1 - w) // 2
    return images[..., top : top + h, left : left + w].contiguous()


def fit_all(images: Tensor, size: tuple[int, int] | None, aspect: str, rows: int = 1024) -> Tensor:
    """`fit` for a whole set `[N, C, H0, W0]`, some rows at a time so that no float copy of all is made."""
    if size is None or tuple(images.shape[-2:]) == size:
        return images
    shape = (len(images), int(images.shape[1]), *size)
    check_memory(f"{len(images):,} images of {size[0]} x {size[1]}", shape, "Lower `size`.", images.element_size())
    out, rows = images.new_empty(shape), min(rows, max(1, _AT_ONCE // prod(shape[1:])))
    for start in range(0, len(images), rows):
        out[start : start + rows] = fit(images[start : start + rows], size, aspect)
    return out
