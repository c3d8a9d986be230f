"""DD-Ranking's scores: hand-worked values, invariants 36 and 37, and the published package's formula in percent."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from dd.errors import InputError
from dd.measure.robustness import (
    Robustness,
    Training,
    augmentation_robust_score,
    label_robust_score,
    score_of,
)
from dd.measure.values import Values

GRID = (0.0, 0.1, 0.35, 0.8, 1.0)


def lrs(full: float, hard: float, own: float, random: float, **more: Any) -> float:
    return label_robust_score(full_hard=full, hard=hard, own=own, random=random, **more)


def ars(own: float, random: float, own_plain: float, random_plain: float, **more: Any) -> float:
    return augmentation_robust_score(
        own_augmented=own, random_augmented=random, own_plain=own_plain, random_plain=random_plain, **more
    )


def published(gain: float) -> float:
    """The package's expression, of accuracies in percent."""
    return float((np.exp(gain) - np.exp(-1)) / (np.exp(1) - np.exp(-1)))


@pytest.mark.parametrize(("gain", "score"), [(-1, 0.0), (0, 0.26894142), (0.5, 0.54494577), (1, 1.0)])
def test_golden_points(gain: float, score: float) -> None:
    assert score_of(gain) == pytest.approx(score, abs=1e-8)


def test_hand_worked() -> None:
    # HLR 0.8 − 0.6 = 0.2, IOR 0.65 − 0.6 = 0.05, a = 0.025 − 0.1 = −0.075;
    # e^−0.075 = 0.92774349, (0.92774349 − 0.36787944) / (2.71828183 − 0.36787944) = 0.55986405 / 2.35040239
    assert lrs(0.8, 0.6, 0.65, 0.6) == pytest.approx(0.23819923, abs=1e-8)
    # b = 0.5 · 0.1 + 0.5 · (−0.04) = 0.03; e^0.03 = 1.03045453; 0.66257509 / 2.35040239
    assert ars(0.7, 0.6, 0.5, 0.54) == pytest.approx(0.28189858, abs=1e-8)


def test_36_monotone_bounded_and_weighted() -> None:
    assert lrs(0.7, 0.7, 0.4, 0.4) == pytest.approx(1 / (1 + math.e))  # as random, as real: 0.2689
    assert (lrs(1, 0, 0, 1), lrs(0, 1, 1, 0)) == (pytest.approx(0.0), pytest.approx(1.0))
    for full, hard, own, random in itertools.product(GRID, repeat=4):
        value = lrs(full, hard, own, random)
        assert 0 <= value <= 1
        if own < 1:
            assert lrs(full, hard, own + 0.01, random) > value if own < 0.99 else True
        if hard > 0:
            assert lrs(full, hard - 0.01, own, random) < value
        assert lrs(full, hard, own, random, weight=1) == pytest.approx(lrs(0, 0, own, random, weight=1))
        assert lrs(full, hard, own, random, weight=0) == pytest.approx(lrs(full, hard, 0, 0, weight=0))


def test_36_percents_break_the_bounds_and_are_refused() -> None:
    with pytest.raises(InputError, match=r"`full_hard` must be a fraction in \[0, 1\]; got 80.* Divide percent by 100"):
        lrs(80, 60, 65, 60)
    assert lrs(0.8, 0.6, 0.65, 0.6, ddranking_compat=True) == pytest.approx(-0.15628233, abs=1e-8)  # a = −7.5
    assert lrs(0.5, 0.5, 0.9, 0.5, ddranking_compat=True) > 1e8


def test_37_augmentation_robust() -> None:
    for own, plain in itertools.product(GRID, repeat=2):
        assert ars(own, own, plain, plain) == pytest.approx(1 / (1 + math.e))  # the set is as random
    for quad in itertools.product(GRID, repeat=4):
        for gamma in (0.0, 0.3, 0.5, 1.0):
            swapped = quad[2:] + quad[:2]
            assert ars(*quad, weight=gamma) == pytest.approx(ars(*swapped, weight=1 - gamma))
        assert 0 <= ars(*quad) <= 1
    assert ars(0.9, 0.5, 0.1, 0.8, weight=1) == pytest.approx(ars(0.9, 0.5, 0, 0, weight=1))


def test_compat_is_the_published_expression() -> None:
    numbers = torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    for a, b, c, d in numbers:
        percent = [100 * v for v in (a, b, c, d)]
        hlr, ior = percent[0] - percent[1], percent[2] - percent[3]
        for w in (0.5, 0.2):
            got = lrs(a, b, c, d, weight=w, ddranking_compat=True)
            assert got == pytest.approx(published(w * ior - (1 - w) * hlr), rel=1e-9)
            beta = w * (percent[0] - percent[1]) + (1 - w) * (percent[2] - percent[3])
            assert ars(a, b, c, d, weight=w, ddranking_compat=True) == pytest.approx(published(beta), rel=1e-9)


def test_refusals() -> None:
    with pytest.raises(InputError, match="`weight` must be a fraction"):
        lrs(0.5, 0.5, 0.5, 0.5, weight=1.5)
    with pytest.raises(InputError, match="`random_plain` must be a fraction"):
        ars(0.5, 0.5, 0.5, float("nan"))


def test_report() -> None:
    value = Robustness(
        lrs=Values((0.2, 0.3)),
        ars=None,
        hlr=Values((0.1, 0.1)),
        ior=Values((0.0, 0.05)),
        trainings=(Training(name="hard", accuracy=Values((0.5, 0.6)), lr=0.01, steps=7),),
        weight=0.5,
        gamma=0.5,
        compat=False,
        dataset="digits",
        method="mtt",
        model="convnet",
        notes=("no ARS",),
    )
    text = str(value)
    assert "label-robust score (× 100): 25.0 ± 7.1, n 2" in text
    assert "augmentation" not in text
    assert text.endswith("note: no ARS")
    told = value.to_json()
    assert (told["lrs"]["mean"], told["ars"], told["trainings"][0]["lr"]) == (0.25, None, 0.01)
