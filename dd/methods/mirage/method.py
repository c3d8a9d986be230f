"""Mirage: frequent sets of computation trees of each class, as a summary on which graph networks are trained."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, final

import numpy as np
import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_choices, check_types, check_whole
from dd.data.graphs.codes import NODE_LABELS, Codes, check_features, fit_codes
from dd.data.graphs.graphs import Graphs
from dd.errors import InputError, refuse, warn
from dd.methods.base import Candidate, Run, Step
from dd.methods.mirage.account import class_weights
from dd.methods.mirage.build import build, entry, leaf_degrees
from dd.methods.mirage.mine import KINDS
from dd.methods.mirage.select import Costs, Pattern, Shop, by_threshold
from dd.methods.mirage.transactions import Transactions, chunks, transactions
from dd.synthetic.tree_recipe import TreeRecipe
from dd.synthetic.trees import TreeSummary

MAX_DEPTH: Final = 3
ENOUGH, POOR = 0.2, 0.05
_CHOICES = {
    "patterns": (*KINDS, "single"),
    "rank": ("support", "gap"),
    "storage": ("once", "repeated"),
    "share": ("equal", "graphs"),
    "leaf_degree": ("mean", "exact"),
    "node_label": NODE_LABELS,
}


class CoverageWarning(UserWarning):
    """The trees that were kept are those of few nodes: a network will see little of a graph in them."""


@final
@dataclass(frozen=True, kw_only=True)
class Mirage:
    """Mirage: model-agnostic graph distillation for graph classification (Gupta et al., ICLR 2024).

    A network of L message-passing layers sees of a node only its computation tree of depth L, so a graph is a multiset
    of trees. The sets of trees that occur together in enough graphs of a class are kept, with their supports; no
    network is trained to find them. Supports count graphs, not nodes, as published; the multiplicity that the paper
    drops is kept beside them (`keep_counts`).

    Attributes:
        depth: L, the layers of the networks to be trained; `None` takes the deepest of 1 … 3 whose kept trees are
            those of at least 20 % of the training nodes, or the best covered.
        budget_bytes: bytes by the published two-byte count (see `Costs`), one account for all classes, best patterns
            first: a tree that several classes have is paid once, and what a class leaves is the others'. `None` with
            `min_support`.
        min_support: instead of a budget: graphs of each class that must hold a set, one number or one a class; whole
            numbers count graphs, fractions below 1 are relative to the class.
        patterns: `all` frequent sets, as published, `closed`, `maximal`, or `single` trees. Maximal sets are bought by
            whole thresholds of support, so a budget may leave bytes that the next threshold does not fit.
        rank: of single trees: by `support`, or by the `gap` between the relative support in the class and the largest
            one elsewhere.
        share: of the budget: classes alike (`equal`) or by their `graphs`. They buy in turns, the one that has spent
            least of its share first.
        storage: trees `once`, referred to by the sets of all classes, or `repeated` in every set, as published.
        keep_counts: store, and count, the mean multiplicity of each tree in the graphs that hold the set; else 1.
        keep_supports: store, and count, in how many graphs of each class each tree is: what naive Bayes and bags read
            (see `TreeRecipe`). The published count has none, so published rows go without.
        drop_shared: leave out sets that are frequent in another class too, as three of the published scripts do; with
            a budget those whose relative support elsewhere is at least half as high.
        node_label: what trees are made of: `features`, `degree`, `constant`; `auto` is features where there are any,
            else the degree, as published.
        leaf_degree: GCN normalises by the degree of a tree's leaves, which have no children. `mean`: the mean over
            training nodes of that label, so root embeddings of GCN, and of GCN alone, are not those of the graph (on
            NCI1, split 0, 2,048 bytes, depth 2, off by 2.9 % on average); `exact`: leaves of another degree are other
            trees, finer and rarer (there GCN is exact to 2e-16, but 26 % of the test nodes are covered against 45 %).
        max_patterns: sets of a class that mining looks at: with `min_support` more are refused, with a budget they are
            what there is to buy, and a warning says where it ended.
        max_distinct: trees of one depth above which refinement stops with a message.
        train: how networks are trained on the summary.

    Raises:
        InputError: a field outside its range, both or none of `budget_bytes` and `min_support`.
    """

    kind: ClassVar[str] = "graphs"
    budget: ClassVar[str] = "budget_bytes"
    either: ClassVar[tuple[str, ...]] = ("budget_bytes", "min_support")
    name: str = "mirage"
    depth: int | None = None
    budget_bytes: int | None = 2048
    min_support: int | float | tuple[float, ...] | None = None
    patterns: str = "closed"
    rank: str = "support"
    share: str = "equal"
    storage: str = "once"
    keep_counts: bool = True
    keep_supports: bool = True
    drop_shared: bool = False
    node_label: str = "auto"
    leaf_degree: str = "mean"
    max_patterns: int = 100_000
    max_distinct: int | None = None
    train: TreeRecipe = field(default_factory=TreeRecipe)

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        for name in ("depth", "budget_bytes", "max_distinct"):
            if getattr(self, name) is not None:
                check_whole(getattr(self, name), name)
        check_whole(self.max_patterns, "max_patterns")
        check_types(self)
        if (self.budget_bytes is None) == (self.min_support is None):
            got = "neither" if self.budget_bytes is None else f"both ({self.budget_bytes}, {self.min_support})"
            way_out = "Give min_support= with budget_bytes=None, or a budget alone."
            raise refuse("budget_bytes", "given, or `min_support`, and not both", got, way_out)
        if self.train.reading == "bags" and not self.keep_supports:
            way_out = "Keep them, or train with reading='sets'."
            raise refuse("keep_supports", "True for reading='bags', which reads the supports of trees", False, way_out)
        if self.rank == "gap" and self.patterns != "single":
            way_out = "Use patterns='single'; the gap of a set says nothing of the sets that contain it."
            raise refuse("rank", "`support` for sets of trees", "'gap'", way_out)
        if self.min_support is not None:
            for least in self._each(self.min_support):
                if isinstance(least, bool) or not isinstance(least, int | float) or not least > 0:
                    raise refuse("min_support", "positive numbers", repr(self.min_support))
                if least > 1 and least != int(least):
                    raise refuse("min_support", "whole numbers of graphs, or fractions below 1", repr(least))

    @staticmethod
    def _each(least: float | Sequence[float]) -> list[float]:
        return [least] if isinstance(least, int | float) else list(least)

    @under_own_settings
    def distill(self, real: Graphs, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, one candidate.

        Raises:
            InputError: data without edges or with an empty class, a budget that holds no pattern.
        """
        del state
        _check(real)
        start = time.monotonic()
        codes, found = self._trees(real)
        run.progress(1, 2, "trees")
        tried: list[tuple[float, Transactions, list[Pattern], Costs]] = []
        for one in found:
            patterns, costs = self._patterns(one, codes)
            tried.append((_covered(one, patterns)[0], one, patterns, costs))
            if tried[-1][0] >= ENOUGH:
                break
        cover, chosen, patterns, costs = max(tried, key=lambda t: (t[0] >= ENOUGH, t[0]))
        if not patterns:
            raise self._nothing(real, found, codes)
        small = self._summary(real, codes, chosen, patterns, costs)
        _warn(small, cover)
        metrics = {"iteration": 1, "patterns": len(small), "seconds": time.monotonic() - start, "coverage": cover}
        yield Step(1, 1, metrics, {"iteration": torch.tensor(1)}, (Candidate("last", 1, small),))

    def _trees(self, real: Graphs) -> tuple[Codes, list[Transactions]]:
        """What labels mean, and the trees of the depths that may be kept, the deepest first."""
        codes = fit_codes(real.train, self.node_label)
        found = transactions(
            chunks(real.train),
            codes,
            self.depth or MAX_DEPTH,
            real.num_classes,
            leaf_degree=self.leaf_degree == "exact",
            max_distinct=self.max_distinct,
        )
        return codes, [found[self.depth - 1]] if self.depth else found[::-1]

    def _patterns(self, found: Transactions, codes: Codes) -> tuple[list[Pattern], Costs]:
        costs = self._costs(found, codes)
        if self.min_support is not None:
            least = self._thresholds(found)
            kept = by_threshold(found, least, self.patterns, self.rank, self.drop_shared, self.max_patterns)
            return kept, costs
        assert self.budget_bytes is not None
        weights = class_weights(self.share, found.graphs.tolist())
        return self._shop(found).buy(costs, self.budget_bytes, weights), costs

    def _costs(self, found: Transactions, codes: Codes) -> Costs:
        fields, edge_fields = codes.table.shape[1], codes.edge_table.shape[1]
        return Costs(found, fields, edge_fields, self.storage == "once", self.keep_counts, self.keep_supports)

    def _shop(self, found: Transactions) -> Shop:
        return Shop(found, self.patterns, self.rank, self.drop_shared, self.max_patterns)

    def _thresholds(self, found: Transactions) -> list[int]:
        assert self.min_support is not None
        given = self._each(self.min_support)
        if len(given) not in (1, found.classes):
            raise refuse("min_support", f"one number or {found.classes}, one a class", repr(self.min_support))
        each = given * found.classes if len(given) == 1 else given
        counts = found.graphs.tolist()
        return [max(1, math.ceil(v * n - 1e-9) if v < 1 else int(v)) for v, n in zip(each, counts, strict=True)]

    def _nothing(self, real: Graphs, found: Sequence[Transactions], codes: Codes) -> InputError:
        """The refusal of fields that keep no pattern, with such ways out as keep some."""
        ways = [f"use {' and '.join(f'{name}={value!r}' for name, value in way.items())}" for way in self._ways(real)]
        if self.min_support is not None:
            best = np.max([one.support.max(axis=0) for one in found], axis=0).tolist()
            if all(n < least for n, least in zip(best, self._thresholds(found[0]), strict=True)):
                expected = f"at most {best}, the best supports of a tree"
                return refuse("min_support", expected, repr(self.min_support), _sentence(["lower it", *ways]))
        elif priced := self._prices(found, codes):
            cost, depth = min(priced)
            expected = f"enough for the first pattern of a class, {cost:,} bytes or more of depth {depth} here"
            return refuse("budget_bytes", expected, self.budget_bytes, _sentence(["raise it", *ways]))
        left_out = "drop_shared=False" if self.drop_shared else "rank='support'"
        ways = ways or [f"use {left_out} and a larger `budget_bytes`"]
        if self.drop_shared and (self.rank == "support" or replace(self, drop_shared=False)._prices(found, codes)):
            expected = "False, where every set of trees is as good as frequent in another class too"
            return refuse("drop_shared", expected, True, _sentence(ways))
        expected = "`support`, where no tree is more frequent in one class than in the others"
        return refuse("rank", expected, repr(self.rank), _sentence(ways))

    def _prices(self, found: Sequence[Transactions], codes: Codes) -> list[tuple[int, int]]:
        """(the least budget that buys something, depth) of each depth where one does."""
        each = ((self._shop(one).first_cost(self._costs(one, codes)), one.depth) for one in found)
        return [(cost, depth) for cost, depth in each if cost is not None]

    def _ways(self, real: Graphs) -> list[dict[str, Any]]:
        """Of each field that may keep patterns out, the nearest value that keeps some; else of two fields together."""
        kinds: list[list[dict[str, Any]]] = [
            [{"depth": depth} for depth in range((self.depth or 1) - 1, 0, -1)],
            [{"node_label": "constant"}] if self.node_label != "constant" else [],
            [{"drop_shared": False}] if self.drop_shared else [],
            [{"rank": "support"}] if self.rank == "gap" else [],
        ]
        firsts = [next((way for way in ways if replace(self, **way)._keeps_some(real)), None) for ways in kinds]
        both: dict[str, Any] = {"drop_shared": False, "rank": "support"}
        found = [way for way in firsts if way is not None]
        return found or ([both] if kinds[2] and kinds[3] and replace(self, **both)._keeps_some(real) else [])

    def _keeps_some(self, real: Graphs) -> bool:
        """Whether these fields keep a pattern."""
        with warnings.catch_warnings(), contextlib.suppress(InputError):
            warnings.simplefilter("ignore")  # of a run that nobody asked for
            codes, found = self._trees(real)
            return any(self._patterns(one, codes)[0] for one in found)
        return False

    def _summary(
        self, real: Graphs, codes: Codes, found: Transactions, patterns: Sequence[Pattern], costs: Costs
    ) -> TreeSummary:
        leaves = leaf_degrees(found, codes, real.train, exact=self.leaf_degree == "exact")
        return build(
            found,
            [entry(found, p, self.keep_counts) for p in patterns],
            codes,
            leaves,
            self.keep_supports,
            classes=real.classes,
            recipe=self.train,
            directed=real.directed,
            method=self.describe(),
            published=costs.total(patterns),
            figures=figures(found, patterns),
        )

    def check_fits(self, real: Graphs, device: torch.device) -> None:
        """Refuse graphs that have no trees to mine, before a cost is told.

        Raises:
            InputError: continuous features, or none where `node_label` asks for them.
        """
        del device
        check_features(real.train, self.node_label)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)


