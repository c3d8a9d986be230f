"""Any PIL image as uint8 `[C, H, W]`: one rule for folders, Datasets, Hugging Face, tar shards and imports.

A picture is what a viewer shows on a white page:

- It is turned as its EXIF orientation says, wherever the image still carries that tag.
- Transparent parts are white, the colour of the page that such pictures are drawn for: strokes are mostly dark and
  would vanish on black, and the colour that a file keeps under a transparent pixel is whatever the editor left there.
- 16 bits a channel become 8 by v · 255 / 65535, rounded. Where the full scale is not known (32-bit integers, floats)
  the image is refused.
- Of an animation, or of a file of several pages, it is the first frame.
- One of more than `MOST_PIXELS` is refused by what its header says, before anything is decoded. Set `DD_MAX_PIXELS` in
  the environment, which worker processes inherit, to read larger ones.
- Only regular files are opened: a FIFO or device would make the reader wait for ever.
- Grey modes (1, L, LA, 16 bits) have one channel, all others are converted to RGB.
- JPEG files are decoded at their full size. Decoding at an eighth to a half of it (`Image.draft`), but at least twice
  the size of the set, saves nothing where files of 500 px come to 128 px, a third of the time at 64 px and half at
  32 px; there it moves pixels by 1.5 of 255 on average, and so would be another rule and another fingerprint.
"""

from __future__ import annotations

import os
import stat
import struct
import threading
from pathlib import Path
from typing import IO, Any, Final

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

MOST_PIXELS: Final = 64_000_000
"""Height times width of a picture, unless `DD_MAX_PIXELS` says another number."""

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
    MemoryError,
    OverflowError,
    RecursionError,
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


def open_picture(file: Path | IO[bytes], where: str) -> Any:
    """A PIL image of a file, not decoded yet; a context that closes it.

    It is what Pillow reads by itself: a file is known by its content, and one that Pillow would hand to another
    program, such as PostScript, is none, whatever its name says.

    Raises:
        DamagedError: no regular file, or no picture.
        InputError: more pixels than `most_pixels`.
    """
    try:
        if isinstance(file, Path) and not stat.S_ISREG(os.stat(file).st_mode):
            raise DamagedError(f"{where} is no regular file. Remove it, or put the picture itself there.")
        with _WITHOUT_BOUND:
            image = Image.open(file, formats=_formats())
    except DDError:
        raise
    except UNREADABLE as error:
        raise unreadable(where, error) from error
    try:
        return check_pixels(image, where)
    except DDError:
        image.close()
        raise


class _WithoutBound:
    """Pillow's own bound, which warns at 89 million pixels, is off while a header is read: `check_pixels` follows."""

    def __init__(self) -> None:
        self._lock, self._before = threading.Lock(), Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        self._lock.acquire()
        self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None

    def __exit__(self, *_: object) -> None:
        Image.MAX_IMAGE_PIXELS = self._before
        self._lock.release()

    def fork(self) -> None:
        """In a child: the thread that may have held the lock is not there."""
        self._lock = threading.Lock()


_WITHOUT_BOUND: Final = _WithoutBound()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WITHOUT_BOUND.fork)


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.OPEN if kind not in _NOT_READ and _built_in(kind)]


def most_pixels() -> int:
    """`MOST_PIXELS`, or what `DD_MAX_PIXELS` says.

    Raises:
        InputError: it says no whole number.
    """
    told = os.environ.get("DD_MAX_PIXELS", "").replace("_", "")
    if not told:
        return MOST_PIXELS
    if not told.isdecimal() or len(told) > 18 or int(told) < 1:
        raise refuse("DD_MAX_PIXELS", "a whole number of at least 1", repr(told), "Unset it, or set such a number.")
    return int(told)


def check_pixels(image: Any, where: str) -> Any:
    """`image`, or refuse it by the size that its header says.

    Raises:
        InputError: more pixels than `most_pixels`.
    """
    (width, height), most = image.size, most_pixels()
    if width * height > most:
        raise refuse(
            where,
            f"a picture of at most {most:,} pixels",
            f"{height:,} x {width:,} = {height * width:,}",
            "Resize it, or raise the bound: set DD_MAX_PIXELS in the environment.",
        )
    return image


def picture(image: Any, where: str) -> Tensor:
    """A PIL image as uint8 `[1, H, W]` (grey) or `[3, H, W]`, by the rule of this module.

    Args:
        image: a PIL image of any mode, loaded or not.
        where: what to call it in messages.

    Raises:
        InputError: a mode whose full scale is not known, or too many pixels.
        DamagedError: the pixels cannot be decoded.
    """
    if getattr(image, "format", None) in _NOT_READ:
        raise unreadable(where, OSError(f"{image.format} is read by other programs alone"))
    try:
        check_pixels(image, where).load()  # a TIFF turns itself here
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
        image = image if image.mode == "RGBA" else image.convert("RGBA")  # no copy: it may be 250 MB
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
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
