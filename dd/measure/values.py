"""Figures over several networks: mean, sample standard deviation, n, and how a table writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from dd.errors import refuse
from dd.evaluation.spread import mean_std


@final
@dataclass(frozen=True)
class Values:
    """One figure of each of n ≥ 1 networks.

    Raises:
        InputError: no value.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise refuse("values", "at least one number", "none")

    @property
    def mean(self) -> float:
        """Mean over networks."""
        return mean_std(self.values)[0]

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n − 1); `None` for one network."""
        return mean_std(self.values)[1]

    @property
    def n(self) -> int:
        """How many networks."""
        return len(self.values)

    def to_json(self) -> dict[str, Any]:
        """Mean, std, n and the values."""
        return {"mean": self.mean, "std": self.std, "n": self.n, "values": list(self.values)}

    def text(self, scale: float = 100, digits: int = 1) -> str:
        """`mean ± std`, times `scale`."""
        spread = "" if self.std is None else f" ± {scale * self.std:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
