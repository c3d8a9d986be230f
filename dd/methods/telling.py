"""What is told of a method by its card and its docstring alone: nothing that computes is loaded for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dd.methods.cards import ABOUT, NEVER, read_card
from dd.methods.table import METHODS


def bibtex(method: str) -> str:
    """The BibTeX entry of the method's paper; empty for a baseline without one."""
    return read_card(method).bibtex


def cite(method: str) -> str:
    """The reference of the method's paper in one line, and its BibTeX entry; of a baseline, that there is none."""
    known = read_card(method)
    if known.paper is None:
        return f"{known.name} is a plain baseline: there is no paper to cite."
    return f"{known.paper}\n\n{known.bibtex}"


def describe(method: str) -> str:
    """What the method is, its paper, when to take it, what it costs, and a table of its rows with their sources."""
    known = read_card(method)
    paper = known.paper or cite(method)
    parts = [f"{known.title}\n{paper}", METHODS.doc(known.name) or known.name]
    parts.append(f"{known.when}\nCost: {known.needs}")
    sources: list[str] = []
    graphs = known.kind != "images"
    table = [_HEAD, *(_line(row, sources) for row in known.rows)]
    if graphs:
        table = [(name, *cells) for name, _, *cells in table]
        heads = {"published %": "AUROC × 100"} if known.kind == "graphs" else {}
        table[0] = tuple(heads.get(cell, cell) for cell in table[0])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    parts.append("\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table))
    shared = (f"Every {tier} row, unless it says otherwise: {_settings(c)}" for tier, c in known.common.items())
    parts.append("\n".join([*([] if graphs else [_IPC]), _LEGEND, *shared]))
    parts.append("\n".join(f"[{number}] {source}" for number, source in enumerate(sources, 1)))
    return "\n\n".join(parts)


_HEAD: Final = ("data set", "ipc", "tier", "verified", "published %", "source", "settings")
_IPC: Final = "ipc: images a class."
_LEGEND: Final = (
    "paper: as published; cpu: this library's, for two cores; default: for other data.\n"
    "verified: settings: transcribed from sources that agree; run: a record shows it. A question mark: that published "
    "figure is not verified."
)


def _line(row: Mapping[str, Any], sources: list[str]) -> tuple[str, ...]:
    """The cells of one row; `sources` collects the texts that the numbers in brackets stand for."""
    published, cell, texts = row.get("published"), "", [row["source"]]
    if published:
        mark = "" if published.get("verified", True) else "?"
        cell = f"{100 * published['mean']:.1f}"
        cell += (f" ± {100 * published['std']:.1f}" if "std" in published else "") + mark
        texts.append("published: " + published["source"])
    if "note" in row:
        texts.append(row["note"])
    sources += [text for text in texts if text not in sources]
    marks = "".join(f"[{sources.index(text) + 1}]" for text in texts)
    return (row["dataset"], str(row.get("ipc", "any")), row["tier"], verified(row), cell, marks, _settings(row))


def verified(row: Mapping[str, Any]) -> str:
    """What of a row is verified: `settings` and `run`, or `no`; settings of a row of this library's own are not."""
    ran = "" if row["run"] == NEVER else "run"
    read = "settings" if row["settings"] and row["tier"] == "paper" else ""
    return " + ".join(filter(None, (read, ran))) or "no"


def _settings(row: Mapping[str, Any]) -> str:
    hidden = ABOUT - {"expert_fields", "aspect"}
    return " ".join(f"{key}={_text(value)}" for key, value in row.items() if key not in hidden)


def _text(value: object) -> str:
    """A setting on one line: `1e-05`, `(steps=1001, lr=0.1)`."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key}={_text(inner)}" for key, inner in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
