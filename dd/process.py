"""Settings of the whole process: allocator and threads. Called by the command line and the benches, never on import."""

from __future__ import annotations

import ctypes
import os
import platform

import torch

from dd.shapes import check_whole

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def tune_process(threads: int | None = None, allocator: bool = True) -> dict[str, object]:
    """Set threads and keep freed memory in the process; returns what was set, for the record.

    glibc gives every block above 128 KiB back to the kernel and faults it in again: on CPU that is half the time
    of a create-graph loop. `M_MMAP_MAX=0` and no trimming keep the pages; the further arenas that glibc would give to
    other threads know neither, so there is one. Only on glibc; `DD_ALLOCATOR=0` or
    `allocator=False` switches it off.

    Args:
        threads: intra-op threads of torch, ≥ 1; `None` leaves them.
        allocator: whether to set the allocator.

    Raises:
        InputError: fewer than one thread.
    """
    done: dict[str, object] = {}
    if threads is not None:
        torch.set_num_threads(check_whole(threads, "threads"))
        done["threads"] = threads
    wanted = allocator and os.environ.get("DD_ALLOCATOR", "1") != "0"
    if wanted and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        done["allocator"] = bool(
            mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_ARENA_MAX, 1)
        )
    return done
