"""The tables of node classification: sets at shares of a graph's bytes, and what reads the whole graph beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dd.evaluation import mean_std
from scripts.records import kept
from scripts.records.make.nodes import BESIDE, DATA, MEANS, METHODS, NETWORKS, SHARES

READERS: Final = {"features": "an MLP", "label_propagation": "label propagation", "class_means": "class means"}
EQUAL: Final = 0.005
"""A reader is as good as a set that is at most so much better."""

Records = Mapping[str, Sequence[Mapping[str, Any]]]


def node_records() -> Records:
    """Records by data set, the public split first."""
    found = {name: list(kept.named(f"nodes-{name}-*").values()) for name in DATA}
    return {name: records for name, records in found.items() if records}


def _scores(
    records: Sequence[Mapping[str, Any]], public: bool, name: str, share: float | None, model: str
) -> list[float]:
    """Accuracies on test nodes: of the networks of the public split, or of the random splits."""
    return [
        score
        for record in records
        if (record["job"]["split"] == "published") == public
        for row in record["rows"]
        if (row["set"], row.get("share"), row["model"]) == (name, share, model)
        for score in row["test"]
    ]


def _cell(scores: Sequence[float]) -> str:
    if not scores:
        return ""
    mean, std = mean_std(scores)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _bytes(records: Sequence[Mapping[str, Any]], name: str, share: float | None) -> str:
    sizes = [r["counted"] for one in records for r in one["rows"] if (r["set"], r.get("share")) == (name, share)]
    if not sizes:
        return ""
    return f"{min(sizes):,} to {max(sizes):,}" if min(sizes) != max(sizes) else f"{sizes[0]:,}"


def _as_good(records: Sequence[Mapping[str, Any]], name: str, share: float | None) -> str:
    """The readers of the whole graph that are as good as a set's first network, on the public split and on others."""
    found = []
    for reader, text in READERS.items():
        where = []
        for public, called in ((True, "public"), (False, "random")):
            own = _scores(records, public, name, share, NETWORKS[0])
            other = _scores(records, public, reader, None, "mlp" if reader == "features" else "none")
            if own and other and mean_std(other)[0] >= mean_std(own)[0] - EQUAL:
                where.append(called)
        if where:
            found.append(f"{text} ({', '.join(where)})")
    return "; ".join(found)


def node_table(found: Records) -> list[str]:
    """A row a set and share, with each network on the public split and on ten random ones."""
    if not found:
        return ["", "Not measured yet: `python -m scripts.records.make.nodes --root DATA`."]
    heads = [f"{model}: {part}" for model in NETWORKS for part in ("public", "random splits")]
    lines = [
        "",
        f"| data | share | set | bytes | {' | '.join(heads)} | as good as it |",
        "|---" * (len(heads) + 5) + "|",
    ]
    for data, records in found.items():
        shares: list[tuple[float | None, tuple[str, ...]]] = [(None, (MEANS,))]
        shares += [(share, (*METHODS, *BESIDE)) for share in SHARES]
        for share, names in shares:
            for name in names:
                cells = [_cell(_scores(records, p, name, share, m)) for m in NETWORKS for p in (True, False)]
                size, part = _bytes(records, name, share), "" if share is None else f"{100 * share:g} %"
                good = _as_good(records, name, share)
                lines.append(f"| {data} | {part} | {name} | {size} | {' | '.join(cells)} | {good} |")
        for name in ("full", *READERS):
            models = NETWORKS if name == "full" else ("mlp" if name == "features" else "none", "", "")
            cells = [_cell(_scores(records, p, name, None, m)) for m in models for p in (True, False)]
            lines.append(f"| {data} | | {name} | | {' | '.join(cells)} | |")
    return [*lines, "", _legend(found)]


def _legend(found: Records) -> str:
    commits = sorted({record["origin"]["commit"] for records in found.values() for record in records})
    sizes = ", ".join(f"{data} {records[0]['graph_bytes']:,}" for data, records in found.items())
    counts = ", ".join(f"{data} {sum(r['job']['split'] != 'published' for r in one)}" for data, one in found.items())
    return (
        "Accuracy on test nodes in %. Shares are of the bytes of the whole graph (features, edges, labels) stored in "
        f"the same form: {sizes}. Public split: ten networks of a method's row and of `full`, three of a baseline's; "
        f"random splits ({counts}): one each, ± over splits. `features`, an MLP that sees no edges, "
        "`label_propagation` and `class_means` have one number a split, under gcn. *As good as it*: readings of the "
        f"whole graph without edges, features or a network that come within {100 * EQUAL:g} points of the set under "
        "gcn, or above it. `random`, `herding` and `k_center` have training nodes alone, of which a split has 20 a "
        "class: with all of them they have fewer bytes than the set. Sets and steps "
        f"are chosen on validation nodes. Commit {', '.join(commits)}."
    )
