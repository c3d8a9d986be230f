"""Leases: one process has one, signs of life keep it, and what a process that is gone has left is taken over once."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dd.base import leases
from dd.base.leases import kind_of, lease_of, lease_seconds, still_held
from dd.base.locks import holder, locked
from dd.errors import InputError


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock in a folder where locks are leases with a sign every twentieth of a second."""
    monkeypatch.setenv("DD_LEASE_SECONDS", "0.05")
    return tmp_path / "work" / ".unit.lock"


def left_by(lock: Path, name: str, place: str = "another start of the system", seconds: str = "0.05") -> Path:
    """The lease of another process."""
    lease_of(lock).parent.mkdir(exist_ok=True)
    lease_of(lock).write_text(f"{name}\n{seconds}\n{place}\nword")
    return lease_of(lock)


def test_one_has_it_and_others_are_told_who(lock: Path) -> None:
    with locked(lock) as free:
        assert free
        with locked(lock) as again:
            assert not again
        assert holder(lock) == f"process {os.getpid()} on {os.uname().nodename}"
    assert not lease_of(lock).exists()
    assert holder(lock) == "another process"
    with locked(lock) as free:
        assert free


def test_signs_of_life_keep_it(lock: Path) -> None:
    with locked(lock):
        first = lease_of(lock).stat().st_mtime_ns
        end = time.monotonic() + 20
        while lease_of(lock).stat().st_mtime_ns == first and time.monotonic() < end:
            time.sleep(0.01)
        assert lease_of(lock).stat().st_mtime_ns > first
        assert still_held(lock)


def test_a_killed_process_leaves_nothing_behind(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = f"""
import time
from pathlib import Path
from dd.base.locks import locked
with locked(Path({str(lock)!r})) as free:
    print(free, flush=True)
    time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with locked(lock) as free:
        assert not free
    assert holder(lock).startswith(f"process {process.pid} on ")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with caplog.at_level(logging.WARNING), locked(lock, wait=True) as free:
        assert free
    assert f"process {process.pid} on {os.uname().nodename} is gone; it is taken over." in caplog.text


@pytest.mark.parametrize(("age", "free"), [(0.0, False), (0.2, False), (3600.0, True)])
def test_an_old_sign_of_another_machine_counts_for_nothing(
    lock: Path, age: float, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = left_by(lock, "process 1 on elsewhere", seconds="10")
    now = lease.stat().st_mtime
    os.utime(lease, (now - age, now - age))
    monkeypatch.setattr(time, "time", lambda: now + 86400.0)  # this machine's clock says nothing
    with locked(lock) as found:
        assert found is free
    assert lease.exists() is not free


def test_a_number_of_another_machine_is_no_process_here(lock: Path) -> None:
    left_by(lock, "process 999999999 on elsewhere", seconds="1000")
    with locked(lock) as free:
        assert not free
    left_by(lock, "process 999999999 on here", leases._place(), seconds="1000")
    with locked(lock) as free:
        assert free is bool(leases._place())


def test_many_want_what_one_has_left_and_one_gets_it(lock: Path) -> None:
    lease = left_by(lock, "process 1 on elsewhere")
    os.utime(lease, (1.0, 1.0))
    got, ready, done = list[bool](), threading.Barrier(8), threading.Barrier(8)

    def want() -> None:
        ready.wait()
        with locked(lock) as free:
            got.append(free)
            done.wait()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(True) == 1


def test_a_lease_that_was_taken_over_is_noticed_and_left(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    with locked(lock):
        left_by(lock, "process 1 on elsewhere")
        end = time.monotonic() + 20
        while still_held(lock) and time.monotonic() < end:
            time.sleep(0.01)
        assert not still_held(lock)
    assert lease_of(lock).read_text().startswith("process 1 on elsewhere")
    assert "was taken over" in caplog.text


def test_where_there_are_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DD_LEASE_SECONDS", raising=False)
    monkeypatch.setattr(leases, "_KNOWN", {})
    mounts = tmp_path / "mountinfo"
    device = tmp_path.stat().st_dev
    mine = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(f"30 1 0:99 / /a rw - ext4 /dev/sda rw\n31 1 {mine} / /b rw,x shared:1 - nfs4 server:/ rw\n")
    assert kind_of(device, mounts) == "nfs4"
    assert kind_of(device + 1, mounts) == ""
    assert kind_of(device, tmp_path / "none") == ""
    monkeypatch.setattr(leases, "kind_of", lambda device: kind_of(device, mounts))
    assert lease_seconds(tmp_path / "not" / "there") == leases.SECONDS
    monkeypatch.setenv("DD_LEASE_SECONDS", "0")
    assert lease_seconds(tmp_path) == 0


def test_file_systems_without_flock_have_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DD_LEASE_SECONDS", raising=False)

    def none(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("dd.base.locks.fcntl.flock", none)
    with locked(tmp_path / "lock") as free, locked(tmp_path / "lock") as again:
        assert (free, again) == (True, False)
        assert lease_of(tmp_path / "lock").exists()


@pytest.mark.parametrize("told", ["-1", "soon", "nan", "1e9"])
def test_seconds_that_are_none(lock: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("DD_LEASE_SECONDS", told)
    with pytest.raises(InputError, match=r"`DD_LEASE_SECONDS` must be seconds from 0 \(no leases\) to 3600; got"):
        locked(lock)
