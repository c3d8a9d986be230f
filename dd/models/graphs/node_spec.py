"""Which network for nodes: its name and options as a value, and `build_node_net`, which makes it from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from dd.base.seeding import isolated
from dd.errors import refuse
from dd.models.graphs.named import NamedNet, OwnFactory
from dd.models.graphs.node_nets import NodeInput
from dd.models.images.spec import call_factory
from dd.models.table import NODE_NETS

NodeFactory = Callable[[int, int], nn.Module]
"""`f(features, classes)`, which gives a network that is called as PyG's are: `net(x, edge_index)`."""


@final
@dataclass(frozen=True)
class NodeSpec(NamedNet):
    """A network of `NODE_NETS` and its options, as a value: `gcn(width=128)`; see `NamedNet`.

    It is made of (features, classes, dropout); `build_node_net` is the way to a seeded one.
    """

    table: ClassVar[Mapping[str, Callable[..., nn.Module]]] = NODE_NETS
    what: ClassVar[str] = "network for nodes"
    elsewhere: ClassVar[str] = "Networks for graph classification and for images have tables of their own."


@final
class OwnNet(nn.Module):
    """A user's network, called as PyG's are: `net(x, edge_index)` gives logits `[V, K]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, given: NodeInput | Tensor, edge_index: Tensor | None = None) -> Tensor:
        """Logits of all nodes, `[V, K]`; for the arguments see `NodeInput.read`."""
        if edge_index is not None:
            return self.net(given, edge_index)
        given = NodeInput.read(given)
        x = given.x.clone() if isinstance(given.x, Tensor) else given.x.matrix.to_dense()  # it may write into it
        edges = given.graph.edge_index.to(given.device)
        try:
            return self.net(x, edges)
        except TypeError as error:
            raise refuse("model", "a network that is called as net(x, edge_index)", str(error)) from error


@final
@dataclass(frozen=True)
class NodeModel(OwnFactory):
    """A user's own network for nodes, by its factory.

    Attributes:
        factory: `f(features, classes) -> nn.Module`, whose network is called as `net(x, edge_index)` and gives logits
            `[V, K]`, as networks of PyG do. It brings its own dropout. Each call must make a new network.
        name: how reports call it.

    Raises:
        InputError: the factory is not callable, or is a network already; or the name is one of this library's.
    """

    form: ClassVar[str] = "f(features, classes)"
    table: ClassVar[Mapping[str, Callable[..., nn.Module]]] = NODE_NETS
    what: ClassVar[str] = "networks for nodes"
    factory: NodeFactory

    def make(self, features: int, classes: int, dropout: float) -> nn.Module:
        """What the factory returns.

        Raises:
            InputError: the factory cannot be called with (features, classes), or gives no network.
        """
        del dropout
        made = call_factory(self.factory, f"{self}", self.form, features, classes)
        if not isinstance(made, nn.Module):
            raise refuse("model", "a factory that returns an nn.Module", f"{type(made).__name__} from {self}")
        return OwnNet(made)


AnyNodeModel = str | NodeSpec | NodeModel | NodeFactory


def as_node_spec(value: AnyNodeModel) -> NodeSpec | NodeModel:
    """A text, a spec, a `NodeModel` or a bare factory as `NodeSpec` or `NodeModel`.

    Raises:
        InputError: none of these; a network that is made already; or a text that `NodeSpec.parse` refuses.
    """
    if isinstance(value, NodeSpec | NodeModel):
        return value
    if isinstance(value, str):
        return NodeSpec.parse(value)
    if isinstance(value, nn.Module) or not callable(value):
        expected = f"a name such as gcn(width=64), a NodeModel or a function {NodeModel.form}"
        way_out = "Each run draws its own network: give what makes one, such as a `lambda` of these two."
        raise refuse("model", expected, f"a {type(value).__name__}", way_out)
    return NodeModel(value)


def build_node_net(spec: AnyNodeModel, *, features: int, classes: int, seed: int, dropout: float = 0.5) -> nn.Module:
    """A fresh network on the CPU, in train mode, called with a `NodeInput`; it gives logits `[V, K]`.

    Equal seeds give equal weights, and the global stream is untouched.

    Args:
        spec: a text, a `NodeSpec`, a `NodeModel` or a bare factory.
        features: F.
        classes: K.
        seed: of the run or repeat; the initialisation is its stream "init".
        dropout: in [0, 1), for networks of this library.

    Raises:
        InputError: an argument is out of range, or a factory that does not give a network.
    """
    model = as_node_spec(spec)
    if isinstance(model, NodeSpec):
        model.check_size(seed, features, classes, dropout)
    with isolated(seed, "init"):
        return model.make(features, classes, dropout)
