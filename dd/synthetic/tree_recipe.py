"""How a fresh graph network is trained on a summary of computation trees: carried inside the summary."""

from __future__ import annotations

from dataclasses import dataclass

from dd.errors import refuse
from dd.models import GraphSpec
from dd.shapes import check_choices, check_number, check_types, check_whole

_CHOICES = {
    "reading": ("sets", "bags"),
    "pool": ("sum", "mean", "msum", "mmean"),
    "balance": ("support", "class", "uniform"),
    "targets": ("hard", "soft"),
    "sampling": ("exact", "proportional"),
}


@dataclass(frozen=True, kw_only=True)
class TreeRecipe:
    """Adam for a fixed number of steps on the weighted cross-entropy of all patterns.

    A pattern S is a set of trees; its embedding pools the embeddings of their roots, its weight is
    p(S) = f_S / Σ f_S' over all classes, f the number of training graphs that hold it (Mirage, section 4).

    Attributes:
        model: what the summary was distilled for, a text of `GraphSpec`: `gin`, `gcn`, `gat` or `sage`, with options:
            `gin(width=128, norm=batch)`. It is kept in canonical form, without options at their default.
        pool: of the roots of a pattern: `sum`, `mean`, or either weighted by the mean multiplicity of each tree in the
            supporting graphs (`msum`, `mmean`). Test graphs are pooled by the sum or the mean of all their nodes.
        balance: `support`: p(S) as published; `class`: p(S) within a class, classes alike; `uniform`: every pattern
            alike, which is what the published code does.
        targets: `hard`: the class of which the pattern was mined; `soft`: the share of each class in its support, every
            class counted relative to its size.
        sampling: `exact`: the full weighted loss; `proportional`: batches of `batch_size` patterns drawn by weight.
        filtered: pool a test graph over the nodes whose tree is kept, where there are any.
        steps, lr, weight_decay: of Adam.
        dropout: after every layer and before the classifier.
        batch_size: of `proportional`.

    Raises:
        InputError: a field outside its range or of another type, or an unknown network or option of one.
    """

    model: str = "gin"
    reading: str = "sets"
    pool: str = "msum"
    balance: str = "class"
    targets: str = "hard"
    sampling: str = "exact"
    filtered: bool = False
    steps: int = 150
    lr: float = 5e-3
    weight_decay: float = 1e-3
    dropout: float = 0.2
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        if not isinstance(self.model, str):
            raise refuse("model", "a text such as gin(width=128)", repr(self.model), "Give others to `evaluate`.")
        object.__setattr__(self, "model", str(GraphSpec.parse(self.model)))
        for name in ("steps", "batch_size"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "weight_decay", "dropout"):
            check_number(getattr(self, name), name, 0)
        check_types(self)
        if self.dropout >= 1:
            raise refuse("dropout", "less than 1", self.dropout)

    @property
    def readout(self) -> str:
        """How test graphs are pooled: `sum` or `mean`."""
        return "sum" if self.pool.endswith("sum") else "mean"
