"""Micro-batches side by side: one worker a core, each with one thread, instead of all threads in every operation.

A micro-batch is a chain of some fifty operations of a few milliseconds. With all cores in each of them every one ends
at a barrier, and the slowest core sets the pace; workers meet once a student step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Runs a function on several items, on a CPU in as many threads as torch has; results in order.

    The threads stay for the process: a new thread would start without its caches of prepared convolutions.

    Attributes:
        count: items at once: torch's number of threads on a CPU, 1 elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """`function` of each item without autograd's graph; the results in the items' order.

        When one raises, those not begun are left out and those under way are waited for.
        """
        inert = torch.no_grad()(function)
        if self.count == 1 or len(items) == 1:
            yield from map(inert, items)
            return
        futures = [_pool(self.count, os.getpid()).submit(inert, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)


@lru_cache(maxsize=1)
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """The threads of a process; a forked child has none of its parent's, hence the process in the key."""
    del process
    pool = ThreadPoolExecutor(count, "dd-fast", initializer=_start)
    for done in [pool.submit(_wait) for _ in range(count)]:
        done.result()
    torch.set_num_threads(count)  # the workers have changed what is common to all threads
    return pool


def _start() -> None:
    """One thread in each operation of a worker: the setting is the thread's own.

    A thread takes over the common number when it first asks for it, so that comes before the change.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)


def _wait() -> None:
    """Keeps a worker busy for a moment, so that the pool starts the next one too."""
    time.sleep(0.01)
