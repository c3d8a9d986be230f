"""The axis legend, and the checks that public entry points use.

`N` images of a batch or set, `C` colour channels, `H` `W` height and width, `K` classes,
`T` snapshots of a trajectory, `P` parameters of a network (flat θ `[P]`), `L` layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, isfinite

import torch
from torch import Tensor

from dd.errors import refuse


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
