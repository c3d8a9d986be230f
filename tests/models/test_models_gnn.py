"""Graph networks: PyG's layers with the same weights, and roots on a DAG equal to nodes on the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference.trees import expanded, explicit_tree, levels_by_hand, random_graphs
from torch import Tensor, nn

from dd.data.codes import Codes, fit_codes
from dd.data.graphs import GraphSplit
from dd.errors import InputError
from dd.models import (
    GNNS,
    GraphModel,
    GraphNet,
    GraphSpec,
    PlainGraphs,
    Round,
    TreeDag,
    as_graph_spec,
    build_graph_net,
    plain_graphs,
    tree_dag,
)
from dd.models.gnn import EMBEDDING, GAT, GCN, GIN, SAGE, Encoder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
    from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, SAGEConv

D = 8
DOUBLE = torch.float64
KINDS = sorted(GNNS)


def graphs(seed: int = 0, *, directed: bool = False, bonds: bool = False) -> tuple[GraphSplit, Codes]:
    """Three random graphs with an isolated node each."""
    edge_features = (2, 3) if bonds else ()
    split = random_graphs(seed, (7, 5, 6), directed=directed, features=(2, 3), edge_features=edge_features)
    return split, fit_codes(split)


def plain(split: GraphSplit, codes: Codes) -> PlainGraphs:
    fields = plain_graphs(codes.node_fields(split), split.edge_index, codes.edge_fields(split))
    return fields.to(dtype=DOUBLE)


def dag(split: GraphSplit, codes: Codes, depth: int, *, degrees: bool = True) -> tuple[TreeDag, Tensor]:
    """(the DAG of all trees of a depth, the tree of every node); leaves have the degree of their node or none."""
    levels, ids = levels_by_hand(split, codes, depth, leaf_degree=degrees)
    leaf = torch.zeros(len(levels[0]))
    leaf[ids[0]] = split.degree.float() if degrees else leaf[ids[0]]
    return tree_dag(levels, leaf, codes.table, codes.edge_table).to(dtype=DOUBLE), ids[depth]


def net(kind: str, codes: Codes, layers: int = 2, **options: Any) -> GraphNet:
    torch.manual_seed(1)
    made = GraphNet(codes.sizes, codes.edge_sizes, 3, kind=kind, layers=layers, width=D, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases, ε and norms away from their starts
        for table in made.modules():
            if isinstance(table, nn.Embedding):
                table.weight[0] = 0
    return made.double().eval()


# ---------------------------------------------------------------------------------------------- layers against PyG


def inputs(directed: bool) -> tuple[Tensor, Tensor, Tensor, Round]:
    """(x, edge_index, e, the same edges as a round) of graphs with isolated nodes, every edge with its own features."""
    split, _ = graphs(3, directed=directed)
    generator = torch.Generator().manual_seed(4)
    x, e = (torch.randn(n, D, dtype=DOUBLE, generator=generator) for n in (split.num_nodes, split.num_edges))
    degree = split.degree.double()
    source, target = split.edge_index
    return x, split.edge_index, e, Round(source, target, None, degree, degree, None, torch.arange(split.num_edges))


def copy(theirs: nn.Module, names: dict[str, Tensor]) -> nn.Module:
    """PyG's layer with our weights."""
    with torch.no_grad():
        own = dict(theirs.named_parameters())
        assert set(own) == set(names)
        for name, value in names.items():
            own[name].copy_(value.reshape(own[name].shape))
    return theirs.double().eval()


