"""Which trees of a summary the nodes of graphs have."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from dd.data.graphs.graphs import GraphSplit
from dd.data.graphs.refine import Refiner, Table, rows_of, salted
from dd.synthetic.trees import TreeSummary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@final
class Matcher:
    """Finds the kept trees of depth L in graphs, by colour refinement among the trees of the summary alone."""

    def __init__(self, small: TreeSummary) -> None:
        self._small = small
        self._exact = bool(small.levels[0].trunc.any())
        tables = [
            Table(
                label=level.label.numpy(),
                trunc=level.trunc.numpy(),
                ptr=level.ptr.numpy(),
                child=level.child.numpy(),
                edge=level.edge.numpy(),
                count=level.count.numpy(),
                hash=np.empty(0, np.uint64),
            )
            for level in small.levels
        ]
        self._refiner = salted(lambda salt: Refiner.of_tables(tables, salt))

    def trees(self, split: GraphSplit) -> Tensor:
        """Place in the last level of every node's tree, int64 `[V]`; -1 where it is not kept."""
        rows = rows_of(split, self._small.codes, self._exact)
        return torch.from_numpy(self._refiner.find(rows)[-1].astype(np.int64))

    def counts(self, split: GraphSplit) -> csr_matrix:
        """How many nodes of each graph have each kept tree, sparse float64 `[N, R]`."""
        from scipy.sparse import csr_matrix  # loaded where it is used: every process pays for what `import dd` loads

        found = self.trees(split)
        held = found >= 0
        graph, tree = split.graph[held].numpy(), found[held].numpy()
        shape = (len(split), len(self._small.levels[-1]))
        return csr_matrix((np.ones(len(tree)), (graph, tree)), shape=shape)
