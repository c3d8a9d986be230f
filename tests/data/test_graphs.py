"""Graphs in memory: splits end to end against loops, and lists of `Data`."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reference.graphs import a_split, contents, some_graphs
from torch import Tensor

from dd.data import GraphSplit, graph_split, load_graphs
from dd.data.graphs.bins import as_features
from dd.data.graphs.splits import held_out_rows, published_rows, random_rows
from dd.data.kinds import about, is_graph_data
from dd.errors import InputError
from dd.run.resolve import load_real


def test_split_is_what_was_given() -> None:
    made = load_graphs(given := some_graphs(12, 1), split=None, role="evaluate").test
    assert made is not None
    for (label, x, edges), one in zip(contents(made), given, strict=True):
        assert label == int(one.y)
        assert x == one.x.tolist()
        assert edges == sorted(
            (*ends, z) for ends, z in zip(one.edge_index.t().tolist(), one.edge_attr.tolist(), strict=True)
        )
    assert made.num_nodes == sum(one.num_nodes for one in given)
    assert made.num_edges == sum(one.edge_index.shape[1] for one in given)


def test_offsets_degrees_and_owners_against_loops() -> None:
    split = a_split()
    degree, owner, ends = [0] * split.num_nodes, [], [0]
    for i in range(len(split)):
        owner += [i] * int(split.ptr[i + 1] - split.ptr[i])
    for _, t in split.edge_index.t().tolist():
        degree[t] += 1
    for i in range(len(split)):
        ends.append(ends[-1] + sum(owner[t] == i for t in split.edge_index[1].tolist()))
    assert split.degree.tolist() == degree
    assert split.graph.tolist() == owner
    assert split.edge_ptr.tolist() == ends


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 2], [11, 2, 2, 7], list(range(11, -1, -1))])
def test_subset_against_a_loop(rows: list[int]) -> None:
    split = a_split()
    whole, part = contents(split), split.subset(torch.tensor(rows, dtype=torch.int64))
    assert contents(part) == [whole[i] for i in rows]
    order = (part.edge_index[1] * max(part.num_nodes, 1) + part.edge_index[0]).tolist()
    assert order == sorted(order)


@pytest.mark.parametrize(("first", "last"), [(0, 12), (3, 9), (5, 5), (0, 1), (11, 12)])
def test_slice_against_subset(first: int, last: int) -> None:
    split = a_split()
    assert contents(split.slice(first, last)) == contents(split.subset(torch.arange(first, last)))


def parts(split: GraphSplit) -> tuple[Tensor, ...]:
    return split.x, split.edge_index, split.edge_attr, split.ptr, split.labels


def test_order_and_duplicates_of_edges_do_not_matter() -> None:
    split = a_split()
    for seed in range(5):
        order = torch.tensor(random.Random(seed).choices(range(split.num_edges), k=40))
        rows = torch.cat([torch.arange(split.num_edges), order])
        rows = rows[torch.tensor(random.Random(seed).sample(range(len(rows)), len(rows)))]
        again = graph_split(split.x, split.edge_index[:, rows], split.edge_attr[rows], split.ptr, split.labels)
        assert all(torch.equal(a, b) for a, b in zip(parts(again), parts(split), strict=True))


def test_parallel_edges_with_other_features_are_kept() -> None:
    index = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 1]])
    attr = torch.tensor([[0], [0], [1], [0]])
    one = graph_split(torch.zeros(2, 0).long(), index, attr, torch.tensor([0, 2]), torch.tensor([0]))
    assert Counter(zip(*one.edge_index.tolist(), one.edge_attr[:, 0].tolist(), strict=True)) == Counter(
        [(0, 1, 0), (0, 1, 1), (1, 0, 0)]
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ptr": torch.tensor([0, 2])}, "`ptr`"),
        ({"ptr": torch.tensor([0, 3, 2])}, "`ptr`"),
        ({"ptr": torch.tensor([0, 2, 3])}, "`ptr` must be to end"),
        ({"edge_index": torch.tensor([[0], [3]])}, "edges within one graph"),
        ({"edge_index": torch.tensor([[0], [4]])}, "nodes 0 … 3"),
        ({"edge_index": torch.tensor([[0, 1], [1, 0]])}, "E = 1"),
    ],
)
def test_split_refuses(change: dict[str, Tensor], text: str) -> None:
    fine = {
        "x": torch.zeros(4, 1).long(),
        "edge_index": torch.tensor([[0], [1]]),
        "edge_attr": torch.zeros(1, 0).long(),
        "ptr": torch.tensor([0, 2, 4]),
        "labels": torch.tensor([0, 1]),
    }
    graph_split(**fine)
    with pytest.raises(InputError, match=text):
        graph_split(**{**fine, **change})


def test_fingerprint_is_of_the_content() -> None:
    a, b = load_graphs(some_graphs()), load_graphs(some_graphs())
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != load_graphs(some_graphs(), split=1).fingerprint
    assert a.fingerprint != load_graphs(some_graphs(), classes=["no", "yes"]).fingerprint
    assert a.fingerprint != load_graphs(some_graphs(seed=3)).fingerprint
    assert a.all_train() is a


# Splits


@pytest.mark.parametrize("n", [5, 20, 188, 1113, 1178, 4110])
def test_random_rows_are_those_of_numpy(n: int) -> None:
    rows, order = random_rows(n, 3), np.random.RandomState(3).permutation(n)
    a, b = int(0.8 * n), int(0.9 * n)
    for got, expected in zip(rows, (order[:a], order[a:b], order[b:]), strict=True):
        assert (got.tolist() if got is not None else []) == sorted(expected.tolist())


@pytest.mark.parametrize(("kind", "n", "sizes"), [("torch", 4110, (3288, 411, 411)), ("numpy", 1178, (942, 118, 118))])
def test_published_rows(kind: str, n: int, sizes: tuple[int, int, int]) -> None:
    rows = published_rows(kind, n)
    assert tuple(len(part) for part in rows if part is not None) == sizes
    assert sorted(torch.cat([part for part in rows if part is not None]).tolist()) == list(range(n))


def test_published_shuffle_is_that_of_a_seeded_global_stream() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        order = torch.randperm(50)
    _, val, test = published_rows("torch", 50)
    assert val is not None
    assert test is not None
    assert (test.tolist(), val.tolist()) == (sorted(order[:5].tolist()), sorted(order[5:10].tolist()))


def test_held_out_rows() -> None:
    labels = torch.tensor([0] * 40 + [1] * 5 + [2] + [0, 1])
    train, val, test = held_out_rows(labels, torch.arange(46), torch.tensor([46, 47]), 3)
    assert val is not None
    assert torch.bincount(labels[val], minlength=3).tolist() == [4, 1, 0]
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(46))
    assert test is not None
    assert test.tolist() == [46, 47]


def test_global_streams_are_left_alone() -> None:
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    load_graphs(some_graphs())
    published_rows("torch", 50)
    assert torch.equal(before, torch.get_rng_state())
    assert (state == np.random.get_state()[1]).all()  # type: ignore[union-attr]


# Lists


def test_a_list_is_drawn_and_the_same_for_both_roles() -> None:
    real = load_graphs(given := some_graphs(40), split=2)
    assert real.rule == "random"
    assert real.split == 2
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [32, 4, 4]
    assert real.fingerprint == load_graphs(given, split=2, role="evaluate").fingerprint
    whole = load_graphs(given, split=None, role="evaluate").test
    assert whole is not None
    rows = random_rows(40, 2)
    assert contents(real.train) == [contents(whole)[i] for i in rows.train.tolist()]


def test_all_of_a_list() -> None:
    train = load_graphs(some_graphs(40), split=None)
    assert (len(train.train), len(train.val or ()), train.test, train.rule) == (36, 4, None, "given")
    test = load_graphs(some_graphs(40), split=None, role="evaluate")
    assert (len(test.train), test.val, len(test.test or ())) == (0, None, 40)


def test_tuples_of_lists() -> None:
    a, b, c = some_graphs(30, 1), some_graphs(6, 2), some_graphs(8, 3)
    real = load_graphs((a, c))
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [26, 4, 8]
    real = load_graphs((a, b, c))
    assert [len(part) for part in (real.train, real.val, real.test) if part is not None] == [30, 6, 8]
    assert real.rule == "given"
    assert real.test is not None
    assert contents(real.test) == contents(load_graphs(c, split=None, role="evaluate").test or real.train)


def test_pyg_data_and_plain_attributes_are_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
        from torch_geometric.data import Data
    plain = some_graphs()
    real = load_graphs([Data(x=g.x, edge_index=g.edge_index, edge_attr=g.edge_attr, y=g.y) for g in plain])
    assert real.fingerprint == load_graphs(plain).fingerprint


def pyg(plain: list[SimpleNamespace]) -> list[Any]:
    from torch_geometric.data import Data

    names = ("x", "edge_index", "edge_attr", "y", "num_nodes")
    return [Data(**{name: getattr(one, name) for name in names}) for one in plain]


def sets_of(given: list[Any]) -> dict[str, Any]:
    """The same PyG graphs in everything that holds them."""
    from torch_geometric.data import Batch, InMemoryDataset
    from torch_geometric.data import Dataset as PygDataset

    class InMemory(InMemoryDataset):  # its `edge_index` is that of all graphs
        def __init__(self) -> None:
            super().__init__(None)
            self.data, self.slices = self.collate(given)

    class OnDisk(PygDataset):
        def len(self) -> int:
            return len(given)

        def get(self, idx: int) -> Any:
            return given[idx]

    return {
        "list": given,
        "tuple": tuple(given),
        "memory": InMemory(),
        "disk": OnDisk(),
        "batch": Batch.from_data_list(given),
    }


def test_every_container_of_pyg_graphs_is_the_list() -> None:
    from torch.utils.data import ConcatDataset, Subset

    given, n = pyg(some_graphs(40)), 30
    expected = {role: load_graphs(given, role=role).fingerprint for role in ("distill", "evaluate")}
    part = load_graphs(given[:n]).fingerprint
    parts = {
        k: load_graphs((given[:n], given[n:])[:k] if k == 2 else (given[:20], given[20:n], given[n:])) for k in (2, 3)
    }
    for name, made in sets_of(given).items():
        for role, print_ in expected.items():
            assert load_graphs(made, role=role).fingerprint == print_, (name, role)
        assert about(made) == ("graphs", load_graphs(made).name, False), name
        slices = [made[:n], Subset(made, range(n))]
        if name in ("memory", "disk"):
            slices += [made[torch.arange(n)], made[np.arange(n)], made[torch.arange(40) < n], made[list(range(n))]]
            slices += [ConcatDataset([made[:10], made[10:n]])]
        for cut in slices:
            assert load_graphs(cut).fingerprint == part, name
        for pair in ((made[:n], made[n:]), [Subset(made, range(n)), Subset(made, range(n, 40))], (made[:n], given[n:])):
            assert is_graph_data(pair), name
            assert load_graphs(pair).fingerprint == parts[2].fingerprint, name
            assert load_graphs(pair, role="evaluate").fingerprint == parts[2].fingerprint, name
        assert load_graphs((made[:20], made[20:n], made[n:])).fingerprint == parts[3].fingerprint, name


def test_what_holds_no_list_of_graphs_is_refused() -> None:
    from torch_geometric.loader import DataLoader

    given = pyg(some_graphs(40))
    for loader in (DataLoader(given, 4), torch.utils.data.DataLoader(given, 4, collate_fn=list)):
        for load in (load_graphs, load_real):
            with pytest.raises(InputError, match=r"got DataLoader\. Give the data set that it reads: `data\.dataset`"):
                load(loader)
        assert load_real(loader.dataset).fingerprint == load_graphs(given).fingerprint
    with pytest.raises(InputError, match=r"Read it: `list\(data\)`"):
        load_graphs(one for one in given)
    for load in (load_graphs, load_real):
        with pytest.raises(InputError, match="`data` must be many graphs with a class each; got one graph"):
            load(given[0])
        with pytest.raises(InputError, match=r"`data\[0\]` must be a graph .*; got list\. Give a PyG dataset or list"):
            load((given[:10], given[10:20], given[20:30], given[30:]))
        assert load({"train": given[:30], "test": given[30:]}).fingerprint == load((given[:30], given[30:])).fingerprint


def test_images_are_no_graphs() -> None:
    class Breaks:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Any:
            raise OSError("no file")

    x = torch.zeros(4, 3, 2, 2)
    for data in ((x, x[:, 0, 0, 0]), (x.numpy(), [0, 1, 0, 1]), [(x[0], 0)], [], (), Breaks(), None, 7, {}, "digits"):
        assert not is_graph_data(data)


def test_graphs_without_features() -> None:
    real = load_graphs(some_graphs(features=False))
    assert real.train.x.shape == (real.train.num_nodes, 0)
    assert real.train.edge_attr.shape == (real.train.num_edges, 0)
    assert real.node_names == ()


def test_one_hot_and_whole_floats_are_categories() -> None:
    plain = some_graphs()
    for one in plain:
        one.x, one.edge_attr = one.x[:, 0], one.edge_attr
    real = load_graphs(plain)
    for one in plain:
        one.x = torch.nn.functional.one_hot(one.x, 4).float()
        one.edge_attr = torch.nn.functional.one_hot(one.edge_attr, 3).double()
    again = load_graphs(plain)
    assert real.train.x.dtype == again.train.x.dtype == torch.int64
    assert real.fingerprint == again.fingerprint


def test_features_that_are_not_one_hot_stay() -> None:
    two_hot = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert torch.equal(as_features(two_hot, "x"), two_hot)
    assert as_features(torch.tensor([[0.5, 1.0]]), "x").dtype == torch.float32
    assert torch.equal(as_features(torch.ones(3, 1), "x"), torch.ones(3, 1).long())
    assert torch.equal(as_features(torch.tensor([[True, False]]), "x"), torch.tensor([[0]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_refused(bad: float) -> None:
    given = some_graphs()
    given[3].x = given[3].x.float() + torch.tensor([bad, 0.0])
    with pytest.raises(InputError, match="`x` must be finite"):
        load_graphs(given)
