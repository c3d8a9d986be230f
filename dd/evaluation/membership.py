"""Membership inference: does a network give away which images were trained on? Scores, thresholds and their errors."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dd.errors import refuse
from dd.evaluation.scores import auroc
from dd.seeding import child
from dd.shapes import check, check_finite

FEW_SHADOWS: Final = 64
"""Below this many shadow networks one variance is shared by all images, as Carlini et al. advise."""


class Attack(NamedTuple):
    """How well scores tell members from non-members.

    Attributes:
        advantage: true minus false positive rate, in [−1, 1], at a threshold that was chosen on the other half of the
            images; 0 is chance.
        auroc: in [0, 1]; 0.5 is chance.
        tpr: true positive rate at each false positive rate asked for, fractions.
    """

    advantage: float
    auroc: float
    tpr: dict[float, float]


def true_label_scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of the true class y: log p_y, and the logit log p_y − log(1 − p_y), float64 `[N]` each; larger is more confident.

    −log p_y is the loss that Yeom et al. threshold. The logit, log p_y − log Σ_{k≠y} p_k computed from logits and so
    without cancellation, is nearly normal over networks, which the likelihood ratio needs (Carlini et al., section IV).

    Args:
        logits: `[N, K]`, K ≥ 2.
        labels: int64 `[N]`.

    Raises:
        InputError: another shape, or not finite.
    """
    check(logits, "logits", "N K")
    check(labels, "labels", "N", N=len(logits))
    z = check_finite(logits, "logits").double()
    own = z.gather(1, labels[:, None])[:, 0]
    others = z.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return own - z.logsumexp(1), own - others


def likelihood_ratio_scores(target: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """LiRA, offline: −log P(Z ≥ z), z = (φ − μ_out) / σ_out, Z standard normal; float64 `[N]`, larger for members.

    Carlini et al., "Membership Inference Attacks From First Principles" (IEEE S&P 2022), section VI: φ is the target's
    logit of the true class, μ_out and σ_out those of shadow networks that were not trained on the image. One-sided: a
    member is fitted better than these. With fewer than 64 of them σ is shared by all images.

    Args:
        target: φ of the network under attack, `[N]`.
        shadows: φ of S ≥ 2 shadow networks, `[S, N]`.
        inside: bool `[S, N]`: shadow s was trained on image i.

    Raises:
        InputError: another shape; an image that fewer than two shadow networks have not seen.
    """
    check(target, "target", "N")
    check(shadows, "shadows", "S N", N=len(target))
    check(inside, "inside", "S N", S=len(shadows), N=len(target))
    out = ~inside.bool()
    count = out.sum(0)
    if int(count.min()) < 2:
        got = f"{int(count.min())} for one of them"
        raise refuse("shadows", "at least two that were not trained on each image", got, "Train more of them.")
    phi = shadows.double()
    mean = torch.where(out, phi, 0).sum(0) / count
    square = torch.where(out, (phi - mean).square(), 0)
    if len(shadows) < FEW_SHADOWS:
        std = (square.sum() / (count - 1).sum()).sqrt().expand(len(target))
    else:
        std = (square.sum(0) / (count - 1)).sqrt()
    z = (target.double() - mean) / std.clamp_min(1e-12)
    return -torch.special.log_ndtr(-z)


def rates(scores: Tensor, member: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds, highest first, with the true and false positive rate of `score ≥ threshold`, each `[M]`, M ≤ N."""
    values, place = torch.unique(scores, return_inverse=True)
    hits = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, member.double()).flip(0).cumsum(0)
    false = torch.zeros(len(values), dtype=torch.float64).index_add(0, place, (~member).double()).flip(0).cumsum(0)
    return values.flip(0), hits / hits[-1], false / false[-1]


def tpr_at(scores: Tensor, member: Tensor, fpr: float) -> float:
    """Largest true positive rate of a threshold whose false positive rate is at most `fpr`; 0 if none is."""
    _, true, false = rates(scores, member)
    return float(torch.where(false <= fpr + 1e-12, true, 0).max())


def advantage(scores: Tensor, member: Tensor, seed: int = 0) -> float:
    """True minus false positive rate (Yeom et al., CSF 2018), each half of the images at the other's best threshold.

    The best threshold of the same images would look good on pure noise: its advantage is a Kolmogorov-Smirnov distance,
    which is never negative.

    Args:
        scores: `[N]`, larger for members.
        member: bool `[N]`, at least two of each kind.
        seed: of the halves.
    """
    half = torch.zeros(len(scores), dtype=torch.int64)
    for kind, of_kind in enumerate((member, ~member)):
        rows = of_kind.nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=child(seed, "halves", kind))]
        half[rows[len(rows) // 2 :]] = 1
    found = []
    for side in (0, 1):
        here, there = half == side, half != side
        threshold, true, false = rates(scores[there], member[there])
        best = threshold[(true - false).argmax()]
        said = scores[here] >= best
        found.append(float(said[member[here]].double().mean() - said[~member[here]].double().mean()))
    return sum(found) / 2


def attack(scores: Tensor, member: Tensor, fprs: tuple[float, ...] = (0.01,), seed: int = 0) -> Attack:
    """How well scores tell members from non-members.

    Args:
        scores: `[N]`, larger for members; finite.
        member: bool `[N]`, at least two members and two non-members.
        fprs: false positive rates in [0, 1].
        seed: of the halves of `advantage`.

    Raises:
        InputError: another shape, too few of a kind, a rate outside [0, 1].
    """
    check(scores, "scores", "N")
    check(member, "member", "N", N=len(scores))
    check_finite(scores, "scores")
    member = member.bool()
    few = min(int(member.sum()), int((~member).sum()))
    if few < 2:
        raise refuse("member", "at least two members and two non-members", f"{few} of a kind")
    for fpr in fprs:
        if not 0 <= fpr <= 1:
            raise refuse("fprs", "fractions in [0, 1]", fpr)
    at = {fpr: tpr_at(scores, member, fpr) for fpr in fprs}
    return Attack(advantage(scores, member, seed), auroc(scores, member.long()), at)


def chance_errors(members: int, others: int) -> tuple[float, float]:
    """Standard errors of `advantage` and of AUROC where scores know nothing.

    Of a difference of two shares, at worst (p = ½), √(1 / (4 m) + 1 / (4 n)); of AUROC, from the rank-sum statistic,
    √((m + n + 1) / (12 m n)). They hold for one network and independent images.
    """
    share = math.sqrt(1 / (4 * members) + 1 / (4 * others))
    return share, math.sqrt((members + others + 1) / (12 * members * others))
