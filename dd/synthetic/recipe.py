"""How a fresh network is trained on a synthetic set: carried inside the set, so that a user needs no flags."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from dd.augment import DSA
from dd.errors import refuse, unknown
from dd.shapes import check_number, check_whole


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """SGD with momentum for a fixed number of optimiser steps.

    The published protocol is 1,001 epochs with lr × 0.1 after epoch 501, where the optimiser is made anew, so its
    momentum buffer is lost; `drop_at` imitates that on purpose.

    Attributes:
        model: what the set was distilled for (`ModelSpec` text).
        steps: optimiser steps.
        lr: step size; a trajectory-matching set carries the one it has learned.
        momentum, weight_decay, batch_size: of SGD; a batch is the whole set where it fits.
        drop_at: share of the steps after which lr is multiplied by `drop_factor`, at least one step; 1 never.
        augment, augment_mode: DSA strategy (`""` for none).

    Raises:
        InputError: a field outside its range or of another type.
    """

    model: str = "convnet"
    steps: int = 1000
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    drop_at: float = 0.5
    drop_factor: float = 0.1
    augment: str = ""
    augment_mode: Literal["single", "all"] = "single"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "momentum", "weight_decay", "drop_at", "drop_factor"):
            check_number(getattr(self, name), name, low=0.0)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        if not 0 < self.drop_at <= 1:
            raise refuse("drop_at", "in (0, 1]", self.drop_at)
        self.dsa()

    def dsa(self) -> DSA:
        """The augmentation of every training batch."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> TrainRecipe:
        """The inverse of `to_json`; a field of a newer version is refused."""
        known = {f.name for f in dataclasses.fields(TrainRecipe)}
        for name in value:
            if name not in known:
                raise unknown("recipe field", name, known, "The file may come from a newer version.")
        return TrainRecipe(**value)
