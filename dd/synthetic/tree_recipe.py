"""How a fresh graph network is trained on a summary of computation trees: carried inside the summary."""

from __future__ import annotations

from dataclasses import dataclass

from dd.base.shapes import check_choices
from dd.errors import refuse
from dd.models import GraphSpec
from dd.synthetic.adam import check_adam

_CHOICES = {
    "reading": ("auto", "sets", "bags"),
    "pool": ("sum", "mean", "msum", "mmean"),
    "balance": ("support", "class", "uniform"),
    "targets": ("hard", "soft"),
    "sampling": ("exact", "proportional"),
}


@dataclass(frozen=True, kw_only=True)
class TreeRecipe:
    """Adam for a fixed number of steps on the cross-entropy of pseudo-graphs that a summary of trees is read as.

    *Sets*, the published reading: every pattern S, a set of trees, is one pseudo-graph. Its embedding pools the
    embeddings of the roots, its weight is p(S) = f_S / Σ f_S' over all classes, f the number of training graphs that
    hold it (Mirage, section 4). *Bags*, ours: pseudo-graphs of the size of real ones, drawn afresh for every step from
    the model of naive Bayes over the presence of trees (the multivariate Bernoulli model): a bag of class k holds tree
    r with probability n_rk / n_k, independently, as often as the graphs that hold it do in the mean. They read the
    supports of trees, which are counted (`Mirage.keep_supports`), and what sets read besides; no further byte.

    Attributes:
        model: what the summary was distilled for, a text of `GraphSpec`: `gin`, `gcn`, `gat` or `sage`, with options:
            `gin(width=128, norm=batch)`. It is kept in canonical form, without options at their default.
        reading: `sets` or `bags`; `auto` is bags where the summary has supports of trees, pooling is a sum and targets
            are hard, else sets; see `TreeSummary.reading`.
        pool: of the roots of a pattern or bag: `sum`, `mean`, or either weighted by the mean multiplicity of each tree
            in the supporting graphs (`msum`, `mmean`). Test graphs are pooled by the sum or the mean of their nodes.
        balance: of sets, `support`: p(S) as published; `class`: p(S) within a class, classes alike; `uniform`: every
            pattern alike, which is what the published code does. Of bags, `class`: as many of each class; else classes
            weigh as their training graphs.
        targets: `hard`: the class of the pattern or bag; `soft`, of sets alone: the share of each class in the
            pattern's support, every class counted relative to its size.
        sampling: of sets, `exact`: the full weighted loss; `proportional`: batches of `batch_size` patterns drawn by
            weight. Bags are always drawn.
        filtered: pool a test graph over the nodes whose tree is kept alone. `None` does with bags, which hold no other
            trees, and not with sets, as published. A graph without any is pooled over all its nodes by a reader of
            sets; to one of bags it is the empty bag, of embedding 0.
        steps, lr, weight_decay: of Adam.
        dropout: after every layer and before the classifier.
        batch_size: of `proportional`; bags a step, rounded up to as many of each class.

    Raises:
        InputError: a field outside its range or of another type, or an unknown network or option of one.
    """

    model: str = "gin"
    reading: str = "auto"
    pool: str = "msum"
    balance: str = "class"
    targets: str = "hard"
    sampling: str = "exact"
    filtered: bool | None = None
    steps: int = 500
    lr: float = 5e-3
    weight_decay: float = 1e-3
    dropout: float = 0.2
    batch_size: int = 256

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_adam(self, GraphSpec, "gin(width=128)", ("steps", "batch_size"))
        if self.reading == "bags" and self.targets == "soft":
            raise refuse("targets", "`hard` for reading='bags': a bag is drawn of one class", "'soft'", "Read sets.")

    @property
    def readout(self) -> str:
        """How test graphs are pooled: `sum` or `mean`."""
        return "sum" if self.pool.endswith("sum") else "mean"
