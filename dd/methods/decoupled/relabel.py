"""Relabel: teacher logits of augmented and mixed batches of a finished set, as a store that a student replays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.devices import moved
from dd.base.files import digest
from dd.base.parts import ALONE, Parts
from dd.base.seeding import child
from dd.base.shapes import check_whole
from dd.errors import refuse
from dd.synthetic import LabelRecord, LabelStore, batch_ids
from dd.synthetic.records import Records, kept_within, record_bytes
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
    parts: Parts = ALONE,
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
        nbytes: what the store may take: a random part of the batches is labelled, that which `LabelStore.pruned` would
            keep; `None` for all.
        seed: of orders, crops and mixing, and of what stays.
        device: of the teachers.
        progress: called after each batch.
        parts: where batches are shared with other processes.

    Raises:
        InputError: pictures of another type, an option out of range, members that disagree, or `nbytes` below a batch.
    """
    if pictures.dtype != torch.uint8:
        raise refuse("pictures", "uint8, as they are stored", pictures.dtype)
    check_whole(epochs, "epochs")
    check_whole(shuffle, "shuffle")
    size = (pictures.shape[2], pictures.shape[3])
    members, weights = [t.as_module() for t, _ in committee], [w for _, w in committee]
    least = (micro_batch or batch) if bn_mode == "batch" else None
    lengths = label_lengths(len(pictures), batch, epochs, least)
    kept = list(range(len(lengths)))
    if nbytes is not None:
        classes = label(members, weights, (pictures[:1].float() / 255).to(device)).shape[1]
        strips = shuffle if shuffle > 1 else 0
        kept = kept_within([record_bytes(length, classes, strips) for length in lengths], nbytes, seed)

    def labelled(some: Sequence[int]) -> Iterator[LabelRecord]:
        """Some of the records, in order; the draws of each are its own."""
        wanted, done = set(some), 0
        whole = (ids for ids in batch_ids(len(pictures), batch, epochs, seed) if _is_labelled(len(ids), least))
        for i, ids in enumerate(whole):
            if i not in wanted:
                continue
            draws = child(seed, "labels", "views", i)
            views = draw_views(len(ids), size, draws, scale=scale) if scale else draw_shifts(len(ids), size, draws)
            mixing = draw_mix(mix, len(ids), size, child(seed, "labels", "mix", i), alpha)
            strips = draw_shuffle(len(ids), shuffle, child(seed, "labels", "shuffle", i)) if shuffle > 1 else None
            x = moved(pictures[ids.long()], device or torch.device("cpu")).float() / 255
            seen = mixing(views(x if strips is None else strips(x)))
            z = label(members, weights, seen, bn_mode=bn_mode, micro_batch=micro_batch)
            done += 1
            progress(done, len(some), "relabel")
            yield LabelRecord(ids, views, mixing, z.half().cpu(), strips)

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
    if nbytes is not None:
        made["pruned"] = {"kept": len(kept), "of": len(lengths), "seed": seed}
    whole = digest(pictures)
    if not parts.shared:
        return LabelStore(Records.pack(labelled(kept), [lengths[i] for i in kept]), whole, made)
    each = _chunk(len(kept))
    chunks = [kept[start : start + each] for start in range(0, len(kept), each)]

    def make(place: int) -> dict[str, Tensor]:
        """Some of the batches, with the place of each of their shards before its names."""
        shards = Records.pack(labelled(chunks[place]), [lengths[i] for i in chunks[place]]).shards
        return {f"{number}/{name}": t for number, shard in enumerate(shards) for name, t in shard.items()}

    found = parts.each("labels", range(len(chunks)), make, [whole, *(t.sha256 for t, _ in committee)])
    return LabelStore(Records.pack(_records(found), [lengths[i] for i in kept]), whole, made)


def _records(parts: Iterable[Mapping[str, Tensor]]) -> Iterator[LabelRecord]:
    """Those of parts, in order; one part is in memory at a time."""
    for tensors in parts:
        yield from Records(_shards(tensors))


_CHUNKS: Final = 64
"""Parts at most in which labels are shared: few files, and work for as many processes."""


def _chunk(records: int) -> int:
    """Batches of a part of so many."""
    return max(1, -(-records // _CHUNKS))


def label_parts(lengths: Sequence[int], classes: int, strips: int, nbytes: int | None, seed: int) -> int:
    """In how many parts several processes share labels.

    Args:
        lengths: images of each batch.
        classes: K.
        strips: f of the shuffle, 0 without one.
        nbytes, seed: as of `make_labels`.
    """
    kept = len(lengths)
    if nbytes is not None:
        kept = len(kept_within([record_bytes(length, classes, strips) for length in lengths], nbytes, seed))
    return -(-kept // _chunk(kept))


def _shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The shards of a part, by the places before their names."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, own = name.partition("/")
        found.setdefault(int(number), {})[own] = tensor
    return [found[number] for number in sorted(found)]


def label_lengths(count: int, batch: int, epochs: int, micro_batch: int | None = None) -> list[int]:
    """Images of each batch of `epochs` epochs that is labelled.

    Args:
        count, batch, epochs: images in all, in a batch, and E.
        micro_batch: of the batches' own statistics, which one image does not have; `None` for running ones.
    """
    lengths = [min(batch, count - start) for start in range(0, count, batch)]
    return [length for length in lengths if _is_labelled(length, micro_batch)] * epochs


def _is_labelled(length: int, micro_batch: int | None) -> bool:
    """Whether each micro-batch of a batch has statistics."""
    return micro_batch is None or length % micro_batch != 1
