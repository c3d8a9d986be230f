"""Smooth experts of AST: a loss that is ramped up, a penalty on the input gradient, one drop of the step size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from dd.inner import Student

if TYPE_CHECKING:
    from dd.experts.recipe import ExpertRecipe

PenaltyForm = Literal["pixel", "sample", "label"]
PENALTY_FORMS: Final = ("pixel", "sample", "label")
RAMP_UNITS: Final = 10


def unit_of(recipe: ExpertRecipe, step: int, steps_per_epoch: int) -> int:
    """Units (epochs, or `ramp_every` steps) that are complete before optimiser step `step` = 0, 1, …"""
    return step // (recipe.ramp_every or steps_per_epoch)


def ramp_factor(recipe: ExpertRecipe, step: int, steps_per_epoch: int) -> float:
    """What the cross-entropy is multiplied by at `step`: 0.50, 0.55, …, 0.95 in the first ten units, then 1."""
    unit = unit_of(recipe, step, steps_per_epoch)
    return 1.0 if not recipe.ramp or unit >= RAMP_UNITS else (10 + unit) / 20


def step_size(recipe: ExpertRecipe, step: int, steps_per_epoch: int) -> tuple[float, bool]:
    """The step size at `step`, and whether the velocity is set to zero before it: at the first step after the drop."""
    first = (recipe.drop_epochs + 1) * (recipe.ramp_every or steps_per_epoch)
    if not recipe.drop_epochs or step < first:
        return recipe.lr, False
    return recipe.lr * recipe.drop_factor, step == first


def gradient_penalty(student: Student, theta: Tensor, x: Tensor, y: Tensor, form: PenaltyForm = "pixel") -> Tensor:
    """Mean of (‖q‖₂ − 1)² for q = ∇_x of a score, differentiable in θ.

    `pixel` and `sample` take the sum of all scores, `label` that of the true class. In `pixel` and `label` the
    norm is over the channels at every pixel and the mean over pictures and pixels; in `sample` the norm is over
    the whole picture and the mean over pictures.

    Args:
        student: the network.
        theta: θ `[P]`.
        x: pictures `[N, C, H, W]` in model space, not augmented.
        y: int64 `[N]`; read by `label` only.
        form: which penalty.

    Returns:
        A scalar ≥ 0.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        scores = student.logits(theta, leaf)
        chosen = scores.gather(1, y[:, None]) if form == "label" else scores
        (q,) = torch.autograd.grad(chosen.sum(), leaf, create_graph=True)
        length = torch.linalg.vector_norm(q, dim=(1, 2, 3) if form == "sample" else 1)
        return (length - 1).square().mean()
