"""CV-DD's prior-performance-guided voting: how a committee's members weigh, and which of them vote for which image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch

from dd.base.seeding import child
from dd.base.shapes import check_number, check_whole
from dd.errors import refuse

MEMBERS: Final = ("resnet18", "resnet50", "shufflenet_v2", "mobilenet_v2", "densenet121")
"""The published committee in the order of its pair list."""

PUBLISHED_PRIORS: Final[Mapping[str, tuple[float, ...]]] = {
    "cifar10": (63.0, 65.3, 68.5, 67.6, 67.4),
    "cifar100": (64.0, 60.6, 51.6, 59.4, 56.4),
    "tiny-imagenet": (46.5, 28.3, 43.6, 44.8, 41.5),
    "imagenette": (62.4, 52.0, 57.2, 54.0, 60.8),
    "imagenet": (56.4, 42.3, 52.5, 44.2, 40.6),
}
"""α of `MEMBERS` in per cent, from recover/recover.py of CV-DD at 24097e9. They are accuracies on the **test** set, of
sets distilled by one member alone; we measure priors on held-out training data."""

PUBLISHED_FIRST_PAIR: Final[Mapping[str, tuple[str, str]]] = {
    "cifar10": ("mobilenet_v2", "densenet121"),
    "cifar100": ("shufflenet_v2", "mobilenet_v2"),
    "tiny-imagenet": ("resnet18", "mobilenet_v2"),
    "imagenette": ("mobilenet_v2", "densenet121"),
    "imagenet": ("resnet18", "shufflenet_v2"),
}
"""The pair of ipc 1 in the authors' code: the two best priors for Tiny-ImageNet and ImageNet only."""

RECOVER_TAU: Final = 5.0
LABEL_TAU: Final = 10.0

Schedule = Literal["auto", "top", "cycle", "random"]
SCHEDULES: Final = ("auto", "top", "cycle", "random")


def vote_weights(priors: Sequence[float], tau: float = RECOVER_TAU) -> tuple[float, ...]:
    """Weights w_m = exp(α_m / τ) / Σ_j exp(α_j / τ).

    Args:
        priors: α, in per cent, one a member that votes.
        tau: τ > 0; the papers have 5 for recovery and 10 for labels; infinite for equal weights.

    Raises:
        InputError: no member, a prior that is not finite, or τ ≤ 0.
    """
    if not priors:
        raise refuse("priors", "one a member", "none")
    for alpha in priors:
        check_number(alpha, "priors")
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 0:
        raise refuse("tau", "positive", repr(tau))
    top = max(priors)
    powers = [math.exp((alpha - top) / tau) for alpha in priors]
    return tuple(power / sum(powers) for power in powers)


def voters(
    members: int,
    ipc: int,
    *,
    count: int = 2,
    schedule: Schedule = "auto",
    priors: Sequence[float] | None = None,
    seed: int = 0,
) -> list[tuple[int, ...]]:
    """Which members vote for image 0…ipc−1 of every class.

    Args:
        members: size of the committee.
        ipc: images a class.
        count: members that vote for one image; the whole committee where it is smaller.
        schedule: `top`: the best priors for every image; `cycle`: every combination in turn, in the order of
            `MEMBERS` (the authors' list for ipc 10 is the ten pairs of five; theirs ends there, ours goes round);
            `random`: drawn without replacement for each image; `auto`: `top` for ipc 1, `cycle` up to as many images
            as there are combinations, else `random`, as the authors do for 1, 10 and 50.
        priors: α of all members; read by `top` only. Equal ones go in the members' order.
        seed: of `random`; image i draws from a stream of its own, so a longer set begins as a shorter one does.

    Raises:
        InputError: a count or schedule out of range, or `top` without priors.
    """
    for name, value in (("members", members), ("ipc", ipc), ("count", count)):
        check_whole(value, name)
    if schedule not in SCHEDULES:
        raise refuse("schedule", "`auto`, `top`, `cycle` or `random`", repr(schedule))
    count = min(count, members)
    pairs = list(itertools.combinations(range(members), count))
    if schedule == "auto":
        schedule = "top" if ipc == 1 else "cycle" if ipc <= len(pairs) else "random"
    if schedule == "top":
        if priors is None or len(priors) != members:
            got = "none" if priors is None else len(priors)
            raise refuse("priors", f"{members} numbers, one a member", got, "Or choose another `schedule`.")
        best = sorted(range(members), key=lambda m: -priors[m])[:count]
        return [tuple(sorted(best))] * ipc
    if schedule == "cycle":
        return [pairs[i % len(pairs)] for i in range(ipc)]
    draws = (torch.randperm(members, generator=child(seed, "voters", i))[:count] for i in range(ipc))
    return [tuple(sorted(draw.tolist())) for draw in draws]
