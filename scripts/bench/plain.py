"""The usual create-graph loop, written plainly: what trajectory matching costs without an engine.

Parameters are a list of tensors, each student step is kept in the graph, and one `backward` goes through all of
them. Nothing of `dd.inner` is used, so it is also a second opinion on what the engines compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Step = tuple[Tensor, Callable[[Tensor], Tensor]]
"""The images that a student step sees (int64 `[b]`) and their augmentation."""


def plain_matching(
    net: nn.Module,
    start: Sequence[Tensor],
    target: Sequence[Tensor],
    images: Tensor,
    labels: Tensor,
    lr: Tensor,
    steps: Sequence[Step],
) -> tuple[Tensor, Tensor, Tensor]:
    """L = Σ‖θ_N − θ*‖² / Σ‖θ_0 − θ*‖² and its gradients with respect to the images and the step size.

    Args:
        net: the student's structure.
        start, target: θ_0 and θ* as lists in the order of `net.parameters()`.
        images: `[n, C, H, W]` in model space.
        labels: int64 `[n]`.
        lr: the step size, a scalar.
        steps: batch and augmentation of each student step.
    """
    names = [name for name, _ in net.named_parameters()]
    images = images.detach().requires_grad_()
    lr = lr.detach().requires_grad_()
    weights = [w.detach().requires_grad_() for w in start]
    for index, augment in steps:
        scores = functional_call(net, dict(zip(names, weights, strict=True)), (augment(images[index]),))
        loss = F.cross_entropy(scores, labels[index])
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        weights = [w - lr * g for w, g in zip(weights, gradients, strict=True)]
    reached = torch.stack([F.mse_loss(w, t, reduction="sum") for w, t in zip(weights, target, strict=True)]).sum()
    apart = torch.stack([F.mse_loss(w, t, reduction="sum") for w, t in zip(start, target, strict=True)]).sum()
    grand = reached / apart
    grand.backward()
    assert images.grad is not None
    assert lr.grad is not None
    return grand.detach(), images.grad, lr.grad
