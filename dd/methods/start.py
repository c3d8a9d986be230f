"""Which real images a run starts from, and the soft labels that it starts with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dd.base.seeding import child, child_seed
from dd.data import Images, Ipc, class_counts
from dd.errors import refuse
from dd.inner import Student
from dd.models.features import features
from dd.synthetic import Layout
from dd.transforms.whiten import Transform

_BATCH = 500


def check_small(real: Images, ipc: Ipc, layout: Layout) -> None:
    """Refuse data that cannot give the small pictures of `ipc` stored images a class.

    Raises:
        InputError: a class has fewer images, or the images' sides do not have the factor.
    """
    layout.check_size(real.size)
    there = torch.bincount(real.train.labels, minlength=real.num_classes).tolist()
    for count, own, name in zip(class_counts(real, ipc), there, real.classes, strict=True):
        if count * layout.small > own:
            expected = f"at most {own // layout.small} with factor={layout.factor}, whose stored images show "
            expected += f"{layout.small} each: class {name!r} has {own}"
            raise refuse("ipc", expected, count, "Lower `ipc` or `factor`.")


def pick_real(real: Images, ipc: int | Sequence[int], seed: int) -> Tensor:
    """Row numbers of `ipc` random training images of each class, or so many of each, in class order.

    Distinct, unless a class has fewer: then all of it as often as it goes in, which only canvases ask for.
    """
    counts = [ipc] * real.num_classes if isinstance(ipc, int) else ipc
    rows = []
    for k, count in enumerate(counts):
        of_class = real.class_index(k)
        order = torch.randperm(len(of_class), generator=child(seed, "pick", k))
        rows.append(of_class[order[torch.arange(count) % len(of_class)]])
    return torch.cat(rows)


@torch.no_grad()
def scores(student: Student, theta: Tensor, real: Images, transform: Transform, rows: Tensor) -> Tensor:
    """Logits `[n, K]` of training images, not augmented, in batches."""
    parts = (transform.forward(real.train.pixels(part)).to(theta) for part in rows.split(_BATCH))
    return torch.cat([student.logits(theta, x) for x in parts])


@torch.no_grad()
def logits_in(student: Student, theta: Tensor, images: Tensor) -> Tensor:
    """Logits `[n, K]` of images in model space, in batches."""
    return torch.cat([student.logits(theta, x) for x in images.split(_BATCH)])


def points_of(
    student: Student,
    theta: Tensor,
    real: Images,
    transform: Transform,
    rows: Tensor,
    space: Literal["logit", "feature"],
) -> Tensor:
    """Training images as points of the k-means: logits `[n, K]`, or features `[n, D]`."""
    if space == "logit":
        return scores(student, theta, real, transform, rows)
    return features(student.module, lambda: scores(student, theta, real, transform, rows))


def representative(
    student: Student,
    theta: Tensor,
    real: Images,
    transform: Transform,
    ipc: int,
    space: Literal["logit", "feature"],
    seed: int,
) -> Tensor:
    """AST's representative images `[K · ipc]`: per class k-means with k = ipc, one distinct nearest image a centre.

    The authors' code has ten clusters whatever the ipc, and so none for ipc < 10; this is what it is meant to do.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    chosen = []
    for k in range(real.num_classes):
        rows = real.class_index(k)
        points = points_of(student, theta, real, transform, rows, space).double().cpu().numpy()
        means = KMeans(n_clusters=ipc, n_init=1, random_state=child_seed(seed, "k-means", k) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # fewer distinct points than clusters: still distinct rows
            centres = means.fit(points).cluster_centers_
        free = np.ones(len(rows), dtype=bool)
        for centre in centres:
            distance = np.where(free, ((points - centre) ** 2).sum(1), np.inf)
            nearest = int(distance.argmin())
            free[nearest] = False
            chosen.append(int(rows[nearest]))
    return torch.tensor(chosen)


def correct(student: Student, theta: Tensor, real: Images, transform: Transform, ipc: int, seed: int) -> Tensor:
    """DATM's images `[K · ipc]`: random ones that the expert classifies correctly, filled up with others."""
    chosen = []
    for k in range(real.num_classes):
        rows = real.class_index(k)
        rows = rows[torch.randperm(len(rows), generator=child(seed, "pick", k))]
        right = scores(student, theta, real, transform, rows).argmax(1).cpu() == k
        chosen.append(torch.cat((rows[right], rows[~right]))[:ipc])
    return torch.cat(chosen)


def committee_logits(found: Sequence[Tensor], labels: Tensor) -> Tensor:
    """DATM's first label logits `[n, K]`: the mean over the experts that classify the image correctly.

    Where none does, the mean over all (the authors' code divides by zero there).

    Args:
        found: logits `[n, K]` of each expert.
        labels: classes `[n]`.
    """
    every = torch.stack(list(found))
    good = (every.argmax(2) == labels).to(every)[:, :, None]
    right = good.sum(0)
    return torch.where(right > 0, (good * every).sum(0) / right.clamp(min=1), every.mean(0))
