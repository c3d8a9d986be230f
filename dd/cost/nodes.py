"""What small graphs for node classification will cost: products along edges, and looks at pairs of training nodes."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch

from dd.cost.estimate import Estimate
from dd.cost.meter import timed
from dd.data.nodes.graph import NodeGraph
from dd.data.nodes.nodes import Nodes
from dd.data.nodes.propagate import propagated
from dd.evaluation.nodes import NodeLearner
from dd.evaluation.selection import REPEATS
from dd.methods.nodes.bonsai import Bonsai
from dd.methods.nodes.common import no_edges, recipe_for
from dd.methods.nodes.means import NodeMeans

# Seconds of one core, measured on Cora, CiteSeer and a block model of 200,000 nodes, 2 M edges and 20,000 training
# nodes (scripts/bench/nodes.py, 2026-11-29, EPYC, torch 2.14): a node or edge and feature; a pair of training nodes and
# feature.
_ALONG: Final = {"means": 3.4e-8, "bonsai": 1.9e-8}
_PAIRS: Final = 6.4e-10
_PRODUCT: Final = 2.5e-9  # of two hops alone, by which a calibration compares machines
_STEP, _WIDE, _EACH = 7.3e-4, 2.8e-7, 1.7e-9  # a training step of a choosing network; a feature; a node and feature
_TAKEN: Final = 20  # steps of a calibration
_COPIES, _EDGE, _LIBRARIES = 16, 60, 2_000_000  # float32 copies of the features; bytes an edge; of libraries


def estimate_nodes(method: NodeMeans | Bonsai, real: Nodes, device: torch.device, calibrate: bool) -> Estimate:
    """`node_means` and `bonsai`, and the networks that choose among the sets of a budget.

    Calibrated, features are propagated once and a small network takes a few steps, and all is taken in proportion.
    """
    graph = real.seen(method.setting)
    features, size = graph.x.shape[1], len(graph) + graph.num_edges
    trained = int(real.nodes_per_class.sum())
    along = _ALONG["means" if isinstance(method, NodeMeans) else "bonsai"]
    seconds = features * (along * size + _PAIRS * trained**2)
    if calibrate:
        found = min(timed(lambda: propagated(graph, 2, "none"), device)[0] for _ in range(3))
        seconds *= max(found, 1e-6) / (_PRODUCT * size * features)
    choosing = _choosing(method, real, device, calibrate)
    stages = {"nodes": seconds, **({"selection": choosing} if choosing else {})}
    peak = _LIBRARIES + 4 * _COPIES * len(graph) * features + _EDGE * graph.num_edges
    held = method.budget_bytes or 0
    return Estimate(stages=stages, disk_bytes=0, set_bytes=held, peak_bytes=peak, measured=calibrate)


def _choosing(method: NodeMeans | Bonsai, real: Nodes, device: torch.device, calibrate: bool) -> float:
    """Seconds of the networks that score the sets which a budget may be spent on; 0 where there is one."""
    counts = real.nodes_per_class.tolist()
    rungs = method.tried(counts, real.x.shape[1]) if isinstance(method, NodeMeans) else []
    if len(rungs) < 2 or real.val is None:
        return 0.0
    features, sizes = real.x.shape[1], [sum(min(n, count) for count in counts) for n in rungs]
    steps = [_STEP + features * (_WIDE + _EACH * size) for size in sizes]
    faster = 1.0
    if calibrate:
        graph = NodeGraph(torch.eye(sizes[0], features), no_edges(), torch.arange(sizes[0]) % real.num_classes)
        learner = NodeLearner(steps=_TAKEN, device=device)
        recipe = recipe_for(method.train, graph)
        fit = partial(learner.fit_graph, graph, real.num_classes, recipe, 0)
        found = min(timed(fit, device)[0] for _ in range(3))  # the first one loads optimisers
        faster = found / (_TAKEN * steps[0])
    return REPEATS * method.train.steps * sum(steps) * faster
