"""Three classes of 8×8 pictures, a recipe of seven steps an epoch, and a store that keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import dd
from dd.data import Images
from dd.experts import ExpertRecipe, ExpertStore, ExpertTrainer, Snapshot
from dd.transforms.whiten import make_transform

CPU = torch.device("cpu")


def data(seed: int = 0, **options: Any) -> Images:
    """3 classes of 1×8×8, 27 images for training (9 a class), 3 for validation, 6 for the test."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat(10)
    images = torch.randint(0, 256, (30, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images[:, :, :4] = (images[:, :, :4] // 4 + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    return dd.load_images(dd.Images(train=(images, labels), test=(images[:6].flip(-1), labels[:6]), **options))


def recipe(**fields: Any) -> ExpertRecipe:
    """7 steps an epoch."""
    base: dict[str, Any] = {"model": "convnet(width=4)", "lr": 0.05, "batch_size": 4, "experts": 2, "snapshots": 3}
    return ExpertRecipe(**{**base, "augment": "crop_flip", **fields})


REAL = data()
STEPS_PER_EPOCH = 7


def trainer(value: ExpertRecipe, real: Images = REAL) -> ExpertTrainer:
    return ExpertTrainer(value, real, make_transform(real, value.whiten), CPU)


def take(value: ExpertRecipe, count: int, start: Snapshot | None = None, seed: int = 0) -> list[Snapshot]:
    return list(islice(trainer(value).snapshots(seed, start), count))


class Store(ExpertStore):
    """A store of `REAL` whose `fill` keeps what the progress callback told."""

    def __init__(self, root: Path, value: ExpertRecipe | None = None, real: Images = REAL) -> None:
        super().__init__(root, value or recipe(), real)
        self.told: list[str] = []

    def fill(self, stop: Callable[[str], bool] = lambda text: False, **options: Any) -> list[int]:
        def progress(done: int, total: int, text: str) -> None:
            self.told.append(f"{done}/{total} {text.partition(',')[0]}")
            if stop(self.told[-1]):
                raise KeyboardInterrupt

        return self.ensure(make_transform(self.real, self.recipe.whiten), progress=progress, **options)

    def state(self) -> dict[str, tuple[bytes, int]]:
        found = [path for path in sorted(self.folder.iterdir()) if path.suffix != ".lock"]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    def bytes(self) -> dict[str, bytes]:
        return {name: data for name, (data, _) in self.state().items()}
