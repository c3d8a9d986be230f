"""Devices that users name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dd.errors import refuse

PINNED: tuple[str, ...] = ("cuda",)
"""Kinds of devices that memory is pinned for."""


def check_device(device: str | torch.device) -> torch.device:
    """The device of a name, if this machine has it and it keeps numbers.

    Raises:
        InputError: no device of torch, `meta`, or one that is not there.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise refuse("device", "a torch device such as 'cpu' or 'cuda:0'", repr(device)) from error
    if found.type == "meta":
        raise refuse("device", "a device that keeps numbers, such as 'cpu' or 'cuda:0'", repr(device))
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            there = f"Torch sees {count} CUDA devices." if count else "No CUDA device is visible to torch."
            raise refuse("device", "a device of this machine", repr(device), there)
    elif found.type != "cpu":
        try:
            torch.empty(0, device=found)
        except (RuntimeError, NotImplementedError, AssertionError, ImportError, AttributeError) as error:
            raise refuse("device", "a device of this machine", repr(device), "Give 'cpu'.") from error
    return found


class Copies:
    """Tensors as they are on the accelerators where they were asked for: each goes there once.

    Args:
        make: the tensors on the CPU.
    """

    def __init__(self, make: Callable[[], tuple[Tensor, ...]]) -> None:
        self._make = make
        self._kept: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def like(self, x: Tensor) -> tuple[Tensor, ...]:
        """The tensors with device and type of `x`; on a CPU they are not kept."""
        if x.device.type == "cpu":
            return tuple(t.to(x) for t in self._make())
        key = x.device, x.dtype
        if key not in self._kept:
            with torch.inference_mode(False):  # they outlive the block
                self._kept[key] = tuple(moved(t.to(x.dtype), x.device) for t in self._make())
        return self._kept[key]

    def __deepcopy__(self, memo: object) -> Copies:
        return Copies(self._make)


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from memory to a GPU by pinned memory, so that the copy waits for nothing."""
    if device.type in PINNED and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
