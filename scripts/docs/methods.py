"""A page a method in `docs/methods/`, from docstrings, cards and records: `python scripts/docs/methods.py [--check]`.

Their list, the README's table of methods between its marks, and their places in `mkdocs.yml` are made too. `--check`
writes nothing and exits with 1 where a page is not what it would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from dd.errors import InputError
from dd.evaluation import mean_std
from dd.methods import METHODS, DistributionMatching, Infer, Recover, TrajectoryMatching, kind_of
from dd.methods.cards import Paper, card
from dd.methods.presets import preset, rows
from dd.methods.telling import verified
from dd.run.resolve import default_ipc

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.records import kept  # noqa: E402
from scripts.records.tables import decoupled  # noqa: E402
from scripts.records.tables.accuracy import earlier_rule  # noqa: E402
from scripts.records.tables.boards import boards  # noqa: E402

PAGES = ROOT / "docs" / "methods"
SPLITS = "../results/graphs.md"
README, NAV = ROOT / "README.md", ROOT / "mkdocs.yml"
BEGIN, END = "<!-- methods -->", "<!-- methods: end -->"


def page(name: str) -> str:
    """The Markdown of a method."""
    known = card(name)
    parts = [f"# `{name}`: {known.title}", "*Made by `scripts/docs/methods.py`; do not edit.*", _about(name)]
    parts.append(f"**When to use it.** {known.when}")
    data = {"images": "digits", "graphs": "digits-graphs", "nodes": "blocks"}[kind_of(name)]
    budget = f", ipc={default_ipc(name)}" if kind_of(name) == "images" else ""
    code = f'small = dd.distill("{data}", "{name}"{budget})\nprint(dd.evaluate(small, "{data}"))'
    parts.append(f"```python\nimport dd\n\n{code}\n```")
    parts.append(
        "## Fields\n\nValues of the `cpu` row for data without rows of its own; other rows change them as below.\n\n"
        + _fields(name)
    )
    parts.append("## Presets\n\n" + _presets(rows(name)))
    parts.append("## Cost\n\n" + _cost(name))
    if measured := [text for text in (_measured(name), _committee(name), _boards(name)) if text]:
        parts.append("## Measured here\n\n" + "\n\n".join(measured))
    if known.paper:
        parts.append(f"## Citation\n\n{known.paper}\n\n```bibtex\n{known.bibtex}\n```")
    return "\n\n".join(parts) + "\n"


def _about(name: str) -> str:
    text = inspect.getdoc(METHODS[name]) or ""
    return re.split(r"\n\n(?:Attributes|Raises):", text)[0]


def _value(name: str) -> Any:
    """The method as the default preset makes it."""
    if kind_of(name) != "images":
        return METHODS[name](**preset(name, None, None, "cpu").fields)
    ipc = default_ipc(name)
    return METHODS[name](**{**preset(name, None, ipc, "cpu").fields, "ipc": ipc})


def _fields(name: str) -> str:
    """A line a field with what its class says of it."""
    value = _value(name)
    told = _attributes(type(value))
    lines = ["| field | default | what |", "|---|---|---|"]
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        what = told.get(field.name) or next((text for text in told.values() if f"`{field.name}`" in text), "")
        shown = type(held).__name__ if dataclasses.is_dataclass(held) else repr(held)
        lines.append(f"| `{field.name}` | {_cell('`' + shown + '`')} | {_cell(what)} |")
    return "\n".join(lines)


def _attributes(kind: type) -> dict[str, str]:
    """Field → text of the section `Attributes` of a docstring; fields that share a line share its text."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for block in re.split(r"\n    (?=\w)", "\n" + section.replace("\n        ", " ")):
        names, _, text = block.strip().partition(": ")
        found.update({part.strip(): text for part in names.split(",")})
    return found


def _presets(found: list[dict[str, Any]]) -> str:
    """Published and own rows, with what they reached where that was published."""
    lines = ["| data | images a class | tier | verified | published % | source |", "|---|---|---|---|---|---|"]
    for row in found:
        told = row.get("published") or {}
        spread = f" ± {100 * told['std']:.1f}" if "std" in told else ""
        mark = "" if told.get("verified", True) else "?"
        mean = f"{100 * told['mean']:.1f}{spread}{mark}" if told else ""
        cells = (row["dataset"], row.get("ipc", "any"), row["tier"], verified(row), mean)
        lines.append("| " + " | ".join(map(str, cells)) + f" | {_cell(row['source'])} |")
    return (
        "\n".join(lines) + "\n\n`settings`: transcribed from sources that agree; `run`: a record shows it. A "
        "question mark: that accuracy was not verified. `default` is for other data."
    )


