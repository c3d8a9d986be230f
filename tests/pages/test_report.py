"""`dd.report`: one page on runs and on benchmarks, its commands make the run again, names are escaped."""

from __future__ import annotations

import html
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from reference.teachers import quick_rded
from torch import nn

import dd
from dd.base.curves import scores_of
from dd.base.files import read_json, write_json
from dd.cli.main import main
from dd.errors import DamagedError, InputError, MissingError
from dd.pages.commands import distill_command
from dd.pages.report import _PYTHON, _names, _own, _side_by_side

TINY = "--ipc 1 --iterations 3 --student-steps 2 --expert-epochs 1 --max-start-epoch 2 --expert.model convnet(width=4)"
TINY += " --expert.experts 2 --expert.snapshots 3 --expert.batch-size 16 --expert.snapshot-every 2 --train.steps 3"


class Page(HTMLParser):
    """Tags with their attributes; all must be closed in order."""

    VOID = ("meta", "img", "br", "wbr", "circle", "line")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert self.open == []
        assert not {tag for tag, _ in self.found} & {"script", "link", "iframe", "a", "object", "base"}
        assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[^\"]*", "", self.text))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def headings(self) -> list[str]:
        return re.findall(r"<h2>([^<]*)</h2>", self.text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mtt` and `random`, evaluated, in one folder."""
    base = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DD_HOME", str(base / "home"))
        patch.chdir(base)
        assert main(["distill", "digits", "mtt", *TINY.split(), "--out", "mtt", "--quiet"]) == 0
        assert main(["distill", "digits", "random", "--ipc", "2", "--out", "random", "--quiet"]) == 0
        for run in ("mtt", "random"):
            words = ["--models", "convnet(width=4)", "mlp", "--repeats", "2", "--steps", "2", "--quiet"]
            assert main(["evaluate", run, "digits", *words]) == 0
    return base


def test_evaluate_writes_the_page_with_neighbours_and_both_commands(runs: Path) -> None:
    page = Page(runs / "mtt" / "index.html")
    wanted = ["Images", "Matching loss", "Beside the nearest real images", "Across architectures"]
    assert [h for h in page.headings if h in wanted] == wanted
    assert all(attrs.get("alt") for tag, attrs in page.found if tag == "img")
    assert [attrs.get("tabindex") for _, attrs in page.found if attrs.get("role") == "region"] == ["0"]
    command = re.search(r'<pre tabindex="0">(.*?)</pre>', page.text, re.DOTALL)
    assert command is not None
    assert command[1].splitlines()[0].startswith("ddistill distill digits mtt --preset cpu --seed 0 --ipc 1")
    assert command[1].splitlines()[1].startswith("ddistill evaluate mtt digits")


def test_the_command_makes_the_same_bytes(runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DD_HOME", str(runs / "home"))
    command = distill_command(read_json(runs / "mtt" / "run.json"), str(tmp_path / "again"))
    assert command is not None
    assert main([*shlex.split(command)[1:], "--quiet"]) == 0
    again = (tmp_path / "again" / "synthetic.safetensors").read_bytes()
    assert again == (runs / "mtt" / "synthetic.safetensors").read_bytes()
    told = read_json(runs / "mtt" / "run.json")
    sieved = distill_command({**told, "request": {**told["request"], "sieve": 3}}, "out")
    assert sieved is not None
    assert " --sieve 3 " in sieved


def test_no_command_where_no_shell_can_say_it() -> None:
    told = {"request": {"method": {"name": "mine"}, "data": {"name": "digits"}}}
    assert distill_command(told, "out") is None
    assert distill_command({"request": {"method": {"name": "mtt"}, "data": {"name": "my-own"}}}, "out") is None


def _again(page: Path) -> list[str]:
    """The lines under "Make it again"."""
    found = re.search(r'<pre tabindex="0">(.*?)</pre>', page.read_text(), re.DOTALL)
    return html.unescape(found[1]).splitlines() if found is not None else []


def test_a_folder_of_pictures_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for place in range(12):
            file = Path("my pets", split, "ab"[place % 2], f"{place}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((12, 10 + place), 50 + place).convert("RGB").save(file)
    few = ["--ipc", "2", "--size", "8", "--seed", "3", "--quiet"]
    assert main(["distill", "imagefolder:my pets", "random", *few, "--out", "run"]) == 0
    words = ["--models", "mlp", "--repeats", "1", "--steps", "2", "--quiet"]
    assert main(["evaluate", "run", "imagefolder:my pets", *words]) == 0
    made, evaluated = _again(Path("run/index.html"))
    assert made.startswith("ddistill distill 'imagefolder:my pets' random --preset cpu --seed 3 --ipc 2 --size 8")
    assert evaluated.startswith("ddistill evaluate run 'imagefolder:my pets'")
    command = distill_command(read_json(Path("run/run.json")), "again")
    assert command is not None
    assert main([*shlex.split(command)[1:], "--quiet"]) == 0
    assert Path("again/synthetic.safetensors").read_bytes() == Path("run/synthetic.safetensors").read_bytes()
    dd.distill("imagefolder:my pets", "random", ipc=2, size=(8, 6), out="two", progress=False)
    assert distill_command(read_json(Path("two/run.json")), "again") is None


def test_what_only_python_can_make_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    own = dd.Model(lambda channels, classes, size: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)), "mynet")
    few: dict[str, Any] = {"experts": 1, "snapshots": 3, "max_start_epoch": 1, "expert_epochs": 1, "student_steps": 2}
    dd.distill("digits", "mtt", ipc=1, model=own, iterations=1, out="run", progress=False, **few)
    dd.distill(dd.load_images("digits"), "random", ipc=1, out="card", progress=False)
    digits = dd.load_images("digits").train
    dd.distill((digits.pixels(torch.arange(200)), digits.labels[:200]), "random", ipc=1, out="data", progress=False)
    quick: dict[str, Any] = {"repeats": 1, "steps": 2, "baselines": "random", "progress": False}
    dd.evaluate("run", "digits", models=own, **quick)
    assert _again(Path("run/index.html")) == [_PYTHON]
    for name in ("card", "data"):
        dd.evaluate(name, "digits", models="mlp", **quick)
    assert [line.split()[1] for line in _again(Path("card/index.html"))] == ["distill", "evaluate"]
    assert _again(Path("data/index.html"))[0] == _PYTHON


def test_an_answer_in_a_folder_without_its_set_says_how_the_set_comes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = dd.distill("digits", "random", ipc=1, progress=False)
    quick: dict[str, Any] = {"models": "mlp", "repeats": 1, "steps": 2, "baselines": (), "progress": False}
    dd.evaluate(small, "digits", out="runs/dc", **quick)
    for verb in (lambda: dd.report("runs/dc"), lambda: dd.evaluate("runs/dc", "digits", **quick)):
        told = (
            r'no set of this library in runs/dc. Name its file; or put it there, `small.save\("runs/dc/synthetic.safet'
        )
        with pytest.raises(MissingError, match=told):
            verb()
    small.save("runs/dc/synthetic.safetensors")  # the way out
    assert dd.report("runs/dc") == Path("runs/dc/index.html")
    dd.evaluate("runs/dc", "digits", **quick)


def test_runs_side_by_side(runs: Path, tmp_path: Path) -> None:
    out = dd.report([runs / "mtt", runs / "random"], out=tmp_path / "page.html")
    page = Page(out)
    assert {"Runs side by side", "Score against bytes", "Across architectures"} <= set(page.headings)
    assert "commit" in page.text
    assert out.stat().st_size < 1_000_000


def test_a_baseline_of_the_name_of_the_set_is_told_apart(runs: Path) -> None:
    told = read_json(runs / "random" / "report.json")
    own = {row["model"]: row["mean"] for row in told["rows"] if row["set"] == "random"}
    assert len(own) == 2 < len([row for row in told["rows"] if row["set"].startswith("random")])
    assert {row["set"] for row in told["rows"]} == {"random", "random (baseline)"}
    assert scores_of(told["rows"])["random"] == own
    text = (runs / "random" / "index.html").read_text(encoding="utf-8")
    assert text.count('<tr class="own">') == 2


def test_runs_of_one_name_are_told_apart(runs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(runs / "random", tmp_path / name)
    told = read_json(tmp_path / "b" / "report.json")
    rows = _own(told)
    assert _names([told, told], [tmp_path / "a", tmp_path / "b"]) == ["random, 20 images (a)", "random, 20 images (b)"]
    assert _names([told, {**told, "method": "random, 9 images"}], []) == ["random, 20 images", "random, 9 images"]
    assert _names([told, read_json(runs / "mtt" / "report.json")], []) == ["random", "mtt"]
    assert [row["set"] for row in _side_by_side([told, told], "ab")] == ["a"] * len(rows) + ["b"] * len(rows)
    page = Page(dd.report([tmp_path / "a", tmp_path / "b"]))
    assert '<th scope="row">random, 20 images (b)</th>' in page.text


def test_a_benchmark_shows_its_best_set(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(runs / "home"))
    models = ["convnet(width=4)", "mlp"]
    fast: dict[str, Any] = {"ipc": (1, 2), "models": models, "repeats": 2, "steps": 2, "progress": False}
    dd.benchmark("digits", [quick_rded()], baselines=("random",), out=tmp_path / "bench", **fast)
    read: list[object] = []
    monkeypatch.setattr(dd.contest.report, "load", lambda path: read.append(path) or dd.load(path))
    page = Page(dd.report(tmp_path / "bench"))
    assert len(read) == len(set(read)) > 0  # no set twice
    assert {"Leaderboard", "Score against bytes", "Across architectures", "Images", "Every method"} <= set(
        page.headings
    )
    assert "minus random" in page.text
    assert "Measured on" in page.text
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "docs"))
    import picture

    made = Image.open(io.BytesIO(picture.picture(tmp_path / "bench", 1, None)))
    assert made.height < 3 * 60 < made.width  # random and one method, ten classes