def _sentence(ways: Sequence[str]) -> str:
    """Ways out as one sentence."""
    text = ", or ".join(ways)
    return f"{text[:1].upper()}{text[1:]}."


def _check(real: Graphs) -> None:
    if getattr(real, "kind", "") != "graphs":
        raise refuse("data", "graphs for the method `mirage`", type(real).__name__, "Image sets have other methods.")
    if not real.train.num_edges:
        raise refuse("data", "of graphs with edges", "no edge", "Without edges every tree is a node.")
    counts = real.graphs_per_class.tolist()
    if len(counts) < 2 or min(counts) == 0:
        raise refuse("data", "of two or more classes with training graphs in each", counts)


def _covered(found: Transactions, patterns: Sequence[Pattern]) -> tuple[float, list[float], list[int]]:
    """(share of training nodes whose tree is kept, the same of each class, graphs of each class without any)."""
    kept = np.zeros(len(found.tables[-1]), bool)
    kept[[t for p in patterns for t in p.trees]] = True
    inside = kept[found.tree]
    nodes = np.bincount(found.graph[inside], weights=found.count[inside], minlength=len(found))
    share, bare = [], []
    for k in range(found.classes):
        own = found.labels == k
        share.append(float(nodes[own].sum() / max(found.nodes[own].sum(), 1)))
        bare.append(int((nodes[own] == 0).sum()))
    return float(nodes.sum() / max(found.nodes.sum(), 1)), share, bare


