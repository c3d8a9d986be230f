"""`dd.calibration`: whether networks trained on the set that say 80 % are right in 80 % of these cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Unpack, final

import torch
from torch import Tensor

from dd.base.markup import Told
from dd.base.process import under_own_settings
from dd.base.shapes import check, check_finite, check_whole
from dd.errors import refuse
from dd.measure.bench import AnyImageSet, Options, open_bench
from dd.measure.values import Values, table
from dd.run.keep import kept

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


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Calibration(Told):
    """What `dd.calibration` answers; `print` is a table.

    Attributes:
        figures: by name (see `calibration_figures`), one value a network.
        bins: of the calibration errors.
        images: test images.
        dataset, method, model, origin: what was measured, and where.
    """

    figures: Mapping[str, Values]
    bins: int
    images: int
    dataset: str
    method: str
    model: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON-able values."""
        return {
            "measure": "calibration",
            "dataset": self.dataset,
            "method": self.method,
            "model": self.model,
            "bins": self.bins,
            "images": self.images,
            "figures": {name: value.to_json() for name, value in self.figures.items()},
            "origin": dict(self.origin),
        }

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), value.text(1, 4), str(value.n)) for name, value in self.figures.items()]
        head = (
            f"{self.method} on {self.dataset}, {self.model}: calibration on {self.images} test images, {self.bins} bins"
        )
        return "\n".join([head, *table(("figure", "value", "n"), rows)])


@under_own_settings
@kept("calibration")
def calibration(small: AnyImageSet, data: object, *, bins: int = BINS, **options: Unpack[Options]) -> Calibration:
    """Calibration of networks trained on the set, on test images: expected, adaptive and class-wise error.

    Args:
        small: an image set, its file or its run folder.
        data: as in `dd.evaluate`.
        bins: of confidence.
        **options: see `dd.measure.bench.Options`.

    Returns:
        `accuracy`, `confidence`, `ece`, `adaptive_ece`, `class_ece` (fractions), `nll`, `brier`; each with mean, sample
        std and n over networks.

    Raises:
        InputError: an argument out of range.
        DivergedError: a training is not finite.
    """
    check_whole(bins, "bins")
    bench = open_bench(small, data, **options)
    found = [calibration_figures(net.logits(bench.test), bench.test.labels, bins) for net in bench.networks()]
    return Calibration(
        figures={name: Values(tuple(each[name] for each in found)) for name in found[0]},
        bins=bins,
        images=len(bench.test),
        **bench.about,
    )
