"""The student: a network as a pure function of one flat θ `[P]`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from dd.errors import refuse


def freeze_batch_statistics(module: nn.Module) -> nn.Module:
    """Make every batch or instance norm use what it sees and keep no running statistics: the net is a function."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
    return module


class Student:
    """`logits(θ, x)` and `loss(θ, x, y)` of one architecture, for any θ `[P]` of its size.

    Parameters are laid out in `parameters()` order. Batch norms use batch statistics; attention takes the plain
    matrix products, since the fused kernels have no second derivative. The module given is kept for its structure
    only; its own parameters are never changed.

    Args:
        module: the network.
        autocast: reduced precision of the forward pass, or `None`.

    Attributes:
        module: the network, for its structure.
        autocast: as given.
        names, shapes, sizes: of the parameters.
        size: P.
        initial: the parameters that the module had `[P]`.
    """

    def __init__(self, module: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.module = freeze_batch_statistics(module).train()
        self.autocast = autocast
        named = list(module.named_parameters())
        if not named:
            raise refuse("model", "a network with parameters", type(module).__name__)
        self.names = tuple(name for name, _ in named)
        self.shapes = tuple(tuple(p.shape) for _, p in named)
        self.sizes = [p.numel() for _, p in named]
        self.size = sum(self.sizes)
        self.initial = torch.cat([p.detach().reshape(-1) for _, p in named])

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters inside θ, by name; views, not copies."""
        parts = theta.split(self.sizes)
        return {n: p.view(s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}

    def logits(self, theta: Tensor, x: Tensor) -> Tensor:
        """Class scores `[N, K]` of images `[N, C, H, W]` in model space."""
        with sdpa_kernel(SDPBackend.MATH):
            if self.autocast is None:
                return functional_call(self.module, self.views(theta), (x,))
            with torch.autocast(theta.device.type, dtype=self.autocast):
                scores: Tensor = functional_call(self.module, self.views(theta), (x,))
            return scores.to(theta.dtype)

    def loss(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy; y is int64 `[N]` or class probabilities `[N, K]`."""
        return cross_entropy(self.logits(theta, x), y)


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of scores `[N, K]` with labels `[N]` or probabilities `[N, K]`."""
    if y.dtype == torch.int64:
        return F.cross_entropy(scores, y)
    return -(y * F.log_softmax(scores, dim=1)).sum(dim=1).mean()
