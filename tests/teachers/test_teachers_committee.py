"""Votes of a committee: the published tables to three decimals, and what must hold for any (invariants 8 to 11)."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from dd.errors import InputError
from dd.teachers import LABEL_TAU, MEMBERS, PUBLISHED_FIRST_PAIR, PUBLISHED_PRIORS, vote_weights, voters

DATA = ("cifar10", "cifar100", "tiny-imagenet", "imagenette", "imagenet")
# weight of a pair's first member at τ = 5, in the order of the specification's table (its section 3.2)
PAIRS = {
    "cifar10": (0.387, 0.250, 0.285, 0.293, 0.345, 0.387, 0.397, 0.545, 0.555, 0.510),
    "cifar100": (0.664, 0.923, 0.715, 0.821, 0.858, 0.560, 0.698, 0.174, 0.277, 0.646),
    "tiny-imagenet": (0.974, 0.641, 0.584, 0.731, 0.045, 0.036, 0.067, 0.440, 0.603, 0.659),
    "imagenette": (0.889, 0.739, 0.843, 0.579, 0.261, 0.401, 0.147, 0.655, 0.327, 0.204),
    "imagenet": (0.944, 0.686, 0.920, 0.959, 0.115, 0.406, 0.584, 0.840, 0.915, 0.673),
}
# all five at τ = 10 (its section 3.4)
LABELS = {
    "cifar10": (0.140, 0.177, 0.243, 0.222, 0.218),
    "cifar100": (0.323, 0.230, 0.093, 0.204, 0.151),
    "tiny-imagenet": (0.298, 0.048, 0.223, 0.251, 0.180),
    "imagenette": (0.309, 0.109, 0.184, 0.134, 0.264),
    "imagenet": (0.413, 0.101, 0.279, 0.122, 0.085),
}


@pytest.mark.parametrize("data", DATA)
def test_published_weights(data: str) -> None:
    alpha = PUBLISHED_PRIORS[data]
    for (a, b), first in zip(itertools.combinations(range(5), 2), PAIRS[data], strict=True):
        found = vote_weights((alpha[a], alpha[b]))
        assert found[0] == pytest.approx(first, abs=5.1e-4)
        assert found[1] == pytest.approx(1 - first, abs=5.1e-4)
    assert vote_weights(alpha, LABEL_TAU) == pytest.approx(LABELS[data], abs=5.1e-4)


def test_weights_of_any_committee() -> None:
    alpha = (63.0, 65.3, 68.5)
    weights = vote_weights(alpha)
    assert sum(weights) == pytest.approx(1, abs=1e-15)
    assert vote_weights((7.0,)) == (1.0,)
    assert vote_weights((5.0, 5.0)) == (0.5, 0.5)
    assert vote_weights([a + 1000 for a in alpha]) == pytest.approx(weights, rel=1e-12)
    assert vote_weights(alpha, math.inf) == pytest.approx([1 / 3] * 3)
    assert vote_weights(alpha, 1e-3) == pytest.approx([0, 0, 1])


def test_ten_images_see_every_pair_once() -> None:
    pairs = voters(5, 10)
    assert pairs == list(itertools.combinations(range(5), 2))
    assert Counter(m for pair in pairs for m in pair) == dict.fromkeys(range(5), 4)
    assert voters(5, 23, schedule="cycle")[10:20] == pairs  # the authors' list overflows here


def test_one_image_takes_the_best_pair_where_the_authors_do() -> None:
    for data in DATA:
        (pair,) = voters(5, 1, priors=PUBLISHED_PRIORS[data])
        same = tuple(MEMBERS[m] for m in pair) == PUBLISHED_FIRST_PAIR[data]
        assert same == (data in ("tiny-imagenet", "imagenet"))  # the other three were picked by hand


def test_random_voters_are_seeded_and_fair() -> None:
    drawn = voters(5, 2000, schedule="random", seed=3)
    assert drawn == voters(5, 2000, schedule="random", seed=3)
    assert drawn[:50] == voters(5, 50, seed=3)  # `auto` beyond ten images; a longer set begins as a shorter one
    assert drawn != voters(5, 2000, schedule="random", seed=4)
    assert all(len(set(pair)) == 2 for pair in drawn)
    counts = Counter(drawn)
    assert len(counts) == 10
    assert max(abs(n - 200) for n in counts.values()) < 5 * (200 * 0.9) ** 0.5


def test_small_committees_vote_whole() -> None:
    assert voters(1, 3) == [(0,)] * 3
    assert voters(2, 4) == [(0, 1)] * 4
    assert voters(3, 2, count=3) == [(0, 1, 2)] * 2


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"`priors` must be 5 numbers.*got none.*schedule"):
        voters(5, 1)
    with pytest.raises(InputError, match="`schedule` must be"):
        voters(5, 1, schedule="best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`tau` must be positive; got 0"):
        vote_weights((1.0, 2.0), 0)
    with pytest.raises(InputError, match="`priors`"):
        vote_weights((1.0, math.nan))
    with pytest.raises(InputError, match="`priors` must be one a member; got none"):
        vote_weights(())