def figures(found: Transactions, patterns: Sequence[Pattern]) -> dict[str, Any]:
    """What `report()` says of the training graphs."""
    cover, by_class, bare = _covered(found, patterns)
    reached: list[int | None] = []
    for k in range(found.classes):
        held = [p.support for p in patterns if p.label == k]
        reached.append(min(held) if held else None)
    return {
        "coverage": round(cover, 6),
        "coverage_by_class": [round(c, 6) for c in by_class],
        "uncovered_graphs": bare,
        "distinct_trees": [len(table) for table in found.tables],
        "thresholds": reached,
        "patterns_by_class": [sum(p.label == k for p in patterns) for k in range(found.classes)],
    }


def _warn(small: TreeSummary, cover: float) -> None:
    """Warnings for people: an empty class, poor coverage."""
    empty = [small.classes[k] for k, n in enumerate(small.figures["patterns_by_class"]) if n == 0]
    ways = ["a smaller `depth`"] if small.depth > 1 else []
    ways.append("a larger budget" if small.method["min_support"] is None else "a lower `min_support`")
    ways += ["coarser labels (node_label='constant')"] if small.codes.kind != "constant" else []
    ways += ["drop_shared=False"] if empty and small.method["drop_shared"] else []
    advice = f"Use {', or '.join(ways)}."
    if empty:
        message = f"no pattern of class {', '.join(empty)} is kept: a network cannot learn it. {advice}"
        warn(message, CoverageWarning)
    if cover < ENOUGH:
        loud = "VERY POOR COVERAGE: only" if cover < POOR else "only"
        message = f"{loud} {100 * cover:.1f} % of the training nodes have a kept tree of depth {small.depth}. {advice}"
        warn(message, CoverageWarning)
