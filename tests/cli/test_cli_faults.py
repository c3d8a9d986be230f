"""Errors that are not the library's own, and warnings, on the command line: one line, and where to report it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dd import errors
from dd.cli.faults import PROJECT
from dd.cli.main import VERBS, main

ROOT = Path(__file__).resolve().parents[2]


def broken(words: object) -> dict[str, object]:
    """A verb with a fault."""
    print("half an answer", file=sys.stderr)
    raise TypeError(f"unsupported\noperand of {words}")


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERBS, "verify", (broken, ""))  # type: ignore[arg-type]
    monkeypatch.delenv("DD_DEBUG", raising=False)


def test_a_fault_is_one_line_with_the_place_to_report_it(fault: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "x", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert err.count("\n") == 2
    assert re.fullmatch(
        r"ddistill verify: TypeError: unsupported operand of \['x', '--json'\] \(test_cli_faults\.py, line \d+\)\. "
        rf"This looks like a fault of this library: please report it at {re.escape(PROJECT)} with what .* DD_DEBUG=1\.",
        line,
    )


def test_the_traceback_is_shown_when_it_is_asked_for(
    fault: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DD_DEBUG", "1")
    assert main(["verify", "x"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert main(["evaluate", "no/such", "digits"]) == 1
    assert "MissingError" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), KeyError("x"), OSError(5, "Input/output")])
def test_every_kind_of_fault(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> dict[str, object]:
        raise error

    monkeypatch.setitem(VERBS, "verify", (fail, ""))  # type: ignore[arg-type]
    assert main(["verify"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert (PROJECT in err) == (not isinstance(error, MemoryError))


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def warned(_: object) -> dict[str, object]:
        errors.warn("the classes\nare few")
        return {"json": False}

    monkeypatch.setitem(VERBS, "verify", (warned, ""))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["verify"]) == 0
    assert capsys.readouterr().err == "ddistill verify: warning: the classes are few\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("word", ["list", "--version", "--help"])
def test_a_full_disk_behind_stdout_is_told(word: str) -> None:
    with open("/dev/full", "wb") as full:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "dd", word], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"ddistill {word}: the answer could not be written (No space left on device)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_fault_and_the_other_one_is_not_written_instead(
    closed: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python has it after `>&-`, and on Windows without a console."""
    monkeypatch.setattr(sys, closed, None)
    for words, code in ((["list", "--json"], 0), (["list", "mtt"], 0), (["list", "nothing"], 2)):
        assert main(words) == code
    with pytest.raises(SystemExit, match="0"):
        main(["list", "-h"])
    assert getattr(sys, closed) is None
    told = capsys.readouterr()
    if closed == "stdout":
        assert told.out == ""
        assert told.err.startswith("ddistill list: unknown method 'nothing'")
    else:
        assert told.err == ""
        assert "unknown method" not in told.out


def test_the_address_is_that_of_the_package() -> None:
    assert f'URL = "{PROJECT}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
