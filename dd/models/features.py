"""Features of images: what goes into the last linear layer of a network, `[n, D]`; taken at this one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dd.errors import refuse

Form = Literal["flat", "channel"]


def features(net: nn.Module, call: Callable[[], Any], argument: str = "net", form: Form = "flat") -> Tensor:
    """What goes into the last linear layer of `net` while `call()` runs, one row an image, `[n, D]`.

    With its graph, unless the caller takes gradients off: methods match features of synthetic images.

    Args:
        net: the network that holds the layer.
        call: runs images through it, in one batch or several; what it returns is not read.
        argument: what a message calls the network.
        form: `flat`, or `channel`: the means over height and width of the last map `[n, D, H, W]` before that layer.

    Raises:
        InputError: a network without a linear layer, or, for `channel`, without a map before it.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise refuse(argument, "a network with a linear layer", type(net).__name__, "Take a network that ends in one.")
    seen: list[Tensor] = []
    maps: list[Tensor] = []

    def keep_map(layer: nn.Module, given: tuple[Any, ...], made: object) -> None:
        del layer
        passed_on = len(given) == 1 and made is given[0]  # by a part that does nothing: of pictures they are no map
        if isinstance(made, Tensor) and made.ndim == 4 and not passed_on:
            maps[:] = [made]

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        del layer
        if form == "flat":
            seen.append(given[0].flatten(1))
        elif maps:
            seen.append(maps.pop().mean((2, 3)))

    hooks = [layers[-1].register_forward_pre_hook(keep)]
    if form == "channel":
        hooks += [module.register_forward_hook(keep_map) for module in net.modules()]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        way_out = "Take the features as they are: `flat`."
        raise refuse(argument, "a network with maps before its last layer", type(net).__name__, way_out)
    return torch.cat(seen)
