"""What small graphs for node classification will cost: products along edges, and looks at pairs of training nodes."""

from __future__ import annotations

from typing import Final

import torch

from dd.cost.estimate import Estimate
from dd.cost.meter import timed
from dd.data.nodes.nodes import Nodes
from dd.data.nodes.propagate import propagated
from dd.methods.nodes.bonsai import Bonsai
from dd.methods.nodes.means import NodeMeans

# Seconds of one core, measured on Cora, CiteSeer and a block model of 200,000 nodes, 2 M edges and 20,000 training
# nodes (scripts/bench/nodes.py, 2026-11-29, EPYC, torch 2.14): a node or edge and feature; a pair of training nodes and
# feature.
_ALONG: Final = {"means": 3.4e-8, "bonsai": 1.9e-8}
_PAIRS: Final = 6.4e-10
_PRODUCT: Final = 2.5e-9  # of two hops alone, by which a calibration compares machines
_COPIES, _EDGE, _LIBRARIES = 16, 60, 2_000_000  # float32 copies of the features; bytes an edge; of libraries


def estimate_nodes(method: NodeMeans | Bonsai, real: Nodes, device: torch.device, calibrate: bool) -> Estimate:
    """`node_means` and `bonsai`; calibrated, features are propagated once, and all is taken in proportion."""
    graph = real.seen(method.setting)
    features, size = graph.x.shape[1], len(graph) + graph.num_edges
    trained = int(real.nodes_per_class.sum())
    along = _ALONG["means" if isinstance(method, NodeMeans) else "bonsai"]
    seconds = features * (along * size + _PAIRS * trained**2)
    if calibrate:
        found = min(timed(lambda: propagated(graph, 2, "none"), device)[0] for _ in range(3))
        seconds *= max(found, 1e-6) / (_PRODUCT * size * features)
    peak = _LIBRARIES + 4 * _COPIES * len(graph) * features + _EDGE * graph.num_edges
    held = method.budget_bytes or 0
    return Estimate(stages={"nodes": seconds}, disk_bytes=0, set_bytes=held, peak_bytes=peak, measured=calibrate)
