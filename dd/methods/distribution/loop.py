"""The loop of `DistributionMatching`: what one iteration asks of its network, class by class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.base.seeding import child
from dd.data import Images
from dd.errors import DivergedError
from dd.experts import make_student
from dd.experts.train import on_device
from dd.inner import Student
from dd.methods.base import Candidate, Run
from dd.methods.distribution.networks import Drawn, Source
from dd.methods.distribution.terms import distance, draw_frequencies, siamese, spread, summary
from dd.methods.outer import FAR, State, adam, largest, sgd
from dd.methods.start import pick_real
from dd.models import as_spec, no_single_values
from dd.models.features import Form, features
from dd.synthetic import SyntheticImages
from dd.transforms.dsa import Draw
from dd.transforms.whiten import Transform

if TYPE_CHECKING:
    from dd.methods.distribution.matching import DistributionMatching


class Target(NamedTuple):
    """What the synthetic images of a class are to meet in an iteration.

    Attributes:
        summary: of the real batch's features.
        draw: the augmentation of both.
        right: how many real images the network classifies correctly, on its device.
        finite: whether their features are, likewise.
        asked: of how many.
    """

    summary: Tensor
    draw: Draw
    right: Tensor
    finite: Tensor
    asked: int


def seen(student: Student, theta: Tensor, x: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """(features `[n, D]`, logits `[n, K]`) of images in model space, of one pass."""
    logits: list[Tensor] = []
    found = features(student.module, lambda: logits.append(student.logits(theta, x)), "model", form)
    return found.to(theta.dtype), logits[0]


@torch.no_grad()
def check_features(method: DistributionMatching, real: Images) -> None:
    """Refuse a network without the features that the method compares, by a pass of as many blank images as of a class.

    Of the smallest one, real or synthetic.

    Raises:
        InputError: it has no linear layer, or no map before it; or batch norms that a single image has no values for.
    """
    student, least = make_student(method.expert, real, 0), int(torch.bincount(real.train.labels).min())
    counts = {"ipc": method.ipc * method.layout.copies, "batch_real": method.batch_real, "data": least}
    argument = min(counts, key=lambda name: counts[name])
    with no_single_values(argument, str(as_spec(method.expert.model))):
        few = torch.zeros(min(2, counts[argument]), real.channels, *real.size)
        seen(student, student.initial, few, method.features)


class Loop:
    """One run of the loop: what does not change between its iterations."""

    def __init__(
        self, method: DistributionMatching, real: Images, run: Run, transform: Transform, source: Source
    ) -> None:
        self.method, self.real, self.run, self.transform, self.source = method, real, run, transform, source
        self.dtype = run.dtype
        module = make_student(method.expert, real, 0, self.dtype).module.to(run.device)
        self.student = Student(module, autocast=run.autocast)
        self.layout = method.layout
        self.dsa = method.expert.dsa()
        self._stream = on_device(real.train, run.device)
        self._rows = [real.class_index(k) for k in range(real.num_classes)]

    def start(self) -> State:
        """Images before the first iteration."""
        method, real, seed = self.method, self.real, self.run.seed
        if method.init == "noise":
            shape = (real.num_classes * method.ipc, real.channels, *real.size)
            images = torch.randn(shape, generator=child(seed, "init"))
        else:
            rows = pick_real(real, method.ipc * self.layout.small, seed)
            images = self.layout.mosaic(self.transform.forward(real.train.pixels(rows)))
        return {"images": images.to(self.run.device, self.dtype), "iteration": torch.tensor(0)}

    def iterate(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        """One iteration: the new state and what is logged.

        Raises:
            DivergedError: the loss or the images are not finite, or these are far from all that is a picture.
        """
        with self.run.products:
            return self._iterated(state)

    def _iterated(self, state: State) -> tuple[State, dict[str, float | int | str]]:
        iteration = int(state["iteration"])
        drawn = self.source.draw(iteration, state)
        frequencies = self._frequencies(drawn, iteration)
        targets = list(self._targets(drawn, frequencies, iteration))
        accuracy = self._accuracy(targets, drawn)
        losses, gradients = list[Tensor](), list[Tensor]()
        for k, (target, x) in enumerate(zip(targets, state["images"].split(self.method.ipc), strict=True)):
            x = x.detach().requires_grad_()
            loss = self.loss(k, x, target, drawn, frequencies, accuracy)
            gradients += torch.autograd.grad(loss, x)
            losses.append(loss.detach())
        gradient, total = torch.cat(gradients), 0.0
        for value in torch.stack(losses).tolist():  # read at once: each reading waits for an accelerator
            total += value
        told: dict[str, float | int | str] = {"iteration": iteration + 1, "loss": total}
        told.update(grad_rms=float(gradient.square().mean().sqrt()), network=drawn.number, accuracy=accuracy)
        new = self._update(state, gradient)
        far = largest(new["images"])
        if not math.isfinite(total) or far == math.inf:
            lr = self.method.lr_img
            raise DivergedError(
                f"iteration {iteration + 1} is not finite. Lower `lr_img` (now {lr:g}); the last good state is kept."
            )
        if far > FAR:
            raise DivergedError(
                f"iteration {iteration + 1} takes the images {far:.3g} standard deviations away. "
                f"Lower `lr_img` (now {self.method.lr_img:g}); the last good state is kept."
            )
        return {**new, "iteration": torch.tensor(iteration + 1), **self.source.after(iteration, drawn, state)}, told

    def _frequencies(self, drawn: Drawn, iteration: int) -> Tensor | None:
        """t `[F, D]` of the iteration; `None` where means are compared."""
        if self.method.statistic == "mean":
            return None
        generator = child(self.run.seed, "frequencies", iteration)
        return draw_frequencies(self.method.frequencies, self._width, generator).to(drawn.theta)

    @cached_property
    def _width(self) -> int:
        """D of the features, the same of every network."""
        blank = torch.zeros(2, self.real.channels, *self.real.size).to(self.student.initial)
        with torch.no_grad():
            return seen(self.student, self.student.initial, blank, self.method.features)[0].shape[1]

    @torch.no_grad()
    def _targets(self, drawn: Drawn, frequencies: Tensor | None, iteration: int) -> Iterator[Target]:
        """Of each class in turn: a batch of real images through the iteration's network."""
        method, seed = self.method, self.run.seed
        batches = []
        for k, rows in enumerate(self._rows):
            order = torch.randperm(len(rows), generator=child(seed, "real", iteration, k))
            batches.append(rows[order[: method.batch_real]])
        for k, (_, pixels) in enumerate(self._stream(batches)):
            draw = siamese(self.dsa, self.real.size, child(seed, "draw", iteration, k))
            x = spread(draw, len(pixels))(self.transform.forward(pixels).to(drawn.theta))
            found, logits = seen(self.student, drawn.theta, x, method.features)
            right, finite = (logits.argmax(1) == k).sum(), torch.isfinite(found).all()
            yield Target(summary(found, frequencies), draw, right, finite, len(pixels))

    def _accuracy(self, targets: Sequence[Target], drawn: Drawn) -> float:
        """The share of real images that the network classifies correctly.

        Raises:
            DivergedError: it gives some of them features that are not finite.
        """
        told = torch.stack([torch.stack((t.right, t.finite.to(t.right.dtype))) for t in targets]).tolist()
        if not all(finite for _, finite in told):
            lr = self.method.expert.lr
            raise DivergedError(
                f"network {drawn.number} gives real images features that are not finite. "
                f"Lower the `expert`'s `lr` (now {lr:g})."
            )
        return sum(right for right, _ in told) / sum(t.asked for t in targets)

    def loss(
        self, k: int, x: Tensor, target: Target, drawn: Drawn, frequencies: Tensor | None, accuracy: float
    ) -> Tensor:
        """The loss of the stored images of class k `[ipc, C, H, W]`, with its graph."""
        method, pictures = self.method, self.layout.decode(x)
        augmented = spread(target.draw, len(pictures))(pictures)
        found, logits = seen(self.student, drawn.theta, augmented, method.features)
        apart = distance(target.summary, summary(found, frequencies), method.statistic, method.amplitude)
        loss = method.weight * apart
        if method.class_term == "none" or not method.class_weight:
            return loss
        share = accuracy
        if method.class_term == "trained":
            assert drawn.trained is not None
            logits, share = self.student.logits(drawn.trained, augmented), 1.0
        labels = torch.full((len(pictures),), k, device=x.device)
        return loss + method.class_weight * share * F.cross_entropy(logits, labels)

    @torch.no_grad()
    def _update(self, state: State, gradient: Tensor) -> State:
        """The images after a step, and the optimiser's part of the state."""
        method = self.method
        if method.pixel_optimizer == "adam":
            new = adam(state["images"], gradient, state, "images", method.lr_img)
        else:
            new = sgd(state["images"], gradient, state, "images", method.lr_img, method.momentum_img)
        if method.clip:
            low, high = (self.transform.forward(torch.full_like(gradient[:1], v)) for v in (0.0, 1.0))
            new["images"] = torch.minimum(torch.maximum(new["images"], low), high)
        return new

    def candidates(self, state: State) -> tuple[Candidate, ...]:
        """The set that is offered after this iteration, where one is."""
        done, every = int(state["iteration"]), self.method.candidate_every
        if done != self.method.iterations and (every == 0 or done % every):
            return ()
        return (Candidate("last", done, self._set(state["images"])),)

    def _set(self, images: Tensor) -> SyntheticImages:
        method, classes = self.method, self.real.num_classes
        labels = torch.arange(classes).repeat_interleave(method.ipc)
        return SyntheticImages(
            **self.layout.parts(images, labels if method.train.mix == "none" else F.one_hot(labels, classes).float()),
            classes=self.real.classes,
            recipe=dataclasses.replace(method.train, model=str(as_spec(method.expert.model))),
            transform=self.transform,
            method=method.describe(),
        )
