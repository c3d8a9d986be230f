"""A contest: a set beside baselines of its budget, by fresh networks of equal steps and streams on the same test data.

`dd.evaluate` holds one: the set that it is given, and baselines made to stand beside it. `dd.benchmark` holds many, one
for each set that it distils and each baseline, at every budget and seed. Both read the same parts, of images in
`baselines_images` and `images`, of graphs in `baselines_graphs` and `graphs`:

- a `Baseline` is a value in a table, `IMAGE_BASELINES` or `GRAPH_BASELINES`: how it is made, what it spends, how its
  networks are trained, which verb offers it. Nothing is read from its name; to add one is a function and an entry;
- what a baseline is made from (`BesideImages`, `BesideGraphs`): the data, and the budget and recipe of what it stands
  beside;
- an entrant has a row: the set itself, or a baseline that was made, with how its networks are trained;
- a `Contest` has entrants, and `rows(models)` trains and scores them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, Protocol, TypeVar, final

import torch
from torch import Tensor

from dd.base.bounds import check_range
from dd.base.shapes import as_list
from dd.base.texts import shown
from dd.data import Images, Ipc
from dd.data.graphs.graphs import Graphs
from dd.data.nodes.nodes import Nodes
from dd.errors import find_name, near, refuse
from dd.evaluation import Row
from dd.evaluation.scores import figures
from dd.synthetic import AnySet

ROOM: Final = 1000
"""Places for the networks of a row among those that several processes share."""
Verb = Literal["evaluate", "benchmark"]
BOTH: Final[tuple[Verb, ...]] = ("evaluate", "benchmark")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a set is compared with; `kind`, of the class, is that of the data.

    Attributes:
        name: of its row.
        says: what it is, in a few words, of which a report's legend has one line.
        make: makes it from what it stands beside.
        budget: whether it spends what the set beside it has spent; else it is one for all budgets.
        draws: how many of it are pooled in a row where chance chooses it.
        reads: what a report calls the model of one that trains no network; empty of all others.
        offered: verbs that know it.
        default: verbs that have it where nobody says which.
    """

    kind: ClassVar[str]
    name: str
    says: str
    make: Callable[..., Any]
    budget: bool = True
    draws: int = 1
    reads: str = ""
    offered: tuple[Verb, ...] = BOTH
    default: tuple[Verb, ...] = ()

    @property
    def told(self) -> str:
        """What it is, and how many draws of it a row of `evaluate` has."""
        return self.says + (f", {self.draws} draws" if self.draws > 1 else "")

    def stands(self, budget: Ipc | None) -> bool:
        """Whether there is one of that budget."""
        return (budget is None) != self.budget


AnyBaseline = TypeVar("AnyBaseline", bound=Baseline)


def table(*baselines: AnyBaseline) -> dict[str, AnyBaseline]:
    """Baselines by name, in the order in which rows have them."""
    return {one.name: one for one in baselines}


def chosen(known: Mapping[str, AnyBaseline], verb: Verb, asked: str | Sequence[str] | None) -> list[AnyBaseline]:
    """The baselines that were asked for, in that order; `None`: those that the verb has by default.

    Raises:
        InputError: a name that the verb does not offer, or one twice.
    """
    if asked is None:
        return [one for one in known.values() if verb in one.default]
    there, kind = offered(known, verb), next(iter(known.values())).kind
    what = "baseline" + (f" for {kind}" if kind != "images" else "")
    names = [find_name(what, name, there) for name in as_list(asked)]
    if twice := [name for name in there if names.count(name) > 1]:
        raise refuse("baselines", "different names", f"{twice[0]!r} twice")
    return [there[name] for name in names]


def offered(known: Mapping[str, AnyBaseline], verb: Verb) -> dict[str, AnyBaseline]:
    """The baselines that a verb knows, by name."""
    return {name: one for name, one in known.items() if verb in one.offered}


@final
@dataclass(frozen=True, kw_only=True)
class Rules:
    """What all rows of a contest share.

    Attributes:
        repeats: fresh networks a row.
        seed: of all networks and draws.
        device: where they are trained.
        metric: of the rows and of tuning, of `METRICS`; `None`: accuracy, and of graphs of two classes AUROC.
        steps: optimiser steps; `None`: those of the recipe.
        lr: a number, `tuned` by the validation split, or `None` for the recipe's.
    """

    repeats: int
    seed: int
    device: torch.device
    metric: str | None = None
    steps: int | None = None
    lr: float | Literal["tuned"] | None = None


def given_lr(lr: object) -> float | Literal["tuned"] | None:
    """`lr` of `dd.evaluate` and `dd.benchmark` as `Rules` have it.

    Raises:
        InputError: another word than `recipe` or `tuned`, or no positive number.
    """
    if isinstance(lr, float | int) and not isinstance(lr, bool):
        check_range("lr", lr)
        if not lr > 0:
            raise refuse("lr", "positive", lr)
        return float(lr)
    if not isinstance(lr, str) or lr not in ("recipe", "tuned"):
        raise refuse("lr", "`recipe`, `tuned` or a number", shown(lr), near(lr, ("recipe", "tuned")))
    return "tuned" if lr == "tuned" else None


class Contest(Protocol):
    """Entrants and rules."""

    def count(self, models: Sequence[Any]) -> int:
        """How many rows there will be."""
        ...

    def rows(self, models: Sequence[Any]) -> Iterator[Row]:
        """A row for each entrant and model (`None`: the one that the set was distilled for), entrant by entrant."""
        ...


def read_row(entrant: Any, labels: Tensor, metric: str) -> Row:
    """The row of what trains no network, timed.

    Args:
        entrant: its `read` gives scores `[N, K]` of the test items.
        labels: theirs, int64 `[N]`.
        metric: of the rows.
    """
    start = time.monotonic()
    found = figures(entrant.read(), labels, metric)
    told = {"set": entrant.name, "model": entrant.reads, "steps": 0, "lr": 0.0}
    return Row.of([found], metric, **told, seconds=time.monotonic() - start)


def row_of(baseline: str, own: str) -> str:
    """What a row beside the set `own` is called: the baseline's name, told apart where the set has it too."""
    return f"{baseline} (baseline)" if baseline == own else baseline


@final
@dataclass(frozen=True, kw_only=True)
class Given:
    """The contest of a set that is given, and what a report says of it.

    Attributes:
        small: the set, ready to be trained on.
        real: its data, with a test split.
        contest: the set is its first entrant.
        title: the method and the set's size.
        split: what the test split is called.
        selection: what a report adds to how the set was chosen.
        notes: on baselines, and on the set.
        about: what each baseline is, by the name of its row.
    """

    small: AnySet
    real: Images | Graphs | Nodes
    contest: Contest
    title: str
    split: str
    selection: str = ""
    notes: Sequence[str] = ()
    about: Mapping[str, str] = field(default_factory=dict)
