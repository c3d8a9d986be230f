"""What baselines of real images that ask no network will cost: reading, and a whitening where they have one."""

from __future__ import annotations

import math
from typing import Final

import torch

from dd.cost.estimate import Estimate
from dd.cost.forward import assumed_rate
from dd.cost.matching import whitening_seconds
from dd.cost.memory import whitening_bytes
from dd.cost.meter import timed
from dd.data import Images, class_counts
from dd.methods import ClassMean, RandomReal
from dd.methods.start import check_small

_READ: Final = 4e8  # bytes a second of float32 pixels out of memory
_SOME: Final = 200
_BLOCK: Final = 1000  # images that a mean is summed over at once
# Bytes, measured on small cells (scripts/bench/estimate.py): of libraries, of a number in a mean, copies of the set.
_LIBRARIES, _SUMMED, _COPIES = 2_000_000, 24, 12


def estimate_plain(method: RandomReal | ClassMean, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Random real images and class means; what their run refuses at its only step is refused."""
    check_small(real, method.ipc, method.layout)
    pixels, count = math.prod(real.train.shape), len(real.train)
    total, layout = sum(class_counts(real, method.ipc)), method.layout
    read = count if isinstance(method, ClassMean) else total * layout.small
    rate = _reading(real, device) if calibrate else _READ / (4 * pixels)
    seconds, kept, fit = read / rate, 0, 0
    if method.whiten:
        seconds += whitening_seconds(real, assumed_rate(device))
        kept, fit = whitening_bytes(count, pixels)
    made, held = total * (layout.itemsize * pixels + 8), total * layout.copies * (4 * pixels + 8)
    block = min(_BLOCK, -(-count // real.num_classes)) if isinstance(method, ClassMean) else 0
    peak = _LIBRARIES + max(fit, kept + _COPIES * held + _SUMMED * block * pixels)
    return Estimate(stages={"choice": seconds}, disk_bytes=0, set_bytes=made, peak_bytes=peak, measured=calibrate)


def _reading(real: Images, device: torch.device) -> float:
    """Images a second, the quickest of three looks at some."""
    rows = torch.linspace(0, len(real.train) - 1, min(_SOME, len(real.train))).long()
    times = [timed(lambda: real.train.pixels(rows), device)[0] for _ in range(3)]
    return len(rows) / max(min(times), 1e-6)
