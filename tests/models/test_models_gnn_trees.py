"""Trees, DAGs and graphs give one network the same embeddings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference.gnn import DOUBLE, KINDS, D, dag, graphs, net, plain
from reference.trees import expanded, explicit_tree
from torch import Tensor

from dd.data.graphs.codes import Codes, fit_codes
from dd.data.graphs.graphs import GraphSplit
from dd.errors import InputError
from dd.models import GraphNet, PlainGraphs, Round, build_graph_net, plain_graphs
from dd.models.graphs.gnn import EMBEDDING, Encoder

# ------------------------------------------------------------------------------------ trees, DAGs and graphs agree


def on_trees(made: GraphNet, split: GraphSplit, codes: Codes, depth: int, *, degrees: bool) -> Tensor:
    """Root embeddings of every node's tree, written out as a graph with edges child → parent."""
    forest = expanded(explicit_tree(split, codes, v, depth, leaf_degree=True) for v in range(split.num_nodes))
    given = plain_graphs(codes.table[forest.label], forest.edge_index, codes.edge_table[forest.edge_label])
    given = given.to(dtype=DOUBLE)
    if degrees:  # of a leaf, that of the node it stands for
        carried = forest.degree.double()
        step = given.edges
        step = Round(step.source, step.target, None, carried, carried, None, step.edge)
        given = PlainGraphs(given.tuples, given.node, given.edge_tuples, step)
    return made.nodes(given)[forest.root]


