"""Every number with its birth certificate: mean, sample std, n, selection rule, split, bytes, seconds, origin."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.files import dump_json, write_json
from dd.base.frames import data_frame
from dd.base.markup import join, paragraph, table
from dd.base.texts import printable
from dd.errors import refuse
from dd.evaluation.scores import Figures
from dd.evaluation.spread import by_draw, interval95, mean_std

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One set under one model: `values` are the scores (fractions) of its fresh networks by `metric`.

    Attributes:
        other_metrics: by name, what the same networks score by `accuracy`, `balanced_accuracy` and `auroc` (of two
            classes), without `metric`.
        recall: mean over networks of each class's recall, in label order; `None` for a class without test items.
        note: how its steps were found, where neither a recipe nor an argument says; of no file.
        bytes: of the first set of the row as budgets count them: of images those of images and labels as a file would
            have them, of graphs and nodes the counted ones; `None` of a row that has no set, as all training data.
        draws: sets that `values` are of, as many networks each, set after set: networks of one set are not independent,
            so that the interval is over the draws' means where there are several.
    """

    set: str
    model: str
    values: tuple[float, ...]
    steps: int
    lr: float
    seconds: float
    metric: str = "accuracy"
    other_metrics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    recall: tuple[float | None, ...] = ()
    note: str = ""
    bytes: int | None = None
    draws: int = 1

    @classmethod
    def of(cls, found: Sequence[Figures], metric: str, **told: Any) -> Row:
        """The row of several networks; `told` are the other fields."""
        names = [name for name in found[0].metrics if name != metric]
        shares = zip(*(each.recall for each in found), strict=True)
        return cls(
            values=tuple(each.metrics[metric] for each in found),
            metric=metric,
            other_metrics={name: tuple(each.metrics[name] for each in found) for name in names},
            recall=tuple(None if each[0] is None else sum(map(float, each)) / len(each) for each in shares),
            **told,
        )

    def by(self, metric: str) -> tuple[float, ...] | None:
        """The scores of the networks by a metric, where they are known."""
        return self.values if metric == self.metric else self.other_metrics.get(metric)

    @property
    def mean(self) -> float:
        """Mean over networks."""
        return mean_std(self.values)[0]

    @property
    def std(self) -> float | None:
        """Sample standard deviation over networks."""
        return mean_std(self.values)[1]

    @property
    def interval(self) -> float | None:
        """Half width of the 95 % confidence interval of the mean (Student's t), over draws where there are several."""
        return interval95(by_draw(self.values, self.draws))

    def records(self) -> list[dict[str, Any]]:
        """What a data frame has of it: a record a metric, its own first; scores are fractions."""
        told = {"set": self.set, "model": self.model}
        cost = {"bytes": self.bytes, "steps": self.steps, "lr": self.lr, "seconds": self.seconds}
        found = []
        for metric, values in {self.metric: self.values, **self.other_metrics}.items():
            mean, std = mean_std(values)
            half = interval95(by_draw(values, self.draws))
            scores = {"metric": metric, "mean": mean, "std": std, "interval95": half, "n": len(values)}
            found.append({**told, **scores, **cost})
        return found

    def to_json(self) -> dict[str, Any]:
        """The row of `report.json`."""
        return {
            "set": self.set,
            "model": self.model,
            "metric": self.metric,
            "mean": self.mean,
            "std": self.std,
            "interval95": self.interval,
            "n": len(self.values),
            "draws": self.draws,
            "values": list(self.values),
            "bytes": self.bytes,
            "steps": self.steps,
            "lr": self.lr,
            "seconds": round(self.seconds, 3),
            "other_metrics": {name: _told(values) for name, values in self.other_metrics.items()},
            "recall": list(self.recall),
        }


