"""The command line: verbs, JSON on stdout alone, exit codes, interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from dd.base.files import read_json, read_jsonl
from dd.cli.main import VERBS, main

TINY = [
    *("--ipc", "1", "--iterations", "4", "--student-steps", "2", "--expert-epochs", "1", "--max-start-epoch", "2"),
    *("--expert.model", "convnet(width=4)", "--expert.experts", "2", "--expert.snapshots", "3"),
    *("--expert.batch-size", "16", "--expert.snapshot-every", "2", "--train.steps", "4", "--quiet"),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_distill_evaluate_verify(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = home / "run"
    assert main(["distill", "digits", "ftd", *TINY, "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bytes"]["total"] == (out / "synthetic.safetensors").stat().st_size
    assert {p.name for p in out.iterdir()} >= {"synthetic.safetensors", "log.jsonl", "run.json", "grid.png"}
    assert len(read_jsonl(out / "log.jsonl")) == 4

    assert main(["evaluate", str(out), "digits", "--repeats", "2", "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) >= {"format", "dataset", "split", "protocol", "selection", "method", "rows", "bytes", "origin"}
    assert [row["set"] for row in report["rows"]] == ["ftd", "random"]
    assert report["rows"][0]["n"] == 2
    assert set(report["origin"]) >= {"seed", "commit", "versions", "machine", "threads"}
    page = (out / "index.html").read_text()
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert read_json(out / "report.json") == report

    assert main(["verify", str(out)]) == 0
    assert "every checksum matches" in capsys.readouterr().out
    assert (
        main(
            [
                "evaluate",
                str(out),
                "digits",
                "--repeats",
                "1",
                "--models",
                "mlp",
                "convnet(width=4, norm=batch)",
                "--quiet",
            ]
        )
        == 0
    )
    assert "norm=batch" in capsys.readouterr().out


def test_buffer_repeats_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = home / "tiny.toml"
    recipe.write_text('model = "convnet(width=4)"\nbatch_size = 64\nsnapshots = 1\nexperts = 2\naugment = ""\n')
    words = ["buffer", "digits", str(recipe), "--quiet", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    files = sorted(Path(answer["folder"]).glob("*.safetensors"))
    assert answer["experts"] == len(files) == 2
    before = [f.stat().st_mtime_ns for f in files]
    assert main([*words, "--experts", "2"]) == 0
    assert [f.stat().st_mtime_ns for f in files] == before


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_of_the_processes_of_a_torchrun_one_says_it(
    json_too: tuple[str, ...], home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = home / "tiny.toml"
    recipe.write_text('model = "convnet(width=4)"\nbatch_size = 64\nsnapshots = 1\nexperts = 1\naugment = ""\n')
    told = []
    for main_one in (True, False):
        for module in ("dd.base.progress", "dd.cli.main"):
            monkeypatch.setattr(f"{module}.is_main", lambda main_one=main_one: main_one)
        assert main(["buffer", "digits", str(recipe), "--quiet", *json_too]) == 0
        told.append("experts" in capsys.readouterr().out)
    assert told == [True, False]


def test_list_describe_cite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    assert {"mtt", "ftd"} <= set(json.loads(capsys.readouterr().out)["methods"])
    assert main(["list", "ftd"]) == 0
    assert "cifar10" in capsys.readouterr().out
    assert main(["list", "mtt", "--cite"]) == 0
    assert "@" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "usage" in text
    if verb in ("distill", "estimate", "evaluate"):
        assert all(form in " ".join(text.split()) for form in ("imagefolder:PATH", "smiles:PATH.csv", "Hugging Face"))


def test_method_help_shows_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["distill", "digits", "ftd", "--help"])
    text = capsys.readouterr().out
    for option in ("--ema", "--expert.rho", "--train.steps", "--out", "--ipc"):
        assert option in text


def test_help_and_capitals_in_odd_places(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for words in (["distill", "--help"], ["Distill", "digits", "-h"], ["help", "distill"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        told.append(capsys.readouterr().out)
    assert told[0].startswith("usage: ddistill distill DATA METHOD [options], in this order")
    assert told == [told[0]] * 3
    assert all(form in told[0] for form in ("imagefolder:PATH", "smiles:PATH.csv", "Hugging Face"))
    with pytest.raises(SystemExit) as stop:
        main(["distill", "--ipc", "1", "digits", "ftd"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == told[0]
    assert main(["list", "SRe2L++", "--cite"]) == 0
    assert "Dataset Distillation via Committee Voting" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--ipc=x"], ["--ipc", "x"], ["--ipc"]])
def test_a_bad_budget_is_told_with_the_whole_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code: object = None
    try:
        code = main(["distill", "digits", "mtt", *words])
    except SystemExit as stop:  # tyro's own
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert "--ipc" in error
    assert "ddistill distill digits mtt --help" in error


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("evaluate", ["PATH", "DATA"]),
        ("buffer", ["DATA", "RECIPE"]),
        ("measure", ["PATH", "DATA"]),
        ("teach", ["DATA"]),
    ],
)
def test_missing_words_have_names(words: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([words])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert [name for name in ("PATH", "DATA", "RECIPE", "STR") if re.search(rf"(?<![:\w]){name}\b", error)] == names


def test_version_and_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.match(r"ddistill \d", capsys.readouterr().out)
    assert main([]) == 2
    assert main(["--help"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["destill"], 2, "unknown verb 'destill'; known: benchmark, buffer, distill"),
        (["--json", "list"], 2, "The verb comes first."),
        (["distill", "nope", "mtt"], 2, "nope"),
        (["distill", "NCI2", "mirage"], 2, "Graphs: BACE, BBBP, DD, HIV, IMDB-BINARY, MUTAG, NCI1"),
        (["distill", "mtt", "digits"], 2, "unknown method 'digits'; known: "),
        (["distill", "mtt", "digits"], 2, "DATA comes first, then METHOD."),
        (["distil", "digits", "mtt"], 2, "Did you mean distill?"),
        (["distill", "digits", "mtta"], 2, "Did you mean mtt?"),
        (["distill", "digts", "mtt"], 2, "Did you mean digits?"),
        (["measure", "run", "digits", "--metrics", "robst"], 2, "Did you mean robust?"),
        (["distill", "digits", "mtt", "--preset=papr"], 2, "`preset` must be `auto`, `paper` or `cpu`; got 'papr'"),
        (["distill", "digits", "mtt", "--device", "tpu7"], 2, "`device` must be a torch device"),
        (["benchmark", "digits", "--methods", "random"], 2, "which is a baseline. Give it as baselines="),
        (["benchmark", "digits", "--methods", "mtt,rdet"], 2, "unknown method for images 'rdet'"),
        (
            ["benchmark", "digits", "--preset", "paper"],
            2,
            "Baselines, and the steps of every row, have the recipe of mtt",
        ),
        (["list", "--cite"], 2, "Try `ddistill list mtt --cite`"),
        (["distill", "digits", "mtd"], 2, "unknown method 'mtd'; known: "),
        (["distill", "digits", "mtt", "--preset", "paper"], 2, "cifar10"),
        (["evaluate", "no/such/file", "digits"], 1, "no file or folder no/such/file. The set comes first"),
        (["verify", "no/such/file"], 1, "no file or folder"),
        (["buffer", "digits", "mttt"], 2, "unknown recipe 'mttt'; known: "),
        (["buffer", "cifar10", "mtt"], 1, "--download"),
        (["distill", "digits", "mtt", "--ipc", "9999"], 2, "`ipc`"),
    ],
)
def test_wrong_words_give_one_line_and_a_code(
    home: Path, words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words]) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not list(home.rglob("*.safetensors"))


def test_control_c_exits_130_and_the_same_command_goes_on(home: Path) -> None:
    words = [sys.executable, "-m", "dd", "distill", "digits", "mtt", *TINY, "--iterations", "150"]
    words += ["--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a suite in the background may be deaf to it
    done = subprocess.Popen(
        [*words, "--out", "cut"], env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
    log, deadline = home / "cut" / "log.jsonl", time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    done.send_signal(signal.SIGINT)
    _, error = done.communicate(timeout=120)
    assert done.returncode == 130, error
    assert "the same command goes on" in error
    assert (home / "cut" / "checkpoint.safetensors").exists()
    reached = len(read_jsonl(log))
    assert 0 < reached < 150
    for out in ("cut", "whole"):
        subprocess.run([*words, "--out", out], env=environment, check=True, capture_output=True)
    for name in ("synthetic.safetensors", "log.jsonl"):
        assert (home / "cut" / name).read_bytes() == (home / "whole" / name).read_bytes()


@pytest.mark.parametrize("words", [["list", "ftd"], ["distill", "digits", "ftd", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    command = [sys.executable, "-m", "dd", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == ""
    assert done.returncode in (0, 141)  # Python's own help swallows a closed pipe
