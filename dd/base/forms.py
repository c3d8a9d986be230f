"""The words in which `dd.base.schema` says what a kind of file holds, and the check of a value against them.

A form is one of

    str, bool, int, dict, list  that type, whatever is inside; a bool is no int; `object`: anything
    Whole(low, high)       a whole number in that range, at most 2⁶³ − 1; a bool is none, nor is 2.0
    Real(low, high)        a finite number in that range, whole or not
    Text(pattern)          a text that matches the whole pattern
    Word("a", 1, …)        one of these values
    Maybe(form)            null, or the form
    [form]                 a list of the form; `Many(form)`: at least one
    {"a": form, "b?": form}  an object with `a`, and perhaps `b`; what else it has is left alone
    Map(form)              an object of any keys
    ByKind(key, {…})       an object with the form that its own word under `key` names
    Also(form, test, text) the form, and `test(value)`; else it must be `text`

A form is only as deep as it is written, so checking never runs out of stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import inf, isfinite
from typing import Any, Final, NamedTuple

LARGEST: Final = 2**63 - 1
_TYPES: Final[dict[Any, str]] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    object: "anything",
}


class Whole(NamedTuple):
    """A whole number."""

    low: int = 0
    high: int = LARGEST


class Real(NamedTuple):
    """A finite number."""

    low: float = -inf
    high: float = inf


class Text(NamedTuple):
    """A text that matches `pattern`, called `what`."""

    pattern: str
    what: str


class Word:
    """One of some values."""

    def __init__(self, *words: object) -> None:
        self.words = words


class Maybe(NamedTuple):
    """Null, or `form`."""

    form: Any


class Many(NamedTuple):
    """A list of at least one."""

    form: Any


class Map(NamedTuple):
    """An object of any keys."""

    form: Any


class ByKind(NamedTuple):
    """An object whose word under `key` names its form."""

    key: str
    forms: Mapping[str, Any]


class Also(NamedTuple):
    """`form`, and a test of the whole."""

    form: Any
    test: Callable[[Any], object]
    text: str


class Misfit(NamedTuple):
    """What does not fit, and where: `rows[3].mean`, or nothing for the whole."""

    place: str
    expected: str
    got: str


def misfit(value: object, form: Any, place: str = "") -> Misfit | None:
    """The first place where a value that was read from JSON does not have a form; `None` where it has."""
    return next(_misfits(value, form, place), None)


def brief(value: object) -> str:
    """A value of JSON in a few words."""
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a number beyond 2⁶³"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"


def _misfits(value: object, form: Any, place: str) -> Iterator[Misfit]:
    if isinstance(form, dict | Map | ByKind):
        yield from _object(value, form, place)
    elif isinstance(form, list | Many):
        yield from _list(value, form, place)
    elif isinstance(form, Maybe):
        if value is not None:
            yield from (found._replace(expected=_or_null(found, place)) for found in _misfits(value, form.form, place))
    elif isinstance(form, Also):
        yield from _misfits(value, form.form, place)
        if not form.test(value):
            yield Misfit(place, form.text, brief(value))
    elif not _fits(value, form):
        yield Misfit(place, _words(form), brief(value))


def _or_null(found: Misfit, place: str) -> str:
    return f"{found.expected} or null" if found.place == place else found.expected


def _object(value: object, form: Any, place: str) -> Iterator[Misfit]:
    if not isinstance(value, dict):
        yield Misfit(place, "an object", brief(value))
        return
    if isinstance(form, ByKind):
        word = value.get(form.key)
        if not isinstance(word, str) or word not in form.forms:
            yield Misfit(_inside(place, form.key), _words(Word(*form.forms)), brief(word))
            return
        form = form.forms[word]
    if isinstance(form, Map):
        for name, inner in value.items():
            yield from _misfits(inner, form.form, _inside(place, name))
        return
    for name, inner in form.items():
        key = name.removesuffix("?")
        if key in value:
            yield from _misfits(value[key], inner, _inside(place, key))
        elif key == name:
            yield Misfit(_inside(place, key), _words(inner), "nothing")


def _list(value: object, form: Any, place: str) -> Iterator[Misfit]:
    if not isinstance(value, list) or (isinstance(form, Many) and not value):
        yield Misfit(place, _words(form), brief(value))
        return
    for number, inner in enumerate(value):
        yield from _misfits(inner, form.form if isinstance(form, Many) else form[0], f"{place}[{number}]")


def _inside(place: str, name: str) -> str:
    name = name if len(name) <= 60 else f"{name[:50]}…"
    return f"{place}.{name}" if place else name


def _fits(value: object, form: Any) -> bool:
    if isinstance(form, Whole):
        return type(value) is int and form.low <= value <= form.high
    if isinstance(form, Real):
        if type(value) is int:
            return abs(value) <= LARGEST and form.low <= value <= form.high
        return isinstance(value, float) and isfinite(value) and form.low <= value <= form.high
    if isinstance(form, Text):
        return isinstance(value, str) and re.fullmatch(form.pattern, value) is not None
    if isinstance(form, Word):
        return any(type(value) is type(word) and value == word for word in form.words)
    return type(value) is int if form is int else isinstance(value, form)


def _words(form: Any) -> str:
    """What a form asks for, in words."""
    if isinstance(form, Whole):
        return f"a whole number{_range(form)}"
    if isinstance(form, Real):
        return f"a finite number{_range(form)}"
    if isinstance(form, Text):
        return form.what
    if isinstance(form, Word):
        return " or ".join(repr(word) for word in form.words)
    if isinstance(form, Maybe):
        return f"{_words(form.form)} or null"
    if isinstance(form, Also):
        return _words(form.form)
    if isinstance(form, list | Many):
        return "a list" + (" of at least one" if isinstance(form, Many) else "")
    return "an object" if isinstance(form, dict | Map | ByKind) else _TYPES[form]


def _range(form: Whole | Real) -> str:
    if form.high in (inf, LARGEST):
        return "" if form.low == -inf else f" of at least {form.low:g}"
    return f" in {form.low:g}…{form.high:g}"
