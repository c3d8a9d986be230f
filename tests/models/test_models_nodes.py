"""Networks for nodes: against PyG's layers, their names, and users' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.nodes import own
from torch import Tensor, nn

from dd.data.nodes.load import load_nodes
from dd.errors import InputError
from dd.models import NodeInput, NodeModel, NodeSpec, as_node_spec, build_node_net
from dd.models.graphs.node_nets import GATLayer, GCNLayer, GINLayer, SAGELayer

SEEN = load_nodes(own()).seen()
CPU = torch.device("cpu")


def given(sparse: bool = False) -> NodeInput:
    made = NodeInput.of(SEEN, "none", CPU)
    assert isinstance(made.x, Tensor)  # these toys are dense
    if sparse:
        from dd.data.nodes.propagate import rows_of

        return NodeInput(made.graph, rows_of(made.x), CPU, torch.float32)
    return made


def loops() -> Tensor:
    return torch.cat([SEEN.edge_index, torch.arange(len(SEEN)).expand(2, -1)], 1)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["gcn", "sage", "gin", "gat"])
def test_layers_are_those_of_pyg(kind: str, sparse: bool) -> None:
    from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

    torch.manual_seed(0)
    x = SEEN.x
    if kind == "gcn":
        ours: Any = GCNLayer(8, 5)
        theirs: Any = GCNConv(8, 5)
        theirs.lin.weight.data, theirs.bias.data = ours.weight.data.t(), ours.bias.data
        wanted = theirs(x, SEEN.edge_index)
    elif kind == "sage":
        ours, theirs = SAGELayer(8, 5), SAGEConv(8, 5)
        theirs.lin_l.weight.data, theirs.lin_r.weight.data = ours.weight.data.t(), ours.root.data.t()
        theirs.lin_l.bias.data = ours.bias.data
        wanted = theirs(x, loops())
    elif kind == "gin":
        ours = GINLayer(8, 5)
        first = nn.Linear(8, 5)
        first.weight.data, first.bias.data = ours.weight.data.t(), ours.bias.data
        ours.eps.data += 0.3
        wanted = GINConv(nn.Sequential(first, nn.ReLU(), ours.after), eps=0.3)(x, SEEN.edge_index)
    else:
        ours, theirs = GATLayer(8, 6, 2), GATConv(8, 3, heads=2)
        theirs.lin.weight.data = ours.weight.data.t()
        theirs.att_src.data, theirs.att_dst.data = ours.att_source.data, ours.att_target.data
        wanted = theirs(x, SEEN.edge_index)
    one = given(sparse)
    torch.testing.assert_close(ours(one.x, one), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "gin", "sgc", "mlp"])
def test_sparse_features_give_the_same_logits_and_gradients(model: str) -> None:
    found = []
    for sparse in (False, True):
        net = build_node_net(model, features=8, classes=2, seed=3, dropout=0.0)
        loss = net(given(sparse)).square().sum()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in net.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_network_of_one_layer_is_linear_and_sgc_is_it_propagated() -> None:
    net = build_node_net("sgc(hops=1)", features=8, classes=2, seed=0)
    both = given().both
    assert both is not None
    one: Any = net
    torch.testing.assert_close(net(given()), both @ (SEEN.x @ one.dense.weight) + one.dense.bias)
    assert len(build_node_net("gcn(layers=1)", features=8, classes=2, seed=0).layers) == 1  # type: ignore[arg-type]


def test_equal_seeds_give_equal_weights_and_leave_the_global_stream() -> None:
    before = torch.get_rng_state()
    one, other, third = (build_node_net("gat", features=8, classes=2, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["layers.0.weight"], third["layers.0.weight"])
    assert torch.equal(before, torch.get_rng_state())


def test_names_are_canonical() -> None:
    assert str(NodeSpec.parse("GCN(width=32, layers=2)")) == "gcn(width=32)"
    assert NodeSpec.parse(str(NodeSpec.of("gat", heads=4))) == NodeSpec.of("gat", heads=4)
    for text, told in (
        ("convnet", "unknown network for nodes 'convnet'.*Networks for graph classification and for images"),
        ("gcn(norm=batch)", "unknown option of gcn 'norm'"),
        ("gat(heads=3)", "`heads` must be a divisor of the width 64; got 3"),
        ("gcn(layers=0)", "`layers` must be a whole number of at least 1"),
    ):
        with pytest.raises(InputError, match=told):
            build_node_net(text, features=8, classes=2, seed=0)


class Own(nn.Module):
    """As a network of PyG is called."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.linear(x).index_add(0, edge_index[1], self.linear(x)[edge_index[0]])


def test_a_network_of_ones_own_is_called_as_pygs_are() -> None:
    net = build_node_net(Own, features=8, classes=2, seed=0)
    torch.testing.assert_close(net(given()), net(given(sparse=True)))
    assert net(given()).shape == (60, 2)
    assert (str(as_node_spec(Own)), str(NodeModel(Own, "mine"))) == ("<Own>", "mine")
    with pytest.raises(InputError, match=r"`model` must be a name such as gcn.*Each run draws its own network"):
        as_node_spec(Own(8, 2))
    with pytest.raises(InputError, match="`name` must be other than the library's"):
        NodeModel(Own, "gcn")
    with pytest.raises(InputError, match=r"a factory that returns an nn.Module"):
        build_node_net(lambda features, classes: 3, features=8, classes=2, seed=0)  # type: ignore[arg-type,return-value]


class Writes(nn.Module):
    """Shifts its features in place."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(features, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        del edge_index
        return self.last(x.sub_(0.5))


def test_a_network_that_writes_into_its_features_leaves_the_graph_as_it_is() -> None:
    net, graph = build_node_net(Writes, features=8, classes=2, seed=0), given()
    first, before = net(graph), graph.graph.x.clone()
    assert torch.equal(net(graph), first)
    assert torch.equal(graph.graph.x, before)


@pytest.mark.parametrize("kind", ["gcn", "gat", "sgc", "gin"])
def test_networks_are_called_with_the_data_or_as_those_of_pyg(kind: str) -> None:
    data, real = own(), load_nodes(own())
    net = build_node_net(kind, features=8, classes=2, seed=0).eval()
    wanted = net(NodeInput.of(real.whole, "rows", CPU))
    torch.testing.assert_close(net(NodeInput.of(real, "rows")), wanted)
    x = data.x / data.x.sum(1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(net(x, data.edge_index), wanted)


def test_a_users_network_is_called_so_too_and_other_calls_are_told_the_way() -> None:
    from torch_geometric.nn import GCNConv

    data = own()
    made = build_node_net(GCNConv, features=8, classes=2, seed=0)
    torch.testing.assert_close(made(data.x, data.edge_index), made(NodeInput.of(load_nodes(data), "none")))
    for net in (made, build_node_net("gcn", features=8, classes=2, seed=0)):
        with pytest.raises(InputError, match=r"`given` must be a `NodeInput`, or features and `edge_index`; got Data"):
            net(data)