def _cost(name: str) -> str:
    """What a run needs before it starts and how much it then does: counts of the CIFAR-10 rows at 10 images a class."""
    text = card(name).needs
    found = {tier: row for tier in ("cpu", "paper") if (row := _row(name, tier)) is not None}
    value = next(iter(found.values()), None)
    if isinstance(value, TrajectoryMatching):
        told = {tier: _trajectory_work(value) for tier, value in found.items()}
        text += (
            " Then outer iterations, each of them a training of N steps that is differentiated. Disk, memory and time "
            f'for a machine: `dd.estimate("cifar10", "{name}", ipc=10, preset="paper")`.'
        )
    elif isinstance(value, Recover | Infer):
        told = {tier: _teacher_work(value) for tier, value in found.items()}
        text += " Then pictures, then labels."
    elif isinstance(value, DistributionMatching):
        told = {tier: _distribution_work(value) for tier, value in found.items()}
        text += f' Disk, memory and time for a machine: `dd.estimate("cifar10", "{name}", ipc=10)`.'
    else:
        return text
    heads = list(next(iter(told.values())))
    lines = ["| row | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {tier} | " + " | ".join(str(row[head]) for head in heads) + " |" for tier, row in told.items()]
    return f"{text} CIFAR-10, 10 images a class:\n\n" + "\n".join(lines)


def _row(name: str, tier: Any) -> Any:
    """The method as its row for CIFAR-10 at 10 images a class makes it; `None` where there is none."""
    try:
        return METHODS[name](**{**preset(name, "cifar10", 10, tier).fields, "ipc": 10})
    except InputError:
        return None


def _trajectory_work(value: Any) -> dict[str, object]:
    expert = value.expert
    each = expert.snapshots * expert.snapshot_every
    return {
        "experts": f"{expert.experts} × {each:,} {expert.snapshot_unit}s",
        "model": f"`{expert.model}`",
        "snapshots kept": f"{expert.experts * (expert.snapshots + 1):,}",
        "outer iterations": f"{value.iterations:,}",
        "student steps N": value.student_steps,
        "images a step": "all" if value.batch_syn is None else value.batch_syn,
    }


def _distribution_work(value: Any) -> dict[str, object]:
    return {
        "networks": value.networks,
        "model": f"`{value.expert.model}`",
        "iterations": f"{value.iterations:,}",
        "real images a class": value.batch_real,
        "steps of a network after its iteration": value.queue_steps if value.networks == "queue" else 0,
    }


def _teacher_work(value: Any) -> dict[str, object]:
    labels = value.labels
    return {
        "teachers": ", ".join(f"`{member}`" for member in value.committee),
        "epochs each": value.teacher.epochs,
        "iterations an image": f"{value.iterations:,}",
        "labels": f"{labels}, {value.label_epochs} epochs" if labels in ("stored", "dynamic") else labels,
        "student steps": f"{value.train.steps:,}",
    }


def _boards(name: str) -> str:
    """Rows of the leaderboards: under one protocol with every other method."""
    heads = ["board", "budget", "model", "metric", "%", "sets × networks", "minus random", "minus random, same labels"]
    rows = []
    for board_name, board in boards().items():
        for entry in board.entries:
            if entry.set == name and entry.values:
                row = [f"[{board_name}](../results/leaderboard-{board_name}.md)"]
                row += [f"{entry.budget:,} {'a class' if board.unit == 'ipc' else 'bytes'}", entry.model or "none"]
                row += [board.metric, entry.score, entry.counts]
                gaps = (board.against(entry), board.against_labels(entry))
                rows.append([*row, *("" if gap is None else str(gap) for gap in gaps)])
    if not rows:
        return ""
    kept = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    lines = ["| " + " | ".join(line[i] for i in kept) + " |" for line in (heads, ["---"] * len(heads), *rows)]
    return (
        "Leaderboards, under one protocol with every other method:\n\n"
        + "\n".join(lines)
        + "\n\nDifferences are in points with their 95 % interval; ± is over the networks of one set, or over "
        "sets where there are several."
        + (f" Ten splits and more data: [all measured rows]({SPLITS})." if kind_of(name) == "graphs" else "")
    )


