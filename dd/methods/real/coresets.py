"""Coresets: real images chosen by the features of a network that was trained on all of them; herding and k-center.

The field's standard for these two baselines (Zhao, Mopuri and Bilen, ICLR 2021, and most tables since): the
features are what goes into the last linear layer of the data set's own network, here the stored teacher.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, final

import torch
from torch import Tensor

from dd.base.process import under_own_settings
from dd.base.shapes import check_choices, check_types
from dd.data import Images, Ipc, class_counts, given_ipc
from dd.methods.base import Run, Step
from dd.methods.panel import seat
from dd.methods.real.baselines import only_step
from dd.methods.start import check_small
from dd.models.features import features
from dd.synthetic import Layout, Storage, TrainRecipe
from dd.synthetic.layout import told
from dd.teachers import Teacher, TeacherRecipe

_BATCH: Final = 500


def herd(points: Tensor, count: int) -> Tensor:
    """Herding (Welling, 2009): row after row, so that the mean of those chosen comes closest to the mean of all.

    Args:
        points: features of one class, `[n, D]`.
        count: rows to choose, 1 … n; each once.

    Returns:
        int64 `[count]`, in the order of choice; the first of equals.
    """
    points = points.double()
    mean, total = points.mean(0), torch.zeros(points.shape[1], dtype=torch.float64)
    free, chosen = torch.ones(len(points), dtype=torch.bool), []
    for n in range(1, count + 1):
        gap = ((total + points) / n - mean).square().sum(1)
        best = int(torch.where(free, gap, torch.inf).argmin())
        free[best] = False
        total = total + points[best]
        chosen.append(best)
    return torch.tensor(chosen)


def cover(points: Tensor, count: int) -> Tensor:
    """Greedy k-center (Sener and Savarese, 2018): first the row nearest to the mean, then the farthest one.

    Args:
        points: features of one class, `[n, D]`.
        count: rows to choose, 1 … n; each once.

    Returns:
        int64 `[count]`, in the order of choice; the first of equals. Its covering radius is at most twice the best one.
    """
    points = points.double()
    first = int((points - points.mean(0)).square().sum(1).argmin())
    chosen, nearest = [first], (points - points[first]).square().sum(1)
    nearest[first] = -1.0
    while len(chosen) < count:
        best = int(nearest.argmax())
        nearest = torch.minimum(nearest, (points - points[best]).square().sum(1))
        nearest[best] = -1.0
        chosen.append(best)
    return torch.tensor(chosen)


@torch.no_grad()
def _features(teacher: Teacher, pixels: Tensor) -> Tensor:
    """What the teacher's last linear layer sees of pixels `[n, C, H, W]` in [0, 1], `[n, D]`."""
    return features(teacher.module, lambda: teacher(pixels), "teacher").cpu()


CHOOSE: Final[dict[str, Callable[[Tensor, int], Tensor]]] = {"herding": herd, "k_center": cover}


@final
@dataclass(frozen=True, kw_only=True)
class Coreset:
    """`ipc` training images of each class, chosen by a trained network's features; they depend on no seed but its own.

    Attributes:
        name: `herding` or `k_center` by convention.
        choose: the rule, `herding` (the mean of the class is met) or `k_center` (every image is near a chosen one).
        ipc: stored images per class; in Python also a number for each class, by name or by number.
        teacher: the network whose features count; trained once and kept in the store.
        whiten: ZCA in place of mean/std normalisation, of the set that is returned.
        factor, mirror, storage: as in `RandomReal`; of a class ipc · factor² images are chosen.
        train: how fresh networks are trained on it.
    """

    kind: ClassVar[str] = "images"
    budget: ClassVar[str] = "ipc"
    name: str = "herding"
    choose: str = "herding"
    ipc: Ipc = 10
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
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
        check_choices(self, {"choose": tuple(CHOOSE)})
        _ = self.layout  # refuses what is none

    @property
    def layout(self) -> Layout:
        """What a stored image is."""
        return Layout(factor=self.factor, mirror=self.mirror, storage=self.storage)

    def check_fits(self, real: Images, device: torch.device) -> None:
        """Refuse data that the layout has no images for.

        Raises:
            InputError: likewise.
        """
        del device
        check_small(real, self.ipc, self.layout)

    @under_own_settings
    def distill(self, real: Images, run: Run, state: Mapping[str, Tensor] | None = None) -> Iterator[Step]:
        """One step, one candidate."""
        del state
        check_small(real, self.ipc, self.layout)
        counts = [count * self.layout.small for count in class_counts(real, self.ipc)]
        teacher = seat((self.teacher.model,), self.teacher, (100.0,), None, real, run).teachers[0]
        rows = []
        for k, count in enumerate(counts):
            own = real.class_index(k)
            if not count:
                continue
            parts = [_features(teacher, x.to(run.device)) for _, x in real.train.stream(own.split(_BATCH))]
            rows.append(own[CHOOSE[self.choose](torch.cat(parts), count)])
        yield only_step(self, real, real.train.pixels(torch.cat(rows)), self.whiten)

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return told({**dataclasses.asdict(self), "teacher": self.teacher.to_json()})


def Herding(**fields: Any) -> Coreset:
    """Real images whose mean feature comes closest to that of their class."""
    return Coreset(**{"name": "herding", "choose": "herding", **fields})


def KCenter(**fields: Any) -> Coreset:
    """Real images that cover their class: none of it is far from the nearest one, in features."""
    return Coreset(**{"name": "k_center", "choose": "k_center", **fields})
