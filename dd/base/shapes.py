"""The axis legend, and the checks that public entry points use.

`N` images of a batch or set, `C` colour channels, `H` `W` height and width, `K` classes,
`T` snapshots of a trajectory, `P` parameters of a network (flat θ `[P]`), `L` layers.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf, prod
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

from dd.base.bounds import check_range, check_ranges
from dd.base.texts import clean_name, clean_names, shown
from dd.errors import near, refuse

Filled = typing.TypeVar("Filled")

_PART: Final = 2**16
"""Values that are looked at together: a look at all of a large tensor takes more memory than the tensor."""
_PLAIN: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    types.NoneType: "None",
}


def check(value: object, argument: str, axes: str, **sizes: int) -> Tensor:
    """Return `value` if it is a tensor with the axes named in `axes` (`"N C H W"`), else refuse.

    Args:
        value: what the caller gave.
        argument: its name, for the message.
        axes: axis letters separated by blanks.
        **sizes: required sizes of some axes, such as `C=3`.

    Raises:
        InputError: not a tensor, another number of axes, or another size.
    """
    if not isinstance(value, Tensor):
        raise refuse(argument, f"a tensor [{axes}]", type(value).__name__)
    names = axes.split()
    if value.ndim != len(names):
        raise refuse(argument, f"a tensor [{axes}]", f"shape {list(value.shape)}")
    for axis, name in enumerate(names):
        if name in sizes and value.shape[axis] != sizes[name]:
            raise refuse(argument, f"a tensor [{axes}] with {name} = {sizes[name]}", f"shape {list(value.shape)}")
    return value


def plain(value: Tensor) -> Tensor:
    """`value`, or a copy of one that was made in inference mode, which autograd could not keep."""
    return value.clone() if value.is_inference() else value


def stored(value: object, argument: str, axes: str, **sizes: int) -> Tensor:
    """`check`, then the tensor as it is kept: detached, on the CPU, `plain`."""
    return plain(check(value, argument, axes, **sizes).detach().cpu())


def check_finite(value: Tensor, argument: str, way_out: str = "") -> Tensor:
    """Return `value` if all of it is finite, else refuse and say how much is not."""
    rows = value if value.ndim else value.view(1)
    each = max(1, _PART // max(1, rows[:1].numel()))
    bad = sum(int((~torch.isfinite(part)).sum()) for part in rows.split(each))
    if bad:
        raise refuse(argument, "finite", f"{bad} NaN or infinite of {value.numel()} values", way_out)
    return value


def check_number(value: object, argument: str, low: float = -inf) -> float:
    """`value`, if it is a finite number of at least `low`, at most its bound (`dd.base.bounds`); a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (low <= value < inf) or value == -inf:
        expected = "a finite number" + ("" if low == -inf else f" of at least {low:g}")
        raise refuse(argument, expected, shown(value), _way_out(value))
    check_range(argument, value)
    return value


