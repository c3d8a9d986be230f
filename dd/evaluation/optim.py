"""Optimiser, step size and loss of a `TrainRecipe`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dd.inner import cross_entropy
from dd.synthetic import TrainRecipe


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


def distillation_loss(scores: Tensor, y: Tensor, recipe: TrainRecipe) -> Tensor:
    """Mean loss of student scores `[N, K]`; y as `TrainRecipe.loss` says: labels, probabilities, or teacher logits."""
    if recipe.loss == "ce":
        return cross_entropy(scores, y)
    t = recipe.temperature
    log_student, log_teacher = F.log_softmax(scores / t, 1), F.log_softmax(y.to(scores.dtype) / t, 1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
