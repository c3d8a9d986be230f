"""The miner against brute force: supports, all, closed and maximal sets, best first; invariants 14 to 16."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from dd.errors import InputError
from dd.methods.mirage import mine
from dd.methods.mirage.mine import Miner, TooManySets, pack, popcount

Base = list[set[int]]


def base(seed: int) -> tuple[Base, int, int]:
    """(transactions, items, a threshold)."""
    draw = random.Random(seed)
    items, count, share = draw.randint(1, 7), draw.randint(1, 90), draw.random()
    made = [{i for i in range(items) if draw.random() < share} for _ in range(count)]
    return made, items, draw.randint(1, max(1, count // 2))


def columns(transactions: Base, items: int) -> np.ndarray:
    return pack(
        [np.array([g for g, t in enumerate(transactions) if i in t], np.int64) for i in range(items)], len(transactions)
    )


def frequent(transactions: Base, items: int, least: int) -> dict[tuple[int, ...], int]:
    """Every frequent set, by trying all of them."""
    sets = (s for k in range(1, items + 1) for s in itertools.combinations(range(items), k))
    supports = ((s, sum(set(s) <= t for t in transactions)) for s in sets)
    return {s: n for s, n in supports if n >= least}


@pytest.mark.parametrize("seed", range(40))
def test_sets_and_supports_equal_brute_force_and_come_best_first(seed: int) -> None:
    transactions, items, least = base(seed)
    every = frequent(transactions, items, least)
    closed = {s: n for s, n in every.items() if not any(set(s) < set(r) and m == n for r, m in every.items())}
    maximal = {s: n for s, n in every.items() if not any(set(s) < set(r) for r in every)}
    bits = columns(transactions, items)
    for kind, wanted in (("all", every), ("closed", closed), ("maximal", maximal)):
        found = list(Miner(bits, least, kind))
        assert {f.items: f.support for f in found} == wanted, kind
        assert len(found) == len(wanted)
        assert all(a.support >= b.support for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("seed", range(10))
def test_every_subset_of_a_frequent_set_is_frequent_and_closed_sets_give_all_back(seed: int) -> None:
    transactions, items, least = base(seed)
    bits = columns(transactions, items)
    every = {f.items: f.support for f in Miner(bits, least, "all")}
    closed = list(Miner(bits, least, "closed"))
    for found, support in every.items():
        for k in range(1, len(found)):
            for part in itertools.combinations(found, k):
                assert every[part] >= support
        assert support == max(c.support for c in closed if set(found) <= set(c.items))
    maximal = list(Miner(bits, least, "maximal"))
    again = {s for m in maximal for k in range(1, len(m.items) + 1) for s in itertools.combinations(m.items, k)}
    assert again == set(every)


@pytest.mark.parametrize("seed", range(10))
def test_beyond_says_where_a_closed_set_is_maximal(seed: int) -> None:
    transactions, items, _ = base(seed)
    bits = columns(transactions, items)
    closed = list(Miner(bits, 1, "closed"))
    for least in range(1, len(transactions) + 1, 3):
        at_once = {f.items for f in closed if f.support >= least > f.beyond}
        assert at_once == {f.items for f in Miner(bits, least, "maximal")}


def test_a_higher_threshold_gives_a_prefix() -> None:
    transactions, items, _ = base(3)
    bits = columns(transactions, items)
    low, high = list(Miner(bits, 1, "all")), list(Miner(bits, 20, "all"))
    assert low[: len(high)] == high
    assert len(high) < len(low)


def test_counts_of_ones_do_not_depend_on_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.random.RandomState(0).randint(0, 2**62, (9, 4)).astype(np.uint64)
    wanted = [sum(int(w).bit_count() for w in row) for row in bits]
    assert popcount(bits).tolist() == wanted
    monkeypatch.delattr(mine.np, "bitwise_count", raising=False)
    assert popcount(bits).tolist() == wanted


def test_a_low_threshold_is_stopped_not_exhausted() -> None:
    bits = columns([set(range(40))] * 3, 40)  # 2^40 frequent sets
    first = list(itertools.islice(Miner(bits, 1, "all"), 1000))
    assert len(set(first)) == 1000
    with pytest.raises(TooManySets) as told:
        list(Miner(bits, 1, "all", limit=50))
    assert told.value.support == 3
    assert [f.items for f in Miner(bits, 1, "closed")] == [tuple(range(40))]


@pytest.mark.parametrize("seed", [1, 3, 4, 5, 7, 8])
def test_a_search_that_is_given_up_gave_all_sets_above_the_support_that_it_tells(seed: int) -> None:
    transactions, items, _ = base(seed)
    bits = columns(transactions, items)
    every = list(Miner(bits, 1, "closed"))
    given: list[mine.Found] = []
    with pytest.raises(TooManySets) as told:
        given.extend(Miner(bits, 1, "closed", limit=max(1, len(every) // 2)))
    assert [f for f in every if f.support > told.value.support] == [f for f in given if f.support > told.value.support]


def test_refusals() -> None:
    bits = columns([{0}], 1)
    with pytest.raises(InputError, match="`patterns` must be `all` or `closed` or `maximal`; got 'free'"):
        Miner(bits, 1, "free")
    with pytest.raises(InputError, match="`min_support` must be at least 1; got 0"):
        Miner(bits, 0)


@pytest.mark.parametrize("seed", range(5))
def test_two_other_miners_agree(seed: int) -> None:
    frequent_patterns = pytest.importorskip(
        "mlxtend.frequent_patterns", reason="mlxtend is not installed, or not for this numpy", exc_type=ImportError
    )
    apriori = pytest.importorskip("efficient_apriori", reason="efficient-apriori is not installed")
    pandas = pytest.importorskip("pandas")
    transactions, items, least = base(seed)
    mined = {f.items: f.support for f in Miner(columns(transactions, items), least, "all")}
    frame = pandas.DataFrame([[i in t for i in range(items)] for t in transactions])
    share = (least - 0.5) / len(transactions)
    table = frequent_patterns.fpgrowth(frame, min_support=share)
    other = {
        tuple(sorted(s)): round(n * len(transactions)) for s, n in zip(table["itemsets"], table["support"], strict=True)
    }
    assert mined == other
    found, _ = apriori.itemsets_from_transactions([tuple(t) for t in transactions], share)
    assert mined == {tuple(sorted(s)): n for level in found.values() for s, n in level.items()}
