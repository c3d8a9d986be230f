"""What the one evaluation loop reads of a set, of synthetic or of real images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor


class Trainable(Protocol):
    """What the loop reads of a set: every `ImageSet` has it, and so has `RealImages`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order."""
        ...

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        ...

    def __len__(self) -> int: ...

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images in model space, labels)."""
        ...
