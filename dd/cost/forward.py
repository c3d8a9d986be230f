"""What a forward pass of a network takes, counted layer by layer, and what passes cost at an assumed rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

GRADIENT: Final = 3
"""Forward passes that a gradient costs an image, its own included."""
ASSUMED: Final = {"cpu": 5e10, "cuda": 5e12}
"""Rates of one device in FLOP/s for small convolutional nets, eager fp32; `calibrate=True` measures instead."""
DISPATCH: Final = 1.2e-4
"""Seconds that one layer's pass takes however small its tensors are (dispatch and autograd); rules at 8 px."""


def assumed_rate(device: torch.device) -> float:
    """FLOP/s where nothing is measured."""
    return ASSUMED.get(device.type, ASSUMED["cpu"])


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One image's forward pass.

    Attributes:
        flops: multiply-adds × 2 of convolutions and linear layers.
        numbers, largest: outputs of all layers, and of the largest one.
        layers: that have no layers inside.
        parameters: of the network, buffers included.
    """

    flops: int
    numbers: int
    largest: int
    layers: int
    parameters: int

    def seconds(self, images: float, passes: float, rate: float) -> float:
        """Of `passes` passes of a batch, at `rate` FLOP/s."""
        return passes * (images * self.flops / rate + self.layers * DISPATCH)


def forward_cost(module: nn.Module, channels: int, size: tuple[int, int]) -> Forward:
    """Count one forward pass of one blank image, by hooks that are taken away again; the module's modes stay.

    Two are shown and half is counted: batch norms of maps of one pixel take no single one where they never rest.
    """
    flops = layers = 0
    outputs: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal flops, layers
        del inputs
        layers += 1
        if not isinstance(output, Tensor):
            return
        numbers = output.numel() // 2
        outputs.append(numbers)
        if isinstance(layer, nn.Conv2d):
            flops += 2 * numbers * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            flops += 2 * numbers * layer.in_features

    modes = [(m, m.training) for m in module.modules()]
    hooks = [m.register_forward_hook(count) for m, _ in modes if not list(m.children())]
    held = [*module.parameters(), *module.buffers()]
    device = held[0].device if held else torch.device("cpu")
    try:
        module.eval()
        with torch.no_grad():
            module(torch.zeros(2, channels, *size, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for m, training in modes:
            m.training = training
    return Forward(
        flops=max(flops, 1),
        numbers=sum(outputs),
        largest=max(outputs, default=1),
        layers=layers,
        parameters=sum(t.numel() for t in held),
    )
