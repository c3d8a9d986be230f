"""The share of a process. `tests/experts` runs two processes on one store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from dd.base.parallel import barrier, is_main, meet, shard, world
from dd.errors import InputError
from dd.run.resolve import resolve_device


def test_a_single_process_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert world() == (0, 1)
    assert shard(range(3)) == [0, 1, 2]
    assert is_main()
    barrier()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shards_are_a_partition(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(size))
    parts: list[list[int]] = []
    for rank in range(size):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(shard(range(5)))
        assert is_main() == (rank == 0)
    assert sorted(item for part in parts for item in part) == list(range(5))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("a", "2"), ("0", "0"), ("0", "")])
def test_a_broken_environment_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match="`RANK, WORLD_SIZE` must be numbers with 0 ≤ rank < size"):
        world()


CODE = """
import sys, time
from dd.errors import DDError
from dd.base.parallel import barrier, meet

try:
    if "late" in sys.argv:
        sys.stdin.readline()
    meet()
    print("met", flush=True)
    sys.stdin.readline()
    barrier()
    print("done", flush=True)
except DDError as error:
    print(error, flush=True)
"""


def ranks(tmp_path: Path, late: int | None, seconds: int) -> list[subprocess.Popen[str]]:
    """Two processes of one group; rank `late` waits for a line before it comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    started = []
    for rank in range(2):
        environment = {**os.environ, **group, "RANK": str(rank), "DD_MEETING_SECONDS": str(seconds)}
        words = [sys.executable, "-c", CODE, "late" if rank == late else "at once"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(words, env=environment, cwd=tmp_path, text=True, **pipes))
    return started


@pytest.mark.parametrize("late", [0, 1])
def test_a_process_that_was_killed_before_the_meeting_is_named(tmp_path: Path, late: int) -> None:
    started = ranks(tmp_path, late, seconds=4)
    try:
        started[late].kill()
        told, _ = started[1 - late].communicate(timeout=60)
        assert told.startswith(f"rank {late} of 2 did not come")
        assert "within 4 s. Start all processes again; what is stored stays, and a longer wait is DD_" in told
        assert len(told.splitlines()) == 1
        assert started[1 - late].returncode == 0
    finally:
        end(started)


def test_a_process_that_ends_after_the_meeting_is_told(tmp_path: Path) -> None:
    started = ranks(tmp_path, None, seconds=20)
    try:
        outs = [one.stdout for one in started if one.stdout]
        assert [out.readline() for out in outs] == ["met\n"] * 2
        started[1].kill()
        say(started[0])
        assert "another process of this torchrun ended before its work was done (" in outs[0].readline()
    finally:
        end(started)


def test_all_that_meet_go_on(tmp_path: Path) -> None:
    started = ranks(tmp_path, 1, seconds=60)
    try:
        for one in (started[1], *started):
            say(one)
        assert [one.communicate(timeout=60)[0] for one in started] == ["met\ndone\n"] * 2
    finally:
        end(started)


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(started: Sequence[subprocess.Popen[str]]) -> None:
    for one in started:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("told", ["0", "-1", "soon", "1.5", "9" * 9])
def test_a_wrong_meeting_time_is_refused(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("DD_MEETING_SECONDS", told)
    with pytest.raises(InputError, match="`DD_MEETING_SECONDS` must be seconds from 1 to 2592000; got"):
        meet()


@pytest.mark.parametrize("port", [None, "", "x", "0", "65536", "9" * 30])
def test_an_address_to_meet_at_is_asked_for(monkeypatch: pytest.MonkeyPatch, port: str | None) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    if port is not None:
        monkeypatch.setenv("MASTER_ADDR", "localhost")
        monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(InputError, match=r"`MASTER_ADDR, MASTER_PORT` must be a host and a port; got .* Use torchrun"):
        meet()


def test_processes_of_a_torchrun_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert resolve_device(None) == torch.device("cuda")
    found = []
    for rank in ("0", "1", "2"):  # more processes than GPUs share them
        monkeypatch.setenv("LOCAL_RANK", rank)
        found.append(resolve_device(None))
    assert found == [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda", 0)]
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(None) == torch.device("cpu")
