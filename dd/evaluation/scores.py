"""Figures of merit: AUROC and accuracy from scores, and the interval of a difference over overlapping splits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from dd.base.parts import Parts
from dd.base.shapes import check, check_finite, check_whole
from dd.errors import refuse, unknown


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve in [0, 1]: P(score of a positive > score of a negative) + half of that of a tie.

    From ranks, (Σ ranks of positives − n₊(n₊ + 1) / 2) / (n₊ n₋), ties having their mean rank.

    Args:
        scores: `[N]`, larger for class 1; or `[N, K]`, one column a class. K = 2 ranks by the difference of the
            columns. K > 2 gives the plain mean over classes of one against the rest by that column: give
            log-probabilities, since logits of different rows do not compare.
        labels: int64 `[N]`, classes.

    Raises:
        InputError: another shape, numbers that are not finite, or a class that is not there.
    """
    if scores.ndim == 2 and scores.shape[1] > 2:
        check(labels, "labels", "N", N=len(scores))
        check_classes(labels, scores.shape[1])
        return sum(auroc(column, (labels == k).long()) for k, column in enumerate(scores.t())) / scores.shape[1]
    if scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1].double() - scores[:, 0].double()
    check(scores, "scores", "N")
    check(labels, "labels", "N", N=len(scores))
    check_finite(scores, "scores")
    check_classes(labels, 2)
    _, value, count = torch.unique(scores, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank = (last - (count.double() - 1) / 2)[value]
    positive = labels == 1
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(labels) - n)))


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of rows in [0, 1] whose largest score is that of their class; of equal scores the first counts.

    Args:
        scores: `[N, K]`.
        labels: int64 `[N]`, classes.

    Raises:
        InputError: another shape, no rows, or numbers that are not finite.
    """
    check(scores, "scores", "N K")
    check(labels, "labels", "N", N=len(scores))
    check_finite(scores, "scores")
    if not len(scores):
        raise refuse("scores", "of at least one row", "none")
    return float((scores.argmax(1) == labels).double().mean())


def recall(scores: Tensor, labels: Tensor) -> Tensor:
    """Share of each class's rows whose largest score is that of the class, float64 `[K]`; NaN for a class without rows.

    Args:
        scores: `[N, K]`.
        labels: int64 `[N]`, classes.

    Raises:
        InputError: another shape, or numbers that are not finite.
    """
    check(scores, "scores", "N K")
    check(labels, "labels", "N", N=len(scores))
    check_finite(scores, "scores")
    right = labels[scores.argmax(1) == labels]
    return torch.bincount(right, minlength=scores.shape[1]).double() / torch.bincount(labels, minlength=scores.shape[1])


def balanced_accuracy(scores: Tensor, labels: Tensor) -> float:
    """Mean recall in [0, 1] of the classes that are there: chance and the largest class alone score 1 / K.

    Args:
        scores: `[N, K]`.
        labels: int64 `[N]`, classes.

    Raises:
        InputError: another shape, no rows, or numbers that are not finite.
    """
    if not len(scores):
        raise refuse("scores", "of at least one row", "none")
    return float(recall(scores, labels).nanmean())


def comparable(logits: Tensor) -> Tensor:
    """Logits `[N, K]` as scores whose rows compare: float64 log-probabilities, or as they are for two classes."""
    return logits if logits.shape[1] == 2 else logits.double().log_softmax(1)


METRICS: Final[dict[str, Callable[[Tensor, Tensor], float]]] = {
    "auroc": auroc,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}


@final
@dataclass(frozen=True)
class Figures:
    """What one network's scores on a split say.

    Attributes:
        metrics: `accuracy`, `balanced_accuracy`, `auroc` for two classes that are both there, and the one asked for.
        recall: of each class in label order; `None` for a class without rows.
    """

    metrics: Mapping[str, float]
    recall: tuple[float | None, ...]


def shared_figures(parts: Parts, places: Sequence[int], one: Callable[[int], Figures]) -> list[Figures]:
    """The figures of some networks, which several processes train; `one` trains and scores that of a place."""

    def make(place: int) -> dict[str, Tensor]:
        found = one(place)
        recalls = [math.nan if share is None else share for share in found.recall]
        told = {"recall": torch.tensor(recalls, dtype=torch.float64)}
        for number, (name, value) in enumerate(found.metrics.items()):
            told[f"{number}/{name}"] = torch.tensor([value], dtype=torch.float64)
        return told

    def read(tensors: Mapping[str, Tensor]) -> Figures:
        names = sorted(name for name in tensors if name != "recall")
        metrics = {name.partition("/")[2]: float(tensors[name]) for name in names}
        recalls = tensors["recall"].tolist()
        return Figures(metrics, tuple(None if math.isnan(share) else share for share in recalls))

    return [read(tensors) for tensors in parts.each("network", places, make)]


def figures(scores: Tensor, labels: Tensor, metric: str = "accuracy") -> Figures:
    """All figures of a network at once.

    Args:
        scores: `[N, K]`, log-probabilities, or logits of two classes.
        labels: int64 `[N]`, classes.
        metric: of `METRICS`; AUROC of more than two classes is dear and made only where it is asked for.

    Raises:
        InputError: an unknown metric, one that has no value on these labels, or numbers that are not finite.
    """
    classes = scores.shape[1]
    check_metric(metric, labels, classes)
    check_finite(scores, "scores")
    told = recall(scores, labels)
    found = {"accuracy": accuracy(scores, labels), "balanced_accuracy": float(told.nanmean())}
    if metric == "auroc" or (classes == 2 and len(labels.unique()) == 2):
        found["auroc"] = auroc(scores, labels)
    return Figures(found, tuple(None if math.isnan(share) else share for share in told.tolist()))


def check_classes(labels: Tensor, classes: int) -> None:
    """Refuse labels that are not all of 0 … `classes` − 1: AUROC has no value without positives or negatives."""
    present = set(labels.unique().tolist())
    if present != set(range(classes)):
        missing, foreign = sorted(set(range(classes)) - present), sorted(present - set(range(classes)))
        got = f"none of class {', '.join(map(str, missing))}" if missing else f"class {', '.join(map(str, foreign))}"
        way_out = "AUROC needs every class in the split: use metric='accuracy' or another split."
        raise refuse("labels", f"of all the classes 0 … {classes - 1}", got, way_out)


def check_metric(metric: str, labels: Tensor, classes: int) -> None:
    """Refuse a metric that is unknown or has no value on a split with these labels."""
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if metric == "auroc":
        check_classes(labels, classes)


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval [`low`, `high`]."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4g} [{self.low:+.4g}, {self.high:+.4g}]"


def corrected_interval(differences: Sequence[float], train: int, test: int, confidence: float = 0.95) -> Interval:
    """Confidence interval of a mean difference between two methods on the same n splits of one data set.

        mean ± t_{n−1} · s · √(1 / n + n_test / n_train)

    s is the sample standard deviation (n − 1). Splits that share training data give figures that are not independent,
    so the plain √(1 / n) is too narrow; n_test / n_train is the correction of Nadeau and Bengio (Machine Learning 52,
    2003) for random splits.

    Args:
        differences: one a split, n ≥ 2.
        train, test: graphs of each split, as counted in its training and test part.
        confidence: in (0, 1).

    Raises:
        InputError: fewer than two differences, or a number out of range.
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        raise refuse("differences", "those of at least two splits", n)
    check_whole(train, "train")
    check_whole(test, "test")
    if not 0 < confidence < 1:
        raise refuse("confidence", "between 0 and 1", confidence)
    mean = sum(differences) / n
    std = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * std * math.sqrt(1 / n + test / train)
    return Interval(mean, mean - half, mean + half)
