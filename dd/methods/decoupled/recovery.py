"""Recovery: pixels that frozen teachers classify and that move their batch norms as real data does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.base.seeding import child
from dd.base.shapes import check_choices, check_number
from dd.errors import DivergedError, refuse
from dd.methods.decoupled.curriculum import CURRICULA, Curriculum, check_curriculum, smallest_area
from dd.teachers import StatisticsMatch, Teacher
from dd.teachers.statistics import STATISTICS_NORMS, StatisticsNorm
from dd.transforms.views import draw_views
from dd.transforms.whiten import Normalise

_UNREAD: Final = 20
"""Iterations whose losses an accelerator computes before they are read, which waits for it."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How a block of images is recovered; see `Recover` for the fields.

    Raises:
        InputError: a field out of range.
    """

    iterations: int
    lr: float
    bn_weight: float
    first_bn: float
    bn_norm: StatisticsNorm
    crop: bool
    shared_crop: bool
    jitter: int
    curriculum: Curriculum = "none"
    curriculum_share: float = 1.0
    turns: bool = False

    def __post_init__(self) -> None:
        check_choices(self, {"curriculum": CURRICULA})
        check_number(self.curriculum_share, "curriculum_share")
        check_curriculum(self.curriculum, self.curriculum_share, self.crop)
        for name in ("lr", "bn_weight", "first_bn"):
            check_number(getattr(self, name), name, low=0.0)
        if not self.lr > 0:
            raise refuse("lr", "positive", self.lr, "`iterations=0` is for images that stay as they are.")
        for name in ("jitter", "iterations"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise refuse(name, "a whole number of at least 0", repr(value))
        check_choices(self, {"bn_norm": STATISTICS_NORMS})

    @staticmethod
    def of(method: Any) -> Recovery:
        """The options of recovery among a method's fields; those that it does not have are at their defaults."""
        names = [f.name for f in dataclasses.fields(Recovery) if hasattr(method, f.name)]
        return Recovery(**{name: getattr(method, name) for name in names})


def step_size(lr: float, t: int, iterations: int) -> float:
    """α ½ (1 + cos(π t / T)) at iteration t = 0…T−1: α first, nearly 0 last."""
    return 0.5 * lr * (1 + math.cos(math.pi * t / iterations))


def recover_block(
    voters: Sequence[tuple[Teacher, float]],
    start: Tensor,
    y: Tensor,
    transform: Normalise,
    how: Recovery,
    seed: int,
    names: Sequence[str | int],
    progress: Callable[[int, float], None] = lambda t, loss: None,
) -> Tensor:
    """The block's images after T steps of Adam, in pixels in [0, 1] `[n, C, H, W]`.

        min_x Σ_m w_m [CE(f_m(A(x)), y) + λ R(f_m, A(x))]

    A is a random resized crop and a flip (torchvision's transforms draw one for the whole batch; `shared_crop=False`
    draws one an image), then a circular roll by two whole numbers in {0…jitter}. All members see the same A(x). With
    `turns` member t mod M alone votes at iteration t, with weight 1. Adam has betas (0.5, 0.9) and ε 1e-8; after each
    step pixels are clipped to [0, 1].

    Args:
        voters: teachers and their weights w.
        start: first iterate in model space `[n, C, H, W]`.
        y: classes int64 `[n]`.
        transform: pixels → model space, in which Adam steps; each teacher has its own.
        how: the options.
        seed, names: of the streams.
        progress: called as (t, loss).

    Raises:
        DivergedError: the loss is not finite.
    """
    low, high = (transform.forward(torch.full_like(start[:1], v)) for v in (0.0, 1.0))

    def loss(x: Tensor, t: int) -> Tensor:
        return _loss(_at(voters, how, t), x, y, transform, how, child(seed, "recover", *names, t), t)

    def clip(x: Tensor) -> None:
        x.copy_(torch.minimum(torch.maximum(x, low), high))

    x = _descend(start.clone(), loss, how, clip, progress)
    return transform.inverse(x).clamp(0, 1)


