"""ZCA for flat float64 rows, picture by picture, from its definition. Nothing is shared with `dd.transforms.whiten`."""

from __future__ import annotations

import torch
from torch import Tensor


def fit(pictures: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean `[q]`, T `[q, q]` and T⁻¹ `[q, q]` of pictures `[N, C, H, W]`.

    Σ = Σ_i (x_i − μ)(x_i − μ)ᵀ / (n − 1) = U diag(s) Uᵀ; T = U diag((s + eps)^−½) Uᵀ.
    """
    rows = [picture.double().flatten() for picture in pictures]
    q = rows[0].numel()
    mean = torch.zeros(q, dtype=torch.float64)
    for row in rows:
        mean += row / len(rows)
    covariance = torch.zeros(q, q, dtype=torch.float64)
    for row in rows:
        covariance += torch.outer(row - mean, row - mean) / (len(rows) - 1)
    u, s, _ = torch.linalg.svd(covariance)
    matrix, inverse = torch.zeros_like(covariance), torch.zeros_like(covariance)
    for k in range(q):
        direction = torch.outer(u[:, k], u[:, k])
        matrix += direction * (float(s[k]) + eps) ** -0.5
        inverse += direction * (float(s[k]) + eps) ** 0.5
    return mean, matrix, inverse


def forward(picture: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """(x − μ) T for one picture `[C, H, W]`, one output value at a time."""
    row = picture.double().flatten() - mean
    out = [sum(float(row[i] * matrix[i, j]) for i in range(len(row))) for j in range(len(row))]
    return torch.tensor(out, dtype=torch.float64).view_as(picture)
