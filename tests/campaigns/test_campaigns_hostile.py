"""A share of the campaign of hostile files and wild arguments, and trials that are careless and must be found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import json, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from dd.errors import InputError
from scripts.campaigns import hostile
from scripts.campaigns.hostile import MARK, Trial

def refused(text="no"):
    raise InputError(text)
def loud():
    class Loud(InputError):
        __str__ = Exception.__str__
    raise Loud("\\x1b[31m")
def much():
    torch.ones(100, 2**20)
    refused()
careless = [
    Trial("good", "", refused),
    Trial("silent", "", lambda: None),
    Trial("tracebacks", "", lambda: [][1]),
    Trial("tracebacks", "steers", loud),
    Trial("lost", "", lambda: (Path("../canary").write_text("x"), refused())),
    Trial("executed", "", lambda: (Path(MARK).touch(), refused())),
    Trial("bricked", "", refused, after=lambda: [][1]),
    Trial("memory", "", much),
]
share = hostile.run(0.001, 0)
hostile.MEMORY = 200
found = hostile.run(1, 0, chosen=careless)
hostile.SECONDS = 1.0
slow = hostile.run(1, 0, chosen=[Trial("hangs", "", lambda: time.sleep(600))])
print(json.dumps([share.to_json(), found.to_json(), slow.to_json(), len(hostile.every())]))
"""


@pytest.fixture(scope="module")
def lines() -> list[Any]:
    """Processes are forked, so this is no work for the process of the tests, which may have threads."""
    words = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.strip().rpartition("\n")[2]))


def test_hostile_files_and_wild_arguments_do_no_harm(lines: list[Any]) -> None:
    assert lines[0]["faults"] == []
    assert lines[0]["trials"] == len(lines[0]["parts"]) >= 25
    assert lines[3] >= 250


def test_every_kind_of_harm_is_found_out(lines: list[Any]) -> None:
    told = lines[1]
    kinds = ("silent", "lost", "executed", "bricked", "memory")
    assert {kind: told[kind] for kind in (*kinds, "tracebacks")} == {**dict.fromkeys(kinds, 1), "tracebacks": 2}
    assert lines[2]["hangs"] == 1
    assert all(text.startswith(text.split(": ")[1]) for text in told["faults"])  # each in its own part
