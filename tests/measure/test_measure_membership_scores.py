"""Membership attacks on scores: by hand, against scipy, unbiased at chance, and powerful where there is a signal."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from dd.errors import InputError
from dd.measure.membership import (
    advantage,
    attack,
    chance_errors,
    likelihood_ratio_scores,
    rates,
    tpr_at,
    true_label_scores,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_scores_of_the_true_class_without_cancellation() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 50.0, 0.0]])
    log_p, phi = true_label_scores(logits, torch.tensor([0, 1]))
    p = math.exp(2) / (math.exp(2) + 1 + math.exp(-1))
    assert float(log_p[0]) == pytest.approx(math.log(p))
    assert float(phi[0]) == pytest.approx(math.log(p / (1 - p)))
    assert float(phi[1]) == pytest.approx(50 - math.log(2))  # 1 − p underflows in float32
    assert float(log_p[1]) == pytest.approx(-2 * math.exp(-50), abs=1e-15)


def test_rates_and_tpr_by_hand() -> None:
    scores = torch.tensor([5.0, 4.0, 4.0, 3.0, 2.0, 1.0])
    member = torch.tensor([True, True, False, True, False, False])
    threshold, true, false = rates(scores, member)
    assert threshold.tolist() == [5, 4, 3, 2, 1]
    assert true.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    assert false.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert tpr_at(scores, member, 0.0) == pytest.approx(1 / 3)
    assert tpr_at(scores, member, 1 / 3) == 1
    assert tpr_at(-scores, member, 0.3) == 0


def test_likelihood_ratio_is_the_one_sided_normal_test() -> None:
    shadows, inside = normal(8, 5), torch.zeros(8, 5, dtype=torch.bool)
    inside[0] = True
    inside[3, 2] = True
    target = normal(5, seed=1)
    out = [shadows[~inside[:, i], i] for i in range(5)]
    pooled = math.sqrt(sum(float((o - o.mean()).square().sum()) for o in out) / sum(len(o) - 1 for o in out))
    z = [(float(target[i]) - float(out[i].mean())) / pooled for i in range(5)]
    found = likelihood_ratio_scores(target, shadows, inside)
    assert found.tolist() == pytest.approx((-scipy.stats.norm.logsf(z)).tolist())
    shifted = shadows + 100 * inside  # what shadow networks that saw an image say of it is not read
    assert likelihood_ratio_scores(target, shifted, inside).tolist() == pytest.approx(found.tolist())
    many, mask = normal(70, 3, seed=2), torch.zeros(70, 3, dtype=torch.bool)
    own = (target[:3] - many.mean(0)) / many.std(0)
    assert likelihood_ratio_scores(target[:3], many, mask).tolist() == pytest.approx(
        (-scipy.stats.norm.logsf(own)).tolist()
    )


def test_noise_is_at_chance_on_average_and_within_its_errors() -> None:
    member = torch.arange(200) < 100
    found = [attack(normal(200, seed=s), member, (0.05,), seed=s) for s in range(60)]
    share, area = chance_errors(100, 100)
    assert share == pytest.approx(math.sqrt(0.005))
    for name, values, chance, error in (
        ("advantage", [f.advantage for f in found], 0.0, share),
        ("auroc", [f.auroc for f in found], 0.5, area),
    ):
        mean = sum(values) / 60
        assert abs(mean - chance) < 4 * error / math.sqrt(60), name  # four standard errors of the mean
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / 59)
        assert spread < 1.5 * error, name
    assert sum(f.tpr[0.05] for f in found) / 60 == pytest.approx(0.05, abs=0.02)


def test_a_signal_is_found() -> None:
    member = torch.arange(2000) < 1000
    scores = normal(2000) + 2 * member
    found = attack(scores, member, (0.01, 0.1))
    assert found.auroc == pytest.approx(scipy.stats.norm.cdf(2 / math.sqrt(2)), abs=0.02)
    assert found.advantage == pytest.approx(2 * scipy.stats.norm.cdf(1) - 1, abs=0.05)
    assert found.tpr[0.1] == pytest.approx(scipy.stats.norm.sf(scipy.stats.norm.isf(0.1) - 2), abs=0.06)
    assert advantage(torch.where(member, 1.0, 0.0), member) == 1
    assert attack(-scores, member).auroc < 0.1


def test_refusals() -> None:
    member = torch.tensor([True, True, False, False])
    with pytest.raises(InputError, match="two members and two non-members"):
        attack(torch.rand(3), torch.tensor([True, False, False]))
    with pytest.raises(InputError, match="`fprs` must be fractions"):
        attack(torch.rand(4), member, (1.5,))
    with pytest.raises(InputError, match="at least two that were not trained on each image"):
        likelihood_ratio_scores(torch.zeros(2), torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