def compensator(
    voters: Sequence[tuple[Teacher, float]],
    base: Tensor,
    y: Tensor,
    transform: Normalise,
    how: Recovery,
    seed: int,
    names: Sequence[str | int],
    progress: Callable[[int, float], None] = lambda t, loss: None,
) -> Tensor:
    """INFER's u `[1, C, H, W]`: one change in model space for a base set with an image of each class.

        u = argmin_u 1/K Σ_c CE(f(A(clip(x_c + u))), c) + λ R(f, A(clip(x_c + u))_{c=1…K})

    u starts at 0, and each image of the base set pulls on it at once. The clip to pixels in [0, 1] is part of the
    loss, as it is of the composed set; the authors' code clips a copy that nobody reads, and composes with the iterate
    before the last step.

    Args:
        voters: one teacher in the paper; several weigh as in recovery.
        base: the base set in model space `[K, C, H, W]`.
        y, transform, how, seed, names, progress: as in `recover_block`.

    Raises:
        DivergedError: the loss is not finite.
    """
    low, high = (transform.forward(torch.full_like(base[:1], v)) for v in (0.0, 1.0))

    def loss(u: Tensor, t: int) -> Tensor:
        x = torch.minimum(torch.maximum(base + u, low), high)
        return _loss(_at(voters, how, t), x, y, transform, how, child(seed, "compensate", *names, t), t)

    return _descend(torch.zeros_like(base[:1]), loss, how, lambda u: None, progress)


def _descend(
    variable: Tensor,
    loss: Callable[[Tensor, int], Tensor],
    how: Recovery,
    project: Callable[[Tensor], None],
    progress: Callable[[int, float], None],
) -> Tensor:
    """`variable` after T steps of Adam with a cosine, each followed by `project` in place."""
    variable.requires_grad_()
    optimizer = torch.optim.Adam([variable], lr=how.lr, betas=(0.5, 0.9), eps=1e-8)
    every, unread = 1 if variable.device.type == "cpu" else _UNREAD, list[Tensor]()
    for t in range(how.iterations):
        optimizer.param_groups[0]["lr"] = step_size(how.lr, t, how.iterations)
        total = loss(variable, t)
        (variable.grad,) = torch.autograd.grad(total, variable)
        optimizer.step()
        with torch.no_grad():
            project(variable)
        unread.append(total.detach())
        if len(unread) >= every or t + 1 == how.iterations:
            for i, value in enumerate(torch.stack(unread).tolist(), t + 1 - len(unread)):
                if not math.isfinite(value):
                    text = f"recovery is not finite at iteration {i}"
                    raise DivergedError(f"{text}. Lower `lr` (now {how.lr:g}) or `bn_weight`.")
                progress(i + 1, value)
            unread = []
    return variable.detach()


def _at(voters: Sequence[tuple[Teacher, float]], how: Recovery, t: int) -> Sequence[tuple[Teacher, float]]:
    """Who votes at iteration t."""
    return [(voters[t % len(voters)][0], 1.0)] if how.turns else voters


def _loss(
    voters: Sequence[tuple[Teacher, float]],
    x: Tensor,
    y: Tensor,
    transform: Normalise,
    how: Recovery,
    generator: torch.Generator,
    t: int,
) -> Tensor:
    """Σ_m w_m [CE(f_m(A(x)), y) + λ R(f_m, A(x))] with the A that `generator` draws at iteration t."""
    pixels = transform.inverse(_augmented(x, how, generator, t))
    total = torch.zeros((), device=x.device)
    for teacher, weight in voters:
        with StatisticsMatch(teacher.module, how.first_bn, how.bn_norm) as match:
            entropy = F.cross_entropy(teacher(pixels), y)
            total = total + weight * (entropy + how.bn_weight * match.value())
    return total


def _augmented(x: Tensor, how: Recovery, generator: torch.Generator, t: int) -> Tensor:
    size = (x.shape[2], x.shape[3])
    if how.crop:
        least = smallest_area(how.curriculum, how.curriculum_share, t, how.iterations)
        views = draw_views(1 if how.shared_crop else len(x), size, generator, scale=(least, 1.0))
        x = (views.shared(len(x)) if how.shared_crop else views)(x)
    if how.jitter:
        down, right = torch.randint(0, how.jitter + 1, (2,), generator=generator).tolist()
        x = torch.roll(x, (down, right), (2, 3))
    return x
