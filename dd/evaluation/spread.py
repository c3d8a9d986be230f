"""Mean, standard deviation and interval of the scores of a few networks."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1); `None` for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def interval95(values: Sequence[float]) -> float | None:
    """Half width of the 95 % confidence interval of the mean (Student's t); `None` for a single value."""
    std = mean_std(values)[1]
    if std is None:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))


def by_draw(values: Sequence[float], draws: int) -> tuple[float, ...]:
    """Means of each draw's networks, which share their set; the values themselves where there is one draw.

    Args:
        values: of `draws` sets, as many networks each, set after set.
        draws: at least 1.
    """
    if draws == 1:
        return tuple(values)
    each = len(values) // draws
    return tuple(mean_std(values[first : first + each])[0] for first in range(0, len(values), each))
