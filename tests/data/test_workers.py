"""Worker processes are started only where that does not run the user's script again."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dd.cli.main
from dd.data import workers
from dd.data.images.reading import FEW

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import multiprocessing, sys
import dd

print("here", flush=True)
{guard}
    if sys.argv[1]:
        multiprocessing.set_start_method(sys.argv[1])
    real = dd.load_images("imagefolder:" + sys.argv[2], size=8, workers=2)
    print(real.train.pixels().sum(), multiprocessing.get_start_method(), flush=True)
"""
ALWAYS, GUARD = "if True:", 'if __name__ == "__main__":'


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than are read in one process."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(FEW + 80):
        part = folder / ("test" if i % 10 < 2 else "train") / "ab"[i % 2]
        part.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(part / f"{i}.png")
    return folder


def run(folder: Path, pictures: Path, guard: str, method: str) -> tuple[list[str], str]:
    """(lines, errors) of a script."""
    script = folder / "script.py"
    script.write_text(SCRIPT.format(guard=guard))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(script), method, str(pictures)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.splitlines(), done.stderr


def test_a_script_without_a_main_guard_is_run_once(tmp_path: Path, pictures: Path) -> None:
    """By both start methods that import it again; the same pixels as below a guard, where workers are started."""
    read = set()
    for method in ("spawn", "forkserver"):
        lines, errors = run(tmp_path, pictures, ALWAYS, method)
        assert errors == ""
        assert [line.split()[-1] for line in lines] == ["here", method]
        read.add(lines[1].split()[0])
    lines, errors = run(tmp_path, pictures, GUARD, "spawn")
    assert errors == ""
    assert "".join(lines).count("here") == 1 + 2  # two processes may write into one line
    assert read == {lines[-1].split()[0]}


MAIN = """
def call():
    return can_start()

if __name__ == "__main__":
    below = can_start()
above = call()
"""


def test_the_line_that_led_here_must_be_below_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.multiprocessing, "get_start_method", lambda allow_none: "spawn")
    path = tmp_path / "main.py"
    path.write_text(MAIN)
    main = type(sys)("__main__")
    main.__file__, main.can_start = str(path), workers.can_start  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(MAIN, str(path), "exec"), vars(main))
    assert (main.below, main.above) == (True, False)
    told: list[bool] = []
    thread = threading.Thread(target=lambda: told.append(workers.can_start()))
    thread.start()
    thread.join()
    assert told == [True]  # it has a guard, and a thread does not know its caller
    path.write_text("no Python at all")
    assert not workers.can_start()
    path.unlink()
    assert not workers.can_start()
    del main.__file__
    assert workers.can_start()


def test_the_start_method_is_the_systems_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_is_guarded", lambda: False)
    monkeypatch.setattr(workers.multiprocessing, "get_start_method", lambda allow_none: None)
    for first, able in (("fork", True), ("spawn", False)):
        monkeypatch.setattr(workers.multiprocessing, "get_all_start_methods", lambda first=first: [first, "fork"])
        assert workers.can_start() == able
        assert (workers.reading_processes(1, 3, few=2) == 1) == able
    assert workers.reading_processes(1, 2, few=2) == 0


def test_a_worker_of_others_starts_none() -> None:
    """A `multiprocessing.Pool` has daemons, which may have no children."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(workers.can_start) is False
    assert workers.can_start()


def test_no_more_processes_than_cpus() -> None:
    assert workers.reading_processes(10**9, 10**6, few=2) == workers.usable_cpus()
    assert workers.reading_processes(-1, 10**6, few=2) == 0


def test_python_m_dd_can_be_imported_again() -> None:
    assert importlib.import_module("dd.__main__").main is dd.cli.main.main
