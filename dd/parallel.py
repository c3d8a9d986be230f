"""Many processes, one store: rank and world size from torchrun, and the share of a work list that is ours.

A single process is world size 1. There is no scheduler: work items are files, and whoever finds one missing and
unlocked makes it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, TypeVar

from dd.errors import refuse

T = TypeVar("T")

_PATIENCE: Final = timedelta(days=30)  # torch's 30 minutes are less than one expert may take


def world() -> tuple[int, int]:
    """`(rank, world size)` as torchrun sets them; `(0, 1)` outside it.

    Raises:
        InputError: the variables are not numbers with 0 ≤ rank < world size.
    """
    told = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (told[0].isdecimal() and told[1].isdecimal() and int(told[0]) < int(told[1])):
        raise refuse("RANK, WORLD_SIZE", "numbers with 0 ≤ rank < size", told, "Unset them, or use torchrun.")
    return int(told[0]), int(told[1])


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
        dist.init_process_group("gloo", timeout=_PATIENCE)
    dist.barrier()