def test_a_benchmark_of_graphs_with_two_budgets(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_HOME", str(runs / "home"))
    seen: list[dict[str, dict[str, float]]] = []
    monkeypatch.setattr("dd.pages.report.heat_map", seen.append)
    given: dict[str, Any] = {"budget_bytes": (2048, 4096), "models": ["gin(width=4)", "gcn(width=4)"], "repeats": 1}
    method = dd.Mirage(depth=1, patterns="single")
    bench = tmp_path / "bench"
    baselines = ("random", "node_count")
    table = dd.benchmark("digits-graphs", method, baselines=baselines, out=bench, steps=2, progress=False, **given)
    page = Page(dd.report(bench))
    assert {"Leaderboard", "What tells the classes apart", "Score against bytes"} <= set(page.headings)
    assert re.search(r"<h1>mirage, [24],0(48|96) bytes on digits-graphs</h1>", page.text)
    assert "<pre" not in page.text  # a method that is a value is no word of a shell
    for budget in given["budget_bytes"]:  # neither budget hides the other
        wanted = table.row("mirage", budget, "gcn(width=4)").values[0]
        assert seen[0][f"mirage, {budget:,}"]["gcn(width=4)"] == wanted


def test_the_command_of_a_benchmark_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    given: dict[str, Any] = {"budget_bytes": (2048, 4096), "models": ["gin(width=4)"], "repeats": 1, "steps": 2}
    bench = tmp_path / "a bench"
    first = dd.benchmark("digits-graphs", "all", baselines=("random",), out=bench, progress=False, **given)
    told = re.search(r'<pre tabindex="0">(.*?)</pre>', Page(dd.report(bench)).text, re.DOTALL)
    assert told is not None
    words = shlex.split(html.unescape(told[1]))
    assert words[:3] == ["ddistill", "benchmark", "digits-graphs"]
    assert words[-2:] == ["--out", str(bench)]
    assert main([*words[1:-1], str(tmp_path / "again"), "--workers", "1", "--quiet", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    run = bench / "runs" / "mirage-2048-seed0"
    assert main(["evaluate", str(run), "digits-graphs", "--repeats", "1", "--steps", "2", "--quiet"]) == 0
    both = re.search(r'<pre tabindex="0">(.*?)</pre>', Page(dd.report([run, bench])).text, re.DOTALL)
    assert both is not None
    assert [line.split()[1] for line in both[1].splitlines()] == ["distill", "evaluate", "benchmark"]
    assert [row["values"] for row in again["rows"]] == [row["values"] for row in first.to_json()["rows"]]
    assert dd.Benchmark.from_json(again).asked == first.asked


def test_names_are_escaped(runs: Path, tmp_path: Path) -> None:
    evil = '<img src=x onerror="1">'
    told = read_json(runs / "mtt" / "report.json")
    kept = json.loads(json.dumps(told))
    kept.update(dataset=evil, method=evil, notes=[evil])
    for row in kept["rows"]:
        row["set"], row["model"] = evil + row["set"], evil + row["model"]
    write_json(runs / "mtt" / "report.json", kept)
    try:
        page = Page(dd.report([runs / "mtt", runs / "random"], out=tmp_path / "page.html"))
    finally:
        write_json(runs / "mtt" / "report.json", told)
    assert "onerror" not in {name for _, attrs in page.found for name in attrs}
    assert "&lt;img src=x" in page.text


def test_verb_and_refusals(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "random"), "--out", str(tmp_path / "p.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "p.html").stat().st_size
    with pytest.raises(InputError, match="`runs` must be run folders"):
        dd.report([])
    with pytest.raises(MissingError, match="the run was not evaluated"):
        dd.report(tmp_path)
    with pytest.raises(MissingError, match=r"no run folder .*/none: it is not there\. Make one: `dd\.distill"):
        dd.report(tmp_path / "none")
    with pytest.raises(MissingError, match=r"no run folder .*/p\.html: it is a file: a run folder holds the set"):
        dd.report(tmp_path / "p.html")
    told = read_json(runs / "random" / "report.json")
    for wrong in ({}, [], {**told, "rows": 3}, {**told, "rows": []}, {**told, "rows": [{"set": "random"}]}):
        text = json.dumps({**wrong, "sha256": "by hand"} if isinstance(wrong, dict) else wrong)
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(
            DamagedError, match=r"is no report of an evaluation: .*Evaluate the run again|was not written by"
        ):
            dd.report(tmp_path)
