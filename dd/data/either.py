"""`load_graphs`: many graphs with a class each, or one graph whose nodes have classes; which of both is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dd.base.process import under_own_settings
from dd.base.progress import announce
from dd.data.graphs.bins import Bins
from dd.data.graphs.graphs import Graphs
from dd.data.kinds import is_graph_data, is_node_data
from dd.data.nodes.custom import check_edges
from dd.data.nodes.nodes import Nodes
from dd.errors import refuse


@under_own_settings
def load_graphs(
    data: object,
    *,
    split: int | str | None = 0,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    bins: int | Bins | None = None,
    directed: bool | None = None,
    classes: Sequence[str] | int | None = None,
    role: str = "distill",
    like: Sequence[str] | None = None,
) -> Graphs | Nodes:
    """Graphs for graph classification as `Graphs`, or one graph for node classification as `Nodes`.

    Which of both is found in the data: one graph whose `y` has a class for each node, or that has masks, or the card of
    such a graph, is for node classification, and one line says so.

    Args:
        data, split, root, download, classes, role, like: see `dd.data.graphs.load.load_graphs`, and of one graph
            `dd.data.nodes.load.load_nodes`.
        bins, directed: of graph classification alone. One graph is taken as undirected, and its features as they are.

    Raises:
        InputError, MissingError, DamagedError: see both.
    """
    told: dict[str, Any] = {"split": split, "root": root, "download": download, "role": role, "like": like}
    told["classes"] = classes
    if is_node_data(data):
        from dd.data.nodes.load import load_nodes

        for name, value in (("bins", bins), ("directed", directed)):
            if value is not None:
                raise refuse(name, "left out for one graph whose nodes have classes", repr(value))
        real = load_nodes(data, **told)
        if not isinstance(data, str | Nodes):
            announce(f"node classification: {real!r}")
        return real
    if not is_graph_data(data, root):
        check_edges(data)
    from dd.data.graphs.load import load_graphs as load_many

    return load_many(data, bins=bins, directed=directed, **told)
