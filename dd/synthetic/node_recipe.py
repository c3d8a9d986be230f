"""How a fresh network is trained on a small graph and tested on the whole one: carried inside the set."""

from __future__ import annotations

from dataclasses import dataclass

from dd.base.shapes import check_choices
from dd.models import NodeSpec
from dd.synthetic.adam import check_adam

_CHOICES = {"scale": ("auto", "rows", "none"), "balance": ("nodes", "class"), "stop": ("validation", "last")}


@dataclass(frozen=True, kw_only=True)
class NodeRecipe:
    """Adam on the cross-entropy of the labelled nodes of a graph, all of them in every step.

    Attributes:
        model: what the set was distilled for, a text of `NodeSpec`: `gcn`, `sage`, `gat`, `gin`, `sgc` or `mlp`, with
            options: `gcn(width=128)`. It is kept in canonical form, without options at their default.
        scale: of features, of the set and of the graph that is tested on alike: `rows` divides each node's by their
            sum of absolute values, as for bags of words; `none` takes them as they are; `auto`, in a
            method, is `rows` where there are several features and none is below 0, else `none`.
        balance: labelled nodes weigh alike, or classes do.
        steps, lr, weight_decay: of Adam.
        dropout: before every layer but the first.
        stop: which step counts: the best of those looked at by accuracy on the validation nodes, on the whole graph, or
            the last; without validation nodes the last.
        every: steps between two looks.

    Raises:
        InputError: a field outside its range or of another type, or an unknown network or option of one.
    """

    model: str = "gcn"
    scale: str = "auto"
    balance: str = "nodes"
    steps: int = 300
    lr: float = 0.01
    weight_decay: float = 5e-4
    dropout: float = 0.5
    stop: str = "validation"
    every: int = 10

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_adam(self, NodeSpec, "gcn(width=128)", ("steps", "every"))
