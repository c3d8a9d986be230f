"""The share of a process, and the settings of one. `tests/experts` runs two processes on one store."""

from __future__ import annotations

import ctypes
import platform

import pytest
import torch

from dd.errors import InputError
from dd.parallel import barrier, is_main, shard, world
from dd.process import tune_process


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


def test_threads_are_set_and_recorded() -> None:
    before = torch.get_num_threads()
    try:
        assert tune_process(threads=1, allocator=False) == {"threads": 1}
        assert torch.get_num_threads() == 1
        with pytest.raises(InputError, match="`threads` must be a whole number of at least 1; got 0"):
            tune_process(threads=0, allocator=False)
        assert tune_process(allocator=False) == {}
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("libc", ["glibc", ""])
def test_allocator_keeps_its_pages_on_glibc_only(monkeypatch: pytest.MonkeyPatch, libc: str) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            del name

        @staticmethod
        def mallopt(option: int, value: int) -> int:
            calls.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, "2"))
    monkeypatch.delenv("DD_ALLOCATOR", raising=False)
    assert tune_process() == ({"allocator": True} if libc else {})
    kept = [(-4, 0), (-1, -1), (-8, 1)]  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
    assert calls == (kept if libc else [])
    monkeypatch.setenv("DD_ALLOCATOR", "0")
    assert tune_process() == {}
