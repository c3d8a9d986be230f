"""Calibration errors: worked by hand, against a loop, and the cases that must give 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dd.errors import InputError
from dd.measure.calibration import calibration_error, calibration_figures, class_calibration_error


def twin(confidence: Tensor, right: Tensor, bins: int) -> float:
    """Bins by a loop over half-open intervals (low, high]."""
    total = 0.0
    for b in range(bins):
        rows = [
            i
            for i, c in enumerate(confidence.tolist())
            if (b / bins < c or b == 0) and (c <= (b + 1) / bins or b == bins - 1)
        ]
        if rows:
            c = sum(float(confidence[i]) for i in rows) / len(rows)
            r = sum(float(right[i]) for i in rows) / len(rows)
            total += len(rows) / len(confidence) * abs(c - r)
    return total


def test_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.8, 0.95, 0.6, 0.3], dtype=torch.float64)
    right = torch.tensor([True, False, True, True, False])
    # two bins: (0, .5] holds 0.3 with gap |0 − 0.3|; (.5, 1] four with |0.75 − 0.8125|
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0.2 * 0.3 + 0.8 * 0.0625)
    assert calibration_error(confidence, right, bins=1) == pytest.approx(abs(0.6 - 0.71))
    # adaptive, two bins of 3 and 2: (0.3, 0.6, 0.8) and (0.9, 0.95)
    expected = 0.6 * abs(1 / 3 - 1.7 / 3) + 0.4 * abs(1 - 0.925)
    assert calibration_error(confidence, right, bins=2, adaptive=True) == pytest.approx(expected)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_against_the_loop(bins: int) -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(300, generator=generator, dtype=torch.float64)
    confidence[:4] = torch.tensor([0.0, 1.0, 0.5, 0.25])  # edges
    right = torch.rand(300, generator=generator) < 0.6
    assert calibration_error(confidence, right, bins) == pytest.approx(twin(confidence, right, bins))


def test_calibrated_statements_tend_to_zero_and_sure_errors_to_one() -> None:
    confidence = torch.rand(40_000, generator=torch.Generator().manual_seed(1))
    right = torch.rand(40_000, generator=torch.Generator().manual_seed(2)) < confidence
    noise = math.sqrt(15 / 40_000)  # Σ_b (n_b / n) · E|gap_b| ≤ √(B / 4n) · …
    assert calibration_error(confidence, right) < noise
    assert calibration_error(confidence, right, adaptive=True) < noise
    assert calibration_error(torch.ones(5), torch.zeros(5)) == 1
    assert calibration_error(torch.ones(5), torch.ones(5), adaptive=True) == 0


def test_classes() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    labels = torch.tensor([0, 1, 1])
    found = class_calibration_error(p, labels, bins=1)
    expected = [abs(1 / 3 - 1 / 3), abs(2 / 3 - 1 / 3), abs(0 - 1 / 3)]
    assert found.tolist() == pytest.approx(expected, abs=1e-7)
    figures = calibration_figures(p.log(), labels, bins=1)
    assert figures["class_ece"] == pytest.approx(sum(expected) / 3, abs=1e-6)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["confidence"] == pytest.approx(1.9 / 3)
    assert figures["ece"] == pytest.approx(abs(2 - 1.9) / 3, abs=1e-6)
    assert figures["nll"] == pytest.approx(-math.log(0.7 * 0.6 * 0.2) / 3, rel=1e-5)
    squares = (0.09 + 0.04 + 0.01) + (0.01 + 0.16 + 0.09) + (0.04 + 0.64 + 0.36)
    assert figures["brier"] == pytest.approx(squares / 3, rel=1e-5)


def test_refusals() -> None:
    for wrong, text in (
        ((torch.tensor([1.5]), torch.tensor([True])), r"in \[0, 1\]"),
        ((torch.zeros(0), torch.zeros(0)), "at least one case"),
        ((torch.zeros(3), torch.zeros(2)), "N = 3"),
        ((torch.tensor([float("nan")]), torch.ones(1)), "finite"),
    ):
        with pytest.raises(InputError, match=text):
            calibration_error(*wrong)
