"""Real images under the recipe of a synthetic set: random images, full data and shadow networks in the one loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, final

import torch
from torch import Tensor

from dd.data import Split
from dd.errors import refuse
from dd.evaluation.real import Trainable
from dd.synthetic import TrainRecipe
from dd.transforms.whiten import Transform

KEPT_VALUES: Final = 50_000_000
"""Values (images × C·H·W) up to which a set is kept in model space, 0.2 GB; above, every batch is transformed anew."""


class Equipped(Trainable, Protocol):
    """A set that carries its recipe and its transform: every image set, and `RealImages`."""

    @property
    def recipe(self) -> TrainRecipe:
        """How a fresh network is trained on it."""
        ...

    def ready_transform(self) -> Transform:
        """Pixels in [0, 1] → model space."""
        ...


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RealImages:
    """Labelled real images under the transform and the recipe of a synthetic set.

    Attributes:
        split: the images; read batch by batch where they are many.
        classes: names in label order.
        recipe: how a network is trained on them; with classes for labels, so cross-entropy without mixing.
        transform: pixels in [0, 1] → model space.

    Raises:
        InputError: no image, or a recipe for soft labels.
    """

    split: Split
    classes: tuple[str, ...]
    recipe: TrainRecipe
    transform: Transform

    def __post_init__(self) -> None:
        if not len(self.split):
            raise refuse("split", "at least one image", "none")
        if self.recipe.loss != "ce" or self.recipe.mix != "none":
            raise refuse(
                "recipe", "one for classes", f"loss {self.recipe.loss}, mix {self.recipe.mix}", "Use `hard()`."
            )

    def __len__(self) -> int:
        return len(self.split)

    @property
    def channels(self) -> int:
        """C."""
        return self.split.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.split.shape[1], self.split.shape[2]

    @cached_property
    def _kept(self) -> Tensor | None:
        c, h, w = self.split.shape
        if len(self) * c * h * w > KEPT_VALUES:
            return None
        return torch.cat([x for _, x in self._model_space(torch.arange(len(self)).split(1000))])

    def _model_space(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows, their images)."""
        for rows, pixels in self.split.stream(batches):
            yield rows, self.transform.forward(pixels).float()

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images in model space, classes); the whole set, in order, where it fits one batch."""
        whole = size >= len(self)
        order = torch.arange(len(self)) if whole else torch.randperm(len(self), generator=generator)
        batches, kept = order.split(size), self._kept
        for rows, x in self._model_space(batches) if kept is None else ((rows, kept[rows]) for rows in batches):
            yield x, self.split.labels[rows]

    def ready_transform(self) -> Transform:
        """Pixels in [0, 1] → model space."""
        return self.transform