def check_whole(value: object, argument: str, low: int = 1) -> int:
    """Return `value` if it is a whole number from `low` to its bound (`dd.base.bounds`). A bool is none, nor is 2.0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise refuse(argument, f"a whole number of at least {low}", shown(value), _way_out(value, argument))
    check_range(argument, value)
    return value


def check_names(value: object, argument: str) -> tuple[str, ...]:
    """Names of classes, cleaned where they enter (`dd.base.texts.clean_names`).

    Raises:
        InputError: none, not texts, or one twice.
    """
    names = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise refuse(argument, "different names in label order, or their number", shown(value))
    return clean_names(names)


def check_name(value: object, argument: str) -> str:
    """Return the name of a caller's own method if it is one line that can be written anywhere, else refuse.

    Raises:
        InputError: no text, or one that `dd.base.texts.clean_name` would change.
    """
    if not isinstance(value, str) or clean_name(value) != value:
        way_out = f"Call it {clean_name(value)!r}." if isinstance(value, str) else ""
        raise refuse(argument, "one line of text without controls, at most 200 characters", shown(value), way_out)
    return value


BY_CLASS: Final = ("random", "herding", "k_center")
"""Methods whose `ipc` may be a number for each class."""


def _way_out(value: object, argument: str = "") -> str:
    """What helps where a number of numpy or torch is given, or numbers by class."""
    if argument == "ipc" and isinstance(value, Mapping):
        return f"Numbers by class are for the methods {', '.join(BY_CLASS)}."
    scalar = isinstance(value, np.generic | np.ndarray | Tensor) and prod(value.shape) == 1
    return "Give a plain number: its `.item()`." if scalar else ""


def as_list(given: Any) -> list[Any]:
    """The values of a sequence or set; a text, or another value alone, is a list of one."""
    many = isinstance(given, Sequence | AbstractSet) and not isinstance(given, str)
    return list(given) if many else [given]


def check_choices(value: object, known: Mapping[str, Sequence[str]]) -> None:
    """Refuse a field of `value` that is none of its known words.

    Args:
        value: what has the fields.
        known: words by field.

    Raises:
        InputError: another word, or something else.
    """
    for name, words in known.items():
        check_word(getattr(value, name), name, words)


def check_word(got: object, argument: str, words: Sequence[str]) -> None:
    """Refuse an argument that is none of its words, with the one that is written alike.

    Raises:
        InputError: another word, or something else.
    """
    if not isinstance(got, str) or got not in words:  # an array would answer with one
        way_out = near(got, words) if isinstance(got, str) else ""
        raise refuse(argument, " or ".join(f"`{word}`" for word in words), shown(got), way_out)


def check_types(value: object) -> None:
    """Refuse a field of a dataclass that is not of its plain type, or beyond its bound (`dd.base.bounds`).

    A bool is no number, nor is 2.0 a whole one; a whole number of a field of floats becomes one: 1 and 1.0 are one
    request.

    Args:
        value: what has the fields. Of those annotated with more than bool, int, float, str and None only bounds are
            looked at, but a field that is a dataclass must have one.

    Raises:
        InputError: a field of another type, NaN, infinite or too large.
    """
    known = _fields(cast(Any, type(value)))
    for name, number in _check_all({name: getattr(value, name) for name in known}, known).items():
        object.__setattr__(value, name, number)


def filled(made: type[Filled], given: Mapping[str, Any], **instead: Any) -> Filled:
    """A dataclass of a verb's arguments, by their names.

    Args:
        made: the dataclass.
        given: the arguments, `locals()` in the verb's first line; those that are no field are left out.
        **instead: take the place of some.
    """
    fields = inspect.signature(made).parameters
    return made(**{name: value for name, value in {**given, **instead}.items() if name in fields})


def check_options(function: Callable[..., Any], given: dict[str, Any]) -> None:
    """`check_types` of what a function is given by name.

    Raises:
        InputError: likewise.
    """
    kinds = _options(function)
    if kinds and given:
        given.update(_check_all({name: value for name, value in given.items() if name in kinds}, kinds))


def _check_all(values: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> dict[str, float]:
    """Whole numbers among values that are to be floats, as such; what is of no kind is refused."""
    floats: dict[str, float] = {}
    for name, got in values.items():
        kinds = known[name]
        if (parts := _recipes(kinds)) and not isinstance(got, kinds):
            own = " or ".join(f"a `dd.{kind.__name__}`" for kind in parts)
            way_out = f"A method that is named takes a dict of its fields: `dd.distill(data, NAME, {name}={{…}})`."
            raise refuse(name, own, shown(got), way_out)
        if all(kind in _PLAIN for kind in kinds):
            fits = bool in kinds if isinstance(got, bool) else isinstance(got, kinds)
            if not fits and not (float in kinds and isinstance(got, int) and not isinstance(got, bool)):
                expected = " or ".join(_PLAIN[kind] for kind in kinds)
                raise refuse(name, expected, shown(got), _way_out(got, name))
        if got is not None:
            check_ranges(name, got)
        if float in kinds and int not in kinds and isinstance(got, int) and not isinstance(got, bool):
            floats[name] = float(got)
    return floats


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(cls)
    return _looked_at({f.name: hints[f.name] for f in dataclasses.fields(cls)})


@functools.cache
def _options(function: Any) -> dict[str, tuple[Any, ...]]:
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return _looked_at({p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in hints})


def _recipes(kinds: Sequence[Any]) -> list[type]:
    """The dataclasses among kinds that are nothing else, `None` aside."""
    found = [kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    return found if len(found) == len([kind for kind in kinds if kind is not types.NoneType]) else []


def _looked_at(hints: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The kinds of each name, where all are plain, or where a number may be among them."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in hints.items():
        either = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if _recipes(either) or all(kind in _PLAIN for kind in either) or "int" in str(hint) or "float" in str(hint):
            found[name] = either
    return found
