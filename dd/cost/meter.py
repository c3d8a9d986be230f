"""Seconds and resident bytes of calls in this process; what a calibration is made of."""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")


WINDOW: Final = 3


def quickest(seconds: Sequence[float]) -> float:
    """The smallest mean of `WINDOW` calls in a row: a mean, since augmentations cost unequally; the smallest, since
    another process may have the machine for a while."""
    width = min(WINDOW, len(seconds))
    return min(sum(seconds[i : i + width]) / width for i in range(len(seconds) - width + 1))


class Moment(NamedTuple):
    """A point in time: of the clock, of this thread's processor time and of that of the whole process, in seconds."""

    wall: float
    thread: float
    process: float

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(time.perf_counter(), time.thread_time(), time.process_time())

    def until(self, end: Moment) -> float:
        """Seconds that the work in between takes on a machine that does nothing else.

        Counted is processor time: that of the calling thread, which works in every parallel part, or a thread's share
        of the process's, whichever is more; never more than went by. Waiting for other programs is not in it, waiting
        for files neither.
        """
        busy = max(end.thread - self.thread, (end.process - self.process) / torch.get_num_threads())
        return min(end.wall - self.wall, busy)


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """(seconds, result) of one call: on a CPU those of a quiet machine, on another device those that went by."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = Moment.now()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    end = Moment.now()
    return start.until(end) if device.type == "cpu" else end.wall - start.wall, result


class Convolutions(TorchDispatchMode):
    """`with Convolutions(device) as c: …`, then `c.seconds`: time inside convolutions and their gradients."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device, self.seconds = device, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass every operation on; time those that are convolutions."""
        if "convolution" not in func.name():
            return func(*args, **(kwargs or {}))
        seconds, out = timed(lambda: func(*args, **(kwargs or {})), self._device)
        self.seconds += seconds
        return out


class Memory:
    """Resident (or CUDA) bytes over those at the start: the high-water mark of each stage, and what it leaves.

    Attributes:
        readable: whether this system says; all numbers are 0 where it does not.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            self.readable = True
            self._base = torch.cuda.memory_allocated(device)
            return
        if platform.libc_ver()[0] == "glibc":  # pages that are free in the heap would hide growth
            ctypes.CDLL(None).malloc_trim(0)
        self.readable = self.restart() and _status("VmHWM") > 0
        self._base = _status("VmRSS")

    def restart(self) -> bool:
        """Forget the high-water mark, not the start; False where the system cannot."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return True
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return False
        return True

    def peak(self) -> int:
        """Bytes over the start at the highest moment since `restart`."""
        if not self.readable:
            return 0
        cuda = self._device.type == "cuda"
        return max(0, (torch.cuda.max_memory_allocated(self._device) if cuda else _status("VmHWM")) - self._base)

    def now(self) -> int:
        """Bytes over the start at this moment."""
        if not self.readable:
            return 0
        cuda = self._device.type == "cuda"
        return max(0, (torch.cuda.memory_allocated(self._device) if cuda else _status("VmRSS")) - self._base)


def _status(key: str) -> int:
    """A size in bytes from `/proc/self/status`; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{key}:")]
    return 1024 * found[0] if found else 0
