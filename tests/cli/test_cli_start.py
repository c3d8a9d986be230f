"""What the command line loads before it knows what is asked, and that it says the same with torch and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dd.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "numpy", "tyro", "tqdm", "PIL"]


def run(code: str) -> str:
    """What a program prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("entry", ["from dd.cli.main import main", "from dd.__main__ import main"])
def test_help_list_and_a_wrong_word_load_nothing_that_is_heavy(entry: str) -> None:
    words = [[], ["--help"], ["--version"], ["list"], ["list", "--json"], ["list", "ftd"], ["list", "mtt", "--cite"]]
    words += [["list", "nothing"], ["list", "--cite"], ["distil", "digits", "mtt"], ["--json", "list"]]
    told = run(f"""
import sys
{entry}
codes = [main(argv) for argv in {words}]
print(codes, [name for name in {HEAVY} if name in sys.modules])
""")
    assert told.splitlines()[-1] == f"{[2, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2]} []"


def test_the_help_of_a_verb_loads_no_torch() -> None:
    verbs = [verb for verb in VERBS if verb != "teach"]  # whose options are those of a teacher's recipe
    told = run(f"""
import sys
from dd.cli.main import main
for verb in {verbs}:
    try:
        main([verb, "--help"])
    except SystemExit as end:
        assert end.code == 0, verb
    if "torch" in sys.modules:
        sys.exit(verb)
print("none")
""")
    assert told.splitlines()[-1] == "none"


def test_a_method_is_described_alike_before_and_after_it_is_loaded() -> None:
    told = run("""
import sys
import dd
before = {name: dd.describe(name) for name in dd.list_methods()}
assert "torch" not in sys.modules
assert all(dd.methods.METHODS.values()) and "torch" in sys.modules
for name, text in before.items():
    assert dd.describe(name) == text, name
print(len(before))
""")
    assert int(told) > 10
