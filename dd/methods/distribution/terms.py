"""The statistics of distribution matching: what of a batch's features is compared, and their distance.

A batch is reduced to a summary, so that real images need no graph and are never beside synthetic ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dd.transforms.dsa import DSA, Draw

Statistic = Literal["mean", "cf"]
_TINY = 1e-12
"""Added below roots, whose slope at 0 is infinite."""


def summary(features: Tensor, frequencies: Tensor | None) -> Tensor:
    """What is compared of features `[n, D]`: their mean `[D]`, or their characteristic function `[2, F]`.

    Args:
        features: one row an image.
        frequencies: t `[F, D]` of the characteristic function; `None` for the mean.
    """
    if frequencies is None:
        return features.mean(0)
    phases = unit_rows(features) @ frequencies.T
    return torch.stack((phases.cos().mean(0), phases.sin().mean(0)))


def unit_rows(features: Tensor) -> Tensor:
    """z / ‖z‖ of each row of `[n, D]`; a row of zeros stays one."""
    return features / (features.square().sum(1, keepdim=True) + _TINY).sqrt()


def mean_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """‖μ_real − μ_syn‖² of two means `[D]`: the squared MMD of a linear kernel."""
    return (real - synthetic).square().sum()


def cf_distance(real: Tensor, synthetic: Tensor, amplitude: float) -> Tensor:
    """The mean over t of √(α (|Φ| − |Ψ|)² + (1 − α) · 2 (|Φ||Ψ| − Re Φ Ψ̄)) for characteristic functions `[2, F]`.

    The first term compares moduli, the second phases; their sum is |Φ − Ψ|², so the second is taken as what the first
    leaves of that. At α = ½ this is √½ times the mean |Φ − Ψ|, and moduli are not needed.

    Args:
        real, synthetic: Φ and Ψ, real parts in row 0 and imaginary ones in row 1.
        amplitude: α in [0, 1].
    """
    square = (1 - amplitude) * (real - synthetic).square().sum(0)
    if amplitude != 0.5:
        moduli = [(part.square().sum(0) + _TINY).sqrt() for part in (real, synthetic)]
        square = square + (2 * amplitude - 1) * (moduli[0] - moduli[1]).square()
    return (square.clamp(min=0) + _TINY).sqrt().mean()


def distance(real: Tensor, synthetic: Tensor, statistic: Statistic, amplitude: float) -> Tensor:
    """Of two summaries; `amplitude` is read by `cf`."""
    return mean_distance(real, synthetic) if statistic == "mean" else cf_distance(real, synthetic, amplitude)


def draw_frequencies(count: int, width: int, generator: torch.Generator) -> Tensor:
    """t ~ N(0, I), float32 `[F, D]`."""
    return torch.randn(count, width, generator=generator)


def siamese(dsa: DSA, size: tuple[int, int], generator: torch.Generator) -> Draw:
    """One augmentation for one picture; `spread` gives it to all of a batch."""
    return dsa.draw(1, size, generator)


def spread(draw: Draw, count: int) -> Draw:
    """The same augmentation, with the same numbers, of so many pictures."""
    return draw.rows(torch.zeros(count, dtype=torch.int64))
