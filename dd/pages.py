"""The page of a run folder: report, picture grid, loss curve and table in one HTML file."""

from __future__ import annotations

from pathlib import Path

from dd.evaluation import EvalReport
from dd.evaluation.page import write_page
from dd.files import read_jsonl
from dd.plot import grid_png, loss_curve
from dd.synthetic import AnySet, TreeSummary


def write_run_page(folder: Path, small: AnySet, report: EvalReport, command: str | None = None) -> Path:
    """Write `report.json` and `index.html` into a run folder; returns the page.

    Args:
        folder: the run folder; its `log.jsonl` gives the curve.
        small: the set, with its transform ready.
        report: what `dd.evaluate` answered.
        command: how to repeat it, shown on the page.
    """
    report.save(folder / "report.json")
    curve = loss_curve(read_jsonl(folder / "log.jsonl"))
    title = f"{report.method} on {report.dataset}"
    picture = small.draw() if isinstance(small, TreeSummary) else grid_png(small)
    return write_page(folder / "index.html", report.to_json(), picture, curve, title, command)
