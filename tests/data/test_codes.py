"""Labels of nodes and edges: tuples of features as one integer, against dictionaries."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from dd.data import Codes, GraphSplit, fit_codes, graph_split
from dd.errors import InputError


def a_split(rows: list[list[int]], edges: list[tuple[int, int]] = (), kinds: list[list[int]] = ()) -> GraphSplit:  # type: ignore[assignment]
    """One graph with these node features and directed edges."""
    index = torch.tensor(list(edges), dtype=torch.int64).reshape(-1, 2).t()
    attr = torch.tensor(list(kinds), dtype=torch.int64).reshape(len(edges), -1 if kinds else 0)
    x = torch.tensor(rows, dtype=torch.int64)
    return graph_split(x, index, attr, torch.tensor([0, len(x)]), torch.tensor([0]))


def random_rows(seed: int, n: int, columns: int, values: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randint(-values, values) for _ in range(columns)] for _ in range(n)]


@pytest.mark.parametrize(("columns", "values"), [(1, 3), (3, 1), (4, 50), (9, 2), (90, 1), (70, 3), (40, 10**6)])
def test_labels_against_a_dictionary(columns: int, values: int) -> None:
    train, test = random_rows(0, 60, columns, values), random_rows(1, 60, columns, values)
    train += train[:20]
    test += train[:30] + [[*row[:-1], values + 1] for row in train[:5]]
    codes = fit_codes(a_split(train))
    table = {row: i for i, row in enumerate(sorted({tuple(row) for row in train}))}
    assert len(codes.table) == len(table)
    assert codes.nodes(a_split(train)).tolist() == [table[tuple(row)] for row in train]
    assert codes.nodes(a_split(test)).tolist() == [table.get(tuple(row), len(table)) for row in test]


def test_fields_and_unseen_values() -> None:
    codes = fit_codes(a_split([[5, 0], [9, 0], [5, 1]]))
    assert codes.kind == "features"
    assert [values.tolist() for values in codes.values] == [[5, 9], [0, 1]]
    assert codes.sizes == (3, 3)
    assert codes.table.tolist() == [[1, 1], [1, 2], [2, 1]]
    other = a_split([[9, 0], [9, 1], [7, 0], [4, 3]])
    assert codes.node_fields(other).tolist() == [[2, 1], [2, 2], [0, 1], [0, 0]]
    assert codes.nodes(other).tolist() == [2, 3, 3, 3]  # a tuple that is new is unseen, though its values are not


def test_edge_labels() -> None:
    edges = [(0, 1), (1, 0), (1, 2), (2, 1)]
    codes = fit_codes(a_split([[0]] * 3, edges, [[4, 1], [4, 1], [7, 1], [7, 0]]))
    split = a_split([[0]] * 3, edges, [[7, 1], [4, 0], [4, 1], [5, 1]])
    assert codes.edge_table.tolist() == [[1, 2], [2, 1], [2, 2]]
    by_ends = dict(zip(zip(*split.edge_index.tolist(), strict=True), codes.edges(split).tolist(), strict=True))
    assert by_ends == {(0, 1): 2, (1, 0): 3, (1, 2): 0, (2, 1): 3}


def test_no_edge_features_are_one_label() -> None:
    split = a_split([[0]] * 3, [(0, 1), (1, 2)])
    codes = fit_codes(split)
    assert codes.edge_table.shape == (1, 0)
    assert codes.edge_sizes == ()
    assert codes.edges(split).tolist() == [0, 0]


def test_degree_and_constant_labels() -> None:
    split = a_split([[3], [4], [5], [6]], [(0, 1), (2, 1), (1, 0), (3, 1)])
    degree = fit_codes(split, "degree")
    assert [values.tolist() for values in degree.values] == [[0, 1, 3]]
    assert degree.nodes(split).tolist() == [1, 2, 0, 0]
    assert degree.nodes(a_split([[0]] * 4, [(0, 1), (2, 1)])).tolist() == [0, 3, 0, 0]
    constant = fit_codes(split, "constant")
    assert constant.nodes(split).tolist() == [0, 0, 0, 0]
    bare = replace(split, x=torch.zeros(4, 0, dtype=torch.int64))
    assert fit_codes(bare).kind == "degree"
    assert fit_codes(split).kind == "features"


def test_order_of_nodes_does_not_change_the_tables() -> None:
    rows = random_rows(3, 50, 3, 4)
    a, b = fit_codes(a_split(rows)), fit_codes(a_split(rows[::-1]))
    assert torch.equal(a.table, b.table)
    assert all(torch.equal(x, y) for x, y in zip(a.values, b.values, strict=True))


def test_other_graphs_may_have_floats() -> None:
    codes = fit_codes(a_split([[1], [2]]))
    other = replace(a_split([[0], [0], [0]]), x=torch.tensor([[1.0], [1.5], [2.0]]))
    assert codes.nodes(other).tolist() == [0, 2, 1]


def test_refusals() -> None:
    split = a_split([[0], [1]], [(0, 1)], [[2]])
    with pytest.raises(InputError, match="`node_label` must be `auto`"):
        fit_codes(split, "colour")
    bare = replace(split, x=torch.zeros(2, 0, dtype=torch.int64))
    with pytest.raises(InputError, match="`degree` or `constant`"):
        fit_codes(bare, "features")
    floats = replace(split, x=torch.tensor([[0.5], [1.0]]))
    with pytest.raises(InputError, match=r"categorical node features.*bins=8"):
        fit_codes(floats)
    assert fit_codes(floats, "degree").kind == "degree"
    with pytest.raises(InputError, match="categorical edge features"):
        fit_codes(replace(split, edge_attr=torch.tensor([[0.5]])))
    codes = fit_codes(split)
    assert isinstance(codes, Codes)
    with pytest.raises(InputError, match="of 1 features, as in training; got 2"):
        codes.nodes(replace(split, x=torch.zeros(2, 2, dtype=torch.int64)))
