"""`dd.membership`: can one tell from a network trained on the set which real images the set was made from?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Unpack, final

import torch
from torch import Tensor

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.seeding import child, child_seed
from dd.base.shapes import as_list, check, check_finite, check_whole
from dd.data import Images, Split
from dd.data.images.splits import JoinedSplit
from dd.errors import InputError, refuse
from dd.evaluation import NetworkLearner
from dd.evaluation.scores import accuracy, auroc
from dd.evaluation.subset import Equipped
from dd.measure.bench import AnyImageSet, Bench, Options, open_bench, some_rows
from dd.measure.values import Values, table
from dd.run.keep import kept
from dd.synthetic import ImageSet

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


Distil = Callable[[Images, int], ImageSet]
"""(real images, seed) → a synthetic set of them."""


@final
@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One attack.

    Attributes:
        name: `loss` or `lira`.
        advantage: true minus false positive rate of each network, in [−1, 1]; 0 is chance.
        auroc: of each network, in [0, 1]; 0.5 is chance.
        tpr: by false positive rate, the true positive rate of each network.
    """

    name: str
    advantage: Values
    auroc: Values
    tpr: Mapping[float, Values]

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "attack": self.name,
            "advantage": self.advantage.to_json(),
            "auroc": self.auroc.to_json(),
            "tpr": {f"{fpr:g}": value.to_json() for fpr, value in self.tpr.items()},
        }


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Membership(Told):
    """What `dd.membership` answers; `print` is a table.

    Attributes:
        rows: one an attack.
        members, others: how many images of each kind were asked about.
        shadows: shadow networks of `lira`.
        advantage_error, auroc_error: standard errors of one network's figures where it gives nothing away.
        accuracy: of each network on members, and on others: `{"members": …, "others": …}`.
        dataset, method, model, origin: what was measured, and where.
    """

    rows: tuple[AttackRow, ...]
    members: int
    others: int
    shadows: int
    advantage_error: float
    auroc_error: float
    accuracy: Mapping[str, Values]
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def row(self, name: str) -> AttackRow:
        """The row of an attack."""
        return next(row for row in self.rows if row.name == name)

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "membership",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "members": self.members,
            "others": self.others,
            "shadows": self.shadows,
            "chance": {"advantage_error": self.advantage_error, "auroc": 0.5, "auroc_error": self.auroc_error},
            "accuracy": {name: value.to_json() for name, value in self.accuracy.items()},
            "attacks": [row.to_json() for row in self.rows],
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        fprs = [*self.rows[0].tpr]
        head = ("attack", "advantage %", "AUROC × 100", *(f"TPR % at {100 * f:g} % FPR" for f in fprs), "n")
        rows = [
            (r.name, r.advantage.text(), r.auroc.text(), *(r.tpr[f].text() for f in fprs), str(r.auroc.n))
            for r in self.rows
        ]
        error = (100 * self.advantage_error, 100 * self.auroc_error)
        rows.append(("chance", f"0 ± {error[0]:.1f}", f"50 ± {error[1]:.1f}", *(f"{100 * f:g}" for f in fprs), ""))
        told = ", ".join(f"{name} {value.text()} %" for name, value in self.accuracy.items())
        return "\n".join(
            [
                f"{self.method} on {self.dataset}, {self.model}: membership of {self.members} training images "
                f"against {self.others} others",
                *table(head, rows),
                f"accuracy on {told}; {self.shadows} shadow networks",
            ]
        )


