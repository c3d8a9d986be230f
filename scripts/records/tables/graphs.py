"""The tables of the graph records: a short one, and all of them in `docs/results/graphs.md`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from scipy import stats

from dd.evaluation import mean_std
from dd.evaluation.scores import Interval, corrected_interval
from dd.methods.presets import rows
from scripts.records import kept
from scripts.records.make.graphs import UNIT
from scripts.records.tables.accuracy import origin_words, told_once

SIZES: Final = ("published", "512", "2048", "8192")
ONE_SPLIT: Final = ("scaffold",)
SHORT: Final = (
    ("all sets, mean", "gin"),
    ("closed sets stored once, msum", "gin"),
    ("support gap, msum, soft targets, filtered", "gin"),
    ("support gap, mean", "naive bayes"),
    ("random graphs, sum", "gin"),
    ("random graphs, mean", "gin"),
)
CHOSEN: Final = "-embedding-by-validation"
"""Ends the name of rows that validation graphs choose among both starts."""

Key = tuple[str, str, str]
"""(size, set, model)."""


def graph_records() -> dict[str, list[dict[str, Any]]]:
    """Records by data set, in the order of splits."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in kept.named("graphs-*-split*").values():
        found[record["job"]["dataset"]].append(record)
    sets = {name: sorted(held, key=lambda r: r["job"]["split"]) for name, held in found.items()}
    for name in [name for name in sets if name + UNIT in sets and rule(sets[name]) == rule(sets[name + UNIT])]:
        sets[name + CHOSEN] = by_validation(sets[name], sets[name + UNIT])
    return dict(sorted(sets.items()))


def rule(records: Sequence[Mapping[str, Any]]) -> set[str]:
    """By which rules the bytes of these records were spent: the present one is named in them."""
    return {str(record.get("bytes", "earlier")) for record in records}


