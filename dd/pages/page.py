"""A report as one small HTML file: pictures inside, no script, nothing fetched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dd.base.files import dump_json, write_text
from dd.base.markup import data_url
from dd.errors import refuse
from dd.evaluation.report import rows_legend, uneven
from dd.evaluation.unseen import TRAINING

FRACTIONS: Final = ("accuracy", "auroc", "balanced_accuracy")
"""Metrics in [0, 1] of which more is better; shown in per cent."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page, PNG or SVG; one without `data` is left out. `argument` names it in messages."""

    title: str
    alt: str
    data: bytes | None
    caption: str = ""
    wide: bool = False
    argument: str = "pictures"


@dataclass(frozen=True)
class Board:
    """A table of texts with what is said below it."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[str] = ()


def write_page(
    path: str | Path,
    report: Mapping[str, Any],
    grid_png: bytes | None = None,
    curve: bytes | None = None,
    title: str = "Synthetic set",
    command: str | None = None,
    pictures: Sequence[Picture] = (),
    board: Board | None = None,
    lead: str = "",
) -> Path:
    """Write one HTML file with the grid, the loss curve and the table; readable on a phone and in the dark.

    Every text is escaped. The page forbids itself to load anything (Content-Security-Policy).

    Args:
        path: the file.
        report: the content of `report.json`; `notes`, a list of sentences, may be there too. The first row is
            the set itself, other sets are what it is compared with.
        grid_png: picture of the set, PNG.
        curve: picture of the losses, PNG or SVG.
        title: heading.
        command: how to make it again.
        pictures: more pictures, in their order.
        board: a table of other sets below the report's own.
        lead: what a reader sees here, a sentence or two below the heading.

    Raises:
        InputError: no row, or a picture that is neither PNG nor SVG.
        WriteError: the disk refuses; an earlier file is intact.
    """
    first = [
        Picture("Images", "The synthetic images, a row for each class", grid_png, argument="grid_png"),
        Picture("Matching loss", "Matching loss and step size over the iterations", curve, argument="curve"),
    ]
    write_text(Path(path), render(report, [*first, *pictures], title, command, board, lead))
    return Path(path)


def render(
    report: Mapping[str, Any],
    pictures: Sequence[Picture],
    title: str,
    command: str | None,
    board: Board | None = None,
    lead: str = "",
) -> str:
    """The text of the page; see `write_page`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rows: Sequence[Mapping[str, Any]] = report.get("rows") or ()
    if not rows:
        raise refuse("report", "a report with at least one row", "none")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        command=command,
        pictures=[
            {**dataclasses.asdict(p), "url": data_url(p.data, p.argument)} for p in pictures if p.data is not None
        ],
        board=board,
        headline=_headline(rows),
        rows=_rows(rows, uneven((report.get("support") or {}).values())),
        axes=_axes(rows),
        recalls=_recalls(rows[0], report.get("support") or {}),
        legend=rows_legend(report.get("about") or {}),
        paper=report.get("protocol") == "paper",
        trained=report.get("split") == TRAINING,
        notes=list(report.get("notes") or ()),
        sizes=[(name, size(value)) for name, value in (report.get("bytes") or {}).items()],
        facts=_facts(report),
        fields=_fields(report.get("method")),
    )


def score(metric: str, value: float | None) -> str:
    """A score as text: per cent for fractions, three digits for others, – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if metric in FRACTIONS else f"{value:.3g}"


def metric_name(metric: str) -> str:
    """A metric as a word for people."""
    return "AUROC" if metric == "auroc" else metric.replace("_", " ")


def size(count: int) -> str:
    """Bytes as text: 12,345 B up to 100,000, then kB, MB, GB of 1,000."""
    if count < 100_000:
        return f"{count:,} B"
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:,.1f} {('B', 'kB', 'MB', 'GB')[power]}"


def duration(seconds: float | None) -> str:
    """Seconds as text, with two figures that matter."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The first row in large type, and how far it is from the best beside it, as `docs/measures.md` says."""
    own = rows[0]
    metric, n = str(own["metric"]), int(own["n"])
    networks = f"{n} fresh networks" if n != 1 else "one fresh network"
    words = {
        "value": score(metric, own["mean"]),
        "spread": _spread(metric, own["std"]),
        "what": f"{metric_name(metric)}, {own['set']}, {networks} ({own['model']})",
        "against": "",
    }
    beside = [
        row
        for row in rows[1:]
        if (row["model"], row["metric"]) == (own["model"], metric)
        and row["set"] != own["set"]
        and row["mean"] is not None
    ]
    if beside and metric in FRACTIONS and own["mean"] is not None:
        best = max(beside, key=lambda row: float(row["mean"]))
        points = 100 * (own["mean"] - best["mean"])
        words["against"] = (
            f"{abs(points):.1f} points {'above' if points >= 0 else 'below'} the best beside it under the same network "
            f"({best['set']}, {score(metric, best['mean'])})"
        )
    return words


