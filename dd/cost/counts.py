"""What an estimate is made of: the counts of a run, the plan of a calibration, and what that has measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dd.inner import Road


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a run does, counted from its fields: no measurement in here."""

    flops: int  # of one image's forward pass
    numbers: int  # outputs of all layers for one image
    pixels: int  # C·H·W
    layers: int
    parameters: int
    real_images: int
    expert_steps: int  # of all experts
    expert_compiled: bool
    penalty_compiled: bool
    built: bool  # what is compiled is compiled once for all shapes, by the library's own kernels
    snapshots: int  # of one expert, the initialisation included
    expert_images: int  # a step
    checked: int  # held-out images that a snapshot classifies
    student_images: int  # an outer iteration
    synthetic: int  # images
    batch: int  # images a student step
    road: Road
    kept: int  # bytes that the fast path keeps of an image in a student step
    workers: int  # micro-batches at once on the fast path
    shapes: int  # sizes of micro-batches
    networks: int  # trained for the selection
    train_batch: int
    held_out: int
    scored: int  # real images that all those networks classify

    @property
    def blocks(self) -> int:
        """Of a ConvNet: norm, activation, pool and convolution each."""
        return (self.layers - 1) // 4

    @property
    def micro(self) -> int:
        """Images whose graph is alive at once: micro-batches side by side, or the whole last step that is reused."""
        if not self.road.compiled:
            return self.batch
        return min((self.road.micro_batch or self.batch) * self.workers, self.batch)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of a run, and seconds of one image at an assumed rate, from which the first calls are chosen.

    Attributes:
        road: of the outer iterations.
        expert_compiled: whether the experts' loss is compiled.
        built: whether by kernels that are built in a second, so that they can be tried here.
        expert_images, train_images, checked: images of an expert's step, of a step of the selection, and those that a
            snapshot classifies.
        selects: whether there are candidates to choose among.
        expert, student, train, score: seconds of an image in a step of each.
    """

    road: Road
    expert_compiled: bool
    built: bool
    expert_images: int
    train_images: int
    checked: int
    selects: bool
    expert: float
    student: float
    train: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Resident (CUDA) bytes over libraries and data, in the order of a run; and the sizes that they were seen with.

    Attributes:
        expert, matching, selection: high-water marks; 0 where none can be read or nothing is selected.
        left: what the experts leave in the heap.
        expert_images, snapshots: images of an expert's step, snapshots kept.
        student_steps, student_batch, synthetic: N, images a student step, synthetic images.
        train_images: images of a step of the selection.
    """

    expert: int = 0
    left: int = 0
    matching: int = 0
    selection: int = 0
    expert_images: int = 1
    snapshots: int = 0
    student_steps: int = 0
    student_batch: int = 1
    synthetic: int = 0
    train_images: int = 1


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What was measured, as seconds on the road that a run takes.

    Attributes:
        expert_step, expert_snapshot: an optimiser step; a snapshot with its accuracy.
        iteration: an outer iteration apart from its student images (reads, outer update).
        student_image: one image in one student step, there and back.
        train_step, score_image: a step on the synthetic set; a real image that is scored.
        peaks: memory; None in tables.
    """

    expert_step: float
    expert_snapshot: float
    iteration: float
    student_image: float
    train_step: float
    score_image: float
    peaks: Peaks | None = None


def images_seen(total: int, batch_syn: int | None, steps: int) -> int:
    """Images in the first `steps` student steps: permutations in chunks, the short chunk first."""
    return sum(chunks(total, batch_syn, steps))


def chunks(total: int, batch_syn: int | None, steps: int) -> Iterator[int]:
    """Images of each of the first `steps` student steps."""
    size = min(batch_syn or total, total)
    rest = 0
    for _ in range(steps):
        rest = rest or total
        chunk = rest % size or size
        rest -= chunk
        yield chunk
