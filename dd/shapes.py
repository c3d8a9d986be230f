"""The axis legend, and the checks that public entry points use.

`N` images of a batch or set, `C` colour channels, `H` `W` height and width, `K` classes,
`T` snapshots of a trajectory, `P` parameters of a network (flat θ `[P]`), `L` layers.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf, isfinite
from typing import Any, Final

import torch
from torch import Tensor

from dd.errors import refuse

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


def check_finite(value: Tensor, argument: str, way_out: str = "") -> Tensor:
    """Return `value` if all of it is finite, else refuse and say how much is not."""
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise refuse(argument, "finite", f"{bad} NaN or infinite of {value.numel()} values", way_out)
    return value


def check_number(value: object, argument: str, low: float = -inf) -> float:
    """Return `value` if it is a finite number of at least `low`, else refuse. A bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= low):
        raise refuse(argument, "a finite number" + ("" if low == -inf else f" of at least {low:g}"), repr(value))
    return value


def check_whole(value: object, argument: str) -> int:
    """Return `value` if it is a whole number of at least 1, else refuse. A bool is none, nor is 2.0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise refuse(argument, "a whole number of at least 1", repr(value))
    return value


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
        got = getattr(value, name)
        if got not in words:
            raise refuse(name, " or ".join(f"`{word}`" for word in words), repr(got))


def check_types(value: object) -> None:
    """Refuse a field of a dataclass that is not of its plain type; a bool is no number, nor is 2.0 a whole one.

    Args:
        value: what has the fields. Those annotated with more than bool, int, float, str and None are not looked at.

    Raises:
        InputError: a field of another type.
    """
    for name, kinds in _plain_fields(type(value)).items():
        got = getattr(value, name)
        fits = bool in kinds if isinstance(got, bool) else isinstance(got, kinds)
        if not fits and not (float in kinds and isinstance(got, int) and not isinstance(got, bool)):
            raise refuse(name, " or ".join(_PLAIN[kind] for kind in kinds), repr(got))


def _plain_fields(cls: Any) -> dict[str, tuple[type, ...]]:
    hints = typing.get_type_hints(cls)
    found: dict[str, tuple[type, ...]] = {}
    for name in (f.name for f in dataclasses.fields(cls)):
        either = typing.get_args(hints[name]) if isinstance(hints[name], types.UnionType) else (hints[name],)
        if all(kind in _PLAIN for kind in either):
            found[name] = either
    return found
