"""`ddistill report`: one self-contained page on a run, on several, or on a benchmark."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from dd.base.progress import say
from dd.cli.options import Answer, Common, reads
from dd.data import Source


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Common):
    """Write one HTML file on the first run, with the others beside it.

    Attributes:
        runs: run folders that were evaluated; a folder of a benchmark gives its leaderboard.
        data: the data set, for the nearest real images; by default the one the set names, where it is there.
        out: the page; by default index.html in the first folder.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    data: str | None = None
    out: Path | None = None


@reads("report", ReportOptions)
def run_report(options: ReportOptions) -> Answer:
    """The verb: says where the page is."""
    from dd.contest.report import report

    source = {name: getattr(options, name) for name in inspect.signature(Source).parameters}
    path = report(options.runs, options.data, options.out, **source)
    if not options.json:
        say(f"page: {path} ({path.stat().st_size:,} bytes)", sys.stderr)
    return {"page": str(path), "bytes": path.stat().st_size, "json": options.json}
