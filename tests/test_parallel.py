"""The share of a process. `tests/experts` runs two processes on one store."""

from __future__ import annotations

import pytest
import torch

from dd.errors import InputError
from dd.parallel import barrier, is_main, shard, world


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
