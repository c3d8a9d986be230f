"""Which network for nodes: its name and options as a value, and `build_node_net`, which makes it from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from dd.base.bounds import check_memory
from dd.base.seeding import isolated
from dd.errors import find_name, refuse, unknown
from dd.models.graphs.node_nets import NodeInput
from dd.models.images.spec import Value, call_factory, canonical, check_options, defaults, read_call, write_call
from dd.models.probe import count_parameters
from dd.models.table import NODE_NETS

NodeFactory = Callable[[int, int], nn.Module]
"""`f(features, classes)`, which gives a network that is called as PyG's are: `net(x, edge_index)`."""


def _factory(name: str) -> Callable[..., nn.Module]:
    if name not in NODE_NETS:
        raise unknown("network for nodes", name, NODE_NETS)
    return NODE_NETS[name]


@final
@dataclass(frozen=True)
class NodeSpec:
    """A network of `NODE_NETS` and its options, as a value; `parse(str(spec)) == spec`, as with `ModelSpec`.

    Attributes:
        name: a key of `NODE_NETS`.
        options: (name, value) pairs, sorted and without those at their default. `NodeSpec.of` makes them.

    Raises:
        InputError: unknown name or option, a value that cannot be written, or options not in canonical form.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if any(option == "dropout" for option, _ in self.options):
            raise refuse("model", "without `dropout`, which the training recipe has", repr(str(self)))
        check_options("NodeSpec", self.name, self.options, defaults(_factory(self.name)))

    @staticmethod
    def of(name: str, **options: Value) -> NodeSpec:
        """The spec of `name` with `options`, in canonical form.

        Raises:
            InputError: unknown name or option, or a value that cannot be written.
        """
        way_out = "Networks for graph classification and for images have tables of their own."
        name = find_name("network for nodes", name, NODE_NETS, way_out)
        return NodeSpec(name, canonical(options, defaults(_factory(name))))

    @staticmethod
    def parse(text: str) -> NodeSpec:
        """Read `name` or `name(option=value, option=value)`, such as `gcn(width=128)`.

        Raises:
            InputError: not of that form, an option given twice, or an unknown name or option.
        """
        name, options = read_call(text)
        return NodeSpec.of(name, **options)

    def __str__(self) -> str:
        """The canonical text, which `parse` reads."""
        return write_call(self.name, self.options)

    def make(self, features: int, classes: int, dropout: float) -> nn.Module:
        """The network, drawn from the global stream; `build_node_net` is the way to a seeded one."""
        return _factory(self.name)(features, classes, dropout, **dict(self.options))


@final
class OwnNet(nn.Module):
    """A user's network, called as PyG's are: `net(x, edge_index)` gives logits `[V, K]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, given: NodeInput) -> Tensor:
        """Logits of all nodes, `[V, K]`."""
        x = given.x.clone() if isinstance(given.x, Tensor) else given.x.matrix.to_dense()  # it may write into it
        return self.net(x, given.graph.edge_index.to(given.device))


@final
@dataclass(frozen=True)
class NodeModel:
    """A user's own network for nodes, by its factory.

    Attributes:
        factory: `f(features, classes) -> nn.Module`, whose network is called as `net(x, edge_index)` and gives logits
            `[V, K]`, as networks of PyG do. It brings its own dropout. Each call must make a new network.
        name: how reports call it.

    Raises:
        InputError: the factory is not callable, or is a network already; or the name is one of this library's.
    """

    factory: NodeFactory
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.factory, nn.Module) or not callable(self.factory):
            way_out = "A network that is made already cannot be drawn anew: pass its class or a function."
            raise refuse(
                "factory", "a function f(features, classes) -> nn.Module", f"a {type(self.factory).__name__}", way_out
            )
        if self.name in NODE_NETS:
            raise refuse("name", "other than the library's networks for nodes", repr(self.name))

    def __str__(self) -> str:
        """The name, or the factory's own name in angle brackets."""
        own = getattr(self.factory, "__qualname__", type(self.factory).__name__)
        return self.name if self.name is not None else f"<{own}>"

    def make(self, features: int, classes: int, dropout: float) -> nn.Module:
        """What the factory returns.

        Raises:
            InputError: the factory cannot be called with (features, classes), or gives no network.
        """
        del dropout
        made = call_factory(self.factory, f"{self}", "f(features, classes)", features, classes)
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
        expected = "a name such as gcn(width=64), a NodeModel or a function f(features, classes)"
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
        with isolated(seed, "init"), torch.device("meta"):
            parameters = count_parameters(model.make(features, classes, dropout))
        check_memory(f"{model} and its gradient", [2, parameters], "Take a smaller one.")
    with isolated(seed, "init"):
        return model.make(features, classes, dropout)
