"""Optimiser, step size and loss of a `TrainRecipe`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.errors import refuse
from dd.inner import cross_entropy
from dd.synthetic import TrainRecipe
from dd.transforms.views import draw_mix


def make_optimizer(net: nn.Module, recipe: TrainRecipe, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimiser at step size `lr`, its weight decay on the parameters that the recipe names."""
    groups = decay_groups(net, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum)


def decay_groups(net: nn.Module, recipe: TrainRecipe) -> list[dict[str, object]]:
    """Parameter groups with and without weight decay; an empty one is left out."""
    if recipe.decay == "all":
        return [{"params": list(net.parameters()), "weight_decay": recipe.weight_decay}]
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        (decayed if "weight" in name and parameter.ndim > 1 else free).append(parameter)
    groups = ({"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def smoothed_cosine(progress: float, eta: float) -> float:
    """½ (1 + cos(π p / η)) at share p in [0, 1] of the training: from 1 down to 0 for η = 1, to ½ for η = 2."""
    return 0.5 * (1 + math.cos(math.pi * progress / eta))


def mixed(x: Tensor, y: Tensor, recipe: TrainRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The batch and its soft labels, mixed with their own permutation as the recipe says.

    Labels are interpolated with λ, of CutMix too, whose λ is not corrected for clipping. In `prob` space teacher
    logits are returned as T log Σ λ softmax(z / T), whose tempered softmax is the blend.

    Raises:
        InputError: hard labels.
    """
    if recipe.mix == "none":
        return x, y
    mix = draw_mix(recipe.mix, len(x), (x.shape[2], x.shape[3]), generator)
    if y.dtype == torch.int64:
        raise refuse("mix", "`none` with hard labels", recipe.mix, "Mixing is for soft labels.")
    if recipe.loss != "ce" and recipe.mix_space == "prob":
        t = recipe.temperature
        return mix(x), t * mix.blend((y / t).softmax(1)).log()
    return mix(x), mix.blend(y)


def distillation_loss(scores: Tensor, y: Tensor, recipe: TrainRecipe) -> Tensor:
    """Mean loss of student scores `[N, K]`; y as `TrainRecipe.loss` says: labels, probabilities, or teacher logits."""
    if recipe.loss == "ce":
        return cross_entropy(scores, y)
    t = recipe.temperature
    if recipe.loss == "gift":
        return gift_loss(scores, (y.to(scores.dtype) / t).softmax(1))
    log_student, log_teacher = F.log_softmax(scores / t, 1), F.log_softmax(y.to(scores.dtype) / t, 1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


GIFT_WEIGHT, SMOOTHING = 0.1, 0.1
"""w of the class in a refined label, and how much of it is spread over all classes."""


def gift_loss(scores: Tensor, soft: Tensor) -> Tensor:
    """The batch mean of 1 − cos(f(x), t), with refined labels t = w s/‖s‖ + (1 − w) p/‖p‖.

    GIFT, Shang et al., ICLR 2025. s is the one-hot class, smoothed. As class we take the largest of the soft label: a
    stored batch, which is mixed, has no other. w and the smoothing are 0.1, which our source of GIFT does not tell. The
    repository's README prints + cos, a slip of the sign.

    Args:
        scores: of the student, `[N, K]`.
        soft: probabilities p `[N, K]`.
    """
    classes = soft.shape[1]
    smooth = (1 - SMOOTHING) * F.one_hot(soft.argmax(1), classes).to(soft) + SMOOTHING / classes
    refined = GIFT_WEIGHT * F.normalize(smooth, dim=1) + (1 - GIFT_WEIGHT) * F.normalize(soft, dim=1)
    return (1 - F.cosine_similarity(scores, refined, dim=1)).mean()
