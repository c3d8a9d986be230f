"""Recovery: pixels that frozen teachers classify and that move their batch norms as real data does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.errors import DivergedError
from dd.seeding import child
from dd.teachers import StatisticsMatch, Teacher
from dd.teachers.statistics import StatisticsNorm
from dd.views import draw_views
from dd.whiten import Normalise


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How a block of images is recovered; see `Recover` for the fields."""

    iterations: int
    lr: float
    bn_weight: float
    first_bn: float
    bn_norm: StatisticsNorm
    crop: bool
    shared_crop: bool
    jitter: int


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
    draws one an image), then a circular roll by two whole numbers in {0…jitter}. All members see the same A(x). Adam
    has betas (0.5, 0.9) and ε 1e-8; after each step pixels are clipped to [0, 1].

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
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=how.lr, betas=(0.5, 0.9), eps=1e-8)
    zero, one = (transform.forward(torch.full_like(start[:1], v)) for v in (0.0, 1.0))
    for t in range(how.iterations):
        optimizer.param_groups[0]["lr"] = step_size(how.lr, t, how.iterations)
        pixels = transform.inverse(_augmented(x, how, child(seed, "recover", *names, t)))
        total = torch.zeros((), device=x.device)
        for teacher, weight in voters:
            with StatisticsMatch(teacher.module, how.first_bn, how.bn_norm) as match:
                loss = F.cross_entropy(teacher(pixels), y)
                total = total + weight * (loss + how.bn_weight * match.value())
        if not math.isfinite(float(total.detach())):
            raise DivergedError(f"recovery is not finite at iteration {t}. Lower `lr` (now {how.lr:g}) or `bn_weight`.")
        (x.grad,) = torch.autograd.grad(total, x)
        optimizer.step()
        with torch.no_grad():
            x.copy_(torch.minimum(torch.maximum(x, zero), one))
        progress(t + 1, float(total.detach()))
    return transform.inverse(x.detach()).clamp(0, 1)


def _augmented(x: Tensor, how: Recovery, generator: torch.Generator) -> Tensor:
    size = (x.shape[2], x.shape[3])
    if how.crop:
        views = draw_views(1 if how.shared_crop else len(x), size, generator)
        x = (views.shared(len(x)) if how.shared_crop else views)(x)
    if how.jitter:
        down, right = torch.randint(0, how.jitter + 1, (2,), generator=generator).tolist()
        x = torch.roll(x, (down, right), (2, 3))
    return x
