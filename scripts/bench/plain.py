"""The usual loops written plainly: trajectory matching without an engine, and recovery with hooks by hand.

Parameters are a list of tensors, each student step is kept in the graph, and one `backward` goes through all of
them. Nothing of `dd.inner` is used, so it is also a second opinion on what the engines compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

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


def plain_recovery(
    members: Sequence[tuple[nn.Module, float]],
    start: Tensor,
    labels: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int,
    lr: float,
    bn_weight: float,
) -> Tensor:
    """The usual loop of recovery: one random crop, flip and roll a batch, feature hooks on every batch norm, Adam.

    The statistics are taken as the published hooks take them: a mean, and a variance of the permuted map.
    """
    from torchvision.transforms import v2

    seen: list[tuple[nn.BatchNorm2d, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda layer, given, _: seen.append((layer, given[0])))
        for net, _ in members
        for layer in net.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    low = torch.tensor([(0 - m) / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1).to(start)
    high = torch.tensor([(1 - m) / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1).to(start)
    augment = v2.Compose([v2.RandomResizedCrop(start.shape[-1], antialias=True), v2.RandomHorizontalFlip()])
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=lr, betas=(0.5, 0.9), eps=1e-8)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * (1 + math.cos(math.pi * step / steps)) * lr
        shifts = [int(torch.randint(0, 5, ())) for _ in range(2)]
        view = torch.roll(augment(x), shifts=shifts, dims=(2, 3))
        loss = start.new_zeros(())
        for net, weight in members:
            seen.clear()
            entropy = F.cross_entropy(net(view), labels)
            gaps = []
            for place, (layer, a) in enumerate(seen):
                average = a.mean([0, 2, 3])
                variance = a.permute(1, 0, 2, 3).contiguous().view(a.shape[1], -1).var(1, unbiased=False)
                gap = torch.norm(layer.running_var - variance, 2) + torch.norm(layer.running_mean - average, 2)
                gaps.append((10.0 if place == 0 else 1.0) * gap)
            loss = loss + weight * (entropy + bn_weight * torch.stack(gaps).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        x.data = torch.minimum(torch.maximum(x.data, low), high)
    for handle in handles:
        handle.remove()
    return x.detach()


def plain_evaluation(
    small: Any, test: Any, networks: int, device: str = "cpu"
) -> tuple[dict[str, float], dict[str, float]]:
    """The usual loop of evaluation, network after network; returns what training and testing took (`Clock.sum`).

    A DataLoader over the set, DSA on the batch, SGD made anew after half of the steps with a tenth of its lr, and
    a DataLoader over the test set, whose pictures are normalised one by one, as by torchvision's transforms.

    Args:
        small: a set of images with hard labels and its recipe.
        test: real images.
        networks: how many fresh ones.
        device: where they are.
    """
    from common import Clock, usual
    from torch.utils.data import DataLoader, TensorDataset

    from dd.base.seeding import child
    from dd.evaluation import fresh

    recipe, dsa = small.recipe, small.recipe.dsa()
    loader = DataLoader(TensorDataset(small.images, small.labels), batch_size=recipe.batch_size, shuffle=True)
    training, testing = Clock(), Clock()

    def train(net: nn.Module, seed: int) -> None:
        step, lr = 0, recipe.lr
        while step < recipe.steps:
            for x, y in loader:
                if step in (0, max(1, recipe.steps // 2)):
                    lr = recipe.lr if step == 0 else recipe.lr * recipe.drop_factor
                    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
                x, y = x.to(device), y.to(device)
                loss = F.cross_entropy(net(dsa.draw(len(x), small.size, child(seed, "draw", step))(x)), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1

    def score(net: nn.Module) -> int:
        pictures, right = _Normalised(test, small.ready_transform()), 0
        with torch.no_grad():
            for x, y in DataLoader(pictures, batch_size=256):
                right += int((net(x.to(device)).argmax(1).cpu() == y).sum())
        return right

    for seed in range(networks):
        net = usual(fresh(small, recipe.model, seed, torch.device(device)))
        training.time(partial(train, net.train(), seed))
        testing.time(partial(score, net.eval()))
    return training.sum(), testing.sum()


class _Normalised(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A split whose pictures are normalised when they are asked for, one at a time."""

    def __init__(self, split: Any, transform: Any) -> None:
        self._split, self._transform = split, transform

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self._split.pixels(slice(index, index + 1))
        return self._transform.forward(picture)[0], int(self._split.labels[index])
