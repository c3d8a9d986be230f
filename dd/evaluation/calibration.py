"""Calibration: whether a network that says 80 % is right in 80 % of these cases."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dd.errors import refuse
from dd.shapes import check, check_finite, check_whole

BINS: Final = 15


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS, adaptive: bool = False) -> float:
    """Expected calibration error: Σ_b (n_b / n) |mean of `right` in b − mean of `confidence` in b|, in [0, 1].

    Naeini, Cooper and Hauskrecht (AAAI 2015), Guo et al. (ICML 2017). Bin b of the plain form holds confidences in
    (b / B, (b + 1) / B]; 0 is in the first.

    Args:
        confidence: `[n]` in [0, 1].
        right: `[n]`, bool or 0 and 1: whether what was predicted with that confidence is so.
        bins: B.
        adaptive: bins of equally many cases (by one at most) in rising order of confidence instead (Nguyen and
            O'Connor, EMNLP 2015): a network that is always sure would have a single plain bin.

    Raises:
        InputError: another shape, no case, or a confidence outside [0, 1].
    """
    confidence, right = check(confidence, "confidence", "N").double(), check(right, "right", "N", N=len(confidence))
    check_finite(confidence, "confidence")
    check_whole(bins, "bins")
    n = len(confidence)
    if not n:
        raise refuse("confidence", "of at least one case", "none")
    if float(confidence.min()) < 0 or float(confidence.max()) > 1 + 1e-6:
        raise refuse("confidence", "in [0, 1]", f"{float(confidence.min()):g} … {float(confidence.max()):g}")
    if adaptive:
        place = torch.empty(n, dtype=torch.int64)
        place[confidence.argsort(stable=True)] = torch.arange(n) * bins // n
    else:
        place = (torch.ceil(confidence * bins) - 1).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, place, right.double() - confidence)
    return float(gap.abs().sum() / n)


def class_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Calibration error of "it is class k" for every class, float64 `[K]`; the mean is the class-wise ECE.

    Kull et al. (NeurIPS 2019). For a class, every image counts, with the probability that the network gives that class.

    Args:
        probabilities: `[N, K]`.
        labels: int64 `[N]`.
        bins: as in `calibration_error`.

    Raises:
        InputError: as `calibration_error`.
    """
    check(probabilities, "probabilities", "N K")
    check(labels, "labels", "N", N=len(probabilities))
    errors = [calibration_error(column, labels == k, bins) for k, column in enumerate(probabilities.t())]
    return torch.tensor(errors, dtype=torch.float64)


def calibration_figures(logits: Tensor, labels: Tensor, bins: int = BINS) -> dict[str, float]:
    """Accuracy, mean confidence and calibration of a network.

    Args:
        logits: `[N, K]`.
        labels: int64 `[N]`.
        bins: as in `calibration_error`.

    Returns:
        `accuracy`, `confidence` (mean largest probability), `ece`, `adaptive_ece`, `class_ece` (mean over classes),
        `nll` (mean −log p of the class), `brier` (mean Σ_k (p_k − 1[k is the class])², in [0, 2]).

    Raises:
        InputError: as `calibration_error`.
    """
    check(logits, "logits", "N K")
    check(labels, "labels", "N", N=len(logits))
    check_finite(logits, "logits")
    log_p = logits.double().log_softmax(1)
    p = log_p.exp()
    confidence, predicted = p.max(1)
    right = predicted == labels
    truth = torch.nn.functional.one_hot(labels, p.shape[1])
    return {
        "accuracy": float(right.double().mean()),
        "confidence": float(confidence.mean()),
        "ece": calibration_error(confidence, right, bins),
        "adaptive_ece": calibration_error(confidence, right, bins, adaptive=True),
        "class_ece": float(class_calibration_error(p, labels, bins).mean()),
        "nll": float(-log_p.gather(1, labels[:, None]).mean()),
        "brier": float((p - truth).square().sum(1).mean()),
    }
