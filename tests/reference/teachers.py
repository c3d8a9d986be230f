"""A small batch-norm teacher in float64, pictures for it, and buffers set to a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dd
from dd.models import build


def teacher(seed: int = 0, classes: int = 3) -> nn.Module:
    """A small batch-norm net in float64, its buffers other than those of any batch."""
    net = build("convnet(width=4, depth=2, norm=batch)", channels=3, classes=classes, size=(8, 8), seed=seed)
    net = net.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean += 0.3 * torch.randn(layer.num_features, generator=generator, dtype=torch.float64)
            layer.running_var *= 1 + torch.rand(layer.num_features, generator=generator, dtype=torch.float64)
    return net


def pictures(n: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settle(net: nn.Module, x: Tensor) -> None:
    """Set every buffer to the statistics of this batch, layer by layer from the front."""
    for layer in [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]:
        caught: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda m, args, caught=caught: caught.append(args[0]))
        net(x)
        handle.remove()
        a = caught[0].detach()
        n = a.numel() / a.shape[1]
        mean = a.sum((0, 2, 3), keepdim=True) * (1 / n)
        layer.running_mean, layer.running_var = mean.flatten(), (a - mean).square().sum((0, 2, 3)) * (1 / n)


def quick_rded() -> Any:
    """RDED on digits with a teacher of one epoch."""
    fields = dd.methods.presets.preset("rded", "digits", 1, "cpu").fields
    cheap = {"teacher": {"epochs": 1}, "committee": ("convnet(width=8, norm=batch)",), "label_epochs": 1}
    return dd.methods.presets.replace_fields(dd.methods.METHODS["rded"](**fields), cheap)
