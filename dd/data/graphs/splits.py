"""Which graphs are for training, validation and test: the rules, as rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dd.base import seeding
from dd.data.images.images import HELD_OUT
from dd.errors import refuse


class Rows(NamedTuple):
    """Rows of each split, int64, ascending; `None` where there is none."""

    train: Tensor
    val: Tensor | None
    test: Tensor | None


def random_rows(n: int, split: int) -> Rows:
    """80/10/10 of `numpy.random.RandomState(split).permutation(n)`: the first ⌊0.8 n⌋ train, up to ⌊0.9 n⌋ val."""
    order = np.random.RandomState(split).permutation(n)
    return _rows(order[: n * 8 // 10], order[n * 8 // 10 : n * 9 // 10], order[n * 9 // 10 :])


def published_rows(kind: str, n: int) -> Rows:
    """The split of the published code.

    Args:
        kind: `torch`: PyG's shuffle with seed 0, the first ⌈n/10⌉ test, as many val, the rest train; `numpy`: the
            permutation of `random_rows(n, 0)`.
        n: graphs.
    """
    if kind == "numpy":
        return random_rows(n, 0)
    order, tenth = torch.randperm(n, generator=torch.Generator().manual_seed(0)).numpy(), math.ceil(n / 10)
    return _rows(order[2 * tenth :], order[tenth : 2 * tenth], order[:tenth])


def held_out_rows(labels: Tensor, train: Tensor, test: Tensor | None, classes: int) -> Rows:
    """Given training rows with a tenth of each class held out, at least one graph, whatever the seed of a run.

    A class of one graph gives none.
    """
    val = []
    for k in range(classes):
        rows = train[labels[train] == k]
        share = max(1, int(len(rows) * HELD_OUT + 0.5)) if len(rows) > 1 else 0
        val.append(rows[torch.randperm(len(rows), generator=seeding.child(0, "val", k))[:share]])
    held = torch.cat(val).sort().values
    left = train[~torch.isin(train, held)]
    return Rows(left, held if len(held) else None, test)


def check_split(split: object) -> None:
    """Refuse what is no split.

    Raises:
        InputError: names what was given.
    """
    if split is None or split == "published" or random_number(split) is not None:
        return
    if isinstance(split, bool) or not isinstance(split, int) or not 0 <= split < 2**32:
        raise refuse("split", "a whole number from 0 on, 'published', 'random' or 'random:K'", repr(split))


def random_number(split: object) -> int | None:
    """K of `random:K`, 0 of `random`: a split that is drawn at random whatever the rule of the data."""
    head, colon, number = split.partition(":") if isinstance(split, str) else ("", "", "")
    if head != "random" or (colon and not (number.isdecimal() and len(number) < 11 and int(number) < 2**32)):
        return None
    return int(number or 0)


def _rows(train: np.ndarray, val: np.ndarray, test: np.ndarray) -> Rows:
    a, b, c = (torch.from_numpy(np.sort(part).astype(np.int64)) for part in (train, val, test))
    return Rows(a, b if len(b) else None, c if len(c) else None)
