"""The highest moment of a run's memory, from what was measured in short and what grows with its sizes."""

from __future__ import annotations

import math
from typing import Final

from dd.cost.counts import Counts, Peaks
from dd.inner.adjoint_pass import ROOM
from dd.methods import TrajectoryMatching
from dd.transforms.whiten import KORNIA_VALUES

_FLOAT: Final = 4
# Copies of all snapshots while they are saved: θ and velocity of each, the stacked θ, its clone, its bytes, the file.
_SAVED: Final = 6
_HELD: Final = 2  # of these while the expert trains
_VECTORS: Final = 6  # of P: λ, ρ, a gradient, a velocity, the target, and a sum
# Of the synthetic images: old and new images and velocity, their gradient, a product.
_IMAGES: Final = 6
_PICTURES: Final = 4  # of what stored images are decoded to: pictures, their gradient, and both in the making
# The fit of a whitening, in float32 matrices [q, q]: what LAPACK's eigenvectors and their products take in float64.
# Measured at q = 768 and 1728; kornia adds two float copies of the pictures.
_KORNIA, _CHUNKED = 16, 12
_GRAPH: Final = 1.4  # what the graph of a student step keeps, in outputs of all layers; 1.35 to 1.37 in ConvNets
_TEST_BATCH: Final = 500
_LIBRARIES: Final = 4_000_000  # what calls of libraries and the run folder keep: 0 to 9 MB on small cells


def peak_bytes(method: TrajectoryMatching, n: Counts, peaks: Peaks | None) -> int:
    """Bytes at the highest moment, from tables where `peaks` is None."""
    kept, fit = whitening_bytes(n.real_images, n.pixels) if method.expert.whiten else (0, 0)
    stages = (_expert(method, n, peaks), _matching(method, n, peaks), _selection(n, peaks))
    return _LIBRARIES + max(fit, kept + max(stages))


def whitening_bytes(images: int, pixels: int) -> tuple[int, int]:
    """(bytes of a fitted ZCA, of its fit at the highest moment) for so many images of so many numbers."""
    q2, values = _FLOAT * pixels**2, images * pixels
    return 2 * q2, _KORNIA * q2 + 2 * _FLOAT * values if values <= KORNIA_VALUES else _CHUNKED * q2


def _expert(method: TrajectoryMatching, n: Counts, peaks: Peaks | None) -> int:
    """A step beside the snapshots so far; or the copies of all snapshots while they are saved."""
    p = _FLOAT * n.parameters
    if peaks is None:
        graph = 3 * _FLOAT * n.numbers * n.expert_images * (3 if method.expert.penalty else 1)
        return max(graph + p * (6 + _HELD * n.snapshots), _SAVED * p * n.snapshots)
    step = _scaled(peaks.expert, 6 * p, n.expert_images / peaks.expert_images)
    more = n.snapshots - peaks.snapshots
    return max(step + _HELD * p * more, peaks.left + _SAVED * p * n.snapshots)


def _matching(method: TrajectoryMatching, n: Counts, peaks: Peaks | None) -> int:
    """θ_0 … θ_N, the synthetic images, the graph, and on the fast path what pass 1 keeps for pass 2."""
    p, steps = _FLOAT * n.parameters, method.student_steps
    back = min(method.truncate or steps, steps)
    image = _FLOAT * n.pixels * (_IMAGES + 2 * (method.pixel_optimizer == "adam") + 2 * (method.ema > 0))
    copies = method.layout.copies
    image += 0 if copies == 1 else _PICTURES * _FLOAT * n.pixels * copies
    grows = p * _VECTORS + _steps_kept(n, n.batch, steps, back) + image * n.synthetic * method.canvas**2
    if method.canvas > 1:
        grows += 2 * _FLOAT * n.pixels * n.student_images  # crops of a whole iteration, and their gradient
    if peaks is None:
        return grows + 10 * _FLOAT * n.numbers * n.micro
    small = p * _VECTORS + _steps_kept(n, peaks.student_batch, peaks.student_steps, peaks.student_steps)
    small += image * peaks.synthetic * method.canvas**2
    micro = min(peaks.student_batch, n.micro)
    return grows + int(max(0, peaks.matching - small) * n.micro / micro)


def _steps_kept(n: Counts, batch: int, steps: int, back: int) -> int:
    """θ_0 … θ_N and what pass 1 keeps of its steps: maps on the fast path, gradients and some graphs on the generic."""
    p = _FLOAT * n.parameters
    if n.road.compiled:
        return p * steps + n.kept * batch * back
    graph = int(_FLOAT * batch * (_GRAPH * n.numbers + 2 * n.pixels)) + 2 * p
    reuse = max(1, ROOM // max(1, graph)) if n.road.reuse is None else n.road.reuse
    return 2 * p * steps + max(0, min(reuse, back) - 1) * graph  # the last one is being differentiated


def _selection(n: Counts, peaks: Peaks | None) -> int:
    """Training on the set, or classifying real images."""
    if not n.networks:
        return 0
    if peaks is None:
        train = _FLOAT * (3 * n.numbers * n.train_batch + 4 * n.parameters)
        return max(train, _FLOAT * n.numbers * min(_TEST_BATCH, n.held_out))
    return _scaled(peaks.selection, 4 * _FLOAT * n.parameters, n.train_batch / peaks.train_images)


def _scaled(peak: int, fixed: int, ratio: float) -> int:
    """A peak that was seen with fewer images, all but `fixed` in proportion."""
    return peak if ratio <= 1 else int(min(peak, fixed) + max(0, peak - fixed) * math.ceil(ratio * 1e6) / 1e6)
