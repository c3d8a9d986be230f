"""The page in headless Chromium, where there is one: nothing on its console, drawn, dark where that is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dd.base.curves import loss_curve
from dd.pages.page import Board, Picture, write_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
QUIET += "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine: apt-get install chromium")


def shoot(page: Path, out: Path, width: int, *more: str) -> str:
    """A screenshot, and what the browser logged."""
    assert BROWSER is not None
    words = [*QUIET.split(), *more, f"--user-data-dir={out.parent / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run(
        [BROWSER, *words, f"--screenshot={out}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(out.parent)},
    )
    return done.stderr


def shot(path: Path) -> np.ndarray:
    """Its grey values `[H, W]`."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def console(log: str) -> list[str]:
    return re.findall(r".*:CONSOLE.*", log)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    row = {"metric": "accuracy", "std": 0.01, "n": 2, "steps": 1000, "lr": 0.01, "seconds": 5.0, "interval95": 0.02}
    sets = {"mtt": 0.5, "random " + 8 * "verylongname": 0.3}
    rows = [{**row, "set": s, "model": "convnet(width=32)", "mean": m, "values": [m, m]} for s, m in sets.items()]
    report = {
        "dataset": "<script>console.error(1)</script>",
        "rows": rows,
        "bytes": {"total": 12345},
        "origin": {"commit": "a" * 40},
        "notes": ["<img src=x onerror=console.error(2)>"],
    }
    curve = loss_curve([{"iteration": i, "loss": 1 / (i + 1), "lr": 0.1} for i in range(9)], "svg")
    board = Board("Leaderboard", ["set", *map(str, range(14))], [["mtt", *(14 * ["50.0 ± 1.0"])]], ["±"])
    extra = [Picture("Loss", "Losses", curve)]
    return write_page(tmp_path / "index.html", report, None, None, "A set", "ddistill …", extra, board)


@pytest.mark.parametrize("width", [1200, 500])
def test_no_word_on_the_console(page: Path, tmp_path: Path, width: int) -> None:
    assert console(shoot(page, tmp_path / "shot.png", width)) == []
    grey = shot(tmp_path / "shot.png")
    assert grey.shape[1] == width
    assert len(np.unique(grey)) > 20  # something is drawn


def test_the_console_would_be_seen(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</h1>", '</h1><img src="file:///nowhere.png" alt="">'), encoding="utf-8")
    assert "Content Security Policy" in "".join(console(shoot(page, tmp_path / "shot.png", 500)))


def test_the_dark_page_is_dark(page: Path, tmp_path: Path) -> None:
    corner = {}
    for name, more in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        shoot(page, tmp_path / f"{name}.png", 800, *more)
        corner[name] = shot(tmp_path / f"{name}.png")[1, 1]
    assert corner["light"] > 240
    assert corner["dark"] < 40
