"""What `dd.benchmark` answers: measured cells, the rows they make, one table as text, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from dd.base.files import json_text, sweep, write_text
from dd.base.frames import data_frame
from dd.base.locks import locked
from dd.base.markup import join, paragraph, table
from dd.base.texts import as_cell, count, printable
from dd.errors import refuse, unknown
from dd.evaluation import mean_std, origin_lines
from dd.evaluation.entries import Difference, Entry

FORMAT: Final = 1
AGAINST: Final = "random"
"""The set that differences are taken to."""
SAME_LABELS: Final = "random, same labels"
"""What the second difference is taken to: random real images under the labels of the method's own teachers."""
SIZES: Final = ("images", "labels", "trees", "patterns", "extras", "total", "published")
FORMATS: Final = ("json", "txt", "csv", "md")
"""In the order in which they are written: by the first one a folder is known."""


@final
@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All cells of a benchmark; `print(benchmark)` is the table.

    Attributes:
        dataset, protocol: of all cells.
        unit: what a budget counts: `ipc` or `bytes`.
        models: columns, the first one is that of the differences.
        cells: records in the order of the table, one a set, budget, model and seed.
        notes: what a reader should know.
        asked: the arguments of `dd.benchmark` that are not its defaults, JSON-able; `None` where a method is a value.
    """

    dataset: str
    protocol: str
    unit: str
    models: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = field(default=())
    asked: Mapping[str, Any] | None = None

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Cells by set, budget and model, budgets together."""
        found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for cell in self.cells:
            found.setdefault((cell["budget"], cell["set"], cell["model"]), []).append(cell)
        order = sorted(found, key=lambda key: (key[0] is None, key[0] or 0))
        return tuple(Entry(name, budget, model, tuple(found[budget, name, model])) for budget, name, model in order)

    def row(self, name: str, budget: int | None = None, model: str | None = None) -> Entry:
        """One entry; `budget` may be left out where there is one, `model` is the first by default.

        Raises:
            InputError: no such entry, or several budgets.
        """
        wanted = self.models[0] if model is None else model
        found = [e for e in self.entries if e.set == name and budget in (None, e.budget) and e.model in (wanted, "")]
        if not found:
            raise unknown("row", name, sorted({e.set for e in self.entries}))
        if len(found) > 1:
            raise refuse("budget", f"one of {', '.join(str(e.budget) for e in found)}", budget)
        return found[0]

    def against(self, entry: Entry) -> Difference | None:
        """The difference to random of the same budget and model; `None` where there is none."""
        for other in self.entries:
            if (other.set, other.budget, other.model) == (AGAINST, entry.budget, entry.model):
                return entry.minus(other)
        return None

    def against_labels(self, entry: Entry) -> Difference | None:
        """The difference to random images under the same labels; `None` for a set without such a row."""
        for other in self.entries:
            if (other.beside, other.budget, other.model) == (entry.set, entry.budget, entry.model):
                return entry.minus(other)
        return None

    @property
    def _labelled(self) -> bool:
        """Whether there is a second difference to tell."""
        return any(entry.beside for entry in self.entries)

    @property
    def metric(self) -> str:
        """`accuracy` or `auroc`."""
        return next((str(cell["metric"]) for cell in self.cells if cell.get("metric")), "accuracy")

    @property
    def _sizes(self) -> list[str]:
        """What bytes are told of, in the order of the columns."""
        told = {k for cell in self.cells for k in cell.get("bytes") or {}}
        return [k for k in SIZES if k in told]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of the table for people: a row a set and budget, a column a model."""
        sizes = self._sizes
        named = [f"{self.metric} % ({model or 'its own model'})" for model in self.models]
        minus = [f"minus {name}" for name in (AGAINST, SAME_LABELS)[: 1 + self._labelled]]
        heads = ["set", self.unit, named[0], *minus, *named[1:], "n", "steps"]
        heads += [f"{name} B" for name in sizes] + ["distil s", "train s"]
        rows = []
        for name, budget in dict.fromkeys((e.set, e.budget) for e in self.entries):
            own = {e.model: e for e in self.entries if (e.set, e.budget) == (name, budget)}
            main = own.get(self.models[0], next(iter(own.values())))
            gaps = [self.against(main), self.against_labels(main)][: len(minus)]
            shown = [own.get(model, main if model == self.models[0] else None) for model in self.models]
            scores = ["" if entry is None else entry.score for entry in shown]
            steps = sorted({entry.first("steps") or 0 for entry in own.values()} - {0})
            taken = main.first("bytes") or {}
            row = [name, "all" if budget is None else f"{budget:,}", scores[0]]
            row += ["" if gap is None else str(gap) for gap in gaps]
            row += [*scores[1:], main.counts, " to ".join(f"{edge:,}" for edge in sorted({*steps[:1], *steps[-1:]}))]
            row += [f"{taken[size]:,}" if size in taken else "" for size in sizes]
            rows.append([*row, _seconds(main.seconds("distill_seconds")), _seconds(main.seconds("train_seconds"))])
        return heads, rows

    @property
    def legend(self) -> list[str]:
        """What the numbers are, and why some are missing."""
        several = any(len(entry.cells) > 1 for entry in self.entries)
        over = "sets (a mean of networks each)" if several else "networks of one set: not over sets"
        clean = self.protocol == "clean"
        lines = [
            "Scores are of the test split"
            + (", on which nothing was chosen. " if clean else "; sets and iterates are chosen as their papers did. ")
            + f"± is the sample standard deviation over {over}; n is sets × networks. The difference is in points with "
            f"its 95 % interval, paired by {'seed' if several else 'network'} where both rows have the same ones."
        ]
        if self._labelled:
            lines.append(
                f"{AGAINST} has classes for labels; {SAME_LABELS}, of a method with labels of teachers, is the row of "
                "that method's teachers, labels and training recipe: the difference to it is what the images are worth."
            )
        refused = dict.fromkeys((e.set, e.budget, e.refused) for e in self.entries if e.refused)
        lines += [f"n/a: {name} at {'all' if budget is None else budget}: {why}" for name, budget, why in refused]
        return [*lines, *self.notes, *origin_lines(self.cells)]

    @property
    def head(self) -> str:
        """What was measured, in one line."""
        return f"{self.dataset} ({self.protocol} protocol)"

    def __repr__(self) -> str:
        means = [mean_std(entry.values)[0] for entry in self.entries if entry.values]
        found = f"{self.metric} {100 * min(means):.1f} to {100 * max(means):.1f} %" if means else "no number"
        sets, refused = {entry.set for entry in self.entries}, sum(entry.refused is not None for entry in self.entries)
        budgets = list(dict.fromkeys(f"{e.budget:,}" for e in self.entries if e.budget is not None))
        budget = f"{', '.join(budgets) or 'no'} {self.unit}"
        sizes = [count(len(sets), "set"), budget, count(len(self.models), "model")]
        sizes += [f"{refused} of {len(self.entries)} rows n/a"] if refused else []
        return f"Benchmark({self.dataset!r}, {', '.join(sizes)}, {found}, protocol {self.protocol})"

    def __str__(self) -> str:
        heads, rows = self.table()
        widths = [max(len(r[i]) for r in [heads, *rows]) for i in range(len(heads))]
        lines = [self.head]
        for cells in (heads, *rows):
            padded = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
            lines.append("  ".join(padded).rstrip())
        return printable("\n".join([*lines, *self.legend]))

    def _repr_html_(self) -> str:
        return join([paragraph(self.head), table(*self.table()), *map(paragraph, self.legend)])

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame`: a row a set, budget, model and metric, with the columns of `to_csv`.

        Scores and differences are fractions, NaN where there is none (a row that was refused says why in `refused`).

        Raises:
            MissingError: pandas is not installed.
        """
        texts = "dataset protocol set unit model metric paired selection refused".split()
        return data_frame(self._records(), self._columns, texts)

    def to_markdown(self) -> str:
        """The table in Markdown."""
        heads, rows = self.table()
        lines = [[_cell(c) for c in heads], ["---"] * len(heads), *([_cell(c) for c in row] for row in rows)]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return text + "\n\n" + "\n".join(_cell(line) for line in self.legend) + "\n"

    def to_csv(self) -> str:
        """A line a set, budget and model; scores are fractions, empty where there is none.

        A text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        stream = io.StringIO()
        writer = csv.DictWriter(stream, self._columns, lineterminator="\n")
        writer.writeheader()
        for record in self._records():
            writer.writerow({key: as_cell(value) for key, value in record.items()})
        return stream.getvalue()

    @property
    def _columns(self) -> list[str]:
        keys = ["dataset", "protocol", "set", "budget", "unit", "model", "metric", "mean", "std", "sets", "networks"]
        keys += [f"minus_{AGAINST}", "half_width_95", "paired"]
        keys += ["minus_random_labels", "half_width_95_labels"] if self._labelled else []
        keys += ["steps", "lr", *(f"bytes_{s}" for s in self._sizes)]
        return [*keys, "distill_seconds", "train_seconds", "selection", "refused"]

    def _records(self) -> list[dict[str, Any]]:
        """By column, a record an entry."""
        columns, found = self._columns, []
        for line in map(self._told, self.entries):
            taken = {f"bytes_{k}": v for k, v in (line.pop("bytes") or {}).items()}
            found.append({k: (line | taken).get(k) for k in columns})
        return found

    def to_json(self) -> dict[str, Any]:
        """Rows, and every record that they were made of."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "unit": self.unit,
            "models": list(self.models),
            "rows": [self._told(entry) for entry in self.entries],
            "cells": [dict(cell) for cell in self.cells],
            "notes": list(self.notes),
            "legend": self.legend,
            "asked": None if self.asked is None else dict(self.asked),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Benchmark:
        """What `to_json` gave, as a value again.

        Raises:
            InputError: another format.
        """
        if told.get("format") != FORMAT:
            raise refuse("told", f"a leaderboard of format {FORMAT}", told.get("format"))
        fixed = {name: told[name] for name in ("dataset", "protocol", "unit")}
        cells = tuple(told["cells"])
        notes = tuple(told["notes"])
        return cls(**fixed, models=tuple(told["models"]), cells=cells, notes=notes, asked=told.get("asked"))

    def _told(self, entry: Entry) -> dict[str, Any]:
        gap, labels = self.against(entry), self.against_labels(entry)
        mean, std = mean_std(entry.values) if entry.values else (None, None)
        return {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "set": entry.set,
            "budget": entry.budget,
            "unit": self.unit,
            "model": entry.model,
            "metric": entry.first("metric"),
            "mean": mean,
            "std": std,
            "values": list(entry.values),
            "sets": len(entry.cells),
            "networks": entry.networks,
            f"minus_{AGAINST}": gap.mean if gap else None,
            "half_width_95": gap.half if gap else None,
            "paired": gap.paired if gap else None,
            "minus_random_labels": labels.mean if labels else None,
            "half_width_95_labels": labels.half if labels else None,
            "beside": entry.beside,
            "steps": entry.first("steps"),
            "lr": entry.first("lr"),
            "bytes": entry.first("bytes"),
            "distill_seconds": entry.seconds("distill_seconds"),
            "train_seconds": entry.seconds("train_seconds"),
            "selection": entry.first("selection"),
            "refused": entry.refused,
        }

    def save(self, folder: str | Path) -> None:
        """Write `leaderboard.txt`, `.csv`, `.json` and `.md` into a folder.

        Raises:
            WriteError: the disk refuses; earlier files are intact.
        """
        texts = (json_text(self.to_json()), f"{self}\n", self.to_csv(), self.to_markdown())
        with locked(Path(folder) / ".leaderboard.lock", wait=True, keep=False):
            sweep(Path(folder), r"leaderboard\.\w+")
            for kind, text in zip(FORMATS, texts, strict=True):
                write_text(Path(folder) / f"leaderboard.{kind}", text)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _cell(text: str) -> str:
    """Text that cannot leave its cell, nor be taken for markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