def jitter(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return layer.double().eval()


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("bonds", [False, True])
def test_gin_is_pygs(directed: bool, bonds: bool) -> None:
    x, edge_index, e, step = inputs(directed)
    ours = jitter(GIN(D, bonds))
    mlp = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))
    theirs = GINEConv(mlp, train_eps=True, edge_dim=D) if bonds else GINConv(mlp, train_eps=True)
    names = {f"nn.{n}": p for n, p in ours.mlp.named_parameters()} | {"eps": ours.eps}
    if bonds:
        names |= {"lin.weight": ours.edge.weight, "lin.bias": ours.edge.bias}
    copy(theirs, names)
    expected = theirs(x, edge_index, e) if bonds else theirs(x, edge_index)
    torch.testing.assert_close(ours(x, e if bonds else None, step), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("directed", [False, True])
def test_gcn_is_pygs(directed: bool) -> None:
    x, edge_index, _, step = inputs(directed)
    ours = jitter(GCN(D, False))
    theirs = copy(GCNConv(D, D), {"lin.weight": ours.linear.weight, "bias": ours.linear.bias})
    torch.testing.assert_close(ours(x, None, step), theirs(x, edge_index), rtol=0, atol=1e-10)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("bonds", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_gat_is_pygs(directed: bool, bonds: bool, heads: int) -> None:
    x, edge_index, e, step = inputs(directed)
    ours = jitter(GAT(D, bonds, heads))
    theirs = GATConv(D, D // heads, heads=heads, edge_dim=D if bonds else None, fill_value="mean")
    names = {
        "lin.weight": ours.linear.weight,
        "bias": ours.bias,
        "att_src": ours.att_source,
        "att_dst": ours.att_target,
    }
    if bonds:
        names |= {"lin_edge.weight": ours.edge.weight, "att_edge": ours.att_edge}
    copy(theirs, names)
    expected = theirs(x, edge_index, e if bonds else None)
    torch.testing.assert_close(ours(x, e if bonds else None, step), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("directed", [False, True])
def test_sage_is_pygs(directed: bool) -> None:
    x, edge_index, _, step = inputs(directed)
    ours = jitter(SAGE(D, False))
    names = {"lin_l.weight": ours.linear.weight, "lin_l.bias": ours.linear.bias, "lin_r.weight": ours.root.weight}
    theirs = copy(SAGEConv(D, D, aggr="mean"), names)
    torch.testing.assert_close(ours(x, None, step), theirs(x, edge_index), rtol=0, atol=1e-10)


@pytest.mark.parametrize("directed", [False, True])
def test_edge_features_of_gcn_and_sage_by_a_loop(directed: bool) -> None:
    x, edge_index, e, step = inputs(directed)
    gcn, sage = jitter(GCN(D, True)), jitter(SAGE(D, True))
    degree = step.degree
    for v in range(len(x)):
        found = [(u, gcn.edge(e[i])) for i, (u, t) in enumerate(edge_index.t().tolist()) if t == v]
        total = x[v] / (degree[v] + 1)
        for u, z in found:
            total = total + (x[u] + z) / ((degree[v] + 1) * (degree[u] + 1)).sqrt()
        torch.testing.assert_close(gcn(x, e, step)[v], gcn.linear(total), rtol=0, atol=1e-10)
        found = [(u, sage.edge(e[i])) for i, (u, t) in enumerate(edge_index.t().tolist()) if t == v]
        mean = sum((x[u] + z for u, z in found), torch.zeros(D, dtype=DOUBLE)) / max(len(found), 1)
        torch.testing.assert_close(sage(x, e, step)[v], sage.linear(mean) + sage.root(x[v]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", [GIN(D, True), GCN(D, True), GAT(D, True, 2), SAGE(D, True)])
def test_a_run_of_count_c_is_c_children(layer: nn.Module) -> None:
    """Two targets, four sources, with gradients; scores of hundreds do not overflow."""
    layer = jitter(layer)
    generator = torch.Generator().manual_seed(6)
    x = (200 * torch.randn(4, D, dtype=DOUBLE, generator=generator)).requires_grad_()
    e = torch.randn(3, D, dtype=DOUBLE, generator=generator).requires_grad_()
    count, source, target = torch.tensor([3, 1, 2]), torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1])
    degree, below, own = torch.tensor([4.0, 2.0]).double(), torch.tensor([1.0, 2.0, 3.0, 2.0]).double(), torch.arange(2)
    edge = torch.tensor([0, 1, 2])
    short = Round(source, target, count.double(), degree, below, own, edge)
    long = Round(
        *(t.repeat_interleave(count) for t in (source, target)), None, degree, below, own, edge.repeat_interleave(count)
    )
    first, second = layer(x, e, short), layer(x, e, long)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    weights = torch.randn(first.shape, dtype=DOUBLE, generator=generator)
    wanted = [x, e, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad((out * weights).sum(), wanted) for out in (first, second)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert bool(torch.isfinite(first).all())


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


def test_a_name_can_give_the_size_of_embeddings() -> None:
    small, large = (build(text, node_sizes=(400, 3)).node.tables[0] for text in ("gat", "gat(embedding=1.0)"))
    torch.testing.assert_close(large.weight.detach(), small.weight.detach() / EMBEDDING)
    with pytest.raises(InputError, match="`embedding` must be above 0; got 0"):
        build("gin(embedding=0.0)")


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


# ------------------------------------------------------------------------------------------------ names and seeds


def build(spec: Any, **changes: Any) -> Any:
    given = {"node_sizes": (4, 3), "edge_sizes": (), "classes": 3, "depth": 2, "seed": 0} | changes
    return build_graph_net(spec, **given)


@pytest.mark.parametrize("kind", KINDS)
def test_built_by_seed_without_touching_the_stream(kind: str) -> None:
    before = torch.random.get_rng_state()
    first, again, other = build(kind), build(kind), build(kind, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert first.depth == 2
    assert first.training
    assert build(kind, dtype=DOUBLE).head(torch.zeros(5, 64, dtype=DOUBLE)).shape == (5, 3)


def test_texts() -> None:
    assert str(GraphSpec.parse(" gin( norm=batch, width=128 ) ")) == "gin(norm=batch, width=128)"
    assert GraphSpec.parse("gin(width=64)") == GraphSpec("gin") == as_graph_spec("gin")
    made = build("gat(heads=2, width=6, layers=1, jk=sum)")
    assert (made.depth, made.jk, made.layers[0].heads, made.classifier.in_features) == (1, "sum", 2, 6)
    assert build("gcn", dropout=0.5).dropout == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gim", r"unknown graph network 'gim'; known: gat, gcn, gin, sage. Did you mean gin\?"),
        ("gin(heads=2)", "unknown option of gin 'heads'; known: embedding, jk, layers, norm, width"),
        ("gat(heads=5)", "`heads` must be a divisor of the width 64; got 5"),
        ("gin(width=0)", "`width` must be a whole number of at least 1; got 0"),
        ("gin(layers=-1)", "`layers` must be a whole number of at least 1"),
        ("gin(norm=layer)", "`norm` must be `none` or `batch`; got 'layer'"),
        ("gin(dropout=0.5)", "`model` must be without `dropout`, which the training recipe has"),
        ("gin(width)", "`model` must be of the form"),
        (7, "`model` must be a name such as gin"),
        (nn.Linear(1, 1), "Each run draws its own network"),
        (lambda node_sizes: nn.Linear(1, 1), "`factory` must be callable as f"),
        (lambda a, b, c, d: nn.Linear(1, 1), "Linear from .* without nodes, roots, head. See `dd.models.RootedNet`"),
    ],
)
def test_refusals(spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(spec)


@pytest.mark.parametrize("dropout", [1.0, -0.1])
def test_dropout_out_of_range(dropout: float) -> None:
    with pytest.raises(InputError, match="dropout"):
        build("gin", dropout=dropout)
    with pytest.raises(InputError, match="at least one feature"):
        build("gin", node_sizes=())


def test_users_factory() -> None:
    def mine(node_sizes: Any, edge_sizes: Any, classes: int, layers: int) -> nn.Module:
        return GraphNet(node_sizes, edge_sizes, classes, kind="sage", layers=layers, width=5)

    assert build(GraphModel(mine, "mine")).classifier.in_features == 5
    assert str(GraphModel(mine, "mine")) == "mine"
    with pytest.raises(InputError, match="other than the library's"):
        GraphModel(mine, "gin")
