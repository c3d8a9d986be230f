"""Values that options cannot have: one line each, with what was expected, what was given and where help is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dd.cli.main import main
from dd.cli.values import fault_of

CASES = {
    "cvdd --pairs x": "`--pairs` must be None or pairs of whole numbers; got x.",
    "cvdd --pairs 0 1 2": "`--pairs` must be None or pairs of whole numbers; got 0 1 2.",
    "infer --compensators foo": "`--compensators` must be a whole number or `auto`; got foo.",
    "dm --storage fp8": "`--storage` must be `fp32` or `fp16` or `uint8`; got fp8.",
    "mtt --ipc x": "`--ipc` must be a whole number; got x.",
    "mtt --expert.lr it's": "`--expert.lr` must be a number; got it's.",
    "sre2l --batch 1.5": "`--batch` must be None or a whole number; got 1.5.",
    "rded --priors x": "`--priors` must be None or numbers; got x.",
}


@pytest.mark.parametrize("words", CASES)
def test_a_value_that_is_none_is_told_in_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = words.partition(" ")[0]
    assert main(["distill", "digits", *words.split(" ")]) == 2
    out, err = capsys.readouterr()
    way_out = f"`ddistill distill digits {method} --help` tells what it is."
    assert (out, err) == ("", f"ddistill distill: {CASES[words]} {way_out}\n")


def test_other_verbs_and_what_is_given_right(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["evaluate", "run", "digits", "--repeats", "many"]) == 2
    told = "`--repeats` must be a whole number; got many. `ddistill evaluate --help` tells what it is."
    assert capsys.readouterr().err == f"ddistill evaluate: {told}\n"
    assert main(["estimate", "digits", "cvdd", "--ipc", "2", "--pairs", "0", "1", "1", "2"]) == 0
    assert capsys.readouterr().err == ""


def test_what_else_is_wrong_is_told_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["distill", "digits", "mtt", "--nonsense", "3"])
    assert stop.value.code == 2
    assert "--nonsense" in capsys.readouterr().err
    assert fault_of("Unrecognized options: --x", "ddistill") is None


def test_letters_and_frames_of_a_terminal_are_left_out() -> None:
    lines = (
        "╭─ \x1b[31mValue error\x1b[0m ─╮",
        "│ \x1b[1mError parsing --a:\x1b[0m no type matching {x,y}|{[STR │",
        "│ [STR ...]]} could be │",
        "│ instantiated from ['q', 'r']. │",
        "╰─╯",
    )
    found = fault_of("\n".join(lines), "ddistill v")
    assert re.match(r"`--a` must be `x` or `y` or some STR; got q r\. `ddistill v --help`", str(found))


def test_the_way_out_of_labels_of_stored_views(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = ["--committee", "convnet(norm=batch,width=4)", "--iterations", "1", "--label-epochs", "1", "--quiet"]
    words = ["distill", "digits", "infer", "--ipc", "2", "--labels", "dynamic", *net, "--train.steps", "2"]
    assert main(words) == 2
    told = capsys.readouterr().err
    options = told.partition("in a shell: ")[2].strip().removesuffix(".")
    assert options == '--train.augment "" --train.mix none'
    assert main([*words, *(word.strip('"') for word in options.split()), "--store", str(tmp_path / "store")]) == 0
