"""The page of all benches is made from their record; nothing is measured here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from scripts.bench import all as module

    monkeypatch.setattr(module, "RECORD", tmp_path / "performance.json")
    monkeypatch.setattr(module, "PAGE", tmp_path / "performance.md")
    return module


def test_every_bench_is_there_and_knows_its_options(bench: Any) -> None:
    assert len({b.name for b in bench.BENCHES}) == len(bench.BENCHES)
    for each in bench.BENCHES:
        assert (ROOT / "scripts" / "bench" / f"{each.script}.py").is_file()


def test_what_is_run_is_kept_and_the_rest_stays(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(words)
        return subprocess.CompletedProcess(
            words, 0, json.dumps({"library": {"seconds": 1.0}}), "row 1 …\nrow  seconds\n"
        )

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(bench, "origin", lambda: ORIGIN)
    bench.RECORD.write_text(json.dumps({"recover": {**FOUND, "table": "old"}, "mirage": FOUND}))
    bench.main(["--only", "recover"])
    record = json.loads(bench.RECORD.read_text())
    assert record["recover"]["table"] == "row  seconds"
    assert record["mirage"] == FOUND
    (words,) = calls
    assert words[1].endswith("recover_step.py")
    assert words[-1] == "--json"
    text = bench.PAGE.read_text()
    assert "row  seconds" in text
    assert "load 0.5 before" in text
    assert text == bench.page(record)
    bench.PAGE.unlink()
    bench.main(["--page"])
    assert bench.PAGE.read_text() == text


def test_the_page_tells_of_convolutions_where_they_were_measured(bench: Any) -> None:
    told = "The last rows are the convolutions alone"
    (expert,) = [one for one in bench.BENCHES if one.name == "expert-32"]
    assert told not in bench.page({"expert-32": FOUND})
    assert told in bench.page({"expert-32": {**FOUND, "command": expert.options}})


def test_a_bench_that_fails_says_what_it_said(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "no memory")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="mirage failed:\nno memory"):
        bench.main(["--only", "mirage"])
    assert not bench.RECORD.exists()


def test_an_unknown_bench_is_refused(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "speed"])
    assert "unknown bench 'speed'; known: matching-32," in capsys.readouterr().err


def test_the_page_is_that_of_the_record() -> None:
    record, page = ROOT / "scripts" / "records" / "performance.json", ROOT / "docs" / "performance.md"
    if not record.exists():
        pytest.skip("not measured yet")
    command = [sys.executable, "-c", CHECK]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == page.read_text()


CHECK = """
import json
from scripts.bench.all import RECORD, page
print(page(json.loads(RECORD.read_text())), end="")
"""
ORIGIN = {"machine": "m", "cores": 2, "vectors": "AVX2", "versions": {"torch": "2"}, "commit": "c"}
FOUND = {"command": "c", "load": 0.5, "seconds": 1, "table": "t", "results": {}, "origin": ORIGIN}
