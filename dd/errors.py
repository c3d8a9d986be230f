"""Errors a caller may want to tell apart, and warnings. Each message says: argument, expected, got, way out."""

import re
import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches

from dd.base.texts import printable, shown

_JOINING = {ord(mark): None for mark in "-_. "} | {ord("+"): "p"}
_AN = re.compile(r"^a (?=[AEIOaeio](?!ne))")
"""An article before a vowel that is spoken as one: an Images, an int; a uint8, a one-hot row."""
_MOST = 2000
"""Characters of what an error quotes."""


class DDError(Exception):
    """Base of every error that this library raises on purpose; what it quotes cannot steer a terminal."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(DDError, ValueError):
    """An argument or a data set does not have the shape, range or name that is asked for."""


class MissingError(DDError, FileNotFoundError):
    """A file, a folder, a snapshot, an optional package or another process of a torchrun is not there."""


class DamagedError(DDError, OSError):
    """A file is there but cannot be trusted: truncated, foreign, wrong checksum or unknown format version."""


class WriteError(DDError, OSError):
    """The disk refused a write (full, read-only); what was there before is intact.

    Attributes:
        answer: what was measured and could not be kept, where something was; its table is in the message too.
    """

    answer: object = None


class DivergedError(DDError, ArithmeticError):
    """A loss, a gradient or a step size stopped being finite and could not be recovered."""


def refuse(argument: str, expected: str, got: object, way_out: str = "") -> InputError:
    """An `InputError` in the one grammar of this library; use as `raise refuse(...)`."""
    told = _AN.sub("an ", shown(got) if isinstance(got, int) else str(got))
    text = f"`{argument}` must be {expected}; got {told if len(told) <= _MOST else f'{told[:_MOST]}…'}."
    return InputError(f"{text} {way_out}".rstrip())


def not_installed(what: str, package: str, error: ImportError) -> MissingError:
    """A `MissingError` for an optional package, with the command that gets it; use as `raise … from error`.

    Args:
        what: needs it, the beginning of the sentence.
        package: as pip calls it.
        error: of the import.
    """
    return MissingError(f"{what} needs the package {package} ({error}): pip install {package}")


def near(name: object, known: Iterable[object]) -> str:
    """The one of a table that is written alike, as a hint with a blank behind it; empty where none is."""
    plain = {_plain(str(one)): str(one) for one in sorted(map(str, known))}
    close = get_close_matches(_plain(str(name)), plain, n=1)
    return f"Did you mean {plain[close[0]]}? " if close else ""


def unknown(
    kind: str, name: object, known: Iterable[object], way_out: str = "", others: Iterable[object] = ()
) -> InputError:
    """An `InputError` for a name that is not in a table; lists the known ones, and offers one that is written alike.

    Args:
        kind: what has the name.
        name: that was given.
        known: names of the table.
        way_out: said at the end.
        others: names that may have been meant besides, offered but not listed.
    """
    names = sorted(map(str, known))
    hint = near(name, [*others, *names])
    return InputError(f"unknown {kind} {shown(name)}; known: {', '.join(names)}. {hint}{way_out}".rstrip())


def known_as(name: object, known: Iterable[str]) -> str | None:
    """The name in a table that is `name`, capitals, dashes, dots, blanks and underscores aside: `CIFAR-10`."""
    names = list(known)
    for plain in (str.casefold, _plain):
        found = [one for one in names if isinstance(name, str) and plain(one) == plain(name)]
        if len(found) == 1 and _plain(found[0]):
            return found[0]
    return None


def find_name(kind: str, name: object, known: Iterable[str], way_out: str = "", others: Iterable[object] = ()) -> str:
    """`known_as`; `unknown` is raised where there is none."""
    names = list(known)
    if (found := known_as(name, names)) is None:
        raise unknown(kind, name, names, way_out, others)
    return found


def _plain(name: str) -> str:
    """Small letters, without what joins words; a plus is a `p`, as in the names of pages."""
    return name.translate(_JOINING).casefold()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, naming the line outside this library that led here."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), category, stacklevel=level)
