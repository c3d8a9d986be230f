"""Locks that die with their process, what killed writers leave, and the order in which the disk is told to keep."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dd.base import files, locks


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_lock_excludes_and_is_released(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with locks.locked(path) as first:
        assert first
        with locks.locked(path) as second:
            assert not second
        with locks.locked(path) as third:  # a refused attempt took nothing away
            assert not third
    with contextlib.suppress(KeyError), locks.locked(path) as again:
        assert again
        raise KeyError
    with locks.locked(path, wait=True) as last:
        assert last


def test_dead_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = (
        "import fcntl, os, sys\n"
        "file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with locks.locked(path) as free:
            assert not free
        other.kill()
    with locks.locked(path) as free:
        assert free


def test_a_lock_says_who_holds_it_and_is_removed_on_request(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert locks.holder(path) == "another process"
    with locks.locked(path, keep=False):
        assert locks.holder(path) == f"process {os.getpid()} on {socket.gethostname()}"
        with locks.locked(path, keep=False) as second:
            assert not second
        assert path.exists()
    assert not path.exists()


def test_a_lock_that_its_holder_removed_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited on the removed file holds nothing: a third process would make another one."""
    path, flock, calls = tmp_path / ".lock", fcntl.flock, []

    def late(file: Any, how: int) -> None:
        flock(file, how)
        calls.append(how)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with locks.locked(path, wait=True) as free:
        assert free
        assert len(calls) == 2
        with locks.locked(path) as second:
            assert not second


def test_only_unfinished_files_of_that_name_are_swept(tmp_path: Path) -> None:
    gone = [".a.json.0123abcd.part", ".b7.json.ffffffff.part"]
    kept = ["a.json", ".a.json.0123abc.part", ".a.json.0123ABCD.part", ".ab.json.0123abcd.part", ".a.json.part"]
    for name in gone + kept:
        (tmp_path / name).write_bytes(b"")
    files.sweep(tmp_path, r"a\.json|b\d\.json")
    assert names(tmp_path) == sorted(kept)
    files.sweep(tmp_path / "not there", "a")


def test_files_are_synced_before_and_folders_after_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(name: str, real: Any) -> Any:
        def call(where: Any, *rest: Any, **options: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
            seen.append(f"{name} {Path(path).suffix or Path(path).name}")
            return real(where, *rest, **options)

        return call

    for name in ("fsync", "replace", "mkdir"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    files.write_bytes(tmp_path / "new" / "folder" / "x", b"one")
    made = ["mkdir new", f"fsync {tmp_path.name}", "mkdir folder", "fsync new"]
    assert seen == [*made, "fsync .part", "replace .part", "fsync folder"]
    seen.clear()
    files.append_jsonl(tmp_path / "log.jsonl", [{}])
    assert seen == ["fsync .jsonl"]
