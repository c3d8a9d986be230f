"""Graph networks: layers against PyG's, names and seeds."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from reference.gnn import DOUBLE, KINDS, D, graphs
from torch import Tensor, nn

from dd.errors import InputError
from dd.models import GraphModel, GraphNet, GraphSpec, Round, as_graph_spec, build_graph_net
from dd.models.graphs.gnn import EMBEDDING, GAT, GCN, GIN, SAGE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch-geometric 2.8 uses the deprecated torch.jit.script, 2026
    from torch_geometric.nn import GATConv, GCNConv, GINConv, GINEConv, SAGEConv

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


def test_a_name_can_give_the_size_of_embeddings() -> None:
    small, large = (build(text, node_sizes=(400, 3)).node.tables[0] for text in ("gat", "gat(embedding=1.0)"))
    torch.testing.assert_close(large.weight.detach(), small.weight.detach() / EMBEDDING)
    with pytest.raises(InputError, match="`embedding` must be above 0; got 0"):
        build("gin(embedding=0.0)")
