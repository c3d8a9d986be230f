"""Ranking architectures: the seeded space, rank correlations by hand, the trainings behind the table."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import dd
from dd.base.files import dump_json
from dd.data import Images
from dd.errors import InputError
from dd.evaluation import NetworkLearner
from dd.measure.bench import open_bench
from dd.measure.ranking import architectures, rank_architectures, rank_correlation
from dd.models import build
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

SHIFT = Normalise((0.3,), (0.35,))
FAST: dict[str, Any] = {"progress": False, "device": "cpu", "full_steps": 4}


def digits(model: str = "convnet(width=4)", steps: int = 3) -> tuple[Images, SyntheticImages]:
    """150 training and 60 test digits, and a set of one real image a class."""
    whole = dd.load_images("digits")
    assert whole.test is not None
    rows = torch.cat([whole.class_index(k)[:15] for k in range(10)])
    train, test = whole.train.subset(rows), whole.test.subset(torch.arange(60))
    real = dd.load_images(dd.Images(train=train, test=test, classes=10, name="few digits"))
    chosen = torch.stack([real.class_index(k)[0] for k in range(10)])
    small = SyntheticImages(
        images=SHIFT.forward(real.train.pixels(chosen)),
        labels=real.train.labels[chosen],
        classes=real.classes,
        recipe=TrainRecipe(model=model, steps=steps, lr=0.05),
        transform=SHIFT,
        method={"name": "first"},
    )
    return real, small


def test_space_is_seeded_different_and_fits() -> None:
    shape: dict[str, Any] = {"channels": 1, "classes": 10, "size": (8, 8)}
    found = architectures(8, **shape)
    assert found == architectures(8, **shape)
    assert found[:3] == architectures(3, **shape)
    assert found != architectures(8, seed=1, **shape)
    assert len(set(found)) == 8
    for spec in found:
        net = build(spec, seed=0, **shape)
        assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    narrow: dict[str, Any] = {"widths": (8,), "norms": ("batch",), "pools": ("avg",), **shape}
    assert len(architectures(3, **narrow)) == 3  # depth 4 would pool 8 px to nothing
    with pytest.raises(InputError, match="`count` must be at most 3, the networks that fit 8×8 pictures; got 4"):
        architectures(4, **narrow)


def test_rank_correlation_by_hand() -> None:
    # ranks 1 2 3 4 and 2 1 4 3: Σ d² = 4, ρ = 1 − 6 · 4 / (4 · 15); 4 concordant, 2 discordant pairs
    rho, tau = rank_correlation([0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.9, 0.7])
    assert (rho, tau) == (pytest.approx(0.6), pytest.approx(1 / 3))
    assert rank_correlation([1, 2, 3], [5, 6, 70]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == (pytest.approx(-1.0), pytest.approx(-1.0))
    assert rank_correlation([1, 2, 3], [2, 2, 2]) == (None, None)
    # a tie: τ_b = (C − D) / √((n₀ − ties_a)(n₀ − ties_b)), here 5 / √(5 · 6)
    rho, tau = rank_correlation([1, 1, 2, 3], [1, 2, 3, 4])
    assert tau == pytest.approx(5 / 30**0.5)
    assert rho == pytest.approx(4.5 / (4.5 * 5) ** 0.5)  # of mean ranks 1.5 1.5 3 4: covariance and variances
    with pytest.raises(InputError, match="at least two"):
        rank_correlation([1.0], [1.0])


def test_table_is_of_these_trainings() -> None:
    real, small = digits()
    names = ("convnet(depth=1, width=4)", "mlp", "convnet(depth=1, norm=batch, width=8)")
    found = rank_architectures(small, real, models=names, repeats=2, **FAST)
    bench = open_bench(small, real, repeats=2, device="cpu")
    assert real.test is not None
    for i, j in itertools.product(range(3), range(2)):
        learner, seed = NetworkLearner(model=names[i]), bench.seeds()[j]
        assert found.proxies[0].accuracy[i].values[j] == learner.fit(small, seed).score(real.test)
        assert found.proxies[1].accuracy[i].values[j] == learner.fit(bench.random(j), seed).score(real.test)
        whole = bench.real_images(real.train)
        full = NetworkLearner(model=names[i], steps=4).fit(whole, seed).score(real.test)
        assert found.full.accuracy[i].values[j] == full
    proxy = found.proxies[0]
    assert found.correlation(proxy) == rank_correlation(proxy.means, found.full.means)
    assert found.correlation(found.full) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.regret(found.full) == 0
    assert 0 <= found.regret(proxy) <= max(found.full.means)
    assert found.saved(proxy) == found.full.seconds - proxy.seconds
    assert (proxy.name, found.proxies[1].name, proxy.steps, found.full.steps) == ("first", "random", 3, 4)
    told = found.to_json()
    assert dump_json(told)
    assert told["proxies"][0]["kendall"] == found.correlation(proxy)[1]
    text = str(found)
    assert all(name in text for name in (*found.models, "Spearman", "regret %", "random"))


def test_drawn_architectures_and_refusals() -> None:
    real, small = digits(steps=1)
    found = rank_architectures(small, real, count=2, baselines=(), **{**FAST, "full_steps": 1})
    shape: dict[str, Any] = {"channels": 1, "classes": 10, "size": (8, 8)}
    assert found.models == tuple(map(str, architectures(2, **shape)))
    assert found.proxies[0].accuracy[0].n == 1
    with pytest.raises(InputError, match="`models` must be at least two networks"):
        rank_architectures(small, real, models=("mlp",), **FAST)
    with pytest.raises(InputError, match="unknown baseline 'herding'"):
        rank_architectures(small, real, baselines=("herding",), **FAST)