def _spread(metric: str, std: float | None) -> str:
    """± one sample standard deviation, or nothing for a single network."""
    return "" if std is None or not math.isfinite(std) else "± " + score(metric, std).removesuffix(" %")


def _recalls(own: Mapping[str, Any], support: Mapping[str, int]) -> list[tuple[str, str]]:
    """Each class with its recall by the networks of a row, and its test items."""
    shares = own.get("recall") or ()
    return [(name, f"{score('accuracy', r)} of {n:,}") for (name, n), r in zip(support.items(), shares, strict=False)]


def _others(row: Mapping[str, Any]) -> list[str]:
    """What the networks of a row score by other metrics, as texts."""
    told = row.get("other_metrics") or {}
    return [f"{metric_name(name)} {score(name, one['mean'])}" for name, one in told.items()]


def _rows(rows: Sequence[Mapping[str, Any]], others: bool) -> list[dict[str, Any]]:
    """The table's texts, and the places of each row's strip in per cent of its metric's axis.

    `others`: with what the networks score by other metrics.
    """
    axes = _axes(rows)
    table = []
    for row in rows:
        metric = str(row["metric"])
        low, high = axes[metric]
        values = [v for v in row.get("values") or () if v is not None and math.isfinite(v)]
        mean, half, steps, count = row["mean"], row.get("interval95"), row.get("steps"), row.get("bytes")
        lr = row.get("lr") if steps != 0 else None  # what is read takes no step
        table.append(
            {
                "own": row["set"] == rows[0]["set"],
                "set": row["set"],
                "model": row["model"],
                "metric": metric_name(metric),
                "others": _others(row) if others else [],
                "mean": score(metric, mean),
                "spread": _spread(metric, row["std"]),
                "n": row["n"],
                "bytes": "–" if count is None else size(count),
                "steps": f"{steps:,}" if steps else "–",
                "lr": f"{lr:.3g}" if isinstance(lr, int | float) else lr or "–",
                "time": duration(row.get("seconds")),
                "dots": [_place(v, low, high) for v in values],
                "band": None if half is None else (_place(mean - half, low, high), _place(mean + half, low, high)),
                "tick": None if mean is None or not math.isfinite(mean) else _place(mean, low, high),
            }
        )
    return table


def _axes(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each metric over all rows, their intervals included."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = [*(row.get("values") or ()), row["mean"]]
        if row.get("interval95") is not None:
            values += [row["mean"] - row["interval95"], row["mean"] + row["interval95"]]
        found.setdefault(str(row["metric"]), []).extend(v for v in values if v is not None and math.isfinite(v))
    return {metric: (min(v, default=0.0), max(v, default=0.0)) for metric, v in found.items()}


def _place(value: float, low: float, high: float) -> str:
    """Where `value` lies, as 4 … 96 % of the strip."""
    return f"{4 + 92 * (value - low) / (high - low) if high > low else 50:.1f}%"


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How it was measured, in the order of the report."""
    facts = [(key, report.get(key)) for key in ("dataset", "split", "protocol", "selection", "recipe")]
    method = report.get("method")
    facts.append(("method", method.get("name") if isinstance(method, Mapping) else method))
    facts.extend((report.get("origin") or {}).items())
    return [(key, _text(value)) for key, value in facts if value is not None]


def _fields(method: object) -> list[tuple[str, str]]:
    """The method's hyper-parameters, one level of nesting deep."""
    if not isinstance(method, Mapping):
        return []
    flat: dict[str, Any] = {}
    for key, value in method.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": entry for inner, entry in value.items()})
        elif key != "name":
            flat[str(key)] = value
    return [(key, _text(value)) for key, value in sorted(flat.items())]


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    return value if isinstance(value, str) else dump_json(value)
