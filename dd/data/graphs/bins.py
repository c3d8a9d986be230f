"""Features of nodes and edges: categories, or continuous ones cut at quantiles of the training graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from dd.errors import refuse

Columns = tuple[Tensor | None, ...]


@final
@dataclass(frozen=True, eq=False)
class Bins:
    """Thresholds that make categories of continuous features.

    Attributes:
        nodes: of each node feature: rising thresholds float64 `[≤ k − 1]`, or `None` where it is categories already.
        edges: likewise for edge features.
    """

    nodes: Columns
    edges: Columns

    def node_values(self, x: Tensor) -> Tensor:
        """Node features `[V, F]` as int64 categories: the number of thresholds that are at most the value.

        Raises:
            InputError: another number of features, or a value that is no whole number where there are no thresholds.
        """
        return _apply(x, self.nodes, "node")

    def edge_values(self, edge_attr: Tensor) -> Tensor:
        """Edge features `[E, B]`, likewise."""
        return _apply(edge_attr, self.edges, "edge")


def fit_columns(train: Tensor, others: Sequence[Tensor], k: int) -> Columns:
    """Thresholds at the 1/k, …, (k − 1)/k quantiles of the training values of every continuous column.

    Args:
        train: features of the training nodes or edges `[V, F]`.
        others: those of the other splits: a column is continuous if any value of it is no whole number.
        k: bins, at least 2. Equal thresholds are kept once, so a column with few values gets fewer bins.
    """
    if not train.is_floating_point():
        return (None,) * train.shape[1]
    every = torch.cat([train, *(part.to(train.dtype) for part in others)])
    at = torch.arange(1, k, dtype=torch.float64) / k
    columns: list[Tensor | None] = []
    for column, whole in zip(train.t(), (every == every.round()).all(0).tolist(), strict=True):
        columns.append(None if whole else _quantiles(column.double(), at))
    return tuple(columns)


def check_bins(bins: object) -> None:
    """Refuse what is no number of bins.

    Raises:
        InputError: names what was given.
    """
    if isinstance(bins, Bins):
        return
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise refuse("bins", "a whole number of quantile bins, at least 2, or the `bins` of loaded graphs", repr(bins))


def _quantiles(values: Tensor, at: Tensor) -> Tensor:
    """Linear between order statistics; `torch.quantile` refuses more than 16 million values."""
    if not len(values):
        return values
    place = at * (len(values) - 1)
    ordered, low = values.sort().values, place.floor().long()
    high = (low + 1).clamp(max=len(values) - 1)
    return torch.unique(torch.lerp(ordered[low], ordered[high], place - low))


def _apply(values: Tensor, columns: Columns, what: str) -> Tensor:
    if values.shape[1] != len(columns):
        raise refuse("data", f"of {len(columns)} {what} features, as in training", values.shape[1])
    out = torch.empty(values.shape, dtype=torch.int64)
    for j, cuts in enumerate(columns):
        column = values[:, j]
        if cuts is not None:
            out[:, j] = torch.bucketize(column.double().contiguous(), cuts, right=True)
            continue
        if column.is_floating_point() and not bool((column == column.round()).all()):
            raise refuse("data", f"whole numbers in {what} feature {j}, as in training", "continuous ones")
        out[:, j] = column.long()
    return out


def as_features(values: Tensor, argument: str) -> Tensor:
    """Features `[V, F]` as int64 categories where all are whole numbers, else float32.

    Columns that together are one one-hot code (all 0 or 1, one 1 in each row) become one category, the number of the
    column.

    Raises:
        InputError: not two axes, complex, NaN or infinite.
    """
    if values.ndim != 2:
        raise refuse(argument, "a tensor of two axes", f"shape {list(values.shape)}")
    if values.is_complex():
        raise refuse(argument, "integers or floats", str(values.dtype))
    if values.is_floating_point():
        if not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).sum())
            raise refuse(
                argument, "finite", f"{bad} NaN or infinite of {values.numel()} values", "Remove those graphs."
            )
        if not bool((values == values.round()).all()):
            return values.to(torch.float32)
    whole = values.to(torch.int64)
    if whole.shape[1] > 1 and len(whole) and int(whole.min()) == 0 and int(whole.max()) == 1:
        if bool((whole.sum(1) == 1).all()):
            return whole.argmax(1, keepdim=True)
    return whole
