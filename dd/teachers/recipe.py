"""How a teacher is trained: the fields, and the key that follows from them."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from dd.base.files import dump_json
from dd.base.shapes import check_number, check_types, check_whole
from dd.data import Images
from dd.errors import refuse
from dd.models import as_spec
from dd.transforms.dsa import DSA
from dd.transforms.whiten import Normalise

FORMAT: Final = 1
"""Of a teacher's file; part of the key."""


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """How a teacher is trained on the real training images.

    Attributes:
        model: a name, `tv:NAME`, `timm:NAME`, a `ModelSpec` text; recovery needs batch norms.
        epochs, batch_size: of training; the last batch of an epoch may be short, and is left out where it is one image
            a rank.
        min_steps: optimiser steps that a teacher has at least, whatever `epochs` says: of a hundred images an epoch is
            one step, and ten leave a teacher half-taught. Digits, ten images a class, `convnet(norm=batch)`: 67 % of
            the test images after 10 steps, 82 % after 30, 90 % after 100, 91 % after 200 and 90 % after 400.
        optimizer, lr, momentum, weight_decay: `sgd` (with Nesterov's off) or `adam`; lr falls by a cosine to 0, a step
            at a time.
        augment, augment_mode: DSA strategy.
        ranks: processes of a torchrun that train it as one (DDP), for teachers that are too much for one GPU: each
            takes its share of every batch, and gradients are averaged. Batch norms see the share. It is part of the
            key, since bytes depend on it. 1: each teacher is made by one process.
        mean, std: constants of the normalisation, one a channel, for pixels in [0, 1]; `None` for the data's. They stay
            with the teacher, and are the model space of the sets that it makes: published teachers differ in them.

    Raises:
        InputError: a field out of range, an unknown model or augmentation.
    """

    model: str = "convnet(norm=batch)"
    epochs: int = 10
    min_steps: int = 100
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: str = "crop_flip"
    augment_mode: Literal["single", "all"] = "all"
    ranks: int = 1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "min_steps", "batch_size", "ranks"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "momentum", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0)
        check_types(self)
        if self.batch_size < 2 * self.ranks:
            each = "" if self.ranks == 1 else f" on each of {self.ranks} ranks"
            raise refuse("batch_size", f"at least {2 * self.ranks}, for batch norms{each}", self.batch_size)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        if self.optimizer not in ("sgd", "adam"):
            raise refuse("optimizer", "`sgd` or `adam`", repr(self.optimizer))
        as_spec(self.model)
        self.dsa()
        if (self.mean is None) != (self.std is None):
            raise refuse("mean, std", "both or neither", "one of them")
        if self.mean is not None and self.std is not None:
            own = Normalise(_constants(self.mean, "mean"), _constants(self.std, "std"))
            object.__setattr__(self, "mean", own.mean)
            object.__setattr__(self, "std", own.std)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values; `ranks` where there are several."""
        fields = dataclasses.asdict(self)
        if self.ranks == 1:
            del fields["ranks"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def transform(self, real: Images) -> Normalise:
        """The normalisation of its teachers: its own constants, or the data's.

        Raises:
            InputError: constants of another number of channels.
        """
        if self.mean is None or self.std is None:
            return Normalise(mean=tuple(real.mean), std=tuple(real.std))
        if len(self.mean) != real.channels:
            raise refuse("teacher.mean", f"{real.channels} numbers, one a channel", len(self.mean))
        return Normalise(mean=self.mean, std=self.std)

    def per_epoch(self, images: int) -> int:
        """Optimiser steps an epoch of so many images."""
        whole, rest = divmod(images, self.batch_size)
        return whole + (rest >= 2 * self.ranks or not whole)

    def rounds(self, images: int) -> int:
        """Epochs of so many images: `epochs`, or as many as `min_steps` takes."""
        return max(self.epochs, -(-self.min_steps // self.per_epoch(images)))

    def dsa(self) -> DSA:
        """The augmentation of its training."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def key(self, data: str, seed: int = 0) -> str:
        """16 hex digits over every field, the data's hash, the seed and the format version."""
        fields = {**self.to_json(), "model": as_spec(self.model).key}
        text = dump_json({"recipe": fields, "data": data, "seed": seed, "format": FORMAT})
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _constants(given: object, argument: str) -> tuple[float, ...]:
    """Numbers as a tuple, or refuse what is none."""
    if not isinstance(given, list | tuple) or not given:
        raise refuse(argument, "numbers, one a channel", repr(given))
    return tuple(check_number(value, argument) for value in given)
