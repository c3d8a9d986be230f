"""k-means, hard and fuzzy, of a few thousand rows, with ties that do not depend on chance."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

ROUNDS: Final = 50
"""Rounds at most; most end earlier, when no row changes its cluster."""
BLOCK: Final = 4096
"""Rows whose distances are in memory at once."""


def distances(x: Tensor, centres: Tensor) -> Tensor:
    """Squared Euclidean distances `[N, k]`, at least 0."""
    parts = [(part**2).sum(1, keepdim=True) - 2 * part @ centres.t() + (centres**2).sum(1) for part in x.split(BLOCK)]
    return torch.cat(parts).clamp(min=0)


def k_means(x: Tensor, k: int, generator: torch.Generator, restarts: int = 10, fuzziness: float = 1.0) -> Tensor:
    """The centres of the best of several runs by the sum of squared distances, float64 `[k, F]`, largest cluster first.

    Args:
        x: rows, float64 `[N, F]`, N ≥ k.
        k: clusters, at least 1.
        generator: of the first centres, by k-means++.
        restarts: runs.
        fuzziness: m. With 1 each row is of its nearest centre; above 1 of all of them, by weights
            1 / Σ_l (d_j / d_l)^(1 / (m - 1)) of squared distances d, to the power m (fuzzy c-means).
    """
    if k == 1:
        return x.mean(0, keepdim=True)
    best: tuple[float, Tensor] | None = None
    for _ in range(restarts):
        centres = _refined(x, _seeded(x, k, generator), fuzziness)
        loss = float(distances(x, centres).min(1).values.sum())
        if best is None or loss < best[0] * (1 - 1e-9):
            best = loss, centres
    assert best is not None
    sizes = torch.bincount(distances(x, best[1]).argmin(1), minlength=k)
    return best[1][torch.argsort(sizes, descending=True, stable=True)]


def _seeded(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++: rows drawn by their squared distance to the nearest one that was drawn before."""
    first = int(torch.randint(len(x), (1,), generator=generator))
    rows, near = [first], distances(x, x[first : first + 1])[:, 0]
    for _ in range(1, k):
        total = float(near.sum())
        weights = near if total > 0 else torch.ones(len(x), dtype=x.dtype)
        at = float(torch.rand(1, generator=generator, dtype=torch.float64)) * float(weights.sum())
        row = min(int(torch.searchsorted(weights.cumsum(0), at)), len(x) - 1)
        rows.append(row)
        near = torch.minimum(near, distances(x, x[row : row + 1])[:, 0])
    return x[rows]


def _refined(x: Tensor, centres: Tensor, fuzziness: float) -> Tensor:
    """Lloyd's rounds, or those of fuzzy c-means; a centre that loses all rows stays where it is."""
    before: Tensor | None = None
    for _ in range(ROUNDS):
        away = distances(x, centres)
        weights = _weights(away, fuzziness)
        mass = weights.sum(0)
        made = (weights.t() @ x) / torch.where(mass > 0, mass, 1)[:, None]
        centres = torch.where((mass > 0)[:, None], made, centres)
        nearest = away.argmin(1) if fuzziness == 1 else weights
        if before is not None and torch.allclose(nearest.double(), before.double(), rtol=0, atol=1e-6):
            break
        before = nearest
    return centres


def _weights(away: Tensor, fuzziness: float) -> Tensor:
    """Weight of each row in each cluster, `[N, k]`."""
    if fuzziness == 1:
        return torch.nn.functional.one_hot(away.argmin(1), away.shape[1]).to(away)
    log = -(away.clamp(min=1e-300).log()) / (fuzziness - 1)
    return log.softmax(1) ** fuzziness