def _measured(name: str) -> str:
    """Cells of the records: mean over sets where there are several."""
    cells: dict[tuple[str, str, Any], list[dict[str, Any]]] = defaultdict(list)
    for record in kept.named("*-seed*").values():
        job = record.get("job", {})
        if str(job.get("method", "")).split(" ")[0] == name and "report" in record:
            mark = decoupled.EARLIER if decoupled.earlier(record) else ""
            cells[job["dataset"], job["method"] + mark, job["ipc"]].append(record)
    if not cells:
        return ""
    lines = ["| data | set | images a class | accuracy % | sets × networks | bytes | distil s |", "|" + "---|" * 7]
    changed = []
    for (data, row, ipc), records in sorted(cells.items(), key=lambda item: tuple(map(str, item[0]))):
        first = [record["report"]["rows"][0] for record in records]
        values = [r["mean"] for r in first] if len(first) > 1 else first[0]["values"]
        mean, std = mean_std(values)
        spread = "" if std is None else f" ± {100 * std:.1f}"
        seconds = sum(record["distill_seconds"] for record in records) / len(records)
        size = records[0]["report"]["bytes"]["total"]
        counts = f"{len(records)} × {first[0]['n']}"
        if text := decoupled.earlier(records[0]):
            changed.append(f"{row}, {ipc} a class: an earlier preset: {text}.")
        lines.append(f"| {data} | {row} | {ipc} | {100 * mean:.1f}{spread} | {counts} | {size:,} | {seconds:.0f} |")
    rule = earlier_rule(record for records in cells.values() for record in records)
    told = "± is over sets where there are several, else over networks; two cores, `cpu` presets."
    told += f" {rule}" if rule else ""
    return "\n".join(lines) + f"\n\n{told}" + "".join(f"\n{text}" for text in changed)


def _committee(name: str) -> str:
    """On CV-DD's page: whether the committee pays, for the student of the rows and for one outside all committees."""
    if name != "cvdd":
        return ""
    found = decoupled.pair_lines(list(kept.named("*-seed*").values()))
    text = (
        "Does the committee pay? SRe2L++ has the first of its members for its only teacher and starts from equal images"
    )
    return f"{text}:\n\n" + "\n".join(f"- {line}" for line in found) if found else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def pages() -> dict[Path, str]:
    """Every page by its path, and the list of them."""
    made = {PAGES / _file_of(name): page(name) for name in METHODS}
    lines = ["# Methods", "", "*Made by `scripts/docs/methods.py`; do not edit.*", ""]
    for name in METHODS:
        lines.append(f"- [`{name}`]({_file_of(name)}): {card(name).when}")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return {
        **made,
        PAGES / "README.md": "\n".join(lines) + "\n",
        README: f"{before}{BEGIN}\n{when_table()}\n{END}{after}",
        NAV: _nav(),
    }


def _nav() -> str:
    """The manual's table of contents, with the pages of all methods after that of their list."""
    lines = NAV.read_text(encoding="utf-8").split("\n")
    head = next(line for line in lines if line.endswith("- methods/README.md"))
    start = head.removesuffix("README.md")
    kept = [line for line in lines if line == head or not line.startswith(start)]
    place = kept.index(head) + 1
    return "\n".join([*kept[:place], *(f"{start}{_file_of(name)}" for name in METHODS), *kept[place:]])


def when_table() -> str:
    """Methods that are no baselines: name, paper, when to take them."""
    lines = ["| method | paper | take this when |", "|---|---|---|"]
    for name in METHODS:
        known = card(name)
        if known.role == "method":
            link = f"docs/methods/{_file_of(name)}"
            when = known.when.removeprefix("Take this when ")
            lines.append(f"| [`{name}`]({link}) | {known.title}{_venue(known.paper)} | {when} |")
    return "\n".join(lines)


def _venue(paper: Paper | None) -> str:
    """`, CVPR 2022`; an arXiv number says its year itself."""
    if paper is None:
        return ""
    return f", {paper.venue}" if paper.venue[-1].isdigit() else f", {paper.venue} {paper.year}"


def _file_of(name: str) -> str:
    """Of a method's page; `+` is no letter of an address."""
    return f"{name.replace('++', 'pp')}.md"


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    old = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        print("\n".join(f"{path.relative_to(ROOT)} is not current" for path in old), end="\n" if old else "")
        return 1 if old else 0
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
