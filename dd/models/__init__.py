"""Networks by name: `build("convnet(width=32)", channels=3, classes=10, size=(32, 32), seed=0)`; `build_graph_net`."""

from typing import TYPE_CHECKING

from dd.base.lazy import door

__all__ = [
    "AnyModel",
    "GNNS",
    "MODELS",
    "NODE_NETS",
    "Block",
    "ConvNet",
    "GraphModel",
    "GraphNet",
    "GraphSpec",
    "Model",
    "ModelSpec",
    "AnyNodeModel",
    "NodeInput",
    "NodeModel",
    "NodeSpec",
    "PlainGraphs",
    "RootedNet",
    "Round",
    "TreeDag",
    "UNSEEN",
    "as_graph_spec",
    "as_node_spec",
    "as_spec",
    "build",
    "build_graph_net",
    "build_node_net",
    "check_network",
    "check_size",
    "check_there",
    "convnet",
    "count_parameters",
    "is_own_name",
    "no_single_values",
    "plain_graphs",
    "rooted",
    "strangers",
    "takes_one",
    "tree_dag",
    "uses_batch_stats",
]

if TYPE_CHECKING:
    from dd.models.graphs.gnn import GraphNet
    from dd.models.graphs.node_nets import NodeInput
    from dd.models.graphs.node_spec import AnyNodeModel, NodeModel, NodeSpec, as_node_spec, build_node_net
    from dd.models.graphs.rounds import PlainGraphs, Round, TreeDag, plain_graphs, tree_dag
    from dd.models.graphs.spec import (
        GraphModel,
        GraphSpec,
        RootedNet,
        as_graph_spec,
        build_graph_net,
        rooted,
    )
    from dd.models.images.convnet import Block, ConvNet, convnet
    from dd.models.images.spec import (
        AnyModel,
        Model,
        ModelSpec,
        as_spec,
        build,
        check_size,
        is_own_name,
    )
    from dd.models.images.strangers import UNSEEN, strangers
    from dd.models.probe import (
        check_network,
        check_there,
        count_parameters,
        no_single_values,
        takes_one,
        uses_batch_stats,
    )
    from dd.models.table import GNNS, MODELS, NODE_NETS
else:
    __getattr__, __dir__ = door(
        __name__,
        __all__,
        {
            "dd.models.graphs.gnn": "GraphNet",
            "dd.models.graphs.node_nets": "NodeInput",
            "dd.models.graphs.node_spec": "AnyNodeModel NodeModel NodeSpec as_node_spec build_node_net",
            "dd.models.graphs.rounds": "PlainGraphs Round TreeDag plain_graphs tree_dag",
            "dd.models.graphs.spec": "GraphModel GraphSpec RootedNet as_graph_spec build_graph_net rooted",
            "dd.models.images.convnet": "Block ConvNet convnet",
            "dd.models.images.spec": "AnyModel Model ModelSpec as_spec build check_size is_own_name",
            "dd.models.images.strangers": "UNSEEN strangers",
            "dd.models.probe": "check_network check_there count_parameters no_single_values takes_one uses_batch_stats",
            "dd.models.table": "GNNS MODELS NODE_NETS",
        },
    )
