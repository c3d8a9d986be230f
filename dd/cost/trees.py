"""What Mirage will cost: refinement of all training graphs, and mining."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Final

import torch

from dd.cost.estimate import Estimate
from dd.cost.meter import timed
from dd.data import Graphs
from dd.methods import Mirage, Run
from dd.methods.mirage.method import MAX_DEPTH
from dd.methods.mirage.select import VISITS

# Measured on five TU sets and digits-graphs, 2026-11-29, one core of an EPYC, torch 2.14: 0.3 to 1.0 µs and 45 to 56
# bytes a node, edge and depth, whatever depth is kept.
_SECONDS, _BYTES, _LIBRARIES = 4.7e-7, 50, 1_500_000
# A pattern on digits-graphs, 2026-11-30: 0.16 to 0.20 ms, some 3 kB, and 13 to 27 bytes of budgets from 2 kB to 10 MB.
_PATTERN_SECONDS, _PATTERN_BYTES, _PATTERN_COST = 2e-4, 3000, 20
_SOME: Final = 10_000  # bytes of a budget that a calibration spends at most
_TRIED: Final = 3.0  # seconds that a calibration may take, at the assumed rate


def estimate_mirage(method: Mirage, real: Graphs, device: torch.device, calibrate: bool) -> Estimate:
    """Mirage, whose work grows with the nodes and edges of the training graphs, with the depth and with the budget.

    How many patterns a budget buys depends on how often trees repeat, which is known only afterwards: they are taken
    to be small, up to those that mining looks at. Calibrated, a part of the graphs is distilled whole at a budget of
    10 kB at most, the rest of the graphs is taken in proportion, and that of the budget as it is assumed.
    """
    size, depth = real.train.num_nodes + real.train.num_edges, method.depth or MAX_DEPTH
    seconds, patterns = _SECONDS * size * depth, _bought(method, real)
    if calibrate:
        some = method
        if method.budget_bytes is not None:
            some = dataclasses.replace(method, budget_bytes=min(method.budget_bytes, _SOME))
        seconds = _measured(some, real, device, min(1.0, _TRIED / max(seconds, 1e-9)))
    peak = _LIBRARIES + int(_BYTES * size * depth) + _PATTERN_BYTES * patterns
    stages = {"trees": seconds, "mining": _PATTERN_SECONDS * patterns}
    return Estimate(stages=stages, disk_bytes=0, set_bytes=0, peak_bytes=peak, measured=calibrate)


def _bought(method: Mirage, real: Graphs) -> int:
    """Patterns that a budget buys, at most; by thresholds of support nobody knows."""
    if method.budget_bytes is None:
        return 0
    looked = {"single": real.train.num_nodes, "maximal": real.num_classes * VISITS}
    return min(
        method.budget_bytes // _PATTERN_COST, looked.get(method.patterns, real.num_classes * method.max_patterns)
    )


def _measured(method: Mirage, real: Graphs, device: torch.device, share: float) -> float:
    """Seconds of the whole, from a share of the training graphs of every class."""
    labels, rows = real.train.labels, []
    for k in range(real.num_classes):
        own = (labels == k).nonzero().flatten()
        rows.append(own[: max(2, round(share * len(own)))])
    train = real.train.subset(torch.cat(rows).sort().values)
    part = dataclasses.replace(real, train=train)

    def once() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run says it of the whole
            next(iter(method.distill(part, Run(device=device))))

    seconds = min(timed(once, device)[0] for _ in range(2))
    return seconds * (real.train.num_nodes + real.train.num_edges) / (train.num_nodes + train.num_edges)
