"""A small synthetic set, soft labels, real images, a whitened set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dd
from dd.data import Images
from dd.synthetic import SyntheticImages, TrainRecipe
from dd.transforms.whiten import Normalise, fit_zca

GOLDEN = Path(__file__).resolve().parents[1] / "data"


def small(**fields: Any) -> SyntheticImages:
    """6 images 2×4×5 of 3 classes, normalised."""
    base: dict[str, Any] = {
        "images": torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(6) // 2,
        "classes": ("a", "b", "ü"),
        "recipe": TrainRecipe(model="convnet(width=4)", steps=7, lr=0.03, augment="flip"),
        "transform": Normalise((0.5, 0.4), (0.25, 0.2)),
        "method": {"name": "mtt", "ipc": 2},
        "provenance": {"data": "toy", "seed": 0},
    }
    return SyntheticImages(**{**base, **fields})


def soft() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)


def real(seed: int = 0) -> Images:
    """2 classes of 20 images 2×4×5."""
    images = torch.randint(0, 256, (40, 2, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return dd.load_images(dd.Images(train=(images, torch.arange(2).repeat(20)), test=None))


def whitened(data: Images) -> SyntheticImages:
    zca = fit_zca(data.train)
    images = zca.forward(data.train.pixels(slice(0, 4)))
    return small(images=images, labels=data.train.labels[:4], classes=data.classes, transform=zca)


def same(a: SyntheticImages, b: SyntheticImages) -> None:
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert a.labels.dtype == b.labels.dtype
    assert (a.classes, a.recipe, dict(a.method), dict(a.provenance)) == (
        b.classes,
        b.recipe,
        dict(b.method),
        dict(b.provenance),
    )
