"""Rows of a leaderboard: one set at one budget under one model over its seeds, and the difference of two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from dd.errors import refuse
from dd.evaluation.spread import mean_std


@dataclass(frozen=True)
class Difference:
    """A mean difference in points of a fraction, with the half width of its 95 % interval (Student's t)."""

    mean: float
    half: float | None
    n: int
    paired: bool

    def __str__(self) -> str:
        spread = "" if self.half is None else f" ± {100 * self.half:.1f}"
        return f"{100 * self.mean:+.1f}{spread}"


def difference(ours: Sequence[float], theirs: Sequence[float], paired: bool) -> Difference:
    """The mean of ours minus that of theirs.

    Args:
        ours, theirs: scores, fractions; with `paired` as many, in the same order.
        paired: by place; else Welch's interval of two independent samples.

    Raises:
        InputError: no score, or pairs of unequal numbers.
    """
    if not ours or not theirs or (paired and len(ours) != len(theirs)):
        raise refuse("theirs", f"as many scores as ours ({len(ours)}, at least 1)", len(theirs))
    from scipy.stats import t

    mean = mean_std(ours)[0] - mean_std(theirs)[0]
    if paired:
        n, spread = len(ours), mean_std([a - b for a, b in zip(ours, theirs, strict=True)])[1]
        half = None if spread is None else float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
        return Difference(mean, half, n, True)
    parts = [(mean_std(v)[1], len(v)) for v in (ours, theirs)]
    if any(std is None for std, _ in parts):
        return Difference(mean, None, min(n for _, n in parts), False)
    errors = [(std or 0.0) ** 2 / n for std, n in parts]
    total = sum(errors)
    freedom = total**2 / sum(e**2 / (n - 1) for e, (_, n) in zip(errors, parts, strict=True)) if total else 1.0
    return Difference(mean, float(t.ppf(0.975, freedom)) * math.sqrt(total), min(n for _, n in parts), False)


@final
@dataclass(frozen=True)
class Entry:
    """One set at one budget under one model, over its seeds.

    Attributes:
        set: a method or a baseline.
        budget: images a class, or bytes of graphs; `None` for what has none (all data).
        model: of the networks.
        cells: the records of its seeds, in the order of the seeds.
    """

    set: str
    budget: int | None
    model: str
    cells: tuple[Mapping[str, Any], ...]

    @property
    def refused(self) -> str | None:
        """Why there is no number, of the first seed that has none."""
        return next((cell["refused"] for cell in self.cells if cell.get("refused")), None)

    @property
    def values(self) -> tuple[float, ...]:
        """Scores: a mean a seed where there are several seeds, else those of the networks."""
        if self.refused is not None:
            return ()
        if len(self.cells) > 1:
            return tuple(mean_std(cell["values"])[0] for cell in self.cells)
        return tuple(self.cells[0]["values"])

    @property
    def networks(self) -> int:
        """Trained networks, all seeds together."""
        return sum(len(cell.get("values") or ()) for cell in self.cells)

    @property
    def score(self) -> str:
        """Mean and spread in per cent, or `n/a`."""
        if self.refused is not None:
            return "n/a"
        mean, std = mean_std(self.values)
        return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")

    @property
    def counts(self) -> str:
        """Sets × networks of each, or `n/a`."""
        return "n/a" if self.refused else f"{len(self.cells)} × {self.networks // len(self.cells)}"

    def first(self, key: str) -> Any:
        """What the first seed's record says."""
        return self.cells[0].get(key)

    @property
    def beside(self) -> str | None:
        """The method whose labels these random images have; `None` for every other set."""
        return self.first("beside")

    def seconds(self, key: str) -> float | None:
        """The mean of `distill_seconds` or `train_seconds` over the seeds."""
        found = [float(cell[key]) for cell in self.cells if cell.get(key) is not None]
        return sum(found) / len(found) if found else None

    def minus(self, other: Entry) -> Difference | None:
        """The difference to another set, paired by seed, or by network where there is one seed."""
        if self.refused is not None or other.refused is not None or self is other:
            return None
        same = [cell.get("streams") for cell in self.cells] == [cell.get("streams") for cell in other.cells]
        paired = len(self.values) == len(other.values) and (same or len(self.cells) > 1)
        return difference(self.values, other.values, paired)
