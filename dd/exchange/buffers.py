"""Expert buffers of others: the `replay_buffer_<n>.pt` files of trajectory-matching papers, into a store."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.paths import as_path, is_file, names_in, why_absent
from dd.base.process import under_own_settings
from dd.base.progress import Progress, silent
from dd.base.shapes import check_finite
from dd.errors import MissingError, refuse
from dd.exchange.pt import read_pt
from dd.experts.store import ExpertStore
from dd.experts.train import make_student
from dd.inner import Student
from dd.transforms.whiten import Transform, make_transform

_CHECKED: Final = 1000  # test images that the last snapshot of an imported expert classifies

_log = logging.getLogger(__name__)


@under_own_settings
def import_buffer(
    path: str | Path,
    store: ExpertStore,
    transform: Transform | None = None,
    *,
    first: int = 0,
    progress: Progress = silent,
) -> list[int]:
    """Bring the experts of `replay_buffer_<n>.pt` files into a store, under the numbers from `first` on.

    Such a file is a list of trajectories, these are lists of snapshots after 0, 1, 2, … epochs, and these are
    lists of parameter tensors in `parameters()` order. Importing again skips what is there. The buffers of the
    papers were trained on all training images, so the store must be one of `real.all_train()`, and a method finds them
    with `protocol="paper"` and the same store:

        real = dd.load_images("cifar10")
        store = ExpertStore("experts", dd.load_recipe("mtt"), real.all_train())  # of dd.experts
        dd.import_buffer("buffers/CIFAR10_NO_ZCA/ConvNet", store)
        small = dd.distill(real, dd.MTT(ipc=50, expert=store.recipe), protocol="paper", store="experts")

    The last snapshot of each expert is tried on at most 1,000 test images; a result near chance is logged as
    a warning: the transform, the data or the class order is then not the one of the experts.

    Args:
        path: a file, or a folder of such files, which are taken in the order of n.
        store: where they go; its recipe says the model, and one snapshot an epoch.
        transform: pixels to the model space of the experts; by default that of the recipe, which matching takes.
        first: number of the first expert.
        progress: called after every expert of a file.

    Returns:
        The numbers of the experts that the files hold.

    Raises:
        MissingError, DamagedError: no file, or one that is not tensors alone.
        InputError: another model, repeated snapshots, another cadence, a store with a validation split, or a
            number that another expert has. What was imported before is kept.
    """
    if not isinstance(store, ExpertStore):
        raise refuse(
            "store",
            "an ExpertStore",
            f"a {type(store).__name__}",
            "It is made by `ExpertStore(root, recipe, real)` of `dd.experts`.",
        )
    recipe, real = store.recipe, store.real
    if (recipe.snapshot_every, recipe.snapshot_unit) != (1, "epoch"):
        got = f"one every {recipe.snapshot_every} {recipe.snapshot_unit}s"
        raise refuse("recipe", "of one snapshot an epoch, as in such buffers", got)
    if real.val is not None:
        raise refuse(
            "store",
            "one of all training images, which the experts of a published buffer have seen",
            "one whose validation split is held out",
            'Make it with `real.all_train()`, that is protocol="paper".',
        )
    transform = make_transform(real, recipe.whiten) if transform is None else transform
    student = make_student(recipe, real, seed=0)
    steps_per_epoch = -(-len(real.train) // recipe.batch_size)
    seeds = list[int]()
    for file in _buffers(as_path(path)):
        trajectories = _listed(read_pt(file, mapped=True), file.name, "trajectories")
        for i, trajectory in enumerate(trajectories):
            where = f"trajectory {i} of {file.name}"
            thetas = _thetas(_listed(trajectory, where, "snapshots"), student, where)
            score = _accuracy(thetas[-1], student, store, transform, where)
            accuracy = torch.full((len(thetas),), torch.nan)
            accuracy[-1] = score
            store.put(first + len(seeds), thetas, torch.arange(len(thetas)) * steps_per_epoch, accuracy)
            seeds.append(first + len(seeds))
            progress(i + 1, len(trajectories), f"{file.name}, accuracy {score:.3f}")
    return seeds


def _buffers(path: Path) -> list[Path]:
    """The buffer files, by their number."""
    if is_file(path):
        return [path]
    numbered = {
        int(match[1]): file
        for file in names_in(path, "replay_buffer_*.pt")
        if (match := re.fullmatch(r"replay_buffer_(\d+)\.pt", file.name))
    }
    if not numbered:
        raise MissingError(f"no file {path} and no replay_buffer_<n>.pt in it{why_absent(path)}")
    return [numbered[n] for n in sorted(numbered)]


def _listed(value: Any, where: str, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise refuse(where, f"a list of {what}", f"an empty list or a {type(value).__name__}")
    return value


def _thetas(trajectory: Sequence[Any], student: Student, where: str) -> Tensor:
    """`[T, P]` of a list of lists of parameter tensors, checked against the model."""
    rows = list[Tensor]()
    for t, snapshot in enumerate(trajectory):
        place = f"snapshot {t} of {where}"
        parts = _listed(snapshot, place, "parameter tensors")
        if len(parts) != len(student.shapes):
            way_out = "Choose the model of the recipe that the buffer was made with."
            raise refuse(place, f"{len(student.shapes)} tensors, as the recipe's model", len(parts), way_out)
        for name, shape, part in zip(student.names, student.shapes, parts, strict=True):
            if not isinstance(part, Tensor) or tuple(part.shape) != shape or not part.is_floating_point():
                got = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
                way_out = "Choose the model (width, depth, norm) that the buffer was made with."
                raise refuse(f"{name} in {place}", f"floats {list(shape)}", got, way_out)
        rows.append(torch.cat([part.detach().reshape(-1).to(torch.float32) for part in parts]))
        check_finite(rows[-1], place, "Leave that expert out.")
    return torch.stack(rows)


@torch.no_grad()
def _accuracy(theta: Tensor, student: Student, store: ExpertStore, transform: Transform, where: str) -> float:
    """Of one snapshot on evenly spaced test images, NaN without any. Warns where it is near chance."""
    split = store.real.test
    if split is None or not len(split):
        return float("nan")
    rows = torch.linspace(0, len(split) - 1, min(_CHECKED, len(split))).round().long()
    right = 0
    for part in rows.split(250):
        logits = student.logits(theta, transform.forward(split.pixels(part)))
        right += int((logits.argmax(1) == split.labels[part]).sum())
    score, chance = right / len(rows), 1 / store.real.num_classes
    if score < chance + 3 * (chance * (1 - chance) / len(rows)) ** 0.5:
        _log.warning(
            "%s classifies %.1f %% of the test images, no better than chance: are the transform, the data "
            "and the class order those it was trained with?",
            where,
            100 * score,
        )
    return score
