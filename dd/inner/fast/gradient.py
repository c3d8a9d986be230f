"""First-order gradients by the network's own layers, micro-batch by micro-batch; its twin is autograd on the loss."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dd.inner.fast.network import FastNet
from dd.inner.fast.workers import Workers

MICRO_BATCH: Final = 128
"""Pictures at once: below 64 calls cost more than the cache saves, and two threads share a batch of 256. The sum knows
no thread count.
"""


@torch.no_grad()
def loss_gradient(net: FastNet, theta: Tensor, x: Tensor, y: Tensor, micro_batch: int = MICRO_BATCH) -> Tensor:
    """∇_θ `[P]` of the mean cross-entropy at θ `[P]`.

    Args:
        net: the network's layers.
        theta: θ.
        x: pictures `[N, C, H, W]` in model space.
        y: int64 `[N]` or probabilities `[N, K]`.
        micro_batch: pictures at once; the last micro-batch is filled up with pictures of weight 0.
    """
    count, size = len(x), min(micro_batch, len(x))
    weights, total = net.weights(theta), torch.zeros_like(theta)

    def one(start: int) -> Tensor:
        rows = torch.arange(start, start + size, device=x.device)
        weight = (rows < count).to(x.dtype) / count
        rows = rows.clamp(max=count - 1)
        part, pictures = torch.zeros_like(theta), x[rows].contiguous(memory_format=torch.channels_last)
        net.gradient(weights, pictures, y[rows], weight, part, keep=False)
        return part

    for part in Workers(x.device).map(one, range(0, count, size)):
        total += part
    return total
