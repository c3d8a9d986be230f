"""Toy data, a small set of it, and a network trained on the set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dd
from dd.data import Images
from dd.evaluation import fit, fresh
from dd.models import Model
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise

CPU = torch.device("cpu")
IDENTITY = Normalise((0.0,), (1.0,))


def data(count: int = 10, noise: int = 60) -> Images:
    """3 classes of 1×8×8, told apart by their upper half; as many test images as training images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(count)
    images = torch.randint(0, noise, (2, 3 * count, 1, 8, 8), generator=generator)
    images[:, :, :, :4] += (150 - noise) * labels.view(1, -1, 1, 1, 1)
    train, test = images.to(torch.uint8)
    return dd.load_images(dd.Images(train=(train, labels), test=(test, labels), name="toy"))


def small(count: int = 9, **fields: Any) -> SyntheticImages:
    """`count` images 1×8×8 of 3 classes, in pixels."""
    real = data()
    base: dict[str, Any] = {"model": "convnet(width=4)", "steps": 10, "lr": 0.05, "batch_size": 256}
    images, labels = real.train.pixels(slice(0, count)), real.train.labels[:count]
    if fields.pop("soft", False):
        labels = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)).add(0.1)
        labels = labels / labels.sum(1, keepdim=True)
    recipe = TrainRecipe(**{**base, **fields})
    method, provenance = {"name": "mine"}, {"protocol": "clean", "selection": "last iterate"}
    return SyntheticImages(
        images=images,
        labels=labels,
        classes=real.classes,
        recipe=recipe,
        transform=IDENTITY,
        method=method,
        provenance=provenance,
    )


def theta(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def trained(value: SyntheticImages, seed: int = 0, model: Any = None) -> nn.Module:
    return fit(value, fresh(value, model or value.recipe.model, seed, CPU), value.recipe, seed, CPU)


def evaluate_synset(
    net: nn.Module,
    orders: list[list[Tensor]],
    draws: list[Any],
    images: Tensor,
    labels: Tensor,
    lr: float,
    last_epoch: int = 1000,
) -> list[float]:
    """The published training on a set, epoch by epoch, in place: epochs 0 … E, a new optimiser after ⌊E / 2⌋ + 1.

    Args:
        net: a fresh network.
        orders: rows of each batch of each epoch.
        draws: the augmentation of each batch of the whole training.
        images, labels: the set.
        lr: step size.
        last_epoch: E.

    Returns:
        The step size of every step.
    """
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=0.0005)
    lrs = []
    for epoch in range(last_epoch + 1):
        for rows in orders[epoch]:
            loss = nn.functional.cross_entropy(net(draws[len(lrs)](images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lrs.append(optimizer.param_groups[0]["lr"])
        if epoch == last_epoch // 2 + 1:
            optimizer = torch.optim.SGD(net.parameters(), lr=lr * 0.1, momentum=0.9, weight_decay=0.0005)
    return lrs


class Scales(nn.Module):
    """Shifts its pictures before a linear layer: in place, so that what it was given is changed, or not."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int], in_place: bool) -> None:
        super().__init__()
        self.in_place, self.last = in_place, nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[n, K]`."""
        moved = x.sub_(0.5) if self.in_place else x - 0.5
        return self.last(moved.flatten(1))


def scales(in_place: bool) -> Model:
    """A model of `Scales`."""
    return Model(lambda channels, classes, size: Scales(channels, classes, size, in_place), name="scales")
