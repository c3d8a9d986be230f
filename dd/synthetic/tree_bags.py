"""A summary of trees as bags: pseudo-graphs drawn from the supports of its trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from dd.synthetic.tree_checks import check_supports

if TYPE_CHECKING:
    from dd.synthetic.trees import TreeSummary


@final
class Bags:
    """Draws bags: the model of naive Bayes over the presence of trees, with multiplicities.

    A bag of class k holds tree r with probability p_rk = n_rk / n_k, independently, then m_rk times: n_rk of the n_k
    training graphs of the class hold r, m_rk times in the mean; see `multiplicities`.

    Args:
        small: the summary.
        weighted: else a bag holds a tree once.

    Attributes:
        present: p_rk, float64 `[K, R]`.
        times: m_rk, alike.

    Raises:
        InputError: a summary without the supports of its trees.
    """

    def __init__(self, small: TreeSummary, weighted: bool = True) -> None:
        check_supports(small, "reading='bags'")
        self.present = (small.tree_support.double() / small.graphs.clamp(min=1)).t()
        self.times = multiplicities(small) if weighted else torch.ones_like(self.present)

    def draw(self, each: int, generator: torch.Generator) -> Tensor:
        """`each` bags of every class from `generator`, how often they hold each tree, float64 `[K, each, R]`."""
        classes, trees = self.present.shape
        chance = torch.rand(classes, each, trees, generator=generator, dtype=torch.float64)
        return (chance < self.present[:, None]) * self.times[:, None]


def multiplicities(small: TreeSummary) -> Tensor:
    """How often a graph of each class that holds a tree holds it, in the mean, float64 `[K, R]`.

    It is that of the class's pattern of most support among those with the tree (the tree alone, where it is one); for a
    class without any, the mean over the others, weighted by the graphs that hold the tree.
    """
    own = small.support[torch.arange(len(small)), small.labels]
    made = torch.zeros(small.num_classes, len(small.levels[-1]), dtype=torch.float64)
    for entry in torch.argsort(own[small.pattern_of], stable=True).tolist():  # the last one is that of most support
        made[small.labels[small.pattern_of[entry]], small.pattern_tree[entry]] = small.pattern_count[entry]
    known = made > 0
    weights = small.tree_support.t() * known
    return torch.where(known, made, (weights * made).sum(0) / weights.sum(0).clamp(min=1))
