"""Calls that a run makes many times: what one costs by its passes, or by a few short trials of the real thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from dd.cost.forward import Forward
from dd.cost.meter import timed

_PILOT: Final = 0.12  # seconds of a first call, at the assumed rate
_TRIALS: Final = 3  # of which the quickest counts
SECONDS: Final = 6.0
"""Seconds that all trials of a calibration may take together, on a machine as fast as is assumed."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of call of a run.

    Attributes:
        stage: of the estimate, which its seconds belong to.
        calls: in the whole run; an expectation where it is drawn.
        images: of one call.
        network: which they go through.
        passes: forward passes that a call costs an image.
        trial: `f(images, calls)` makes a few calls with fewer images, as the run does.
        least: images that a call needs.
    """

    stage: str
    calls: float
    images: int
    network: Forward
    passes: float
    trial: Callable[[int, int], object]
    least: int = 1

    def assumed(self, rate: float) -> float:
        """Seconds of one call by its passes."""
        return self.network.seconds(self.images, self.passes, rate)

    def measured(self, device: torch.device, rate: float, budget: float) -> float:
        """Seconds of one call: those of the quickest of several short trials, in proportion to its images."""
        few = max(self.least, min(self.images, int(_PILOT / self.network.seconds(1, self.passes, rate))))
        self.trial(few, 1)  # libraries and kernels are warm from here on
        first, _ = timed(lambda: self.trial(few, 1), device)
        each = budget / (_TRIALS + 1)
        images = max(few, min(self.images, int(few * each / (2 * max(first, 1e-6)))))
        calls = max(1, min(50, int(each / (max(first, 1e-6) * images / few))))
        times = [timed(lambda: self.trial(images, calls), device)[0] for _ in range(_TRIALS)]
        return min(times) / calls * self.images / images


def stages(works: Sequence[Work], device: torch.device, rate: float, calibrate: bool) -> tuple[dict[str, float], float]:
    """(seconds of each stage in the order of the calls, FLOP/s of the first kind)."""
    found: dict[str, float] = {}
    first = rate
    for place, work in enumerate(works):
        one = work.measured(device, rate, SECONDS / len(works)) if calibrate else work.assumed(rate)
        found[work.stage] = found.get(work.stage, 0.0) + work.calls * one
        if calibrate and not place:
            first = work.images * work.passes * work.network.flops / one
    return found, first
