"""A small share of the campaigns, jobs that are careless and must be found out, and the records of the whole ones."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.campaigns.__main__ import NAMES, RECORDS  # noqa: E402
from scripts.campaigns.common import FAULTS, Tally, evenly, table  # noqa: E402

LEAST = {"crash": 500, "concurrent": 50, "corrupt": 2000, "disk": 20, "hostile": 250}

CODE = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from dd.errors import InputError, WriteError
from scripts.campaigns import concurrent, crash, disk, jobs
from scripts.campaigns.concurrent import Shared
from scripts.campaigns.jobs import Job

out = Path("set.txt")
def in_place():
    out.write_text("new" * 100)
def half():
    if not Path("marker").exists():
        Path("marker").touch()
    elif not out.exists():
        raise InputError("begun, and never to be finished")
    out.write_text("new")
def not_synced():
    Path("new.txt").write_text("new" * 100)
    os.replace("new.txt", out)
    os.fsync(os.open(".", os.O_RDONLY))
    Path("next.txt").touch()
def old():
    out.write_text("old")
def old_or_new():
    assert out.read_text() in ("old", "new" * 100)
def counts():
    Path(f"made by {os.getpid()}").touch()
def not_atomic():
    try:
        in_place()
    except OSError as error:
        raise WriteError("could not write set.txt: full") from error
def wordless():
    try:
        in_place()
    except OSError:
        pass

kept = ["distill mtt", "user's method with labels", "save with labels over with"]
tallies = [
    crash.run(0.04, 0, chosen=[job for job in jobs.every() if any(name in job.name for name in kept)]),
    crash.run(1, 0, chosen=[Job("in place", in_place, old, old_or_new)]),
    crash.run(1, 0, chosen=[Job("half", half)]),
    concurrent.run(0.2, 0, "distill mtt"),
    concurrent.run(0.2, 0, "save"),
    concurrent.run(0.3, 0, chosen=[Shared("counts", [counts] * 2)]),
    crash.run(1, 0, chosen=[Job("not synced", not_synced, old, old_or_new)]),
    disk.run(0.14, 0, chosen=[job for job in jobs.every() if job.name in (*kept[1:], "distill mtt")]),
    *(disk.run(0.9, 0, chosen=[Job("x", job, old, old_or_new)]) for job in (in_place, not_atomic, wordless)),
]
print(json.dumps([tally.to_json() for tally in tallies]))
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Processes are forked, so this is no work for the process of the tests, which may have threads."""
    words = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.strip().rpartition("\n")[2]))


def faults(line: dict[str, Any]) -> dict[str, int]:
    return {name: line[name] for name in FAULTS if line.get(name)}


@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_a_campaign_asks_for_trials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All have the parameters that it gives by position; one that tries nothing has not found that all is well."""
    run = importlib.import_module(f"scripts.campaigns.{name}").run
    assert list(inspect.signature(run).parameters)[:3] == ["share", "seed", "only"]
    assert not Tally(name, 0).clean


def test_ends_at_events_lose_nothing(lines: list[dict[str, Any]]) -> None:
    assert lines[0]["trials"] >= 20
    assert faults(lines[0]) == {}, lines[0]["faults"]


def test_a_file_written_in_place_is_found_out(lines: list[dict[str, Any]]) -> None:
    """Opened and empty, half written, not yet flushed: the old text is gone and the new one not there."""
    assert faults(lines[1]) == {"lost": 2 * 3 + 2}  # by a signal and a power cut; after Ctrl-C a buffer is written yet
    assert lines[1]["trials"] == 3 * 4


def test_a_file_that_was_not_synced_before_its_rename_is_found_out_by_the_power_cut_alone(
    lines: list[dict[str, Any]],
) -> None:
    assert faults(lines[6]) == {"lost": 1}
    (told,) = lines[6]["faults"]
    assert "power cut" in told


def test_full_disks_lose_nothing(lines: list[dict[str, Any]]) -> None:
    assert lines[7]["trials"] >= 9
    assert lines[7]["refused"] >= 3
    assert faults(lines[7]) == {}, lines[7]["faults"]


def test_what_is_careless_of_a_full_disk_is_found_out(lines: list[dict[str, Any]]) -> None:
    """Opening, writing, half of it, and a limit: the system's own error; the old text lost; or nothing said at all."""
    assert [line["trials"] for line in lines[8:]] == [4, 4, 4]
    assert faults(lines[8]) == {"tracebacks": 4}
    assert faults(lines[9]) == {"lost": 3}
    assert faults(lines[10]) == {"lost": 3, "silent": 1}


def test_a_job_that_cannot_go_on_is_found_out(lines: list[dict[str, Any]]) -> None:
    assert faults(lines[2]).get("bricked", 0) >= 1


def test_concurrent_starts_lose_nothing(lines: list[dict[str, Any]]) -> None:
    for line in lines[3:5]:
        assert line["trials"] >= 3
        assert faults(line) == {}, line["faults"]


def test_starts_that_leave_more_than_one_alone_are_found_out(lines: list[dict[str, Any]]) -> None:
    assert faults(lines[5]) == {"lost": 2}


def test_a_share_of_the_trials_is_evenly_spaced() -> None:
    assert evenly(10, 1) == list(range(10))
    assert evenly(11, 0.3) == [0, 5, 10]
    assert evenly(7, 0.01) == [0]
    assert evenly(0, 1) == []


def test_a_tally_counts_trials_and_faults() -> None:
    tally = Tally("x", 3)
    tally.trial("a")
    tally.trial("a", "lost", "gone")
    told = tally.to_json()
    assert (told["trials"], told["lost"], told["bricked"], told["parts"]) == (2, 1, 0, {"a": 2})
    assert told["faults"] == ["a: lost: gone"]
    assert not tally.clean
    assert "| x | 2 | 1 | 0 |" in table([told])
    with pytest.raises(KeyError):
        tally.trial("a", "misplaced")


@pytest.mark.parametrize("name", NAMES)
def test_the_record_of_the_whole_campaign(name: str) -> None:
    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    assert record["campaign"] == name
    assert record["trials"] >= LEAST[name]
    assert faults(record) == {}, record["faults"]
    assert record["trials"] == sum(record["parts"].values())
