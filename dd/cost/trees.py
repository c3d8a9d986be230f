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

# Measured on five TU sets and digits-graphs, 2026-11-29, one core of an EPYC, torch 2.14: 0.3 to 1.0 µs and 45 to 56
# bytes a node, edge and depth, whatever depth is kept.
_SECONDS, _BYTES, _LIBRARIES = 4.7e-7, 50, 1_500_000
_TRIED: Final = 3.0  # seconds that a calibration may take, at the assumed rate


def estimate_mirage(method: Mirage, real: Graphs, device: torch.device, calibrate: bool) -> Estimate:
    """Mirage, whose work grows with the nodes and edges of the training graphs and with the depth.

    Mining depends on how often trees repeat, which is known only afterwards: calibrated, a part of the graphs is
    distilled whole, and the rest taken in proportion.
    """
    size, depth = real.train.num_nodes + real.train.num_edges, method.depth or MAX_DEPTH
    seconds, peak = _SECONDS * size * depth, _LIBRARIES + int(_BYTES * size * depth)
    if calibrate:
        seconds = _measured(method, real, device, min(1.0, _TRIED / max(seconds, 1e-9)))
    return Estimate(stages={"trees": seconds}, disk_bytes=0, set_bytes=0, peak_bytes=peak, measured=calibrate)


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
