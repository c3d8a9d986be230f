"""`node_means`: means of propagated features, a few a class, as nodes without edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.seeding import child
from dd.base.shapes import check_choices, check_number, check_types, check_whole
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import SETTINGS, Nodes
from dd.data.nodes.propagate import propagated
from dd.errors import refuse
from dd.methods.base import Candidate, Run, Step
from dd.methods.nodes.cluster import k_means
from dd.methods.nodes.common import no_edges, recipe_for, seen_by, too_little
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.node_store import stored_bytes
from dd.synthetic.nodes import NodeSet

LADDER: Final = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500)
"""Nodes a class that a budget is tried with."""
FEWEST: Final = 8
"""Entries a node at least, where a budget is spent on more than one node a class; all, of fewer features."""
TRIED: Final = 6
"""Of the ladder's steps that fit, at most; the largest ones."""
PLENTY: Final = 30
"""Entries a node that are enough, where no validation nodes can say so."""


@final
@dataclass(frozen=True, kw_only=True)
class NodeMeans:
    """Means of propagated features: a few nodes a class without edges, found without training a network.

    Features go along edges, h = γ X + α P X + β P² X with P = D̃^(-1/2) (A + I) D̃^(-1/2), and the training nodes of each
    class are clustered by h. Each cluster's mean is a node; the adjacency is the identity. This is class partition
    (Gao et al., WWW 2025), and with `fuzziness` above 1 the form of GECC.

    A budget buys nodes and entries: of each mean the largest entries are kept, as index and float16, as many as fit.
    How many nodes a class the budget is spent on is chosen by the accuracy of fresh networks on the validation nodes.

    Attributes:
        budget_bytes: bytes of features and labels as the set's file holds them; `None` with `nodes`.
        nodes: instead of a budget: nodes a class, of a smaller class as many as it has training nodes.
        entries: entries a node; `None`: all with `nodes`, as many as fit with a budget.
        alpha: weight of P X.
        beta: weight of P² X.
        gamma: weight of X.
        fuzziness: 1: each training node belongs to one cluster; above: to all by its distances (fuzzy c-means).
        restarts: runs of k-means, of which the tightest counts.
        setting: `transductive`: all nodes and edges are seen, and the classes of training nodes; `inductive`: training
            nodes and the edges between them alone.
        train: how networks are trained on the set; `scale="auto"` is `rows` where there are
            several features and none is below 0, else `none`.

    Raises:
        InputError: a field outside its range, both or none of `budget_bytes` and `nodes`.
    """

    kind: ClassVar[str] = "nodes"
    budget: ClassVar[str] = "budget_bytes"
    either: ClassVar[tuple[str, ...]] = ("budget_bytes", "nodes")
    name: str = "node_means"
    budget_bytes: int | None = 2048
    nodes: int | None = None
    entries: int | None = None
    alpha: float = 0.0
    beta: float = 1.0
    gamma: float = 0.0
    fuzziness: float = 1.0
    restarts: int = 3
    setting: str = "transductive"
    train: NodeRecipe = field(default_factory=NodeRecipe)

    def __post_init__(self) -> None:
        check_choices(self, {"setting": SETTINGS})
        for name in ("budget_bytes", "nodes", "entries"):
            if getattr(self, name) is not None:
                check_whole(getattr(self, name), name)
        check_whole(self.restarts, "restarts")
        for name, low in (("alpha", -100), ("beta", -100), ("gamma", -100), ("fuzziness", 1)):
            check_number(getattr(self, name), name, low)
        check_types(self)
        if self.alpha == self.beta == self.gamma == 0:
            raise refuse("beta", "other than 0, where `alpha` and `gamma` are 0", 0, "Nothing would be left.")
        if (self.budget_bytes is None) == (self.nodes is None):
            got = "neither" if self.budget_bytes is None else f"both ({self.budget_bytes}, {self.nodes})"
            way_out = "Give nodes= with budget_bytes=None, or a budget alone."
            raise refuse("budget_bytes", "given, or `nodes`, and not both", got, way_out)

    @under_own_settings
    def distill(self, real: Nodes, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, with a candidate for each number of nodes a class that is tried.

        Raises:
            InputError: a class without training nodes, or a budget below one node a class.
        """
        del state
        graph = seen_by(self, real)
        recipe = recipe_for(self.train, graph)
        told = {"graph_bytes": stored_bytes(graph, real.num_classes)}
        classes = self._classes(graph, real.num_classes, recipe)
        scale = recipe.scale
        if self.nodes is not None:
            made = self._of_nodes(classes, scale, run)
        else:
            made = self._of_budget(graph, classes, scale, run)
        if real.val is None:
            plenty = min(PLENTY, self._most(graph.x.shape[1]))
            made = [next((one for one in reversed(made) if one[1] >= plenty), made[0])]
        candidates = []
        for rows, entries, small in made:
            figures = {**told, "nodes_per_class": rows, "entries": entries}
            told_set = NodeSet(
                graph=small, classes=real.classes, recipe=recipe, method=self.describe(), figures=figures
            )
            name = f"{rows} node{'s' if rows > 1 else ''} a class, {entries} entries"
            candidates.append(Candidate(name, 1, told_set))
        metrics = {"iteration": 1, "tried": len(candidates)}
        yield Step(1, 1, metrics, {"iteration": torch.tensor(1)}, tuple(candidates))

    def _classes(self, graph: NodeGraph, classes: int, recipe: NodeRecipe) -> list[Tensor]:
        """Propagated features of the training nodes of each class, float64 `[N_k, F]`."""
        weights = (self.gamma, self.alpha, self.beta)
        hops = max(i for i, weight in enumerate(weights) if weight)
        parts = propagated(graph, hops, recipe.scale)
        rows = (graph.y >= 0).nonzero()[:, 0]
        mixed = torch.stack([w * part[rows] for w, part in zip(weights, parts, strict=False) if w]).sum(0)
        return [mixed[graph.y[rows] == k] for k in range(classes)]

    def _of_nodes(self, classes: list[Tensor], scale: str, run: Run) -> list[tuple[int, int, NodeGraph]]:
        """(nodes a class, entries a node, the graph) of the numbers that were given."""
        assert self.nodes is not None
        means, y = self._means(classes, self.nodes, scale, run)
        entries = min(self.entries or means.shape[1], means.shape[1])
        return [(self.nodes, entries, self._graph(means, y, entries))]

    def _of_budget(
        self, graph: NodeGraph, classes: list[Tensor], scale: str, run: Run
    ) -> list[tuple[int, int, NodeGraph]]:
        """(nodes a class, entries a node, the graph) of each step of the ladder that fits the budget.

        Raises:
            InputError: not even one node a class with one entry fits.
        """
        assert self.budget_bytes is not None
        fewest = min(FEWEST, self._most(graph.x.shape[1]))
        made: list[tuple[int, int, NodeGraph]] = []
        chosen = self.tried([len(own) for own in classes], graph.x.shape[1])
        for place, n in enumerate(chosen):
            means, y = self._means(classes, n, scale, run)
            entries = self._entries(means, y, len(classes))
            run.progress(place + 1, len(chosen), f"{n} nodes a class")
            if entries >= (fewest if n > 1 else 1):
                made.append((n, entries, self._graph(means, y, entries)))
            elif n == 1:
                raise too_little(
                    self.budget_bytes, stored_bytes(self._graph(means, y, 1), len(classes)), graph, len(classes)
                )
        return made

    def tried(self, counts: list[int], features: int) -> list[int]:
        """The nodes a class that a budget is tried with, of classes with as many training nodes; one where it is given.

        Of those above 1, some may turn out to leave too few entries.
        """
        if self.budget_bytes is None:
            return [self.nodes or 1]
        each, fits = 1 + min(2 * features, 3 * min(FEWEST, self._most(features))), []
        for n in (n for n in LADDER if n <= max(counts)):
            if n > 1 and sum(min(n, count) for count in counts) * each > self.budget_bytes:
                break
            fits.append(n)
        return fits if len(fits) <= TRIED else [fits[0], *fits[len(fits) - TRIED + 1 :]]

    def _most(self, features: int) -> int:
        """Entries that a node can have."""
        return min(self.entries or features, features)

    def _means(self, classes: list[Tensor], n: int, scale: str, run: Run) -> tuple[Tensor, Tensor]:
        """Means `[M, F]` and their classes."""
        found = [
            k_means(own, min(n, len(own)), child(run.seed, "means", k, n), self.restarts, self.fuzziness)
            for k, own in enumerate(classes)
        ]
        y = torch.repeat_interleave(torch.arange(len(found)), torch.tensor([len(part) for part in found]))
        means = torch.cat(found)
        if scale == "rows":  # which undoes it: float16 holds numbers near 1 best
            means = means / means.abs().amax(1, keepdim=True).clamp(min=1e-30)
        return means.float().double(), y

    def _entries(self, means: Tensor, y: Tensor, classes: int) -> int:
        """Entries a node that fit the budget, at most `entries`; 0 where not even one does."""
        assert self.budget_bytes is not None
        low, high = 0, min(self.entries or means.shape[1], means.shape[1])
        while low < high:  # the bytes rise with the entries, until dense ones are fewer
            middle = (low + high + 1) // 2
            if stored_bytes(self._graph(means, y, middle), classes) <= self.budget_bytes:
                low = middle
            else:
                high = middle - 1
        return low

    @staticmethod
    def _graph(means: Tensor, y: Tensor, entries: int) -> NodeGraph:
        """Means with their largest entries alone, of equal ones the first, in float16."""
        if entries < means.shape[1]:
            order = torch.sort(means.abs(), dim=1, descending=True, stable=True).indices[:, :entries]
            means = torch.zeros_like(means).scatter_(1, order, means.gather(1, order))
        return NodeGraph(means.half().float(), no_edges(), y)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)
