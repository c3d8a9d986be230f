"""How a fresh network is trained on a synthetic set: carried inside the set, so that a user needs no flags."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Literal

from dd.base.shapes import check_choices, check_number, check_types, check_whole
from dd.errors import refuse, unknown
from dd.transforms.dsa import DSA
from dd.transforms.views import MIX_KINDS

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "decay": ("all", "weights"),
    "schedule": ("drop", "cosine"),
    "loss": ("ce", "kl", "gift"),
    "mix": MIX_KINDS,
    "mix_space": ("logit", "prob"),
}
PUBLISHED_LR: Final = 0.01
"""Step size of the published evaluation of DC, DSA and DM, and where that of trajectory matching starts."""


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """SGD or AdamW for a fixed number of optimiser steps.

    The published protocol of DC, DSA, DM and trajectory matching is `TrainRecipe.published`: 1,001 epochs with lr × 0.1
    after 502 of them, where the optimiser is made anew, so its momentum buffer is lost; `drop_at` imitates that on
    purpose. The defaults are those of a quick training, without augmentation. The decoupled methods train by
    `optimizer="adamw"`, `schedule="cosine"`, `loss="kl"`.

    Attributes:
        model: what the set was distilled for (`ModelSpec` text).
        steps: optimiser steps.
        lr: step size; a trajectory-matching set carries the one it has learned.
        momentum, weight_decay, batch_size: of SGD; a batch is the whole set where it fits.
        drop_at, drop_factor: share of the steps, at least one, after which lr is multiplied by `drop_factor`; 1 never.
        augment, augment_mode: DSA strategy (`""` for none).
        optimizer: `sgd`, or `adamw` with PyTorch's betas (0.9, 0.999); `momentum` is read by `sgd` only.
        decay: what `weight_decay` acts on: `all` parameters, or `weights`: those whose name contains "weight" and that
            have more than one dimension, so neither biases nor norms.
        schedule: `drop`, or `cosine`: lr · ½ (1 + cos(π s / (S η))) at step s of S. The published scripts set it once
            an epoch; a step is finer and needs no notion of an epoch.
        eta: η ≥ 1 of the smoothed cosine; with 1 it ends at 0, with 2 at half of lr.
        loss: `ce`: cross-entropy with labels or probabilities; `kl`: labels are teacher **logits** z, and the loss is
            the batch mean of KL(softmax(z / T) ‖ softmax(f(x) / T)), without a factor T². `gift` reads the same labels
            by a cosine, see `dd.evaluation.optim.gift_loss`.
        temperature: T of `kl` and `gift`.
        accumulate: micro-batches A of a batch B, each ⌈B / A⌉ images, its loss divided by A. Batch norms see one
            micro-batch. A short last batch has fewer of them, and so less weight, as published.
        mix: of a batch, after its augmentation, with its own permutation: labels are interpolated with the same λ.
        mix_space: what `kl` interpolates: the `logit`s, as in the authors' code of INFER, or the `prob`abilities at T.

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
    optimizer: Literal["sgd", "adamw"] = "sgd"
    decay: Literal["all", "weights"] = "all"
    schedule: Literal["drop", "cosine"] = "drop"
    eta: float = 1.0
    loss: Literal["ce", "kl", "gift"] = "ce"
    temperature: float = 1.0
    accumulate: int = 1
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_space: Literal["logit", "prob"] = "logit"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        for name in ("steps", "batch_size", "accumulate"):
            check_whole(getattr(self, name), name)
        for name in ("lr", "momentum", "weight_decay", "drop_at", "drop_factor", "eta", "temperature"):
            check_number(getattr(self, name), name, low=0.0)
        check_types(self)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr)
        if not self.momentum < 1:
            raise refuse("momentum", "in [0, 1)", self.momentum)
        if not 0 < self.drop_at <= 1:
            raise refuse("drop_at", "in (0, 1]", self.drop_at)
        if not self.eta >= 1:
            raise refuse("eta", "at least 1", self.eta)
        if not self.temperature > 0:
            raise refuse("temperature", "positive", self.temperature)
        self.dsa()

    @classmethod
    def published(
        cls,
        ipc: int,
        lr: float,
        dsa: bool = True,
        *,
        classes: int,
        epochs: int = 1000,
        batch_size: int = 256,
        model: str = "convnet",
    ) -> TrainRecipe:
        """How the papers of DC, DSA, DM and trajectory matching train a network on `ipc` × `classes` images.

        Epochs 0 … E, so E + 1 of them, of ⌈ipc · classes / batch⌉ steps of SGD with momentum 0.9 and weight decay
        5e-4; after epoch ⌊E / 2⌋ + 1 the step size falls to a tenth and the momentum is forgotten.

        Args:
            ipc: images a class.
            lr: step size: of trajectory matching the one learned beside the images, which its files of images do not
                hold; of DC, DSA and DM 0.01.
            dsa: with the published augmentation, one of six kinds a batch; `False` for sets of DC.
            classes: number of classes.
            epochs: E, 1000; 300 in DC.
            batch_size: 256; 128 in DATM.
            model: what the set was distilled for.

        Raises:
            InputError: a value outside its range.
        """
        images = check_whole(ipc, "ipc") * check_whole(classes, "classes")
        check_whole(epochs, "epochs")
        return cls(
            model=model,
            steps=(epochs + 1) * -(-images // check_whole(batch_size, "batch_size")),
            lr=lr,
            momentum=0.9,
            weight_decay=5e-4,
            batch_size=batch_size,
            drop_at=min(1.0, (epochs // 2 + 2) / (epochs + 1)),
            drop_factor=0.1,
            augment=DSA().strategy if dsa else "",
            augment_mode="single",
        )

    def check_classes(self, name: str = "train") -> None:
        """Refuse a loss of teacher logits, for sets whose labels are classes or probabilities.

        Args:
            name: what the recipe is called in the message.

        Raises:
            InputError: `loss` is `kl` or `gift`.
        """
        if self.loss != "ce":
            way_out = f'Leave `{name}.loss` out; methods with `labels="stored"` have such labels.'
            raise refuse(f"{name}.loss", "`ce` where no logits of teachers are the labels", f"`{self.loss}`", way_out)

    def check_hard(self, name: str = "train") -> None:
        """Refuse mixing, for sets whose labels are classes.

        Args:
            name: what the recipe is called in the message.

        Raises:
            InputError: `mix` is another than `none`.
        """
        if self.mix != "none":
            way_out = f"Mixing is for soft labels: leave `{name}.mix` out."
            raise refuse(f"{name}.mix", "`none` with hard labels", f"`{self.mix}`", way_out)

    def dsa(self) -> DSA:
        """The augmentation of every training batch."""
        return DSA(strategy=self.augment, mode=self.augment_mode)

    def hard(self) -> TrainRecipe:
        """The recipe for the same images with classes for labels: cross-entropy, without mixing.

        Where the crops and flips lay in stored labels, the published shift by up to an eighth of the side and a flip
        take their place; optimiser, schedule and steps stay.
        """
        if self.loss == "ce" and self.mix == "none":
            return self
        augment, mode = (self.augment, self.augment_mode) if self.augment else ("crop_flip", "all")
        return dataclasses.replace(self, loss="ce", mix="none", augment=augment, augment_mode=mode)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> TrainRecipe:
        """The inverse of `to_json`; a field of a newer version is refused, and so is one that is not told."""
        return TrainRecipe(**check_whole_recipe(value, TrainRecipe))


def check_whole_recipe(value: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The fields of a recipe as a file has them, if they are all of them: a default may be another one by now.

    Raises:
        InputError: names the field that is not known, or those that are missing.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    for name in value:
        if name not in known:
            raise unknown("recipe field", name, known, "The file may come from a newer version.")
    if missing := sorted(known - value.keys()):
        raise refuse("recipe", "whole", f"one without {', '.join(missing)}")
    return value
