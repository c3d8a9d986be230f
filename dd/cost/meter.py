"""Seconds and resident bytes of calls in this process; what a calibration is made of."""

from __future__ import annotations

import ctypes
import math
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

T = TypeVar("T")


def typical(seconds: Sequence[float]) -> float:
    """The mean without the slowest quarter: a mean, since augmentations cost unequally; trimmed, since
    another process may have the machine for a moment."""
    kept = sorted(seconds)[: math.ceil(0.75 * len(seconds))]
    return sum(kept) / len(kept)


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """(seconds, result) of one call, with the device's queue empty before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


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
