"""Names of files made from names of data, methods, models and classes: valid on every system."""

from __future__ import annotations

import re
from typing import Final

_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)


def file_name(text: str, other: str = "-", otherwise: str = "unnamed") -> str:
    """A text as a part of a file's name: letters, digits and `_.+-`, no dot at either end, no name of a device.

    Args:
        text: may hold anything.
        other: stands for each run of other characters.
        otherwise: what is said where nothing is left.
    """
    name = re.sub(r"[^\w.+-]+", other, text).strip("." + other) or otherwise
    return f"_{name}" if _RESERVED.match(name) else name


def same_file(name: str) -> str:
    """Equal for names that are one file where capitals do not count."""
    return file_name(name).casefold()
