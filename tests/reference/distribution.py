"""Slow, obvious twins of distribution matching: sums over images and frequencies, and complex numbers."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import torch
from torch import Tensor


def mean_distance(real: Tensor, synthetic: Tensor) -> float:
    """Σ_d (mean_i real[i, d] − mean_j synthetic[j, d])² in Python numbers."""
    means = [[sum(column) / len(column) for column in zip(*rows.tolist(), strict=True)] for rows in (real, synthetic)]
    return sum((a - b) ** 2 for a, b in zip(*means, strict=True))


def cf_distance(real: Tensor, synthetic: Tensor, frequencies: Tensor, alpha: float) -> float:
    """mean_t √(α (|Φ| − |Ψ|)² + (1 − α) 2 (|Φ||Ψ| − Re Φ Re Ψ − Im Φ Im Ψ)), Φ(t) = mean exp(j ⟨t, z / ‖z‖⟩)."""

    def phi(rows: Tensor, t: list[float]) -> complex:
        values = []
        for z in rows.tolist():
            length = math.sqrt(sum(number**2 for number in z))
            values.append(cmath.exp(1j * sum(a * b / length for a, b in zip(t, z, strict=True))))
        return sum(values) / len(values)

    total = 0.0
    for t in frequencies.tolist():
        a, b = phi(real, t), phi(synthetic, t)
        phase = 2 * (abs(a) * abs(b) - a.real * b.real - a.imag * b.imag)
        total += math.sqrt(alpha * (abs(a) - abs(b)) ** 2 + (1 - alpha) * max(phase, 0.0))
    return total / len(frequencies)


def finite_differences(function: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-6) -> Tensor:
    """∂f/∂x, one number of x after the other, by central differences."""
    found = torch.zeros_like(x)
    for place in range(x.numel()):
        ends = []
        for sign in (1, -1):
            moved = x.clone()
            moved.view(-1)[place] += sign * step
            ends.append(float(function(moved)))
        found.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    return found
