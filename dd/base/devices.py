"""Devices that users name."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.errors import refuse


def check_device(device: str | torch.device) -> torch.device:
    """The device of a name, if this machine has it and it keeps numbers.

    Raises:
        InputError: no device of torch, `meta`, or one that is not there.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
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


def moved(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from memory to a GPU by pinned memory, so that the copy waits for nothing."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
