"""The tables of networks. To add one: one file, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dd.base.lazy import Table

if TYPE_CHECKING:
    from torch import nn

    from dd.models.graphs.gnn import GraphNet

MODELS: Final[Table[Callable[..., nn.Module]]] = Table(
    {
        "convnet": "dd.models.images.convnet:convnet",
        "resnet18": "dd.models.images.resnet:resnet18",
        "resnet18_ap": "dd.models.images.resnet:resnet18_ap",
        "resnet50": "dd.models.images.bottleneck:resnet50",
        "resnet101": "dd.models.images.bottleneck:resnet101",
        "resnet20": "dd.models.images.slim:resnet20",
        "resnet9": "dd.models.images.slim:resnet9",
        "mobilenet_v2": "dd.models.images.mobile:mobilenet_v2",
        "shufflenet_v2": "dd.models.images.mobile:shufflenet_v2",
        "densenet121": "dd.models.images.densenet:densenet121",
        "efficientnet_b0": "dd.models.images.mobile:efficientnet_b0",
        "vgg11": "dd.models.images.classic:vgg11",
        "alexnet": "dd.models.images.classic:alexnet",
        "lenet": "dd.models.images.classic:lenet",
        "mlp": "dd.models.images.classic:mlp",
    }
)
"""Name → `f(channels, classes, size, **options) -> nn.Module`."""

GNNS: Final[Table[Callable[..., GraphNet]]] = Table(
    {
        "gin": "dd.models.graphs.families:gin",
        "gcn": "dd.models.graphs.families:gcn",
        "gat": "dd.models.graphs.families:gat",
        "sage": "dd.models.graphs.families:sage",
    }
)
"""Name → `f(node_sizes, edge_sizes, classes, depth, dropout, **options)`. Dropout belongs to the training recipe."""

NODE_NETS: Final[Table[Callable[..., nn.Module]]] = Table(
    {
        "gcn": "dd.models.graphs.node_nets:gcn",
        "sage": "dd.models.graphs.node_nets:sage",
        "gat": "dd.models.graphs.node_nets:gat",
        "gin": "dd.models.graphs.node_nets:gin",
        "sgc": "dd.models.graphs.node_nets:sgc",
        "mlp": "dd.models.graphs.node_nets:mlp",
    }
)
"""Name → `f(features, classes, dropout, **options)`, of networks for the nodes of one graph."""
