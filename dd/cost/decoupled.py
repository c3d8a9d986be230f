"""What the methods of teachers will cost: their training, patches, recovery or compensators, and labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from dd.cost.estimate import Estimate
from dd.cost.forward import GRADIENT, Forward, assumed_rate, forward_cost
from dd.cost.work import Work, stages
from dd.data import Images, Split, class_counts
from dd.methods import Coreset, Infer, Recover
from dd.methods.decoupled.patches import AT_ONCE
from dd.methods.decoupled.recovery import Recovery, compensator, recover_block
from dd.methods.decoupled.relabel import label_lengths, make_labels
from dd.methods.panel import Member, Panel
from dd.models import ModelSpec, as_spec, build
from dd.models.features import features
from dd.synthetic import base_sets
from dd.synthetic.records import kept_within, record_bytes
from dd.teachers import Teacher, TeacherRecipe, accuracy, label, train_teacher
from dd.transforms.whiten import Normalise

_FLOAT: Final = 4
_RECOVERED: Final = 2  # forward passes of a gradient with respect to pixels alone
_BATCH: Final = 500  # pictures that teachers score or label at once
_READ: Final = 2e9  # bytes a second of pictures that are in memory
_LIBRARIES: Final = 11_000_000  # what calls of libraries keep, whatever their sizes
_HEAP: Final = 32 * 2**20  # blocks up to this size stay in the heap when they are freed (glibc)
# Float32 copies, measured on small cells (scripts/bench/estimate.py): of the outputs of all layers and the weights
# while a teacher trains, of the outputs while pixels are recovered, of the largest output where nothing is trained.
# The set through the run and the labels while they are made and written grow by 1.24 and 1.00 times their bytes
# (scripts/bench/copies.py).
_TRAINED, _WEIGHTS, _GRAPH, _SHOWN, _SET, _LABELS = 2, 5, 2, 2, 1.25, 1


@dataclass(frozen=True)
class _Seat:
    """A member of a committee before it is trained.

    Attributes:
        teacher: a network of its sizes, with weights that nobody trained, or the user's own.
        cost: of its forward pass on a picture of the data.
        recipe: by which a run trains it; `None` where it comes trained.
    """

    teacher: Teacher
    cost: Forward
    recipe: TeacherRecipe | None


@dataclass(frozen=True)
class _Part:
    """Training images in any number, as `train_teacher` reads a data set."""

    train: Split
    channels: int
    size: tuple[int, int]
    num_classes: int


def estimate_recover(method: Recover, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """SRe2L, SRe2L++, CV-DD, RDED and other fields of `Recover`; every member votes as often as every other."""
    seats = _seated(method.committee, method.teacher, method.class_ids, real, device)
    classes, total = real.num_classes, real.num_classes * method.ipc
    works = [*_training(seats, real, device, method.priors is None and len(seats) > 1)]
    images = _Drawn(real, device)
    candidates = 0
    if method.init in ("rded", "medium"):
        candidates = min(method.candidates, len(real.train) // classes)
        works.append(_scored(seats, real, classes * method.crops, candidates, images))
    block = min(method.batch or classes, classes)
    count = 2 if method.pairs is not None else min(method.voters, len(seats))
    if method.iterations:
        steps = sum(map(method.iterations_of, range(method.ipc)))
        calls = classes / block * steps * (1 if method.turns else count) / len(seats)
        works += [_descent("recovery", recover_block, seat, calls, block, method, real, images) for seat in seats]
    labels, label_bytes = _labels(method, seats, total, real, device, images)
    found, rate = stages([*works, *labels], device, assumed_rate(device), calibrate)
    at_once = 1 if method.turns else count
    voting = at_once * max(seat.cost.numbers for seat in seats) if method.iterations else 0
    peak = _peak(seats, real, total * method.layout.copies, candidates, block * voting, label_bytes)
    vectors = _FLOAT * classes if method.labels == "static" else 8
    itemsize = 1 if method.labels == "stored" else method.layout.itemsize  # pictures of stored labels are whole numbers
    set_bytes = total * (itemsize * math.prod(real.train.shape) + vectors)
    return _told(found, rate, seats, set_bytes, label_bytes, peak, calibrate)


def estimate_infer(method: Infer, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """INFER: M compensators a base set, labels of base images and composed ones."""
    seats = _seated(method.committee, method.teacher, method.class_ids, real, device)
    classes, members = real.num_classes, method.makers(real.num_classes)
    sets = base_sets(method.ipc, classes, members) if members else method.ipc
    images = _Drawn(real, device)
    works = [*_training(seats, real, device, asked=False)]
    works += [
        _descent("compensators", compensator, seat, sets * method.iterations, classes, method, real, images)
        for seat in seats[:members]
    ]
    total = sets * (members + 1) * classes
    labels, label_bytes = _labels(method, seats, total, real, device, images)
    found, rate = stages([*works, *labels], device, assumed_rate(device), calibrate)
    numbers = max((seat.cost.numbers for seat in seats), default=0) if members else 0
    peak = _peak(seats, real, total, 0, classes * numbers, label_bytes)
    pixels = math.prod(real.train.shape)
    kept = sets * (classes * pixels + 2 * members * pixels) + 2 * total * classes * (method.labels == "static")
    return _told(found, rate, seats, kept, label_bytes, peak, calibrate)


def estimate_coreset(method: Coreset, real: Images, device: torch.device, calibrate: bool) -> Estimate:
    """Herding and k-center: a teacher, its features of all training images, and a pass over them an image chosen."""
    seats = _seated((method.teacher.model,), method.teacher, None, real, device)
    (seat,), classes, count = seats, real.num_classes, len(real.train)
    total, layout = sum(class_counts(real, method.ipc)), method.layout
    images = _Drawn(real, device)
    batch = min(_BATCH, max(1, count // classes))

    def looked(few: int, calls: int) -> None:
        for _ in range(calls):
            seen(images(few))

    def seen(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return features(seat.teacher.module, lambda: seat.teacher(pixels), "teacher")

    rows: dict[str, Any] = {"calls": count / batch, "images": batch, "network": seat.cost, "passes": 1}
    works = [*_training(seats, real, device, asked=False), Work(stage="choice", trial=looked, **rows)]
    found, rate = stages(works, device, assumed_rate(device), calibrate)
    width = seen(images(2)).shape[1]
    found["choice"] += 3 * 8 * count * width * total * layout.small / classes / _READ
    peak = _peak(seats, real, total * layout.copies, 0, 0, 0) + 3 * 8 * width * count // classes
    return _told(found, rate, seats, total * (layout.itemsize * math.prod(real.train.shape) + 8), 0, peak, calibrate)


def _told(
    found: dict[str, float],
    rate: float,
    seats: Sequence[_Seat],
    set_bytes: int,
    label_bytes: int,
    peak: int,
    calibrate: bool,
) -> Estimate:
    disk = sum(_FLOAT * seat.cost.parameters for seat in _trained(seats))
    return Estimate(
        stages=found,
        disk_bytes=disk,
        set_bytes=set_bytes + label_bytes,
        peak_bytes=peak,
        rate=rate,
        measured=calibrate,
    )


def _peak(seats: Sequence[_Seat], real: Images, total: int, candidates: int, recovered: int, label_bytes: int) -> int:
    """The highest moment: a teacher's training, or the largest of the stages beside all members and the set.

    Args:
        total: synthetic images.
        candidates: real images of a class that patches are cut of.
        recovered: outputs of all layers that are alive while pixels are recovered, of all images of a block.
        label_bytes: of stored labels.
    """
    pixels, held_out = math.prod(real.train.shape), 0 if real.val is None else len(real.val)
    trains = [_training_bytes(seat, seat.recipe, real) for seat in seats if seat.recipe is not None]
    trained, kept = (max(t for t, _ in trains), max(k for _, k in trains)) if trains else (0, 0)
    largest = _SHOWN * _FLOAT * max(seat.cost.largest for seat in seats)
    beside = kept + _FLOAT * (sum(seat.cost.parameters for seat in seats) + int(_SET * total * pixels))
    cut = _FLOAT * (candidates + 3 * AT_ONCE) * pixels + largest * min(candidates, AT_ONCE)
    labelled = largest * min(total, _BATCH) + _LABELS * label_bytes
    tested = kept + largest * min(held_out, _BATCH)
    return _LIBRARIES + max(trained, tested, beside + max(cut, _GRAPH * _FLOAT * recovered, labelled))


def _training_bytes(seat: _Seat, recipe: TeacherRecipe, real: Images) -> tuple[int, int]:
    """(bytes of a teacher's training, what of it stays in the heap afterwards)."""
    batch = min(recipe.batch_size, len(real.train))
    graph = _TRAINED * batch * (seat.cost.numbers + math.prod(real.train.shape))
    used = _FLOAT * (graph + _WEIGHTS * seat.cost.parameters)
    return used, used if _FLOAT * batch * seat.cost.largest <= _HEAP else 0


def _again(real: Images, count: int) -> Split:
    """Training images in any number: from the first on, and again."""
    return real.train.subset(torch.arange(count) % len(real.train))


class _Drawn:
    """Pixels of training images, in any number."""

    def __init__(self, real: Images, device: torch.device) -> None:
        self._real, self._device = real, device

    def __call__(self, count: int) -> Tensor:
        """Pixels `[count, C, H, W]`."""
        return _again(self._real, count).pixels().to(self._device)


def _seated(
    committee: Sequence[Member],
    recipe: TeacherRecipe,
    class_ids: tuple[int, ...] | None,
    real: Images,
    device: torch.device,
) -> list[_Seat]:
    """The members as `seat` finds them, none of them trained, and none fetched."""
    seats = []
    for member in committee:
        trained = None
        if isinstance(member, Teacher):
            teacher = dataclasses.replace(member)
        else:
            transform = Normalise(mean=tuple(real.mean), std=tuple(real.std))
            if isinstance(member, str):
                spec, with_weights = _without_weights(member)
                net = build(spec, channels=real.channels, classes=real.num_classes, size=real.size, seed=0)
                trained = None if with_weights else dataclasses.replace(recipe, model=member)
                teacher = Teacher(str(spec), net, transform)
            else:
                teacher = Teacher(type(member).__name__, member, transform, class_ids=class_ids)
        teacher.module.to(device)
        seats.append(_Seat(teacher, forward_cost(teacher.module, real.channels, real.size), trained))
    return seats


def _without_weights(member: str) -> tuple[Any, bool]:
    """The network of a name with weights from elsewhere, without them, and whether it had them."""
    spec = as_spec(member)
    if not isinstance(spec, ModelSpec):
        return spec, False
    options = dict(spec.options)
    had = options.pop("weights", "none") != "none"
    return (ModelSpec.of(spec.name, **options) if had else spec), had


def _trained(seats: Sequence[_Seat]) -> list[_Seat]:
    """The members that a run trains, each once."""
    return list({seat.recipe: seat for seat in seats if seat.recipe is not None}.values())


def _training(seats: Sequence[_Seat], real: Images, device: torch.device, asked: bool) -> list[Work]:
    """Optimiser steps of members, and a look at held-out images: of those that train, and of others if asked."""
    count = len(real.train)
    held_out = 0 if real.val is None else len(real.val)
    works = []
    for seat in _trained(seats):
        recipe = seat.recipe
        assert recipe is not None
        batch = min(recipe.batch_size, count)
        works.append(
            Work(
                stage="teachers",
                calls=recipe.rounds(count) * recipe.per_epoch(count),
                images=batch,
                network=seat.cost,
                passes=GRADIENT,
                trial=partial(_lesson, recipe, real, device),
                least=2,
            )
        )
    for seat in seats:
        if held_out and (seat.recipe is not None or asked):
            works.append(_tested(seat, held_out, real))
    return works


def _lesson(recipe: TeacherRecipe, real: Images, device: torch.device, images: int, calls: int) -> None:
    """A few steps of training on a few images."""
    part: Any = _Part(_again(real, images * calls), real.channels, real.size, real.num_classes)
    short = dataclasses.replace(recipe, epochs=1, min_steps=1, batch_size=images, lr=1e-6)
    train_teacher(short, part, recipe.transform(real), device=device)


def _tested(seat: _Seat, held_out: int, real: Images) -> Work:
    batch = min(_BATCH, held_out)

    def trial(images: int, calls: int) -> None:
        some = _again(real, images)
        for _ in range(calls):
            accuracy(seat.teacher, some)

    return Work(stage="teachers", calls=held_out / batch, images=batch, network=seat.cost, passes=1, trial=trial)


def _joined(seats: Sequence[_Seat]) -> Forward:
    """All members one after the other."""
    costs = [seat.cost for seat in seats]
    return Forward(
        flops=sum(c.flops for c in costs),
        numbers=sum(c.numbers for c in costs),
        largest=max(c.largest for c in costs),
        layers=sum(c.layers for c in costs),
        parameters=sum(c.parameters for c in costs),
    )


def _scored(seats: Sequence[_Seat], real: Images, crops: int, candidates: int, images: _Drawn) -> Work:
    panel, batch = Panel(tuple(seat.teacher for seat in seats), (0.0,) * len(seats)), min(AT_ONCE, candidates)

    def trial(few: int, calls: int) -> None:
        pixels = images(few)
        for _ in range(calls):
            panel.score(pixels, math.inf, real.size)

    calls = crops * candidates / batch
    return Work(stage="patches", calls=calls, images=batch, network=_joined(seats), passes=1, trial=trial)


def _descent(
    stage: str,
    descend: Callable[..., object],
    seat: _Seat,
    calls: float,
    block: int,
    method: Recover | Infer,
    real: Images,
    images: _Drawn,
) -> Work:
    """Iterations of `recover_block` or `compensator`, for `block` images and one member."""
    transform, how = method.teacher.transform(real), Recovery.of(method)

    def trial(few: int, steps: int) -> None:
        start = transform.forward(images(few))
        y = torch.arange(few, device=start.device) % real.num_classes
        descend([(seat.teacher, 1.0)], start, y, transform, dataclasses.replace(how, iterations=steps), 0, (0, 0))

    return Work(stage=stage, calls=calls, images=block, network=seat.cost, passes=_RECOVERED, trial=trial)


def _labels(
    method: Recover | Infer, seats: Sequence[_Seat], total: int, real: Images, device: torch.device, images: _Drawn
) -> tuple[list[Work], int]:
    """Labels of the set by all members, and the bytes of those that are stored."""
    if method.labels == "hard":
        return [], 0
    network, share = _joined(seats), 1 / len(seats)
    if method.labels == "static":
        nets = [seat.teacher.as_module() for seat in seats]

        def once(few: int, calls: int) -> None:
            for _ in range(calls):
                label(nets, [share] * len(nets), images(few))

        batch = min(total, _BATCH)
        static: dict[str, Any] = {"calls": total / batch, "images": batch, "network": network, "passes": 1}
        return [Work(stage="labels", trial=once, **static)], 0
    batch = min(method.train.batch_size, total)
    made = _replay(method, total, batch)
    committee = [(seat.teacher, share) for seat in seats]

    def stored(few: int, calls: int) -> None:
        few += few % made.get("micro_batch", few) == 1  # a micro-batch of one is left out
        pictures = (images(few) * 255).to(torch.uint8).cpu()
        make_labels(pictures, committee, **{**made, "epochs": calls, "batch": few}, device=device)

    strips = made.get("shuffle", 1) if made.get("shuffle", 1) > 1 else 0
    least = made["micro_batch"] if made.get("bn_mode") == "batch" else None
    lengths = label_lengths(total, batch, method.label_epochs, least)
    sizes = [record_bytes(length, real.num_classes, strips) for length in lengths]
    if method.label_bytes is not None:
        kept = kept_within(sizes, method.label_bytes, 0)
        lengths, sizes = [lengths[i] for i in kept], [sizes[i] for i in kept]
    work = Work(
        stage="labels",
        calls=sum(lengths) / batch,
        images=batch,
        network=network,
        passes=1,
        trial=stored,
        least=min(batch, 2 * method.train.accumulate),
    )
    return [work], sum(sizes)


def _replay(method: Recover | Infer, total: int, batch: int) -> dict[str, Any]:
    """The options of `make_labels` that a method gives it."""
    if isinstance(method, Infer):
        return {"mix": method.mix, "scale": None}
    return {
        "micro_batch": -(-batch // method.train.accumulate),
        "bn_mode": method.bn_mode,
        "mix": method.mix,
        "scale": method.scale,
        "shuffle": method.factor if method.shuffle else 1,
    }