@pytest.mark.parametrize("jk", ["last", "sum"])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("bonds", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_roots_on_the_dag_are_those_on_trees_are_nodes_of_the_graph(
    kind: str, bonds: bool, directed: bool, jk: str
) -> None:
    split, codes = graphs(directed=directed, bonds=bonds)
    made = net(kind, codes, jk=jk, norm="batch")
    given, ids = dag(split, codes, 2)
    weights = torch.randn(split.num_nodes, D, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    ways: list[Callable[[], Tensor]] = [
        lambda: made.nodes(plain(split, codes)),
        lambda: made.roots(given)[ids],
        lambda: on_trees(made, split, codes, 2, degrees=True),
    ]
    wanted = [p for name, p in made.named_parameters() if not name.startswith("classifier")]
    outs = [way() for way in ways]
    grads = [torch.autograd.grad((out * weights).sum(), wanted) for out in outs]
    for out, grad in zip(outs[1:], grads[1:], strict=True):
        torch.testing.assert_close(out, outs[0], rtol=0, atol=1e-10)
        for a, b in zip(grad, grads[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_trees_one_level_short_give_other_roots(kind: str) -> None:
    split, codes = graphs()
    made = net(kind, codes)
    short = on_trees(made, split, codes, 1, degrees=True)
    assert float((short - made.nodes(plain(split, codes))).detach().abs().max()) > 1e-2


def test_gcn_needs_the_degrees_of_leaves() -> None:
    split, codes = graphs()
    made = net("gcn", codes)
    whole = made.nodes(plain(split, codes))
    bare, ids = dag(split, codes, 2, degrees=False)
    for without in (made.roots(bare)[ids], on_trees(made, split, codes, 2, degrees=False)):
        assert float((without - whole).detach().abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["gat", "gin", "sage"])
def test_others_do_not_read_the_degrees_of_leaves(kind: str) -> None:
    split, codes = graphs()
    made = net(kind, codes)
    bare, ids = dag(split, codes, 2, degrees=False)
    torch.testing.assert_close(made.roots(bare)[ids], made.nodes(plain(split, codes)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("jk", ["last", "sum"])
@pytest.mark.parametrize("kind", KINDS)
def test_fewer_layers_read_the_truncations(kind: str, jk: str) -> None:
    split, codes = graphs(bonds=True)
    made = net(kind, codes, layers=1, jk=jk)
    given, ids = dag(split, codes, 3)
    torch.testing.assert_close(made.roots(given)[ids], made.nodes(plain(split, codes)), rtol=0, atol=1e-10)


def test_more_layers_than_the_trees_are_deep_are_refused() -> None:
    split, codes = graphs()
    given, _ = dag(split, codes, 2)
    with pytest.raises(InputError, match=r"`layers` must be at most 2.*got 3.*distil with a larger `depth`"):
        net("gin", codes, layers=3).roots(given)
    with pytest.raises(InputError, match="`layers` must be at most 2"):
        build_graph_net("gin(layers=3)", node_sizes=(3,), edge_sizes=(), classes=2, depth=2, seed=0)


def test_labels_not_seen_in_training() -> None:
    """An unseen value alone is the zero vector, on trees an unseen tuple is zero in every feature."""
    split, _ = graphs()
    codes = fit_codes(split.subset(torch.tensor([0])))
    other = GraphSplit(torch.full_like(split.x, 9), split.edge_index, split.edge_attr, split.ptr, split.labels)
    assert codes.nodes(other).unique().tolist() == [len(codes.table)]
    made = net("gin", codes)
    given, ids = dag(other, codes, 2)
    torch.testing.assert_close(made.roots(given)[ids], made.nodes(plain(other, codes)), rtol=0, atol=1e-10)
    encoder = Encoder((3, 4), D)
    assert not encoder(torch.tensor([[0, 0]])).any()
    torch.testing.assert_close(encoder(torch.tensor([[2, 0]]))[0], encoder.tables[0].weight[2])


@pytest.mark.parametrize("features", [1, 4])
def test_embeddings_start_small(features: int) -> None:
    torch.manual_seed(0)
    encoder = Encoder((400,) * features, 64)
    drawn = encoder(torch.arange(1, 400)[:, None].expand(-1, features)).detach()
    assert float(drawn.std()) == pytest.approx(EMBEDDING, rel=0.02)


def test_a_fresh_network_bends_in_the_degree() -> None:
    """On one label, what tells graphs apart are degrees: a network linear in them could not tell more than their sum.

    Stars of degree 0 to 59 of one label: after a few steps towards a target that is a bump in the degree, the network
    has left the best line behind.
    """
    degrees = torch.arange(60)
    sources, targets, offset = [], [], 0
    for d in degrees.tolist():
        leaves = torch.arange(1, d + 1)
        sources.append(offset + leaves)
        targets.append(torch.full((d,), offset))
        offset += d + 1
    hubs = torch.cumsum(degrees + 1, 0) - degrees - 1
    edges = torch.stack([torch.cat(sources), torch.cat(targets)])
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(degrees + 1, 0)])
    split = GraphSplit(torch.zeros(offset, 1).long(), edges, torch.zeros(edges.shape[1], 0).long(), ptr, degrees * 0)
    codes = fit_codes(split)
    target = (((degrees - 20).abs() < 10) * 1.0)[:, None]
    line = torch.stack([torch.ones(60), degrees.float()], 1)
    straight = float((line @ torch.linalg.lstsq(line, target).solution - target).square().mean())
    made = build_graph_net(
        "gin", node_sizes=codes.sizes, edge_sizes=(), classes=1, depth=1, seed=0, dropout=0.0, dtype=torch.float32
    )
    assert isinstance(made, GraphNet)
    given = plain(split, codes).to(dtype=torch.float32)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(150):
        loss = (made.head(made.nodes(given)[hubs]) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * straight


def test_plain_graphs_keep_every_feature() -> None:
    split, codes = graphs(bonds=True)
    fields = plain_graphs(codes.node_fields(split), split.edge_index, codes.edge_fields(split))
    assert torch.equal(fields.x, codes.node_fields(split))
    assert torch.equal(fields.edge_attr, codes.edge_fields(split))
    assert torch.equal(fields.edge_index, split.edge_index)
    wide = torch.randint(0, 2**40, (6, 3), generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    assert torch.equal(plain_graphs(wide, split.edge_index[:, :0], torch.zeros(0, 0).long()).x, wide)
    assert len(plain_graphs(wide, split.edge_index[:, :0], torch.zeros(0, 0).long()).tuples) == 6
