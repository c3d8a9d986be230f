"""Any PIL image as uint8 `[C, H, W]`: one rule for folders, Datasets, Hugging Face, tar shards and imports.

A picture is what a viewer shows on a white page:

- It is turned as its EXIF orientation says, wherever the image still carries that tag.
- Transparent parts are white, the colour of the page that such pictures are drawn for: strokes are mostly dark and
  would vanish on black, and the colour that a file keeps under a transparent pixel is whatever the editor left there.
- 16 bits a channel become 8 by v · 255 / 65535, rounded. Where the full scale is not known (32-bit integers, floats)
  the image is refused.
- Of an animation, or of a file of several pages, it is the first frame.
- Grey modes (1, L, LA, 16 bits) have one channel, all others are converted to RGB.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
import torch
from PIL import ExifTags, Image, features
from torch import Tensor

from dd.errors import DamagedError, DDError, refuse

RULE: Final = "turned by EXIF, on white, 16 bits over 257, first frame"
"""The rule in words; part of the fingerprint of a set that is read from files."""

# Pillow only names these, or hands them to other programs (Ghostscript, Windows).
_NOT_READ: Final = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Registered even where Pillow was built without them.
_BUILT: Final = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (5, 6, 7, 8)

# What Pillow's readers raise at files that are not what they should be.
UNREADABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


def extensions() -> frozenset[str]:
    """Extensions, in lower case with their dot, of the formats that this Pillow reads, plugins included."""
    return frozenset(
        extension
        for extension, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in _NOT_READ and _built_in(kind)
    )


def _built_in(kind: str) -> bool:
    """Whether a format is there where it is registered; one that this Pillow does not know is a plugin's."""
    name = _BUILT.get(kind, "")
    return not (name in features.modules or name in features.codecs) or bool(features.check(name))


def picture(image: Any, where: str) -> Tensor:
    """A PIL image as uint8 `[1, H, W]` (grey) or `[3, H, W]`, by the rule of this module.

    Args:
        image: a PIL image of any mode, loaded or not.
        where: what to call it in messages.

    Raises:
        InputError: a mode whose full scale is not known.
        DamagedError: the pixels cannot be decoded.
    """
    try:
        image.load()  # a TIFF turns itself here
        values = np.array(_flat(_turned(_eight_bits(image, where))))
    except DDError:
        raise
    except UNREADABLE as error:
        raise unreadable(where, error) from error
    return torch.from_numpy(values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1)))


def shown_size(image: Any) -> tuple[int, int]:
    """(H, W) of a PIL image as it is shown, read from its header where this is possible."""
    if image.size[0] != image.size[1]:
        if image.format == "TIFF":
            image.load()
        if _orientation(image) in _SIDEWAYS:
            return image.size
    w, h = image.size
    return h, w


def unreadable(where: str, error: BaseException) -> DamagedError:
    """What is said of a picture that cannot be decoded."""
    return DamagedError(f"{where} cannot be read ({error}). Restore it from the source, or remove it.")


def _orientation(image: Any) -> int:
    """The EXIF orientation, 1 … 8; a damaged tag says nothing."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _turned(image: Any) -> Any:
    # `ImageOps.exif_transpose` does this too, but writes all other tags anew, which fails where one of them is odd.
    way = _orientation(image)
    return image if way == 1 else image.transpose(_TURNS[way])


def _flat(image: Any) -> Any:
    """In mode L or RGB, transparent parts on white."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Any, where: str) -> Any:
    """An image of 16 bits a channel in mode L, orientation kept; others as they are."""
    if image.mode != "F" and image.mode != "I" and not image.mode.startswith("I;"):
        return image
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floats" if image.mode == "F" else "32-bit integers"
        raise refuse(
            where,
            "of 8 or 16 bits a channel",
            f"{kind} (PIL mode {image.mode!r}), whose full scale no file says",
            "Scale it to 0 … 255 and convert it with `.convert('L')`.",
        )
    bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))[0]  # 12 in some TIFF files
    values, most = np.array(image).astype(np.int64), 2**bits - 1
    grey = Image.fromarray(((values * 255 + most // 2) // most).astype(np.uint8))
    if isinstance(key := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    way = _orientation(image)
    return grey if way == 1 else grey.transpose(_TURNS[way])
