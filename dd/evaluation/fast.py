"""Faster forward passes of the ConvNet than its own layers: the same function with other rounding."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dd.errors import warn
from dd.inner import worth_compiling
from dd.inner.fast import WAY_OUT, NotCompiledError, block_forward, library, supported
from dd.models.images.convnet import ConvNet

Forward = Callable[[nn.Module, Tensor], Tensor]
"""(network, images `[n, C, H, W]`) → logits `[n, K]`, differentiable in the network's parameters."""

_log = logging.getLogger(__name__)


def plain_forward(net: nn.Module, x: Tensor) -> Tensor:
    """The network's own forward pass."""
    return net(x)


def asked_forward(compile: bool | None) -> Forward | None:
    """What makes logits where a user says whether it is compiled; `None` is `usual_forward`."""
    return None if compile is None else CompiledForward() if compile else plain_forward


def usual_forward(net: nn.Module, pictures: int, size: tuple[int, int], device: torch.device) -> Forward:
    """The pass of a training that shows `pictures` pictures of `size`: by built kernels where that pays.

    It pays from a second's gain on, on a CPU where there is a C++ compiler, for a ConvNet that the fast path knows.
    """
    if device.type != "cpu" or not worth_compiling(net, size, pictures, "cpu", "gradient") or not _as_it_was(net):
        return plain_forward
    return block_forward if _there() else plain_forward


def _there() -> bool:
    """Whether the kernels can be built; told where a compiler fails."""
    try:
        library()
    except NotCompiledError as error:
        warn(f"kernels cannot be compiled ({error}); networks are trained without, to other last digits. {WAY_OUT}")
        return False
    return True


def _as_it_was(net: nn.Module) -> bool:
    """Nobody listens to the layers, and nobody has asked for another precision."""
    hooks = ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")
    heard = any(getattr(part, f"_{name}", None) for part in net.modules() for name in hooks)
    heard = heard or any(getattr(nn.modules.module, f"_global_{name}", None) for name in hooks)
    types = {p.dtype for p in net.parameters()}
    return not heard and types == {torch.float32} and not torch.is_autocast_enabled("cpu")


@final
class CompiledForward:
    """`forward(net, x)` compiled once for a structure and a batch shape, however many networks are trained.

    On a CPU by built kernels for a ConvNet that the fast path knows, about a second of compiling; else by
    `torch.compile`, 15 to 80 seconds. A step's gradient agrees to float32 rounding; many steps amplify it, so that a
    network ends near, and not at, the same weights. Other networks than a ConvNet without running statistics, other
    batches than the first of a structure, and machines without a compiler go by the network's own pass.

    Args:
        backend: of `torch.compile`.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self._backend = backend
        self._made: dict[str, tuple[tuple[int, ...], Callable[[dict[str, Tensor], Tensor], Tensor]]] = {}
        self._works = True

    def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
        """Logits `[n, K]`."""
        if not (self._works and net.training and isinstance(net, ConvNet)) or list(net.buffers()):
            return net(x)
        if x.device.type == "cpu" and self._backend == "inductor":
            self._works = _there()
            size = (x.shape[2], x.shape[3])
            if not self._works or (supported(net, size) and _as_it_was(net)):
                return block_forward(net, x) if self._works else net(x)
        key = f"{net} {x.device}"
        try:
            if key not in self._made:
                self._made[key] = (tuple(x.shape), self._compile(net))
            shape, forward = self._made[key]
            return forward(dict(net.named_parameters()), x) if tuple(x.shape) == shape else net(x)
        except Exception as error:  # whatever the compiler raises, there is another road
            _log.warning("the compiled pass failed (%s); evaluation goes on without it.", type(error).__name__)
            self._works = False
            return net(x)

    def _compile(self, net: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        structure = copy.deepcopy(net)

        def forward(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            scores: Tensor = functional_call(structure, parameters, (x,))
            return scores

        made: Any = torch.compile(forward, dynamic=False, backend=self._backend)
        return made
