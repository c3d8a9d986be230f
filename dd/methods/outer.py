"""The outer optimisers as pure functions on tensors: new state from old, nothing changed in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

State = dict[str, Tensor]
FAR: Final = 1e6
"""Of pictures so many standard deviations away no network learns anything."""


def largest(images: Tensor) -> float:
    """The largest number of images in model space; infinity where one is none."""
    found = float(images.abs().max())
    return found if math.isfinite(found) else math.inf


def sgd(value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], key: str, lr: float, momentum: float) -> State:
    """SGD with momentum: `v ← m v + g`, `x ← x − lr v`. Keys `key` and `key.v` of the new state."""
    velocity = momentum * state[f"{key}.v"] + gradient if f"{key}.v" in state else gradient
    return {key: value - lr * velocity, f"{key}.v": velocity}


def adam(value: Tensor, gradient: Tensor, state: Mapping[str, Tensor], key: str, lr: float) -> State:
    """Adam (β₁ 0.9, β₂ 0.999, ε 1e-8) with bias correction. Keys `key`, `.m`, `.s` and `.k` of the new state."""
    zero = torch.zeros_like(gradient)
    count = state.get(f"{key}.k", torch.zeros((), dtype=torch.int64)) + 1
    mean = 0.9 * state.get(f"{key}.m", zero) + 0.1 * gradient
    square = 0.999 * state.get(f"{key}.s", zero) + 0.001 * gradient.square()
    step = (mean / (1 - 0.9 ** int(count))) / ((square / (1 - 0.999 ** int(count))).sqrt() + 1e-8)
    return {key: value - lr * step, f"{key}.m": mean, f"{key}.s": square, f"{key}.k": count}
