"""Texts of others: names are cleaned once, where they enter, and nothing that steers a terminal or a page leaves.

Names of classes, data sets and files come from folders, files and callers. `clean_names` is called where a set is made
or loaded, so that no later step (save, log, report, table, terminal) meets one that it cannot write. Whatever else is
shown or written as text goes through `printable`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Final

NAME: Final = 200
"""Characters of a name; of a longer one the beginning is kept, and a hash of the whole."""
NAMELESS: Final = "(no name)"
_SHOWN: Final = 300

# Controls of C0 and C1 but for tab and line feed, separators of lines, marks and embeddings of direction, the mark of
# byte order, and surrogates: bytes of a file name that are not UTF-8.
_STEERING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_BREAKS: Final = re.compile("[\t\n\x0b\x0c\r\x85\u2028\u2029]")
_FORMULA: Final = tuple("=+-@\t\r")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def printable(text: str) -> str:
    """`text` with what steers a terminal or turns a line around as escapes of JSON, such as `\\u001b`."""
    return _STEERING.sub(_escaped, text)


def shown(value: object, most: int = _SHOWN) -> str:
    """`repr(value)` for a message: no longer than `most`, and whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return f"about {'-' if value < 0 else ''}10^{int(math.log10(abs(value)))}"
    try:
        text = repr(value)
    except Exception:  # a value of others may fail in its own `repr`
        text = f"a {type(value).__name__}"
    return printable(text if len(text) <= most else f"{text[:most]}…")


def both(first: int, second: int) -> str:
    """`8 and 6`, or `8` where they are alike."""
    return str(first) if first == second else f"{first} and {second}"


def clean_name(text: str) -> str:
    """A name that can be shown and written anywhere: one line, no controls, valid UTF-8, at most `NAME` characters."""
    name = printable(_BREAKS.sub(" ", text))
    if len(name) > NAME:
        name = f"{name[: NAME - 9]}…{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return name if name.strip() else NAMELESS


def clean_names(names: Iterable[str]) -> tuple[str, ...]:
    """`clean_name` of each; where two become one, the later one gets a number: `cat (2)`."""
    taken, found = set[str](), list[str]()
    for name in map(clean_name, names):
        unique, number = name, 1
        while unique in taken:
            number += 1
            unique = f"{name} ({number})"
        taken.add(unique)
        found.append(unique)
    return tuple(found)


def as_cell(value: object) -> object:
    """A value for a cell of CSV: a text that a spreadsheet would take for a formula begins with an apostrophe.

    Numbers stay, also where they are written as text, such as `-0.5`.
    """
    if not isinstance(value, str):
        return value
    text = value if _is_number(value) or not value.startswith(_FORMULA) else f"'{value}"
    return printable(text)


def count(number: int, what: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def a_class(counts: Iterable[int], what: str = "") -> str:
    """How many of each class, in words: `3 a class`, `1 to 3 composed a class`."""
    found = list(counts)
    low, high = min(found), max(found)
    return f"{low:,}{'' if low == high else f' to {high:,}'}{what} a class"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
