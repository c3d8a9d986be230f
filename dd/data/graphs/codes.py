"""`Codes`: the labels of nodes and edges, whole tuples of features as one integer, fitted on training graphs only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, final

import torch
from torch import Tensor

from dd.base.shapes import check_word
from dd.data.graphs.graphs import GraphSplit
from dd.errors import refuse

NODE_LABELS: Final = ("auto", "features", "degree", "constant")


@final
@dataclass(frozen=True, eq=False)
class Codes:
    """Labels of nodes and edges.

    A feature's value becomes its place among the sorted values seen in training, from 1 on; 0 is an unseen value. A
    node's label is the place of its tuple of these numbers among the sorted tuples seen in training; the label after
    the last one is that of every unseen tuple.

    Attributes:
        kind: `features`, `degree` (edges into the node) or `constant`: what a node's tuple is made of.
        values: sorted values of each node feature, int64 `[n_f]`, F of them.
        table: int64 `[labels, F]`, the tuple of each node label.
        edge_values, edge_table: likewise for edges; without edge features one empty tuple: `[1, 0]`.
    """

    kind: str
    values: tuple[Tensor, ...]
    table: Tensor
    edge_values: tuple[Tensor, ...]
    edge_table: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers a node feature can take, 0 (unseen) included, per feature."""
        return tuple(len(v) + 1 for v in self.values)

    @property
    def edge_sizes(self) -> tuple[int, ...]:
        """Likewise for edges; empty without edge features."""
        return tuple(len(v) + 1 for v in self.edge_values)

    def node_fields(self, split: GraphSplit) -> Tensor:
        """Tuples of every node, int64 `[V, F]`."""
        return _places(raw_nodes(split, self.kind), self.values)

    def edge_fields(self, split: GraphSplit) -> Tensor:
        """Tuples of every edge, int64 `[E, B]`."""
        return _places(split.edge_attr, self.edge_values)

    def nodes(self, split: GraphSplit) -> Tensor:
        """Label of every node, int64 `[V]`; `len(table)` where the tuple is unseen."""
        return _rows(self.node_fields(split), self.table, self.sizes)

    def edges(self, split: GraphSplit) -> Tensor:
        """Label of every edge, int64 `[E]`; `len(edge_table)` where the tuple is unseen, 0 without features."""
        return _rows(self.edge_fields(split), self.edge_table, self.edge_sizes)


def fit_codes(train: GraphSplit, node_label: str = "auto") -> Codes:
    """Codes of the training graphs.

    Args:
        train: the graphs.
        node_label: `features`, `degree`, `constant`, or `auto`: features where there are any, else the degree.

    Raises:
        InputError: another word; `features` where there are none; continuous features, which must be binned first.
    """
    kind = check_features(train, node_label)
    raw = raw_nodes(train, kind)
    values, table = _fit(raw)
    edge_values, edge_table = _fit(train.edge_attr)
    return Codes(kind, values, table, edge_values, edge_table)


def check_features(train: GraphSplit, node_label: str = "auto") -> str:
    """What nodes are told apart by, `features`, `degree` or `constant`, where the graphs have it.

    Raises:
        InputError: see `fit_codes`.
    """
    check_word(node_label, "node_label", NODE_LABELS)
    kind = ("features" if train.x.shape[1] else "degree") if node_label == "auto" else node_label
    if kind == "features" and not train.x.shape[1]:
        raise refuse("node_label", "`degree` or `constant` for graphs without node features", "'features'")
    continuous = kind == "features" and train.x.is_floating_point()
    for name, is_float in (("node", continuous), ("edge", train.edge_attr.is_floating_point())):
        if is_float and (train.x if name == "node" else train.edge_attr).shape[1]:
            way_out = "Give `dd.load_graphs(data, bins=8)` as the data (quantiles); trees need equality of features."
            raise refuse("data", f"of categorical {name} features", "continuous ones", way_out)
    return kind


def raw_nodes(split: GraphSplit, kind: str) -> Tensor:
    """What a node's tuple is made of, `[V, F]`."""
    if kind == "degree":
        return split.degree[:, None]
    if kind == "constant":
        return torch.zeros(split.num_nodes, 1, dtype=torch.int64)
    return split.x


def _fit(raw: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """(sorted values of each column, sorted distinct rows as places from 1 on)."""
    if not raw.shape[1]:
        return (), torch.zeros(1, 0, dtype=torch.int64)
    values = tuple(_distinct(column) for column in raw.t())
    places = _places(raw, values)
    code = torch.zeros(len(places), dtype=torch.int64)
    for key in _keys(places, tuple(len(v) + 1 for v in values)):
        _, code = torch.unique(key(code), return_inverse=True)
    row = torch.empty(int(code.max()) + 1 if len(code) else 0, dtype=torch.int64)
    row[code] = torch.arange(len(code))
    return values, places[row]


def _distinct(column: Tensor) -> Tensor:
    """Sorted values; small ranges are counted, which takes a tenth of the time of sorting."""
    if not len(column) or column.is_floating_point():
        return torch.unique(column)
    low, high = (int(value) for value in column.aminmax())
    if high - low > len(column):
        return torch.unique(column)
    return torch.bincount(column - low).nonzero().flatten() + low


def _places(raw: Tensor, values: tuple[Tensor, ...]) -> Tensor:
    """Place of each entry among the values of its column, from 1 on; 0 where it is none of them."""
    if raw.shape[1] != len(values):
        raise refuse("data", f"of {len(values)} features, as in training", raw.shape[1])
    places = torch.zeros(raw.shape, dtype=torch.int64)
    for j, known in enumerate(values):
        column = raw[:, j].contiguous()
        if not len(known):
            continue
        if column.dtype != known.dtype:
            column, known = column.double(), known.double()
        found = torch.searchsorted(known, column).clamp(max=len(known) - 1)
        places[:, j] = torch.where(known[found] == column, found + 1, 0)
    return places


def _rows(places: Tensor, table: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Row of `table`, which is sorted, that equals each tuple; `len(table)` where none does."""
    if not places.shape[1]:
        return torch.zeros(len(places), dtype=torch.int64)
    code, seen = torch.zeros(len(places), dtype=torch.int64), torch.full((len(places),), bool(len(table)))
    known = torch.zeros(len(table), dtype=torch.int64)
    for key, known_key in zip(_keys(places, sizes), _keys(table, sizes), strict=True):
        mine = key(code)
        distinct, known = torch.unique(known_key(known), return_inverse=True)
        if not len(distinct):
            continue
        code = torch.searchsorted(distinct, mine).clamp(max=len(distinct) - 1)
        seen = seen & (distinct[code] == mine)
    return torch.where(seen, code, len(table))


def _keys(places: Tensor, sizes: tuple[int, ...]) -> list[Callable[[Tensor], Tensor]]:
    """Functions that join runs of columns to a code of the columns before, one integer a row.

    Applied one after the other, with codes made dense in between, integers rise with the row's lexicographic order, and
    none overflows however many columns there are.
    """
    joined: list[Callable[[Tensor], Tensor]] = []
    start, product, limit = 0, 1, 2**62
    for j, size in enumerate((*sizes, limit)):
        if product * size >= limit:
            joined.append(partial(_join, places[:, start:j], sizes[start:j]))
            start, product, limit = j, 1, 2**31
        product *= size
    return joined


def _join(columns: Tensor, sizes: tuple[int, ...], code: Tensor) -> Tensor:
    for column, size in zip(columns.t(), sizes, strict=True):
        code = code * size + column
    return code