def by_validation(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records whose every network is, of its two trainings in `a` and `b`, that with the better validation AUROC.

    Only splits in both; rows without a network are those of `a`; where both are equal too.
    """

    def name(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row.get(part) for part in ("size", "set", "model", "draw"))

    others = {record["job"]["split"]: {name(row): row for row in record["rows"]} for record in b}
    made = []
    for record in a:
        split = record["job"]["split"]
        if split not in others:
            continue
        rows = []
        for row in record["rows"]:
            rival = others[split].get(name(row), row)
            rows.append(rival if (rival.get("val") or 0.0) > (row.get("val") or 0.0) else row)
        made.append({**record, "rows": rows})
    return made


def values(records: Sequence[Mapping[str, Any]], which: str = "last") -> dict[Key, dict[int, float]]:
    """Figure of each row by split: the mean over draws of random graphs or trees."""
    found: dict[Key, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for row in record["rows"]:
            if row.get(which) is not None:
                found[row["size"], row["set"], row["model"]][record["job"]["split"]].append(row[which])
    return {key: {s: sum(v) / len(v) for s, v in held.items()} for key, held in found.items()}


def gaps_of(records: Sequence[Mapping[str, Any]], a: Mapping[int, float], b: Mapping[int, float]) -> Interval | None:
    """Mean of a - b over the splits that both have, with its 95 % interval; `None` with fewer than two."""
    shared = sorted(a.keys() & b.keys())
    if len(shared) < 2:
        return None
    gaps = [a[s] - b[s] for s in shared]
    if records[0]["job"]["rule"] not in ONE_SPLIT:
        train, _, test = records[0]["graphs"]
        return corrected_interval(gaps, train, test)
    mean, std = mean_std(gaps)  # the test graphs are the same: seeds differ, nothing to correct
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * (std or 0.0) / math.sqrt(len(gaps))
    return Interval(mean, mean - half, mean + half)


def difference(records: Sequence[Mapping[str, Any]], a: Mapping[int, float], b: Mapping[int, float]) -> str:
    """`gaps_of` in points, as text."""
    gaps = gaps_of(records, a, b)
    return "" if gaps is None else f"{100 * gaps.mean:+.1f} [{100 * gaps.low:+.1f}, {100 * gaps.high:+.1f}]"


def percent(held: Mapping[int, float]) -> str:
    """`64.1 ± 2.3` of AUROC × 100, sample standard deviation."""
    mean, std = mean_std([held[s] for s in sorted(held)])
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def whole_table(name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """All rows of a data set."""
    last, early = values(records), values(records, "early")
    sizes = [s for s in SIZES if any(key[0] == s for key in last)]
    pairs = list(dict.fromkeys((key[1], key[2]) for key in last if key[0]))
    count, drawn = len(records), records[0]["job"]["rule"]
    what = f"split{'s' * (count > 1)} ({drawn})"
    if drawn in ONE_SPLIT:
        what = f"seed{'s' * (count > 1)} on the one scaffold split"
    head = " | ".join(f"{s} | − random graphs" for s in sizes)
    lines = [
        f"## {name}",
        "",
        f"{count} {what}; graphs {records[0]['graphs']}; AUROC × 100 at the last step / at the best validation AUROC.",
        "",
    ]
    if sizes:
        lines += [f"| set | model | {head} |", "|---|---|" + "---|---|" * len(sizes)]
    for row, model in pairs:
        cells = []
        for size in sizes:
            held = last.get((size, row, model))
            if held is None:
                cells += ["n/a", ""]
                continue
            stopped = early.get((size, row, model))
            text = percent(held) + (f" / {percent(stopped)}" if stopped else "")
            rival = last.get((size, f"random graphs, {'mean' if 'mean' in row else 'sum'}", model))
            rival = rival or last.get((size, "random graphs, sum", "gin"))
            own = row.startswith("random graphs") or rival is None
            cells += [text, "" if own or rival is None else difference(records, held, rival)]
        lines.append(f"| {row} | {model} | {' | '.join(cells)} |")
    lines += ["", *_alone(last, early), *_published(name), ""]
    return [*lines, *_summaries(records), ""] if sizes else lines


def _published(name: str) -> list[str]:
    """The published figure of the data set, with its source and mark."""
    row = next((r for r in rows("mirage") if r["tier"] == "paper" and r["dataset"] == name), None)
    if row is None or "published" not in row:
        return []
    told = row["published"]
    text = f"* published ({row['train']['model']}): {100 * told['mean']:.1f}"
    text += f" ± {100 * told['std']:.1f}" if "std" in told else ""
    text += "" if told["verified"] else ", not verified"
    return [f"{text} ({told['source']}); other networks, epochs and choice of restarts than here"]


def _alone(last: Mapping[Key, Mapping[int, float]], early: Mapping[Key, Mapping[int, float]]) -> list[str]:
    """Rows without a budget, one a line."""
    lines = []
    for key, held in last.items():
        if key[0]:
            continue
        text = f"* {key[1]} ({key[2]}): {percent(held)}"
        if key in early:
            text += f" / {percent(early[key])}"
        lines.append(f"{text}, {len(held)} split{'s' * (len(held) > 1)}")
    return lines


def _summaries(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bytes, coverage, patterns, seconds and warnings of the summaries."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        for said in record["summaries"]:
            found[said["size"], said["set"].split(",")[0]].append(said)
    lines = [
        "| size | trees | depth | published bytes | bytes on disk | nodes covered % | patterns a class | seconds | "
        "warned | empty class | refused |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (size, kind), held in sorted(found.items(), key=lambda item: (SIZES.index(item[0][0]), item[0][1])):
        good = [said for said in held if "refused" not in said]
        numbers = [""] * 6
        if good:
            mean = [sum(p) / len(good) for p in zip(*(said["patterns_by_class"] for said in good), strict=True)]
            depths = sorted({said["depth"] for said in good})
            numbers = [
                ", ".join(map(str, depths)),
                f"{median(said['published_bytes'] for said in good):,.0f}",
                f"{median(said['disk_bytes'] for said in good):,.0f}",
                f"{100 * sum(said['coverage'] for said in good) / len(good):.1f}",
                ", ".join(f"{m:.1f}" for m in mean),
                f"{median(said['seconds'] for said in good):.2f}",
            ]
        warned = sum(bool(said["warnings"]) for said in good)
        empty = sum(0 in said["patterns_by_class"] for said in good)
        lines.append(
            f"| {size} | {kind} | {' | '.join(numbers)} | {warned} of {len(good)} | {empty} | {len(held) - len(good)} |"
        )
    return lines


def short_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What the page of results shows: 2,048 bytes, GIN and naive Bayes, beside single numbers and all trees."""
    if not found:
        return []
    head = [*(f"{row} ({model})" for row, model in SHORT), "node count", "all trees, logistic regression"]
    lines = [
        "",
        "Graphs: Mirage's summaries of 2,048 bytes (published count), AUROC × 100 on test graphs at the last step:",
        "",
        f"| data | splits | {' | '.join(head)} | nodes covered % |",
        "|---|---|" + "---|" * (len(head) + 1),
    ]
    for name, records in found.items():
        last = values(records)
        if not any(size for size, *_ in last):  # networks on all graphs, apart
            continue
        keys = [("2048", row, model) for row, model in SHORT]
        keys += [("", label, "logistic regression") for label in ("node_count", "tree_counts")]
        cells = [percent(last[key]) if key in last else "n/a" for key in keys]
        covered = [
            said["coverage"]
            for record in records
            for said in record["summaries"]
            if (said["size"], said["set"]) == ("2048", SHORT[0][0]) and "coverage" in said
        ]
        cover = f"{100 * sum(covered) / len(covered):.0f}" if covered else ""
        lines.append(f"| {name} | {len(records)} | {' | '.join(cells)} | {cover} |")
    origins = told_once(origin_words(record["origin"]) for records in found.values() for record in records)
    return [
        *lines,
        "",
        *_rules(found),
        "± is the sample standard deviation over splits (of molecules: over seeds on the one scaffold split). Random "
        "graphs have as many bytes, two draws a split. Nothing is chosen on test graphs. Networks: 150 steps of Adam, "
        "lr 0.005, width 64. GCN, GAT, other sizes, differences with corrected intervals, early stopping, bytes, "
        "coverage and warnings: [all measured rows](results/graphs.md).",
        "Graphs measured on: " + "; ".join(origins) + ".",
    ]


def _rules(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Under which rule bytes were spent, where it is not the present one in all records."""
    before = [name for name, records in found.items() if "earlier" in rule(records)]
    if not before:
        return []
    which = "All" if len(before) == len(found) else ", ".join(before)
    return [
        f"{which} measured under the earlier rule of bytes: every class had a share of its own, a tree that several "
        "have was charged to each, supports of trees were not counted, random graphs had the bytes asked, and all "
        "networks on summaries read sets.",
    ]


def whole_text(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """`docs/results/graphs.md`."""
    lines = [
        "# Graphs: all measured rows",
        "",
        "Made by `python -m scripts.records.tables` from the records `graphs-*`. *− random graphs*: paired difference "
        "to random graphs of as many bytes under the same network and pooling (naive Bayes: GIN, sum), in points with "
        "its 95 % interval, corrected for overlapping splits (Nadeau and Bengio). Early stopping uses the labels of "
        "all validation graphs, many times the bytes of a summary: the last step is the primary figure. Networks start "
        f"from embeddings of spread 0.03, those of NAME{UNIT} from N(0, 1); NAME{CHOSEN} has of both the one with the "
        "better validation AUROC at the last step, network by network, random graphs' too.",
        "",
    ]
    from scripts.records.tables.bars import bar_lines

    lines += [*_rules(found), "", *bar_lines(found)]
    for name, records in found.items():
        lines += whole_table(name, records)
    return "\n".join(lines).rstrip() + "\n"
