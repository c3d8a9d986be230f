"""Features that go along edges: the operators of graph networks as sparse matrices, and their powers on features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from dd.base.shapes import check_word
from dd.data.nodes.graph import NodeGraph

NORMS: Final = ("both", "mean", "sum")
"""`both`: D̃^(-1/2) (A + I) D̃^(-1/2), as in GCN; `mean`: D̃^(-1) (A + I); `sum`: A. D̃ counts a node itself too."""
SCALES: Final = ("rows", "none")


@final
@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix `[n, m]` by its rows, and its transpose, for gradients.

    Attributes:
        matrix: torch's CSR, `[n, m]`.
        transpose: likewise, `[m, n]`; `None` where nobody asks for a gradient.
    """

    matrix: Tensor
    transpose: Tensor | None = None

    def __matmul__(self, dense: Tensor) -> Tensor:
        """`[n, m] @ [m, d]`, with the gradient of `dense`."""
        if self.transpose is None or not dense.requires_grad:
            return self.matrix @ dense
        made: Tensor = _Product.apply(dense, self.matrix, self.transpose)
        return made

    def to(self, device: torch.device, dtype: torch.dtype) -> Sparse:
        """The same on a device, in a floating type."""
        transpose = None if self.transpose is None else self.transpose.to(device, dtype)
        return Sparse(self.matrix.to(device, dtype), transpose)


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one; the matrix is data."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transpose @ grad, None, None


def csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix of entries that are sorted by row, then column."""
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(rows, minlength=shape[0]).cumsum(0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning)
        return torch.sparse_csr_tensor(ptr, columns, values, size=shape, check_invariants=False)


def rows_of(x: Tensor) -> Sparse:
    """Features `[V, F]` as a sparse matrix with its transpose."""
    rows, columns = x.nonzero(as_tuple=True)
    values = x[rows, columns]
    order = torch.argsort(columns, stable=True)
    back = csr(columns[order], rows[order], values[order], (x.shape[1], len(x)))
    return Sparse(csr(rows, columns, values, (len(x), x.shape[1])), back)


def operator(graph: NodeGraph, norm: str, dtype: torch.dtype = torch.float32) -> Sparse | None:
    """One of `NORMS`, `[V, V]`; `None` where it is the identity, as of a graph without edges but for `sum`."""
    nodes, (source, target) = len(graph), graph.edge_index
    if norm != "sum" and not graph.num_edges:
        return None
    if norm == "sum":
        ones = torch.ones(len(source), dtype=dtype)
        matrix = csr(target, source, ones, (nodes, nodes))
        return Sparse(matrix, matrix)
    every = torch.arange(nodes)
    rows, columns = torch.cat([target, every]), torch.cat([source, every])
    order = torch.argsort(rows * nodes + columns)
    rows, columns = rows[order], columns[order]
    degree = graph.degree.to(torch.float64) + 1
    if norm == "both":
        values = (degree[rows] * degree[columns]).rsqrt().to(dtype)
        matrix = csr(rows, columns, values, (nodes, nodes))
        return Sparse(matrix, matrix)
    values, back = (1 / degree[rows]).to(dtype), (1 / degree[columns]).to(dtype)
    return Sparse(csr(rows, columns, values, (nodes, nodes)), csr(rows, columns, back, (nodes, nodes)))


def scaled(x: Tensor, scale: str) -> Tensor:
    """Features as networks read them: `rows` divides each row by the sum of its absolute values, `none` nothing.

    Raises:
        InputError: another word.
    """
    check_word(scale, "scale", SCALES)
    if scale == "none":
        return x
    total = x.abs().sum(1, keepdim=True)
    return x / torch.where(total > 0, total, 1)


def propagated(graph: NodeGraph, hops: int, scale: str, norm: str = "both") -> list[Tensor]:
    """`[x, P x, …, P^hops x]` of the scaled features, each float64 `[V, F]`.

    In float64, so that the order in which neighbours are added up does not show once it is rounded.
    """
    found = [scaled(graph.x.double(), scale)]
    matrix = operator(graph, norm, torch.float64)
    for _ in range(hops):
        found.append(found[-1] if matrix is None else matrix @ found[-1])
    return found
