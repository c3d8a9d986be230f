"""Features of images: what goes into the last linear layer of a network, `[n, D]`; taken at this one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dd.errors import refuse


def features(net: nn.Module, call: Callable[[], Any], argument: str = "net") -> Tensor:
    """What goes into the last linear layer of `net` while `call()` runs, one row an image, `[n, D]`.

    With its graph, unless the caller takes gradients off: methods match features of synthetic images.

    Args:
        net: the network that holds the layer.
        call: runs images through it, in one batch or several; what it returns is not read.
        argument: what a message calls the network.

    Raises:
        InputError: a network without a linear layer.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise refuse(argument, "a network with a linear layer", type(net).__name__, "Compare pixels instead.")
    seen: list[Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(1)))
    try:
        call()
    finally:
        hook.remove()
    return torch.cat(seen)
