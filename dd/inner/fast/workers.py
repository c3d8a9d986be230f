"""Micro-batches side by side: one worker a core, each with one thread, instead of all threads in every operation.

A micro-batch is a chain of some fifty operations of a few milliseconds. With all cores in each of them every one ends
at a barrier, and the slowest core sets the pace; workers meet once a student step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A context that runs a function on several items, on a CPU in as many threads as torch has; results in order.

    Attributes:
        count: items at once: torch's number of threads on a CPU, 1 elsewhere.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, "dd-fast", initializer=_start)
            for done in [self._pool.submit(_wait) for _ in range(self.count)]:
                done.result()
            torch.set_num_threads(self.count)  # the workers have changed what is common to all threads
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """`function` of each item; the results in the items' order."""
        if self._pool is None or len(items) == 1:
            return map(function, items)
        return self._pool.map(torch.no_grad()(function), items)


def _start() -> None:
    """One thread in each operation of a worker: the setting is the thread's own.

    A thread takes over the common number when it first asks for it, so that comes before the change.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)


def _wait() -> None:
    """Keeps a worker busy for a moment, so that the pool starts the next one too."""
    time.sleep(0.01)