def _told(values: Sequence[float]) -> dict[str, Any]:
    mean, std = mean_std(values)
    return {"mean": mean, "std": std, "values": list(values)}


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """What `dd.evaluate` answers; `print(report)` is a table. The first row is the synthetic set, first model.

    Attributes:
        support: test items of each class, by its name in label order: what a row's `recall` is of. Where the largest
            class has at least `UNEVEN` times as many as the smallest, the table shows balanced accuracies.
        command: evaluates a run folder again, where a shell can say it.
        recipe: how its sets were trained: `own`, `hard` or `rd3`.
        about: what each baseline is, by the name of its rows.

    Raises:
        InputError: no row.
    """

    dataset: str
    split: str
    protocol: str
    selection: str
    method: str
    rows: tuple[Row, ...]
    bytes: Mapping[str, int]
    origin: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    support: Mapping[str, int] = field(default_factory=dict)
    command: str | None = None
    recipe: str = "own"
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows:
            raise refuse("rows", "at least one, that of the set", "none")

    @property
    def mean(self) -> float:
        """Mean score (fraction) of the synthetic set with the first model."""
        return self.rows[0].mean

    @property
    def std(self) -> float | None:
        """Its sample standard deviation."""
        return self.rows[0].std

    def to_json(self) -> dict[str, Any]:
        """The object of `report.json`."""
        return {
            "format": FORMAT,
            "dataset": self.dataset,
            "split": self.split,
            "protocol": self.protocol,
            "selection": self.selection,
            "method": self.method,
            "rows": [row.to_json() for row in self.rows],
            "bytes": dict(self.bytes),
            "origin": dict(self.origin),
            "notes": list(self.notes),
            "support": dict(self.support),
            "command": self.command,
            "about": dict(self.about),
            **({} if self.recipe == "own" else {"recipe": self.recipe}),
        }

    def dumps(self) -> str:
        """`to_json` as text."""
        return dump_json(self.to_json(), indent=2)

    def save(self, path: str | Path) -> None:
        """Write `report.json`."""
        write_json(Path(path), self.to_json())

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame`: a row a set, model and metric.

        Columns are `set`, `model`, `metric`, then numbers: `mean`, `std` and `interval95` (half width), fractions, the
        last two NaN for a single network; `n` networks, `bytes` (NaN of a row without a set), `steps`, `lr`, `seconds`.

        Raises:
            MissingError: pandas is not installed.
        """
        columns = "set model metric mean std interval95 n bytes steps lr seconds".split()
        return data_frame([record for row in self.rows for record in row.records()], columns, columns[:3])

    @property
    def head(self) -> str:
        """What was measured, in one line."""
        where = f"{self.split} split" if self.split.isidentifier() else self.split
        rule = "" if self.selection == self.protocol else f": {self.selection}"  # both are unknown of a set of others
        how = "" if self.recipe == "own" else f", recipe {self.recipe}"
        return f"{self.method} on {self.dataset} ({where}, protocol {self.protocol}{rule}{how})"

    @property
    def legend(self) -> list[str]:
        """What is said below the table: bytes, what the rows are, and notes."""
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.bytes.items())
        return [f"bytes: {sizes}", *rows_legend(self.about), *(f"note: {note}" for note in self.notes)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heads and rows of the table for people."""
        scores = [self.rows[0].metric]
        if uneven(self.support.values()):
            scores += [name for name in ("balanced_accuracy",) if name not in scores]
        heads = [{"auroc": "AUROC × 100"}.get(name, f"{name.replace('_', ' ')} %") for name in scores]
        return ["set", "model", *heads, "n", "bytes", "steps", "lr", "s"], [_cells(row, scores) for row in self.rows]

    def __repr__(self) -> str:
        first, many = self.rows[0], f"{len(self.rows)} row{'s' if len(self.rows) > 1 else ''}"
        found = f"{first.metric} {_score(first.values)} % with {first.model}"
        return f"EvalReport({self.method!r} on {self.dataset!r}, {found}, {many}, protocol {self.protocol})"

    def __str__(self) -> str:
        heads, rows = self.table()
        least = [*_TEXTS, *[_SCORE] * (len(heads) - len(_TEXTS) - len(_NUMBERS)), *_NUMBERS]
        columns = zip(heads, *rows, strict=True)
        widths = [max(width, *map(len, column)) for width, column in zip(least, columns, strict=True)]
        lines = [" ".join(_padded(cells, widths)) for cells in (heads, *rows)]
        return printable("\n".join([self.head, *lines, *self.legend]))

    def _repr_html_(self) -> str:
        return join([paragraph(self.head), table(*self.table(), texts=len(_TEXTS)), *map(paragraph, self.legend)])


_TEXTS: Final = (14, 28)
_SCORE: Final = 14
_NUMBERS: Final = (3, 9, 6, 9, 7)
"""Widths of the columns of the table, at least: set and model, a score, what is counted."""

UNEVEN: Final = 1.5


N: Final = (
    "n is networks: of several draws, draws × networks of each; ± is their sample standard deviation, draws included; "
    "the 95 % interval of a row, in `report.json` and `to_pandas()`, is over the draws' means"
)


def rows_legend(about: Mapping[str, str]) -> list[str]:
    """A line on what each baseline is, and what `n` and ± are; none where there is no baseline."""
    told = "; ".join(f"{name}: {text}" for name, text in about.items())
    return [f"rows: {told}. {N}"] if about else []


def uneven(support: Iterable[int]) -> bool:
    """Whether a largest class has at least `UNEVEN` times as many test items as the smallest."""
    counts = list(support)
    return bool(counts) and max(counts) >= UNEVEN * min(counts)


def support_of(classes: Sequence[str], labels: Tensor) -> dict[str, int]:
    """Items of each class by its name.

    Args:
        classes: names in label order.
        labels: int64 `[N]`.
    """
    return dict(zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def no_better(rows: Sequence[Row], support: Sequence[int]) -> list[str]:
    """A note on the rows whose accuracy is no better than the share of the largest class, where there are any.

    Args:
        rows: those by another metric are passed over.
        support: test items of each class.
    """
    share = max(support) / sum(support)
    below = [f"{row.set} ({row.model})" for row in rows if row.metric == "accuracy" and row.mean <= share]
    text = f"accuracy no better than always saying the largest class, {100 * share:.1f} % right"
    return [f"{text}: {', '.join(dict.fromkeys(below))}"] if below else []


def _cells(row: Row, scores: Sequence[str]) -> list[str]:
    size = "–" if row.bytes is None else f"{row.bytes:,}"
    cost = (f"{row.steps}", f"{row.lr:.3g}") if row.steps else ("–", "–")  # what is read takes no step
    numbers = (str(len(row.values)), size, *cost, f"{row.seconds:.1f}")
    return [row.set, row.model, *(_score(row.by(name)) for name in scores), *numbers]


def _score(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    mean, std = mean_std(values)
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _padded(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def origin(seed: int, device: torch.device) -> dict[str, Any]:
    """Seed, commit, versions, machine and threads of a measurement, and whether products on CUDA were TF32."""
    versions = {"python": platform.python_version()}
    for package in ("dd-distillation", "torch", "torchvision", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "seed": seed,
        "commit": _commit(),
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}, {device}",
        "threads": torch.get_num_threads(),
        **({"tf32": _tf32()} if device.type == "cuda" else {}),
    }


def _tf32() -> bool:
    """Whether convolutions or products of matrices on CUDA have 10 bits of mantissa; verbs see to it that they do not.

    They read `ieee` or, where nothing was asked for, `none`.
    """
    backends: Any = torch.backends
    return "tf32" in (backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision)


def origin_lines(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the `origin`s of several measurements say, each once, a sentence each.

    Args:
        measured: records or reports with `origin`.
    """
    found = []
    for one in measured:
        told = one.get("origin") or {}
        versions = ", ".join(f"{name} {number}" for name, number in sorted((told.get("versions") or {}).items()))
        where = f"{told.get('machine')}, {told.get('threads')} thread(s)"
        found.append(f"Measured on {where}, commit {told.get('commit')}, {versions}.")
    return list(dict.fromkeys(found))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _commit() -> str | None:
    """The commit of the checkout that this package is imported from, with `+` where it has changes."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(here), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no git on this machine
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "") if commit else None
