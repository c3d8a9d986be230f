"""A teacher: a frozen network with its own normalisation, tried on real images before it teaches."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from dd.base.devices import moved
from dd.base.files import digest, dump_json
from dd.base.process import under_own_settings
from dd.data import Images, Split
from dd.errors import DDError, InputError, refuse
from dd.models import check_there
from dd.transforms.whiten import Normalise

LEVEL: Final = 0.01
"""Of the test: a teacher that knows nothing passes in one case of a hundred at most."""
_CHECKED: Final = 200  # real images that a teacher is tried on
_ENOUGH: Final = 50
"""Held-out images from which on they tell: of ten classes a teacher of 40 % passes in 99 of 100 cases, of two classes
one of 80 % in 98; with ten images of ten classes one of 55 % would fail in 26, with eight of two one of 75 % in 90."""
_TEST_BATCH: Final = 500
_GIVEN: Final = (
    "Its class order or its mean and std are not those of this data: give `class_ids`, or the transform it was trained "
    "with."
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen network in eval mode with the normalisation that it was trained with.

    Attributes:
        name: for people.
        module: `[n, C, H, W]` in its own model space → logits `[n, K]`; a copy of the one that is given, which stays as
            it is: its modes, weights, gradients and device.
        transform: pixels in [0, 1] → its model space; it belongs to the teacher, never to the data.
        accuracy: on held-out training images, a fraction; NaN where it was not measured.
        sha256: of its parameters and buffers.
        class_ids: which of the module's outputs are the classes of the data, in their order; `None` for all.

    Raises:
        InputError: class ids that repeat, or a module that cannot be copied.
    """

    name: str
    module: nn.Module
    transform: Normalise
    accuracy: float = math.nan
    sha256: str = ""
    class_ids: tuple[int, ...] | None = None

    @under_own_settings
    def __post_init__(self) -> None:
        if self.class_ids is not None and len(set(self.class_ids)) < len(self.class_ids):
            raise refuse("class_ids", "different numbers, one a class", self.class_ids)
        check_there(self.module, f"teacher {self.name}")
        object.__setattr__(self, "module", _copied(self.module).eval().requires_grad_(False))
        if not self.sha256:
            object.__setattr__(self, "sha256", weights_digest(self.module))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits `[n, K]` of pixels `[n, C, H, W]` in [0, 1]."""
        scores: Tensor = self.module(self.transform.forward(pixels))
        if self.class_ids is None:
            return scores
        if max(self.class_ids) >= scores.shape[1]:
            raise refuse("class_ids", f"below {scores.shape[1]}, the outputs of {self.name}", max(self.class_ids))
        return scores[:, moved(torch.tensor(self.class_ids), scores.device)]

    def as_module(self, size: tuple[int, int] | None = None) -> nn.Module:
        """Pixels in [0, 1] → logits, as one module in eval mode.

        Args:
            size: smaller pictures are shown to the network in the middle of one of this height and width, on the mean
                colour, which its normalisation makes zero (RDED's padding).
        """
        return _OnPixels(self, size).eval()

    @under_own_settings
    def check(self, split: Split, classes: int, way_out: str = _GIVEN) -> float:
        """Its accuracy on at most 200 images of `split`, evenly spaced.

        It must be better than chance by an exact binomial test, one-sided, at the level 1 %. Chance is the share that
        its answers would get right if they had nothing to do with the images: Σ_k (share of class k) · (share of
        answer k), so 1 / K of equal classes, and for one answer only the share of that class, which never passes.
        Where so few images could not tell even if all were right, what is above chance passes with a warning.

        Args:
            split: real images; see `tried_on`.
            classes: K of the data.
            way_out: what to do about one that fails.

        Raises:
            InputError: no logits, another number of classes, or no better than chance.
        """
        right, count, chance, kinds = self._tried(split, classes)
        share = right / count
        if _tail(right, count, chance) <= LEVEL:
            return share
        if share > chance and _tail(count, count, chance) > LEVEL:
            _log.warning("%d images are too few to tell whether teacher %s knows the classes.", count, self.name)
            return share
        raise InputError(
            f"teacher {self.name} classifies {100 * share:.1f} % of {count} real images, no better than chance "
            f"({100 * chance:.1f} %), with {kinds} different answer(s). {way_out}"
        )

    @under_own_settings
    def warn_by_heart(self, held_out: Split, classes: int) -> None:
        """Warn where images held out of its training do not show that it knows more than its training images."""
        right, count, chance, _ = self._tried(held_out, classes)
        if _tail(right, count, chance) > LEVEL:
            _log.warning(
                "teacher %s knows its training images; of %d held-out ones it classifies %.1f %%, which chance "
                "(%.1f %%) may do too.",
                self.name,
                count,
                100 * right / count,
                100 * chance,
            )

    def _tried(self, split: Split, classes: int) -> tuple[int, int, float, int]:
        """Right answers, images, chance as in `check`, and different answers."""
        rows = torch.linspace(0, len(split) - 1, min(_CHECKED, len(split))).round().long()
        guesses, labels = self._scores(split.pixels(rows), classes).argmax(1), split.labels[rows]
        chance = float((_shares(labels, classes) * _shares(guesses, classes)).sum())
        return int((guesses == labels).sum()), len(rows), chance, len(guesses.unique())

    @torch.no_grad()
    def _scores(self, pixels: Tensor, classes: int) -> Tensor:
        """Finite logits `[n, classes]` on the CPU, or refuse."""
        device = next((p.device for p in self.module.parameters()), pixels.device)
        argument = f"teacher {self.name}"
        try:
            scores: Any = self(pixels.to(device))
        except DDError:
            raise
        except Exception as error:
            cause = (str(error).splitlines() or [""])[0]
            expected = f"a network that takes pictures {list(pixels.shape[1:])} and gives logits [n, {classes}]"
            way_out = "Wrap it so that it does, or resize the pictures."
            raise refuse(argument, expected, f"{type(error).__name__}: {cause}", way_out) from error
        if not isinstance(scores, Tensor):
            way_out = "Wrap it so that it returns the logits alone."
            raise refuse(argument, f"a network that gives logits [n, {classes}]", f"a {type(scores).__name__}", way_out)
        if scores.ndim != 2 or scores.shape[1] != classes:
            raise refuse(argument, f"of {classes} classes", list(scores.shape[1:]))
        if not bool(torch.isfinite(scores).all()):
            raise InputError(f"{argument} gives scores that are not finite. Train it anew.")
        logits: Tensor = scores.cpu()
        return logits


class _OnPixels(nn.Module):
    def __init__(self, teacher: Teacher, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.net, self._teacher, self._size = teacher.module, teacher, size  # its network is a part of this one

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels in [0, 1]."""
        if self._size is not None and pixels.shape[2:] != self._size:
            pixels = _in_the_middle(pixels, self._size, self._teacher.transform.mean)
        return self._teacher(pixels)


def _in_the_middle(pixels: Tensor, size: tuple[int, int], colour: tuple[float, ...]) -> Tensor:
    """Pictures `[n, C, H, W]` of `size` that hold the given smaller ones in the middle, on one colour."""
    height, width = pixels.shape[2:]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    shown = pixels.new_tensor(colour).view(1, -1, 1, 1).repeat(len(pixels), 1, *size)
    shown[:, :, top : top + height, left : left + width] = pixels
    return shown


def _copied(module: nn.Module) -> nn.Module:
    """A copy that shares nothing; tensors with a history, which `deepcopy` refuses, are copied without it."""
    if isinstance(module, torch.jit.ScriptModule):
        way_out = "Give the module that it was made from."
        raise refuse("module", "an nn.Module of Python", f"a {type(module).__name__}, scripted or traced", way_out)
    known = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(module, known)
    except Exception as error:
        cause = (str(error).splitlines() or [""])[0]
        way_out = "Leave out of it what cannot be copied, or give it a method `__deepcopy__`."
        raise refuse("module", "one that can be copied, as a teacher is a frozen copy", cause, way_out) from error


def _shares(classes_of: Tensor, classes: int) -> Tensor:
    return torch.bincount(classes_of, minlength=classes).double() / len(classes_of)


def _tail(right: int, count: int, chance: float) -> float:
    """P(X ≥ right) of a binomial X with `count` trials of probability `chance`."""
    from scipy.special import bdtrc

    return float(bdtrc(right - 1, count, min(chance, 1.0))) if right else 1.0


def tried_on(real: Images) -> Split:
    """What a teacher is tried on: images held out of training where they are enough to tell, else training images.

    Those tell less, since a teacher may know them by heart; another class order or other constants show there as well.
    """
    return real.val if real.val is not None and len(real.val) >= _ENOUGH else real.train


@torch.no_grad()
def accuracy(teacher: Teacher, split: Split) -> float:
    """Share of `split` that the teacher classifies correctly."""
    device, right = next(teacher.module.parameters()).device, 0
    for rows, pixels in split.stream(torch.arange(len(split)).split(_TEST_BATCH)):
        right += int((teacher(moved(pixels, device)).argmax(1).cpu() == split.labels[rows]).sum())
    return right / len(split)


def weights_digest(module: nn.Module) -> str:
    """sha256 hex over names and bytes of all parameters and buffers."""
    state = module.state_dict()
    text = dump_json({name: digest(value) for name, value in state.items()})
    return hashlib.sha256(text.encode()).hexdigest()
