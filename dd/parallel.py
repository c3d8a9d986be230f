"""Many processes, one store: rank and world size from torchrun, and the share of a work list that is ours.

A single process is world size 1. There is no scheduler: work items are files, and whoever finds one missing and
unlocked makes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def world() -> tuple[int, int]:
    """`(rank, world size)` as torchrun sets them; `(0, 1)` outside it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def shard(work: Sequence[T]) -> list[T]:
    """Every `world size`-th item, from `rank` on."""
    rank, size = world()
    return list(work[rank::size])


def is_main() -> bool:
    """Whether this process is the one that prints and writes shared files."""
    return world()[0] == 0


def barrier() -> None:
    """Wait for the other processes of a torchrun (gloo); nothing in a single process."""
    if world()[1] == 1:
        return
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    dist.barrier()