@under_own_settings
@kept("membership")
def membership(
    small: AnyImageSet,
    data: object,
    *,
    shadows: int = 16,
    images: int = 1000,
    against: Literal["test", "val"] = "test",
    fprs: Sequence[float] = (0.01, 0.001),
    shadow_lr: float | None = None,
    shadow_steps: int | None = None,
    distil: Distil | None = None,
    **options: Unpack[Options],
) -> Membership:
    """Attack networks that were trained on the set: are real training images told from others?

    Members are training images of the data, whether or not the set shows them; others are test (or held-out) images.
    Two attacks see each image's class and the network's output: `loss` thresholds the loss (Yeom et al., CSF 2018), and
    `lira`, the offline likelihood ratio (Carlini et al., S&P 2022), asks whether the network is surer than shadow
    networks that were not trained on the image. A shadow network is trained on a random half of members and others (the
    next one on the other half), so that each image is unknown to half of them. What is a figure of chance is in the
    answer: distributions of training and test images that differ show as membership.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`, with training images: those that the set was made from.
        shadows: shadow networks, an even number ≥ 4; 0 leaves `lira` out.
        images: at most so many members, and as many others, drawn at random.
        against: where others are from. Images of `val` were not trained on either, but chose the iterate.
        fprs: false positive rates whose true positive rates are told.
        shadow_lr: of shadow networks, since the set's step size is made for the set; `None`: tuned on the validation
            split where there is one, else the recipe's.
        shadow_steps: of shadow networks; the recipe's.
        distil: makes the set of a shadow network from its half, for the attack that knows the method.
        **options: see `dd.measure.bench.Options`.

    Returns:
        Advantage, AUROC and true positive rates, each with mean, sample std and n over networks.

    Raises:
        InputError: no training images, none to compare with, an odd number of shadow networks.
        DivergedError: a training is not finite.
    """
    if shadows and (check_whole(shadows, "shadows") % 2 or shadows < 4):
        raise refuse("shadows", "0, or an even number of at least 4", shadows)
    if against not in ("test", "val"):
        raise refuse("against", "`test` or `val`", repr(against))
    bench = open_bench(small, data, **options)
    other = bench.test if against == "test" else bench.real.val
    if other is None:
        raise refuse("against", "`test` for data that holds out no validation split", "'val'")
    members = some_rows(bench.train, images, bench.seed, "members")
    others = some_rows(other, images, bench.seed, "others")
    pool, member = JoinedSplit(members, others), torch.arange(len(members) + len(others)) < len(members)
    targets = bench.networks()
    outputs = [target.logits(pool) for target in targets]
    scores = [true_label_scores(output, pool.labels) for output in outputs]
    asked: dict[str, list[Tensor]] = {"loss": [log_p for log_p, _ in scores]}
    if shadows:
        shadow = dataclasses.replace(bench.learner, lr=shadow_lr or bench.learner.lr)
        if shadow_steps is not None:
            shadow = dataclasses.replace(shadow, steps=shadow_steps)
        phi, inside = _shadow_scores(bench, shadow, pool, shadows, shadow_lr is None, distil)
        asked["lira"] = [likelihood_ratio_scores(own, phi, inside) for _, own in scores]
    found = {name: [attack(s, member, tuple(as_list(fprs)), bench.seed) for s in each] for name, each in asked.items()}
    share, area = chance_errors(len(members), len(others))
    return Membership(
        rows=tuple(_row(name, each) for name, each in found.items()),
        members=len(members),
        others=len(others),
        shadows=shadows,
        advantage_error=share,
        auroc_error=area,
        accuracy={
            name: Values(tuple(accuracy(output[rows], pool.labels[rows]) for output in outputs))
            for name, rows in (("members", member), ("others", ~member))
        },
        **bench.about,
    )


def _row(name: str, each: Sequence[Attack]) -> AttackRow:
    return AttackRow(
        name=name,
        advantage=Values(tuple(a.advantage for a in each)),
        auroc=Values(tuple(a.auroc for a in each)),
        tpr={fpr: Values(tuple(a.tpr[fpr] for a in each)) for fpr in each[0].tpr},
    )


def halves(count: int, shadows: int, seed: int) -> Tensor:
    """Which images each shadow network is trained on, bool `[S, N]`: random halves, every second one the complement."""
    inside = torch.zeros(shadows, count, dtype=torch.bool)
    for pair in range(shadows // 2):
        order = torch.randperm(count, generator=child(seed, "shadow", pair))
        inside[2 * pair, order[: count // 2]] = True
        inside[2 * pair + 1] = ~inside[2 * pair]
    return inside


def _shadow_scores(
    bench: Bench, learner: NetworkLearner, pool: Split, shadows: int, tune: bool, distil: Distil | None
) -> tuple[Tensor, Tensor]:
    """Logits of the true class by shadow networks `[S, N]`, and what each was trained on, bool `[S, N]`."""
    inside, phi = halves(len(pool), shadows, bench.seed), []
    for s in range(shadows):
        rows, seed = inside[s].nonzero()[:, 0], child_seed(bench.seed, "shadow network", s)
        half = bench.real_images(pool.subset(rows))
        train_on: Equipped = half if distil is None else _distilled(bench, pool.subset(rows), distil, seed)
        if s == 0 and tune and distil is None and bench.real.val is not None:
            lr = dataclasses.replace(bench, learner=learner).learner_for(half, tuned=True).lr
            learner = dataclasses.replace(learner, lr=lr)
        network = learner.fit(train_on, seed)
        phi.append(true_label_scores(network.logits(pool), pool.labels)[1])
        bench.progress(s + 1, shadows, "shadow networks")
    return torch.stack(phi), inside


def _distilled(bench: Bench, half: Split, distil: Distil, seed: int) -> ImageSet:
    real = bench.real
    made = distil(Images(train=half, classes=real.classes, mean=real.mean, std=real.std, name=real.name), seed)
    if not isinstance(made, ImageSet):
        raise InputError(f"`distil` must return an image set; got {type(made).__name__}.")
    return made
