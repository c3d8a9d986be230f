"""The command line on graphs that come with a dependency: a summary, its report and page, what does not go together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dd.base.files import read_json, read_jsonl
from dd.cli.main import main

TINY = ["--depth", "1", "--train.steps", "3", "--train.model", "gin(width=4)", "--quiet"]
FEW = ["--repeats", "1", "--quiet"]

pytestmark = pytest.mark.filterwarnings("ignore::dd.methods.CoverageWarning")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_distill_evaluate_verify(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "run"
    assert main(["distill", "digits-graphs", "mirage", *TINY, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"]["total"] == (out / "synthetic.safetensors").stat().st_size
    assert answer["bytes"]["published"] <= 2048
    assert answer["provenance"]["dataset"] == "digits-graphs"
    assert {p.name for p in out.iterdir()} == {"synthetic.safetensors", "log.jsonl", "run.json", "trees.png"}
    assert len(read_jsonl(out / "log.jsonl")) == 1

    words = ["evaluate", str(out), "digits-graphs", *FEW, "--baselines", "random", "naive_bayes", "node_count"]
    assert main([*words, "--early-stop", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sets = ["mirage", "mirage, early stop", "random", "random, early stop", "naive_bayes", "node_count"]
    assert [row["set"] for row in report["rows"]] == sets
    assert {row["metric"] for row in report["rows"]} == {"accuracy"}
    assert report["split"] == "test graphs of split 0, given"
    assert read_json(out / "report.json") == report
    page = (out / "index.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in re.sub(r"http-equiv", "", page)

    assert main([*words, "--metric", "auroc", "--models", "gcn(width=4)", "sage(width=4)"]) == 0
    text = capsys.readouterr().out
    assert "AUROC × 100" in text
    assert "sage(width=4)" in text
    assert main(["verify", str(out)]) == 0
    assert "patterns of trees, 10 classes" in capsys.readouterr().out


def test_the_same_command_reads_what_is_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "Digits-Graphs", "mirage", *TINY]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "patterns over" in text
    assert "class 9: " in text
    file = home / "runs" / "Digits-Graphs-mirage" / "synthetic.safetensors"
    stamp, bytes_ = file.stat().st_mtime_ns, file.read_bytes()
    assert main(words) == 0
    assert file.stat().st_mtime_ns == stamp
    assert main([*words, "--restart"]) == 0
    assert file.read_bytes() == bytes_
    assert main([*words, "--budget-bytes", "512"]) == 2
    assert "holds another run (method.budget_bytes: 2048 there, 512 asked for)" in capsys.readouterr().err


def test_a_threshold_takes_the_place_of_the_budget(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["distill", "digits-graphs", "mirage", *TINY, "--patterns", "single", "--json", "--out", "a"]
    assert main([*words, "--min-support", "0.5"]) == 0
    capsys.readouterr()
    assert json.loads((home / "a" / "run.json").read_text())["request"]["method"]["budget_bytes"] is None


def test_seeds_and_splits(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "distill",
        "digits-graphs",
        "mirage",
        *TINY,
        "--split",
        "2",
        "--seeds",
        "0",
        "1",
        "--out",
        "many",
        "--json",
    ]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["provenance"]["split"] for one in answer["sets"]] == [2, 2]
    assert (home / "many" / "seed1" / "trees.png").exists()


def test_help_and_list_name_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["distill", "NCI1", "mirage", "--help"])
    text = capsys.readouterr().out
    for option in ("--depth", "--budget-bytes", "--min-support", "--train.pool", "--split"):
        assert option in text
    assert "--ipc" not in text
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    text = capsys.readouterr().out
    assert "--early-stop" in text
    assert "--metric" in text
    assert main(["list", "mirage"]) == 0
    assert "min_support=[440, 570]" in capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert "NCI1" in tables["graphs"]
    assert "NCI1" not in tables["datasets"]
    assert tables["graph models"] == ["gat", "gcn", "gin", "sage"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["distill", "digits", "mirage"], 2, "`data` must be graphs for the method 'mirage'; got 'digits'"),
        (["distill", "digits-graphs", "mtt"], 2, "`data` must be images for the method 'mtt'; got 'digits-graphs'"),
        (["distill", "NCI1", "mirage"], 1, "--download"),
        (["distill", "digits-graphs", "mirage", "--preset", "paper"], 2, "IMDB-BINARY, NCI1); got digits-graphs"),
        (["distill", "digits-graphs", "mirage", "--depth", "0"], 2, "`depth` must be a whole number of at least 1"),
        (["distill", "digits-graphs", "mirage", "--train.model", "gon"], 2, "unknown graph network 'gon'"),
        (["distill", "digits-graphs", "mirage", "--budget-bytes", "9"], 2, "enough for the first pattern of a class"),
        (["distill", "digits-graphs", "mirage", "--split", "published"], 2, "`split` must be"),
        (["distill", "digits-graphs", "mirage", "--size", "8"], 2, "`size` must be left out for graphs"),
        (["estimate", "digits-graphs", "mtt"], 2, "images for the method 'mtt'"),
        (["buffer", "digits-graphs", "mtt"], 2, "`data` must be images for `buffer`; got graphs"),
        (["teach", "digits-graphs"], 2, "`data` must be images for `teach`; got graphs"),
    ],
)
def test_wrong_words_give_one_line_and_a_code(
    home: Path, words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--quiet"]) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not list(home.rglob("*.safetensors"))
