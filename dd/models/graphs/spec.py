"""Which graph network: its name and options as a value, and `build_graph_net`, which makes it from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast, final

import torch
from torch import Tensor, nn

from dd.base.seeding import isolated
from dd.errors import refuse
from dd.models.graphs.families import Sizes
from dd.models.graphs.gnn import GraphNet
from dd.models.graphs.named import NamedNet, OwnFactory
from dd.models.graphs.rounds import PlainGraphs, TreeDag
from dd.models.images.spec import call_factory
from dd.models.table import GNNS

GraphFactory = Callable[[Sizes, Sizes, int, int], nn.Module]


class RootedNet(Protocol):
    """What is asked of a network: `GraphNet` has these, and so must what a user's factory returns (an nn.Module)."""

    def nodes(self, graphs: PlainGraphs, /) -> Tensor:
        """Embedding of every node, `[V, d]`."""
        ...

    def roots(self, dag: TreeDag, /) -> Tensor:
        """Embedding of the root of every tree of the deepest level, `[R, d]`; that of the same node in a graph."""
        ...

    def head(self, pooled: Tensor, /) -> Tensor:
        """Logits `[G, K]` of pooled embeddings `[G, d]`."""
        ...


@final
@dataclass(frozen=True)
class GraphSpec(NamedNet):
    """A network of `GNNS` and its options, as a value: `gin(width=128, norm=batch, jk=sum, layers=2)`; see `NamedNet`.

    It is made of (node_sizes, edge_sizes, classes, depth, dropout); `build_graph_net` is the way to a seeded one.
    """

    table: ClassVar[Mapping[str, Callable[..., GraphNet]]] = GNNS
    what: ClassVar[str] = "graph network"


@final
@dataclass(frozen=True)
class GraphModel(OwnFactory):
    """A user's own graph network, by its factory.

    Attributes:
        factory: `f(node_sizes, edge_sizes, classes, layers) -> nn.Module` with the methods of `RootedNet`; called with
            four positional arguments, `layers` being the depth of the trees. It brings its own dropout. Each call must
            make a new network.
        name: how reports call it.

    Raises:
        InputError: the factory is not callable, or is a network already; or the name is one of this library's.
    """

    form: ClassVar[str] = "f(node_sizes, edge_sizes, classes, layers)"
    table: ClassVar[Mapping[str, Callable[..., GraphNet]]] = GNNS
    what: ClassVar[str] = "graph networks"
    factory: GraphFactory

    def make(self, node_sizes: Sizes, edge_sizes: Sizes, classes: int, depth: int, dropout: float) -> nn.Module:
        """What the factory returns; `build_graph_net` checks it.

        Raises:
            InputError: the factory cannot be called with (node_sizes, edge_sizes, classes, layers).
        """
        return call_factory(self.factory, f"{self}", self.form, node_sizes, edge_sizes, classes, depth)


def as_graph_spec(value: str | GraphSpec | GraphModel | GraphFactory) -> GraphSpec | GraphModel:
    """A text, a spec, a `GraphModel` or a bare factory as `GraphSpec` or `GraphModel`.

    Raises:
        InputError: none of these; a network that is made already; or a text that `GraphSpec.parse` refuses.
    """
    if isinstance(value, GraphSpec | GraphModel):
        return value
    if isinstance(value, str):
        return GraphSpec.parse(value)
    if isinstance(value, nn.Module) or not callable(value):
        expected = f"a name such as gin(width=64), a GraphModel or a function {GraphModel.form}"
        way_out = "Each run draws its own network: give what makes one, such as a `lambda` of these four."
        raise refuse("model", expected, f"a {type(value).__name__}", way_out)
    return GraphModel(value)


def build_graph_net(
    spec: str | GraphSpec | GraphModel | GraphFactory,
    *,
    node_sizes: Sizes,
    edge_sizes: Sizes,
    classes: int,
    depth: int,
    seed: int,
    dropout: float = 0.2,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A fresh graph network on the CPU, in train mode, with the methods of `RootedNet`.

    Equal seeds give equal weights, and the global stream is untouched.

    Args:
        spec: a text, a `GraphSpec`, a `GraphModel` or a bare factory.
        node_sizes: number of values of each node feature, 0 (unseen) included.
        edge_sizes: likewise for edges; empty without edge features.
        classes: K, ≥ 1.
        depth: of the trees, ≥ 1: the number of layers unless the text says fewer.
        seed: of the run or repeat; the initialisation is its stream "init".
        dropout: in [0, 1), for networks of this library.
        dtype: floating type of parameters and buffers.

    Raises:
        InputError: an argument is out of range, more layers than `depth`, or a factory that does not give a network
            with the methods.
    """
    model = as_graph_spec(spec)
    if isinstance(model, GraphSpec) and model.options:
        model.check_size(seed, node_sizes, edge_sizes, classes, depth, dropout)
    with isolated(seed, "init"):
        net = model.make(node_sizes, edge_sizes, classes, depth, dropout)
    missing = [name for name in ("nodes", "roots", "head") if not callable(getattr(net, name, None))]
    if not isinstance(net, nn.Module) or missing:
        expected = "a factory that returns an nn.Module with the methods `nodes`, `roots` and `head`"
        got = f"{type(net).__name__} from {model}" + (f" without {', '.join(missing)}" if missing else "")
        raise refuse("model", expected, got, "See `dd.models.RootedNet`.")
    layers = net.depth if isinstance(net, GraphNet) else depth
    if layers > depth:
        way_out = "Use fewer layers, or distil with a larger `depth`."
        raise refuse("layers", f"at most {depth}, the depth of the trees", layers, way_out)
    return net.to(dtype)


def rooted(net: nn.Module) -> RootedNet:
    """A network of `build_graph_net` as what its methods are typed by."""
    return cast(RootedNet, net)
