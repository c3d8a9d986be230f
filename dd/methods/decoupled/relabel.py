"""Relabel: teacher logits of augmented and mixed batches of a finished set, as a store that a student replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dd.base.files import digest
from dd.base.seeding import child
from dd.base.shapes import check_whole
from dd.errors import refuse
from dd.synthetic import LabelRecord, LabelStore, batch_ids
from dd.teachers import BNMode, Teacher, label
from dd.transforms.views import MixKind, draw_mix, draw_shifts, draw_shuffle, draw_views


def make_labels(
    pictures: Tensor,
    committee: Sequence[tuple[Teacher, float]],
    *,
    epochs: int,
    batch: int,
    micro_batch: int | None = None,
    bn_mode: BNMode = "running",
    mix: MixKind = "cutmix",
    alpha: float | None = None,
    scale: tuple[float, float] | None = (0.08, 1.0),
    shuffle: int = 1,
    nbytes: int | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> LabelStore:
    """Labels of every batch that a student will see: what is labelled is what is stored, never the pixels before it.

    Args:
        pictures: uint8 `[n, C, H, W]`.
        committee: teachers and their weights v.
        epochs, batch: E epochs of batches of B images; a last batch is left out where it would leave one image to a
            micro-batch in batch mode.
        micro_batch, bn_mode: see `dd.teachers.label`; the student's micro-batch.
        mix, alpha: see `dd.transforms.views`.
        scale: shares of the area of random resized crops; `None` shifts by up to 4 pixels instead (INFER).
        shuffle: f: before its crop, the f × f patches of an image change places (see `views.Shuffle`); 1 for none.
        nbytes: what the store may take: a random part of its batches stays (`LabelStore.pruned`); `None` for all.
        seed: of orders, crops and mixing, and of what stays.
        device: of the teachers.
        progress: called after each batch.

    Raises:
        InputError: pictures of another type, an option out of range, members that disagree, or `nbytes` below a batch.
    """
    if pictures.dtype != torch.uint8:
        raise refuse("pictures", "uint8, as they are stored", pictures.dtype)
    check_whole(epochs, "epochs")
    check_whole(shuffle, "shuffle")
    pixels, size = pictures.float() / 255, (pictures.shape[2], pictures.shape[3])
    members, weights = [t.as_module() for t, _ in committee], [w for _, w in committee]
    cut = micro_batch or batch
    orders = [
        ids for ids in batch_ids(len(pictures), batch, epochs, seed) if bn_mode == "running" or len(ids) % cut != 1
    ]
    records = []
    for i, ids in enumerate(orders):
        draws = child(seed, "labels", "views", i)
        views = draw_views(len(ids), size, draws, scale=scale) if scale else draw_shifts(len(ids), size, draws)
        mixing = draw_mix(mix, len(ids), size, child(seed, "labels", "mix", i), alpha)
        moved = draw_shuffle(len(ids), shuffle, child(seed, "labels", "shuffle", i)) if shuffle > 1 else None
        x = pixels[ids.long()]
        seen = mixing(views(x if moved is None else moved(x)))
        z = label(members, weights, seen.to(device), bn_mode=bn_mode, micro_batch=micro_batch)
        records.append(LabelRecord(ids, views, mixing, z.half().cpu(), moved))
        progress(i + 1, len(orders), "relabel")
    made: dict[str, Any] = {
        "members": [{"name": t.name, "sha256": t.sha256, "weight": w} for t, w in committee],
        "bn_mode": bn_mode,
        "micro_batch": micro_batch,
        "batch": batch,
        "epochs": epochs,
        "mix": mix,
        "alpha": alpha,
        "scale": list(scale) if scale else None,
        "shuffle": shuffle,
        "seed": seed,
    }
    store = LabelStore(tuple(records), digest(pictures), made)
    return store if nbytes is None else store.pruned(nbytes, seed)
