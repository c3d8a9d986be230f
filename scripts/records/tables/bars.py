"""The acceptance bars of Mirage against the graph records, and the setting that validation graphs choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dd.evaluation import mean_std
from scripts.records.tables.graphs import CHOSEN, Key, difference, gaps_of, percent, values

Records = Mapping[str, Sequence[Mapping[str, Any]]]


class Least(NamedTuple):
    """A mean AUROC that a row must reach."""

    dataset: str
    size: str
    row: str
    model: str
    least: float


class Above(NamedTuple):
    """A row that must be above another: with its whole interval, or in the mean."""

    dataset: str
    size: str
    row: str
    model: str
    other: tuple[str, str, str]
    interval: bool


def random_graphs(size: str, pool: str) -> Key:
    """The row of random graphs."""
    return (size, f"random graphs, {pool}", "gin")


NODES: Final = ("", "node_count", "logistic regression")
GAP: Final = ("support gap, mean", "naive bayes")
ALL: Final = ("all sets, mean", "gin")
BARS: Final[tuple[Least | Above, ...]] = (
    *(Least("NCI1", size, *ALL, least) for size, least in (("512", 59), ("2048", 61), ("8192", 64))),
    *(Above("NCI1", size, *ALL, random_graphs(size, "mean"), size != "8192") for size in ("512", "2048", "8192")),
    *(Least("NCI1", size, *GAP, least) for size, least in (("512", 67), ("2048", 73), ("8192", 76))),
    *(Above("NCI1", size, *GAP, NODES, False) for size in ("2048", "8192")),
    Least("PROTEINS", "2048", "all sets, msum", "gin", 71),
    *(Above("PROTEINS", size, "all sets, msum", "gin", random_graphs(size, "sum"), True) for size in ("512", "2048")),
    Least("PROTEINS", "2048", "single trees, msum", "gin", 77),
    Least("IMDB-BINARY-constant", "2048", "support gap, mean", "gin", 70),
    Least("IMDB-BINARY-constant", "2048", *GAP, 73),
    Least("MUTAG", "2048", *ALL, 65),
)
"""The calibration study's, written down before these records were made."""


def bar_lines(found: Records) -> list[str]:
    """A line a bar whose data set is measured."""
    lines = [
        "## Bars",
        "",
        "| data | bytes | set | model | bar | measured | splits | holds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    named = [bar._replace(dataset=bar.dataset + end) for end in ("", CHOSEN) for bar in BARS]
    for bar in named:
        records = found.get(bar.dataset, ())
        last = values(records)
        held = last.get((bar.size, bar.row, bar.model))
        if held is None:
            continue
        if isinstance(bar, Least):
            mean, _ = mean_std(list(held.values()))
            asked, measured, holds = f"≥ {bar.least:g}", percent(held), 100 * mean >= bar.least
        else:
            other = last[bar.other]
            gaps = gaps_of(records, held, other)
            name = " ".join(bar.other[1:]).strip()
            asked = f"above {name}" + (", whole interval" if bar.interval else ", in the mean")
            measured = difference(records, held, other) or percent(held)
            holds = gaps is not None and (gaps.low if bar.interval else gaps.mean) > 0
        lines.append(
            f"| {bar.dataset} | {bar.size} | {bar.row} | {bar.model} | {asked} | {measured} | {len(held)} | "
            f"{'yes' if holds else 'NO'} |"
        )
    return [*lines, "", *chosen_lines(found), *chosen_lines(found, f"NCI1{CHOSEN}"), ""]


def chosen_lines(found: Records, dataset: str = "NCI1", size: str = "2048") -> list[str]:
    """The network setting with the best mean validation AUROC, and its test AUROC beside node count."""
    records = found.get(dataset, ())
    last, val = values(records), values(records, "val")
    mine = {
        key: mean_std(list(held.values()))[0]
        for key, held in val.items()
        if key[0] == size and not key[1].startswith(("random", "herding"))
    }
    if not mine or NODES not in last:
        return []
    best = max(mine, key=lambda key: (mine[key], key))
    return [
        f"The setting of a network on a {dataset} summary of {size} bytes with the best mean validation AUROC "
        f"({100 * mine[best]:.1f}): {best[1]}, {best[2]}. On test graphs {percent(last[best])}; node count alone "
        f"{percent(last[NODES])}; difference {difference(records, last[best], last[NODES])}.",
    ]
