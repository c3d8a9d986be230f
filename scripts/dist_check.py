"""Before a release: is what a user installs whole? `python scripts/dist_check.py` (or `make dist-check`).

From the tracked files of this checkout, in a temporary folder: an sdist, a wheel of that sdist; each is installed in a
fresh environment that has the other packages of this one and nothing of the checkout. There every tracked file of the
packages must be found, `dd` imported, all cards, recipes and methods read, and the digits distilled, evaluated and
reported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PLACES: Final = {"dd/": "dd/", "datasets/": "dd/_cards/", "expert_trajectories/": "dd/_recipes/"}
"""Folder of the checkout: where it is in an installation."""

BUILD: Final = "import sys; from setuptools import build_meta as m; print(getattr(m, sys.argv[1])(sys.argv[2]))"
USE: Final = """
import sys
from pathlib import Path

import dd
from dd.cli.main import main

place = Path(dd.__file__).parent
assert place.is_relative_to(sys.prefix), place
missing = [name for name in sys.argv[2:] if not (place.parent / name).is_file()]
assert not missing, missing
assert dd.__version__ == sys.argv[1], dd.__version__
for name in dd.list_methods():
    assert dd.describe(name), name
cards = [name for name in sys.argv[2:] if name.startswith("dd/_cards/")]
recipes = [Path(name).stem for name in sys.argv[2:] if name.startswith("dd/_recipes/")]
assert len(cards) > 20 and len({dd.load_recipe(name).name for name in recipes}) == len(recipes) > 20
assert main(["list"]) == 0
fields = {"iterations": 3, "student_steps": 3, "max_start_epoch": 2, "expert": {"experts": 2, "snapshots": 6}}
small = dd.distill("digits", "mtt", ipc=1, out="run", train={"steps": 50}, preset="cpu", progress=False, **fields)
found = dd.evaluate("run", "digits", repeats=1, progress=False)
assert 0 < found.mean < 1
page = dd.report("run")
assert page.stat().st_size > 10_000
print(f"{dd.__version__} from {place}: {len(cards)} cards, {len(recipes)} recipes, {len(dd.list_methods())} methods")
"""


def shell(words: Sequence[object], folder: Path) -> str:
    """The last line that a program says; without the checkout on its path, and with a home of its own.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"DD_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    words = list(map(str, words))
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def tracked() -> list[str]:
    """Files of the checkout that git knows and that are there."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in told.split("\0") if name and (ROOT / name).is_file()]


def installed(names: Sequence[str]) -> list[str]:
    """Where the files of the packages are in an installation."""
    return [new + name.removeprefix(old) for name in names for old, new in PLACES.items() if name.startswith(old)]


def build(names: Sequence[str], work: Path) -> tuple[Path, Path]:
    """(sdist, wheel of that sdist), of copies."""
    source, out = work / "source", work / "dist"
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    sdist = out / shell([sys.executable, "-c", BUILD, "build_sdist", out], source)
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    return sdist, out / shell([sys.executable, "-c", BUILD, "build_wheel", out], unpacked)


def environment(folder: Path) -> Path:
    """The Python of a fresh environment that finds the packages of this one, but not this one's `dd`."""
    venv.create(folder, with_pip=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    base = Path(sysconfig.get_path("purelib"))
    (packages / "base.pth").write_text(f"{base}\n", encoding="utf-8")  # its own `.pth`, of the checkout, is not read
    return folder / "bin" / "python"


def main() -> int:
    """Build, install, use; the first fault ends it."""
    names = tracked()
    with tempfile.TemporaryDirectory(prefix="dd-dist-") as name:
        work = Path(name)
        version = shell([sys.executable, ROOT / "setup.py", "--version"], ROOT)
        for made in build(names, work):
            folder = work / made.name.replace(".", "-")
            python = environment(folder)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            shell([*pip, "--no-deps", "--ignore-installed", made], work)  # of an sdist pip fetches setuptools
            shell([python, "-m", "dd", "--version"], work)
            place = folder / "use"
            place.mkdir()
            print(f"{made.name} ({made.stat().st_size:,} bytes): ", end="", flush=True)
            print(shell([python, "-W", "ignore", "-c", USE, version, *installed(names)], place), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
