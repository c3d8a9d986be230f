"""The page in headless Chromium, where there is one: nothing on its console, drawn, dark where that is asked for."""

from __future__ import annotations

import io
import json
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


def overflowing(page: Path, width: int) -> dict[str, int]:
    """By label, how many px of each region of a page in a frame of `width` px lie outside it, and of the whole page."""
    assert BROWSER is not None
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    ask = "const all = [document.documentElement, ...document.querySelectorAll('[role=region]')];"
    ask += "parent.postMessage(all.map(e => [e.ariaLabel || 'page', e.scrollWidth - e.clientWidth]), '*')"
    inner, outer = page.with_name("inner.html"), page.with_name("outer.html")
    inner.write_text(text.replace("</body>", f"<script>{ask}</script></body>"), encoding="utf-8")
    hear = "onmessage = e => { document.querySelector('pre').textContent = JSON.stringify(e.data) }"
    frame = f'<pre></pre><script>{hear}</script><iframe src="inner.html" style="border:0;width:{width}px"></iframe>'
    outer.write_text(frame, encoding="utf-8")
    words = [*QUIET.split(), f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    home = {**os.environ, "HOME": str(page.parent)}
    done = subprocess.run(
        [BROWSER, *words, outer.as_uri()], capture_output=True, text=True, timeout=120, check=True, env=home
    )
    found = re.search(r"<pre>(.*?)</pre>", done.stdout)
    assert found is not None
    return dict(json.loads(found[1]))


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


def test_a_phone_cuts_no_score(tmp_path: Path) -> None:
    """390 px wide, with a long name and three metrics; trees and leaderboards scroll by themselves."""
    told = {name: {"mean": 0.5, "std": None, "values": [0.5]} for name in ("accuracy", "balanced_accuracy")}
    row = {
        "model": "supports of the summary",
        "metric": "auroc",
        "mean": 0.5,
        "std": 0.123,
        "n": 2,
        "values": [0.4, 0.6],
    }
    row |= {"steps": 1000, "lr": 0.01, "seconds": 5.0, "interval95": 0.02, "other_metrics": told}
    rows = [
        {**row, "set": name} for name in ("mirage", "edges_per_node", "random, same labels of my_method (baseline)")
    ]
    report = {"dataset": "MUTAG", "rows": rows, "bytes": {"total": 9}, "origin": {}, "support": {"a": 9, "b": 1}}
    stream = io.BytesIO()
    Image.new("L", (1100, 90)).save(stream, format="PNG")
    wide = Picture("Trees", "Trees", stream.getvalue(), wide=True)
    page = write_page(tmp_path / "index.html", report, None, None, "A set", "ddistill …", [wide])
    found = overflowing(page, 390)
    assert found == {"page": 0, "Trees": found["Trees"], "Scores": 0}
    assert found["Trees"] > 500  # at its own size, to be scrolled
    assert overflowing(page, 1300) == {"page": 0, "Trees": 0, "Scores": 0}


def test_the_dark_page_is_dark(page: Path, tmp_path: Path) -> None:
    corner = {}
    for name, more in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        shoot(page, tmp_path / f"{name}.png", 800, *more)
        corner[name] = shot(tmp_path / f"{name}.png")[1, 1]
    assert corner["light"] > 240
    assert corner["dark"] < 40
