"""What distribution matching will cost: its experts or its queue, and its iterations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from dd.cost.calibrate import unfitted
from dd.cost.estimate import Estimate
from dd.cost.forward import GRADIENT, Forward, assumed_rate, forward_cost
from dd.cost.matching import passes_of, whitening_seconds
from dd.cost.memory import whitening_bytes
from dd.cost.work import Work, stages
from dd.data import Images
from dd.evaluation.selection import REPEATS
from dd.experts import ExpertRecipe, ExpertStore, ExpertTrainer, make_student
from dd.methods import DistributionMatching, Run
from dd.methods.distribution.loop import Loop
from dd.methods.distribution.loop import seen as seen_by
from dd.methods.distribution.networks import Drawn
from dd.methods.outer import State

_FLOAT: Final = 4
_WHOLE: Final = 0.5  # seconds of an iteration, at the assumed rate, that is tried with all its images
_PIXELS: Final = 2  # forward passes of a gradient with respect to pixels alone
_CHECKED: Final = 1000  # held-out images that a snapshot of an expert classifies
_LIBRARIES: Final = 7_000_000  # what calls of libraries keep
# Float32 copies, reckoned: outputs of all layers in a graph, of the largest layer without one, of the
# images with gradient and optimiser, of the phases of a batch, of the weights while a network trains.
_GRAPH, _SHOWN, _IMAGES, _PHASES, _WEIGHTS = 1.5, 3, 7, 4, 6


def estimate_distribution(
    method: DistributionMatching, real: Images, device: torch.device, calibrate: bool
) -> Estimate:
    """DM, IDM, NCFM and other fields of `DistributionMatching`; experts are counted as they are without a compiler."""
    student = make_student(method.expert, real, 0)
    one = forward_cost(student.module, real.channels, real.size)
    works = [*_experts(method, one, real, device), *_queue(method, one, real, device)]
    works += [_iteration(method, one, real, device), *_selection(method, one, real, device)]
    found, rate = stages(works, device, assumed_rate(device), calibrate)
    total, pixels = real.num_classes * method.ipc, math.prod(real.train.shape)
    if method.expert.whiten:
        found["matching"] += whitening_seconds(real, rate)
    disk = 0
    if method.snapshots_read:
        store = ExpertStore(Path(), method.expert, real)
        disk = store.size_on_disk(method.expert.experts, method.snapshots_read, student.size)
    label = 8 if method.train.mix == "none" else _FLOAT * real.num_classes
    return Estimate(
        stages=found,
        disk_bytes=disk,
        set_bytes=total * (method.layout.itemsize * pixels + label),
        peak_bytes=_peak(method, one, real),
        rate=rate,
        measured=calibrate,
    )


def _experts(method: DistributionMatching, one: Forward, real: Images, device: torch.device) -> list[Work]:
    """Optimiser steps of the experts that are read, and the looks at held-out images of their snapshots."""
    if not method.snapshots_read:
        return []
    recipe, count = method.expert, len(real.train)
    every = recipe.snapshot_every * (-(-count // recipe.batch_size) if recipe.snapshot_unit == "epoch" else 1)
    works = [_lessons("experts", recipe.experts * method.snapshots_read * every, recipe, one, real, device)]
    split = real.val if real.val is not None else real.test
    held_out = min(_CHECKED, 0 if split is None else len(split))
    if held_out:
        calls = recipe.experts * (method.snapshots_read + 1)
        works.append(_looks("experts", calls, held_out, recipe, one, real, device))
    return works


def _queue(method: DistributionMatching, one: Forward, real: Images, device: torch.device) -> list[Work]:
    """Optimiser steps of the networks in the queue."""
    if method.networks != "queue" or not method.queue_steps:
        return []
    return [_lessons("networks", method.iterations * method.queue_steps, method.expert, one, real, device)]


def _lessons(stage: str, calls: float, recipe: ExpertRecipe, one: Forward, real: Images, device: torch.device) -> Work:
    """Optimiser steps on real images, as `ExpertTrainer` takes them."""
    transform = unfitted(real, recipe.whiten)

    def trial(images: int, steps: int) -> None:
        short = dataclasses.replace(recipe, batch_size=images, lr=1e-6)  # a step size that cannot diverge
        trainer, student = ExpertTrainer(short, real, transform, device), make_student(short, real, 0)
        theta = student.initial.to(device)
        for _ in islice(trainer.walk(student, 0, theta, torch.zeros_like(theta), 0), steps):
            pass

    batch = min(recipe.batch_size, len(real.train))
    return Work(stage=stage, calls=calls, images=batch, network=one, passes=passes_of(recipe), trial=trial)


def _looks(
    stage: str, calls: float, images: int, recipe: ExpertRecipe, one: Forward, real: Images, device: torch.device
) -> Work:
    """Images that a network classifies."""
    transform = unfitted(real, recipe.whiten)

    @torch.no_grad()
    def trial(few: int, times: int) -> None:
        student = make_student(recipe, real, 0)
        theta = student.initial.to(device)
        x = transform.forward(real.train.pixels(torch.arange(few) % len(real.train)).to(device))
        for _ in range(times):
            student.logits(theta, x)

    return Work(stage=stage, calls=calls, images=images, network=one, passes=1, trial=trial)


@torch.no_grad()
def _width(method: DistributionMatching, real: Images) -> int:
    """D, of the features."""
    student = make_student(method.expert, real, 0)
    blank = torch.zeros(2, real.channels, *real.size)
    return seen_by(student, student.initial, blank, method.features)[0].shape[1]


class _Fixed:
    """One network for all iterations, which costs nothing to make."""

    def __init__(self, theta: Tensor) -> None:
        self._drawn = Drawn(0, theta, theta)

    def draw(self, iteration: int, state: Mapping[str, Tensor]) -> Drawn:
        """See `dd.methods.distribution.networks.Source`."""
        del iteration, state
        return self._drawn

    def after(self, iteration: int, drawn: Drawn, state: Mapping[str, Tensor]) -> State:
        """Nothing."""
        del iteration, drawn, state
        return {}


def _real_images(method: DistributionMatching, real: Images) -> int:
    """Of an iteration."""
    counts = [len(real.class_index(k)) for k in range(real.num_classes)]
    return sum(min(method.batch_real, count) for count in counts)


def _iteration(method: DistributionMatching, one: Forward, real: Images, device: torch.device) -> Work:
    """Real images forward, synthetic ones there and back, each as a share of the images of an iteration."""
    classes, total = real.num_classes, real.num_classes * method.ipc * method.layout.copies
    seen = _real_images(method, real)
    there = GRADIENT - 1 + (_PIXELS if method.class_term == "trained" and method.class_weight else 0)
    passes = 1 + there  # of every layer, for each class
    share_of_a_pass = (seen + there * total) / ((seen + total) * passes)
    flops = one.flops
    if method.statistic == "cf":
        flops += 2 * method.frequencies * _width(method, real)
    network = dataclasses.replace(one, flops=round(flops * share_of_a_pass), layers=one.layers * classes)
    transform = unfitted(real, method.expert.whiten)

    def trial(images: int, calls: int) -> None:
        share = images / (seen + total)
        short = dataclasses.replace(
            method,
            ipc=max(1, round(share * method.ipc * method.layout.copies)),
            factor=1,
            mirror=False,
            batch_real=max(1, round(share * seen / classes)),
            init="noise",
            lr_img=1e-6,
        )
        theta = make_student(method.expert, real, 0).initial.to(device)
        loop = Loop(short, real, Run(device=device), transform, _Fixed(theta))
        state = loop.start()
        for _ in range(calls):
            state, _ = loop.iterate(state)

    whole = network.seconds(seen + total, passes, assumed_rate(device)) < _WHOLE
    return Work(
        stage="matching",
        calls=method.iterations,
        images=seen + total,
        network=network,
        passes=passes,
        trial=trial,
        least=seen + total if whole else 2 * classes,
    )


def _selection(method: DistributionMatching, one: Forward, real: Images, device: torch.device) -> list[Work]:
    """Networks that score candidates, where there are several."""
    every = method.candidate_every
    candidates = 1 + (method.iterations - 1) // every if every else 1
    split = real.val if real.val is not None else real.test
    if candidates < 2 or split is None:
        return []
    networks = REPEATS * candidates
    learner = ExpertRecipe(
        model=method.expert.model,
        batch_size=min(method.train.batch_size, method.ipc * method.layout.copies * real.num_classes),
    )
    works = [_lessons("selection", networks * method.train.steps, learner, one, real, device)]
    return [*works, _looks("selection", networks, len(split), learner, one, real, device)]


def _peak(method: DistributionMatching, one: Forward, real: Images) -> int:
    """The highest moment: a network that trains, or an iteration beside the images, the queue and the frequencies."""
    total, pixels, copies = real.num_classes * method.ipc, math.prod(real.train.shape), method.layout.copies
    weights = _FLOAT * one.parameters
    trained = 0
    if method.networks != "fresh":
        batch = min(method.expert.batch_size, len(real.train))
        trained = int(2 * _FLOAT * batch * (one.numbers + pixels)) + _WEIGHTS * weights
    held = _IMAGES * _FLOAT * total * pixels + 3 * weights
    if method.networks == "queue":
        held += 2 * weights * min(method.queue, 1 + method.iterations // method.queue_every)
    if method.networks == "interpolated":
        trained += 2 * weights * method.snapshots_read
    seen = min(method.batch_real, len(real.train))
    shown = _SHOWN * _FLOAT * seen * max(one.largest, pixels)
    held += 0 if copies == 1 else _FLOAT * total * copies * pixels  # the pictures of a candidate
    graph = int(_GRAPH * _FLOAT * method.ipc * copies * one.numbers) * (2 if method.class_term == "trained" else 1)
    if method.statistic == "cf":
        held += _FLOAT * method.frequencies * _width(method, real) * 2
        shown += _PHASES * _FLOAT * seen * method.frequencies
    kept, fit = whitening_bytes(len(real.train), pixels) if method.expert.whiten else (0, 0)
    return _LIBRARIES + max(fit, kept + max(trained, held + max(shown, graph)))
