"""Baselines of the same budget: random real images, and the mean image of each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_types
from dd.data import Images, Ipc, class_counts, given_ipc
from dd.errors import refuse
from dd.methods.base import Candidate, Run, Step
from dd.methods.start import check_small, pick_real
from dd.synthetic import Layout, Storage, SyntheticImages, TrainRecipe
from dd.synthetic.layout import PLAIN, real_levels, told
from dd.transforms.whiten import make_transform


@final
@dataclass(frozen=True, kw_only=True)
class RandomReal:
    """`ipc` distinct random training images of each class, as they are.

    Attributes:
        ipc: stored images per class; in Python also a number for each class, `{"cat": 5, "dog": 2}`, by name or by
            number.
        whiten: ZCA in place of mean/std normalisation.
        factor, mirror, storage: what a stored image is, see `dd.synthetic.Layout`: factor × factor images made smaller.
        train: how fresh networks are trained on them.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "random"
    ipc: Ipc = 10
    whiten: bool = False
    factor: int = 1
    mirror: bool = False
    storage: Storage = "fp32"
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ipc", given_ipc(self.ipc))
        check_types(self)
        self.train.check_classes()
        self.train.check_hard()
        _ = self.layout  # refuses what is none

    @property
    def layout(self) -> Layout:
        """What a stored image is."""
        return Layout(factor=self.factor, mirror=self.mirror, storage=self.storage)

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, one candidate."""
        del state
        check_small(real, self.ipc, self.layout)
        counts = [count * self.layout.small for count in class_counts(real, self.ipc)]
        yield only_step(self, real, real.train.pixels(pick_real(real, counts, run.seed)), self.whiten)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return told(dataclasses.asdict(self))


@final
@dataclass(frozen=True, kw_only=True)
class ClassMean:
    """The mean training image of each class: the line to beat at one image a class.

    Attributes:
        ipc: only 1.
        whiten: ZCA in place of mean/std normalisation.
        mirror, storage: what a stored image is, see `dd.synthetic.Layout`.
        train: how fresh networks are trained on them.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "class_mean"
    ipc: int = 1
    whiten: bool = False
    mirror: bool = False
    storage: Storage = "fp32"
    train: TrainRecipe = field(default_factory=TrainRecipe)

    def __post_init__(self) -> None:
        check_types(self)
        self.train.check_classes()
        self.train.check_hard()
        if self.ipc != 1:
            raise refuse("ipc", "1 for class_mean", self.ipc)
        _ = self.layout  # refuses what is none

    @property
    def layout(self) -> Layout:
        """What a stored image is."""
        return Layout(mirror=self.mirror, storage=self.storage)

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, one candidate."""
        del run, state
        means = []
        for k in range(real.num_classes):
            rows = real.class_index(k)
            total = torch.zeros(real.channels, *real.size, dtype=torch.float64)
            for _, pixels in real.train.stream(rows.split(1000)):
                total += pixels.double().sum(0)
            means.append((total / len(rows)).float())
        yield only_step(self, real, torch.stack(means), self.whiten)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return told(dataclasses.asdict(self))


class Chosen(Protocol):
    """A baseline: what `only_step` reads of it."""

    @property
    def ipc(self) -> Ipc:
        """Images per class."""
        ...

    @property
    def train(self) -> TrainRecipe:
        """How fresh networks are trained."""
        ...

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        ...


def only_step(method: Chosen, real: Images, pixels: Tensor, whiten: bool = False) -> Step:
    """The one step of a baseline: pixels in [0, 1] in class order, as a set, whitened or not.

    Args:
        method: its `layout`, where it has one, says what is stored.
        real: the data.
        pixels: `[n · f², C, H, W]`, f² images of a class for each stored one of it.
        whiten: ZCA in place of mean/std normalisation.
    """
    layout: Layout = getattr(method, "layout", PLAIN)
    transform = make_transform(real, whiten)
    labels = torch.arange(real.num_classes).repeat_interleave(torch.tensor(class_counts(real, method.ipc)))
    made = SyntheticImages(
        **layout.parts(layout.mosaic(transform.forward(pixels).float()), labels, real_levels(layout, transform)),
        classes=real.classes,
        recipe=method.train,
        transform=transform,
        method=method.describe(),
    )
    return Step(1, 1, {"iteration": 1}, {"iteration": torch.tensor(1)}, (Candidate("last", 1, made),))
