"""Images and labels in what a foreign file holds: one of them, a pair, a pair by name, or a pair an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from torch import Tensor

from dd.base.texts import shown
from dd.errors import InputError, refuse

NAMES: Final = (("images", "labels"), ("x", "y"), ("data", "targets"), ("arr_0", "arr_1"))
"""What images and labels are called in one file; the last are what `numpy.savez` calls what has no name."""

Array = Tensor | np.ndarray


class Pair(NamedTuple):
    """Images, and labels where the file has both."""

    images: Any
    labels: Any = None


def pair_in(value: object, path: Path, experiment: int | None, lines: str) -> Pair:
    """The pair that a file holds, or one tensor or array alone.

    Args:
        value: what was read: an array, `[images, labels]`, a mapping with one of `NAMES`, a list of pairs, or a mapping
            whose `data` is such a list, as DC, DSA and DM save the set of each experiment.
        path: the file, for messages.
        experiment: which of several pairs.
        lines: for a message, how a file of one pair is made.

    Raises:
        InputError: something else, or an experiment that is not there.
    """
    pairs = _experiments(value)
    if pairs is not None:
        last = len(pairs) - 1
        if experiment is None and last:
            expected = f"given, 0 … {last}: {path} holds {len(pairs)} sets"
            raise refuse("experiment", expected, None, "Give `experiment=0`.")
        if experiment is not None and not (type(experiment) is int and 0 <= experiment <= last):
            raise refuse("experiment", f"0 … {last}, of the sets in {path}", repr(experiment))
        return Pair(*pairs[experiment or 0])
    if experiment is not None:
        raise refuse("experiment", "left out where a file does not list experiments as `data`", experiment)
    if isinstance(value, Array):
        return Pair(value)
    if isinstance(value, list | tuple) and _is_pair(value):
        return Pair(*value)
    return _named(value, path, lines)


def alone(value: object, argument: str, path: Path, lines: str) -> Any:
    """The one array of a file, which may have a name.

    Raises:
        InputError: several, or none.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        (value,) = value.values()
    if not isinstance(value, Array):
        raise _no_pair(argument, "one array", value, path, lines)
    return value


def _named(value: object, path: Path, lines: str) -> Pair:
    """The pair of a mapping by its names, or its only array."""
    if isinstance(value, Mapping):
        names = {key.lower(): key for key, one in value.items() if isinstance(key, str) and isinstance(one, Array)}
        found = [pair for pair in NAMES if names.keys() >= set(pair)]
        if len(found) == 1:
            images, labels = (value[names[name]] for name in found[0])
            return Pair(images, labels)
        if len(value) == len(names) == 1:
            return Pair(*value.values())
    raise _no_pair("images_path", "a file of one tensor or of images and labels", value, path, lines)


def _no_pair(argument: str, expected: str, value: object, path: Path, lines: str) -> InputError:
    got = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        got = f"one with {', '.join(shown(key) for key in list(value)[:8]) or 'nothing'}"
    elif isinstance(value, list | tuple):
        got += f" of {len(value)}"
    way_out = (
        f"{lines} A saved set of this library is for `dd.load`." if isinstance(value, Mapping | list | tuple) else ""
    )
    return refuse(argument, expected, f"{got} in {path}", way_out)


def _experiments(value: object) -> list[Any] | tuple[Any, ...] | None:
    """The pairs of several experiments, where that is what a value is."""
    pairs = value.get("data") if isinstance(value, Mapping) else value
    if isinstance(pairs, list | tuple) and pairs and all(_is_pair(pair) for pair in pairs):
        return pairs
    return None


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, Array) for one in value)
