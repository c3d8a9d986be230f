"""Colour refinement against computation trees written out: invariants 1 to 8 of Mirage's specification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.trees import explicit_tree, levels_by_hand, random_graphs, tree_size

from dd.data.graphs import refine
from dd.data.graphs.codes import Codes, fit_codes
from dd.data.graphs.graphs import GraphSplit, graph_split
from dd.data.graphs.refine import Collision, Refiner, rows_of
from dd.errors import InputError

KINDS = [
    pytest.param({}, id="plain"),
    pytest.param({"edge_features": (2,)}, id="edge labels"),
    pytest.param({"directed": True}, id="directed"),
    pytest.param({"directed": True, "edge_features": (2, 2), "features": (2, 2)}, id="directed, tuples"),
]


def ids_of(split: GraphSplit, codes: Codes, depth: int, leaf_degree: bool = False) -> list[np.ndarray]:
    return list(Refiner(depth).add(rows_of(split, codes, leaf_degree)))


def same_partition(a: object, b: object) -> bool:
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


def graph(
    edges: list[tuple[int, int]], nodes: int, directed: bool = False, labels: list[int] | None = None
) -> GraphSplit:
    both = edges if directed else [*edges, *((b, a) for a, b in edges)]
    return graph_split(
        torch.tensor(labels or [0] * nodes)[:, None],
        torch.tensor(both, dtype=torch.int64).reshape(-1, 2).t(),
        torch.zeros(len(both), 0, dtype=torch.int64),
        torch.tensor([0, nodes]),
        torch.tensor([0]),
    )


def multiset(split: GraphSplit, depth: int) -> list[tuple[int, ...]]:
    codes = fit_codes(split)
    return sorted(explicit_tree(split, codes, v, depth) for v in range(split.num_nodes))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("leaf_degree", [False, True])
def test_ids_are_equal_where_written_out_trees_are(options: dict[str, object], leaf_degree: bool) -> None:
    split = random_graphs(1, [5, 7, 6, 3], **options)
    codes = fit_codes(split)
    _, by_hand = levels_by_hand(split, codes, 3, leaf_degree)
    for own, twin in zip(ids_of(split, codes, 3, leaf_degree), by_hand, strict=True):
        assert same_partition(own, twin)


@pytest.mark.parametrize("options", KINDS)
def test_tables_hold_the_levels_of_the_twin(options: dict[str, object]) -> None:
    split = random_graphs(2, [6, 6], **options)
    codes = fit_codes(split)
    refiner = Refiner(2)
    ids = refiner.add(rows_of(split, codes))
    levels, by_hand = levels_by_hand(split, codes, 2)
    to_hand = [dict(zip(a.tolist(), b.tolist(), strict=True)) for a, b in zip(ids, by_hand, strict=True)]
    for d, (table, level) in enumerate(zip(refiner.tables(), levels, strict=True)):
        assert len(table) == len(level)
        for i in range(len(table)):
            j = to_hand[d][i]
            assert table.label[i] == level.label[j]
            runs = slice(table.ptr[i], table.ptr[i + 1])
            hand = slice(int(level.ptr[j]), int(level.ptr[j + 1]))
            if d:
                assert to_hand[d - 1][int(table.trunc[i])] == level.trunc[j]
                own = {
                    (int(e), to_hand[d - 1][int(c)], int(n))
                    for e, c, n in zip(table.edge[runs], table.child[runs], table.count[runs], strict=True)
                }
                assert own == set(
                    zip(level.edge[hand].tolist(), level.child[hand].tolist(), level.count[hand].tolist(), strict=True)
                )


def test_order_of_nodes_and_edges_and_duplicates_do_not_matter() -> None:
    split = random_graphs(3, [8], edge_features=(2,))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    place = torch.empty(8, dtype=torch.int64)
    place[order] = torch.arange(8)
    edges = place[split.edge_index]
    again = torch.cat([edges, edges[:, :4]], dim=1)
    moved = graph_split(
        split.x[order],
        again.flip(1),
        torch.cat([split.edge_attr, split.edge_attr[:4]]).flip(0),
        split.ptr,
        split.labels,
    )
    assert moved.num_edges == split.num_edges
    codes = fit_codes(split)
    one, two = Refiner(3), Refiner(3)
    a, b = one.add(rows_of(split, codes)), two.add(rows_of(moved, codes))
    for d in range(4):
        assert sorted(one.tables()[d].hash[a[d]]) == sorted(two.tables()[d].hash[b[d]])


def test_graphs_added_together_or_apart_get_the_same_classes() -> None:
    split = random_graphs(4, [6, 5, 7, 4, 6])
    codes = fit_codes(split)
    together = ids_of(split, codes, 3)
    refiner = Refiner(3)
    apart = [refiner.add(rows_of(split.slice(i, i + 1), codes)) for i in range(len(split))]
    for d in range(4):
        assert same_partition(together[d], np.concatenate([a[d] for a in apart]))
        assert len(refiner.tables()[d]) == together[d].max() + 1


def test_truncation_and_monotony() -> None:
    split = random_graphs(5, [9, 8])
    refiner = Refiner(4)
    ids = refiner.add(rows_of(split, fit_codes(split)))
    tables = refiner.tables()
    for d in range(1, 5):
        assert (tables[d].trunc[ids[d]] == ids[d - 1]).all()
        assert len(tables[d]) >= len(tables[d - 1])


def test_sizes_are_counts_of_walks() -> None:
    split = random_graphs(6, [7], isolated=0)
    codes = fit_codes(split)
    adjacency = torch.zeros(7, 7, dtype=torch.int64)
    adjacency[split.edge_index[0], split.edge_index[1]] = 1
    walks, power = torch.ones(7, dtype=torch.int64), torch.eye(7, dtype=torch.int64)
    for _ in range(3):
        power = power @ adjacency
        walks += power.sum(0)
    assert [tree_size(explicit_tree(split, codes, v, 3)) for v in range(7)] == walks.tolist()
    refiner = Refiner(3)
    ids = refiner.add(rows_of(split, codes))
    sizes = np.ones(len(refiner.tables()[0]), np.int64)
    for table in refiner.tables()[1:]:
        sizes = np.array(
            [
                1 + sum(table.count[r] * sizes[table.child[r]] for r in range(table.ptr[i], table.ptr[i + 1]))
                for i in range(len(table))
            ]
        )
    assert sizes[ids[3]].tolist() == walks.tolist()


def test_six_ring_and_two_triangles_look_alike() -> None:
    ring = graph([(i, (i + 1) % 6) for i in range(6)], 6)
    triangles = graph([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)], 6)
    codes = fit_codes(ring)
    refiner = Refiner(3)
    for a, b in zip(refiner.add(rows_of(ring, codes)), refiner.add(rows_of(triangles, codes)), strict=True):
        assert sorted(a) == sorted(b)


def test_directed_path_follows_in_edges_and_walks_go_back() -> None:
    path = graph([(0, 1), (1, 2)], 3, directed=True, labels=[0, 1, 2])
    assert explicit_tree(path, fit_codes(path), 2, 2) == (2, ((0, (1, ((0, (0, 0)),))),))
    back = graph([(1, 0), (2, 1)], 3, directed=True, labels=[0, 1, 2])
    assert multiset(path, 2) != multiset(back, 2)
    edge = graph([(0, 1)], 2)
    refiner = Refiner(2)
    ids = refiner.add(rows_of(edge, fit_codes(edge)))
    assert explicit_tree(edge, fit_codes(edge), 0, 2) == (0, ((0, (0, ((0, (0, 0)),))),))  # three nodes in a row
    assert ids[2].tolist() == [0, 0]


def test_isolated_node_has_a_tree_of_one_node() -> None:
    split = graph([(0, 1)], 3)
    refiner = Refiner(2)
    ids = refiner.add(rows_of(split, fit_codes(split)))
    table = refiner.tables()[2]
    assert table.ptr[ids[2][2] + 1] == table.ptr[ids[2][2]]
    assert ids[2][2] != ids[2][0]


def test_a_star_is_one_run() -> None:
    leaves = 100_000
    star = graph([(0, i) for i in range(1, leaves + 1)], leaves + 1)
    refiner = Refiner(3)
    ids = refiner.add(rows_of(star, fit_codes(star)))
    table = refiner.tables()[3]
    assert len(table) == 2
    assert len(table.child) == 2
    assert table.count[table.ptr[ids[3][0]]] == leaves


def test_find_knows_the_trees_that_were_added_and_no_others() -> None:
    train, test = random_graphs(7, [6, 6, 6]), random_graphs(8, [6, 6, 7, 8])
    codes = fit_codes(train)
    refiner = Refiner(2)
    own = refiner.add(rows_of(train, codes))
    again = Refiner.of_tables(refiner.tables(), salt=3)
    for a, b in zip(own, again.find(rows_of(train, codes)), strict=True):
        assert (a == b).all()
    known = {explicit_tree(train, codes, v, 2): int(own[2][v]) for v in range(train.num_nodes)}
    wanted = [known.get(explicit_tree(test, codes, v, 2), -1) for v in range(test.num_nodes)]
    assert again.find(rows_of(test, codes))[2].tolist() == wanted
    assert -1 in wanted
    assert max(wanted) >= 0


def test_a_hash_is_never_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_graphs(9, [8, 8, 8])
    codes = fit_codes(split)
    whole = refine.mix
    monkeypatch.setattr(refine, "mix", lambda x: whole(x) & np.uint64(0x7))
    with pytest.raises(Collision):
        Refiner(2).add(rows_of(split, codes))
    monkeypatch.setattr(refine, "mix", lambda x: whole(x) & np.uint64(0))
    none = torch.zeros(1, 0, dtype=torch.int64)
    two = Codes("features", (torch.tensor([0, 1]),), torch.tensor([[1], [2]]), (), none)
    known = Refiner(0)
    known.add(rows_of(graph([(0, 1)], 2, labels=[0, 0]), two))
    with pytest.raises(Collision):  # with a tree of an earlier part
        known.add(rows_of(graph([(0, 1)], 2, labels=[1, 1]), two))
    assert known.find(rows_of(graph([(0, 1)], 2, labels=[1, 1]), two))[0].tolist() == [-1, -1]


def test_too_many_distinct_trees_are_refused() -> None:
    split = random_graphs(10, [9, 9])
    with pytest.raises(InputError, match=r"`max_distinct` = 4 trees of one depth are exceeded\. Use a smaller `depth`"):
        Refiner(2, max_distinct=4).add(rows_of(split, fit_codes(split)))
