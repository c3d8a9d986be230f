"""Records of a label store, packed: the rows of all batches end to end, in memory as in the shards on disk."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, overload

import torch
from torch import Tensor

from dd.base.seeding import child
from dd.base.shapes import check_finite
from dd.errors import refuse
from dd.synthetic.label_checks import TOO_LARGE, together
from dd.transforms.views import MIX_KINDS, Mix, Shuffle, Views

_SHARD_BYTES: Final = 64 * 2**20


def record_bytes(count: int, classes: int, strips: int = 0) -> int:
    """Bytes of a batch of `count` images: 2 b K for logits, 25 b + 20 for the replay, 2 b f for a shuffle."""
    return count * (2 * classes + 4 + 16 + 1 + 4 + 2 * strips) + 20


def kept_within(sizes: Sequence[int], nbytes: int, seed: int) -> list[int]:
    """The places of a random part of records of so many bytes that takes at most `nbytes`, in order (LPLD's rule).

    Raises:
        InputError: not one record fits.
    """
    kept, total = [], 0
    for i in torch.randperm(len(sizes), generator=child(seed, "prune")).tolist():
        if total + sizes[i] <= nbytes:
            kept.append(i)
            total += sizes[i]
    if not kept:
        raise refuse("nbytes", f"at least {min(sizes)}, the smallest record", nbytes)
    return sorted(kept)


@dataclass(frozen=True, eq=False)
class LabelRecord:
    """One batch of b images.

    Attributes:
        ids: int32 `[b]`: numbers of the images in the set.
        views: their crops and flips.
        mix: the batch's mixing.
        logits: float16 `[b, K]`, of the augmented and mixed batch, the temperature not applied.
        shuffle: of the patches within an image, before its crop; `None` for none.
    """

    ids: Tensor
    views: Views
    mix: Mix
    logits: Tensor
    shuffle: Shuffle | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.logits.dtype != torch.float16 or self.logits.ndim != 2 or len(self.logits) != count:
            raise refuse("logits", f"float16 [{count}, K]", f"{self.logits.dtype} {list(self.logits.shape)}")
        check_finite(self.logits, "logits", TOO_LARGE)
        if len(self.views.boxes) != count or len(self.mix.order) != count:
            raise refuse("views and mix", f"of {count} images", f"{len(self.views.boxes)} and {len(self.mix.order)}")
        if self.shuffle is not None and len(self.shuffle.rows) != count:
            raise refuse("shuffle", f"of {count} images", len(self.shuffle.rows))

    def picture(self, pictures: Tensor) -> Tensor:
        """What the teachers saw: pixels `[b, C, H, W]` in [0, 1] of all pictures `[n, C, H, W]`, uint8 or in [0, 1]."""
        x = pictures[self.ids.long()]
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return self.mix(self.views(x if self.shuffle is None else self.shuffle(x)))

    @property
    def strips(self) -> int:
        """f of the shuffle, 0 without one."""
        return 0 if self.shuffle is None else self.shuffle.rows.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes on disk, without a shard's header: `record_bytes`."""
        return record_bytes(len(self.ids), self.logits.shape[1], self.strips)


class Records(Sequence[LabelRecord]):
    """Batches in shards of at most 64 MiB each; one is made, of views, when it is asked for.

    A record of its own has six tensors, which weigh more than the labels of a small batch.

    Args:
        shards: the tensors of each, as `check_shard` wants them.

    Raises:
        InputError: no record, or records of several numbers of classes, or of several shuffles.
    """

    def __init__(self, shards: Sequence[Mapping[str, Tensor]]) -> None:
        if not shards:
            raise refuse("records", "at least one", "none")
        if len({shard["logits"].shape[1] for shard in shards}) > 1:
            raise refuse("records", *_ONE_NUMBER)
        if len({_strips_of(shard) for shard in shards}) > 1:
            raise refuse("records", *_ONE_SHUFFLE)
        self.shards = tuple(shards)
        self.lengths = [length for shard in shards for length in shard["lengths"].tolist()]
        self._ends = list(itertools.accumulate(len(shard["lengths"]) for shard in shards))
        inside = [itertools.accumulate(shard["lengths"].tolist(), initial=0) for shard in shards]
        self._starts = [start for starts in inside for start in list(starts)[:-1]]

    @staticmethod
    def pack(records: Iterable[LabelRecord], lengths: Sequence[int]) -> Records:
        """Records of so many images each; one of them at a time is taken from `records`."""
        rest = iter(records)
        first = next(rest, None)
        if first is None:
            raise refuse("records", "at least one", "none")
        classes, strips = first.logits.shape[1], first.strips
        rest = itertools.chain([first], rest)
        shards: list[dict[str, Tensor]] = []
        for part in _parts(lengths, classes, strips):
            shard, start = _empty(part, classes, strips), 0
            for place, record in enumerate(itertools.islice(rest, len(part))):
                _put(shard, place, start, record)
                start += part[place]
            shards.append(shard)
        return Records(shards)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> LabelRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[LabelRecord]: ...
    def __getitem__(self, index: int | slice) -> LabelRecord | list[LabelRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        which = bisect.bisect_right(self._ends, i)
        shard, place = self.shards[which], i - (self._ends[which - 1] if which else 0)
        rows = slice(self._starts[i], self._starts[i] + self.lengths[i])
        top, left, bottom, right = shard["mix_boxes"][place].tolist()
        kind, share = int(shard["kinds"][place]), float(shard["shares"][place])
        return LabelRecord(
            shard["ids"][rows],
            Views(shard["boxes"][rows], shard["flips"][rows]),
            Mix(MIX_KINDS[kind], shard["order"][rows].long(), share, (top, left, bottom, right)),
            shard["logits"][rows],
            Shuffle(*shard["shuffles"][rows].chunk(2, dim=1)) if "shuffles" in shard else None,
        )

    @property
    def sizes(self) -> list[int]:
        """`record_bytes` of each."""
        classes, strips = self.shards[0]["logits"].shape[1], _strips_of(self.shards[0])
        return [record_bytes(length, classes, strips) for length in self.lengths]


_ONE_NUMBER: Final = ("of one number of classes", "several")
_ONE_SHUFFLE: Final = ("all with shuffles of one factor, or all without", "both or several")


def _strips_of(shard: Mapping[str, Tensor]) -> int:
    return shard["shuffles"].shape[1] // 2 if "shuffles" in shard else 0


def _parts(lengths: Sequence[int], classes: int, strips: int) -> Iterator[list[int]]:
    """The lengths of the records of each shard."""
    return together(lengths, lambda length: record_bytes(length, classes, strips), _SHARD_BYTES)


def _empty(lengths: Sequence[int], classes: int, strips: int) -> dict[str, Tensor]:
    """Rows of all records of a shard one below the other, and length, mixing kind, λ and box of each record."""
    rows, count = sum(lengths), len(lengths)
    return {
        **({"shuffles": torch.empty(rows, 2 * strips, dtype=torch.uint8)} if strips else {}),
        "ids": torch.empty(rows, dtype=torch.int32),
        "boxes": torch.empty(rows, 4, dtype=torch.int32),
        "flips": torch.empty(rows, dtype=torch.bool),
        "order": torch.empty(rows, dtype=torch.int32),
        "logits": torch.empty(rows, classes, dtype=torch.float16),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        "kinds": torch.empty(count, dtype=torch.uint8),
        "shares": torch.empty(count, dtype=torch.float64),
        "mix_boxes": torch.empty(count, 4, dtype=torch.int16),
    }


def _put(shard: Mapping[str, Tensor], place: int, start: int, record: LabelRecord) -> None:
    """Write a record into its place, and its rows from `start` on."""
    if record.logits.shape[1] != shard["logits"].shape[1]:
        raise refuse("records", *_ONE_NUMBER)
    if record.strips != _strips_of(shard):
        raise refuse("records", *_ONE_SHUFFLE)
    rows = slice(start, start + len(record.ids))
    shard["ids"][rows], shard["order"][rows], shard["logits"][rows] = record.ids, record.mix.order, record.logits
    shard["boxes"][rows], shard["flips"][rows] = record.views.boxes, record.views.flips
    if record.shuffle is not None:
        shard["shuffles"][rows] = torch.cat([record.shuffle.columns, record.shuffle.rows], 1)
    shard["kinds"][place], shard["shares"][place] = MIX_KINDS.index(record.mix.kind), record.mix.share
    shard["mix_boxes"][place] = torch.tensor(record.mix.box, dtype=torch.int16)
