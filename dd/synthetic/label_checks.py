"""What the tensors of a label store may hold: each number in the range that labelling draws it from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from dd.base.shapes import check_finite
from dd.errors import refuse
from dd.transforms.views import MIX_KINDS, PAD

BY_IMAGE: Final = ("ids", "boxes", "flips", "order", "logits", "shuffles")
"""Tensors with one row an image of a record."""
_BY_RECORD: Final = ("lengths", "kinds", "shares", "mix_boxes")
_TYPES: Final = {
    "ids": torch.int32,
    "boxes": torch.int32,
    "flips": torch.bool,
    "order": torch.int32,
    "logits": torch.float16,
    "shuffles": torch.uint8,
    "lengths": torch.int32,
    "kinds": torch.uint8,
    "shares": torch.float64,
    "mix_boxes": torch.int16,
}
TOO_LARGE: Final = "float16 ends at 65,504: the teacher's logits are larger."
_ROWS: Final = 2**14
"""Rows that are looked at together, so that a look takes little memory beside a store."""
_WIDTHS: Final = {"boxes": 4, "mix_boxes": 4}


def check_shard(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a shard's tensors that no labelling gives, whatever the pictures are.

    Raises:
        InputError: a tensor that is missing, one too many, of another type or shape, or a value out of range.
    """
    if tensors.keys() | {"shuffles"} != _TYPES.keys():
        raise refuse("tensors", f"{', '.join(sorted(_TYPES))} (shuffles may lack)", ", ".join(sorted(tensors)))
    lengths = tensors["lengths"]
    _check_kind("lengths", lengths, len(lengths) if lengths.ndim else 0)
    if not len(lengths) or int(lengths.min()) < 1:
        raise refuse("lengths", "at least 1 each, of at least one record", lengths.tolist()[:8])
    for name, value in tensors.items():
        _check_kind(name, value, int(lengths.sum()) if name in BY_IMAGE else len(lengths))
    _check_range("ids", tensors["ids"], 0)
    _check_range("kinds", tensors["kinds"], 0, len(MIX_KINDS) - 1)
    _check_range("sides of `boxes`", tensors["boxes"][:, 2:], 1)
    check_finite(tensors["shares"], "shares")
    _check_range("shares", tensors["shares"], 0, 1)
    _check_range("mix_boxes", tensors["mix_boxes"], 0)
    check_finite(tensors["logits"], "logits", TOO_LARGE)
    _check_orders("order", tensors["order"], lengths.tolist())
    if "shuffles" in tensors:
        factor = tensors["shuffles"].shape[1] // 2
        if factor < 2 or tensors["shuffles"].shape[1] % 2:
            raise refuse("shuffles", "uint8 [n, 2 f] with f ≥ 2", list(tensors["shuffles"].shape))
        for part in tensors["shuffles"].view(-1, factor).split(_ROWS):
            if not bool((part.sort(1).values == torch.arange(factor)).all()):
                raise refuse("shuffles", f"orders of 0…{factor - 1}", "others")


def _check_kind(name: str, value: Tensor, rows: int) -> None:
    wide = name in (*_WIDTHS, "logits", "shuffles")
    shape = [rows, _WIDTHS.get(name, "K" if name == "logits" else "2 f")] if wide else [rows]
    wrong = wide and value.ndim == 2 and name in _WIDTHS and value.shape[1] != _WIDTHS[name]
    if value.dtype != _TYPES[name] or value.ndim != 1 + wide or len(value) != rows or wrong:
        told = f"{str(_TYPES[name]).removeprefix('torch.')} [{', '.join(map(str, shape))}]"
        raise refuse(name, told, f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}")


def _check_range(name: str, value: Tensor, low: float, high: float | None = None) -> None:
    if not value.numel():
        return
    least, most = value.min().item(), value.max().item()
    if least < low or (high is not None and most > high):
        raise refuse(name, f"at least {low}" if high is None else f"in {low}…{high}", f"{least}…{most}")


def _check_orders(name: str, values: Tensor, lengths: Sequence[int]) -> None:
    """Refuse what is no permutation within each record."""
    first = 0
    for part in together(lengths, int, _ROWS):
        counts = torch.tensor(part)
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        places = values[first : first + len(starts)].long() + starts
        first += len(starts)
        inside = bool(((places >= starts) & (places < starts + counts.repeat_interleave(counts))).all())
        if not inside or not torch.equal(places.sort().values, torch.arange(len(places))):
            raise refuse(name, "a permutation of each record's images", "something else")


def together(lengths: Sequence[int], size: Callable[[int], int], most: int) -> Iterator[list[int]]:
    """Lengths of records whose sizes add up to `most` at most, or one by itself."""
    part: list[int] = []
    total = 0
    for length in lengths:
        if part and total + size(length) > most:
            yield part
            part, total = [], 0
        part.append(length)
        total += size(length)
    yield part


def check_sizes(shards: Sequence[Mapping[str, Tensor]], count: int, size: tuple[int, int], classes: int | None) -> None:
    """Refuse records that do not fit their pictures.

    Args:
        shards: the tensors of a store, alike in their classes and strips.
        count: pictures.
        size: their height and width in pixels.
        classes: K; `None` where nobody knows it.

    Raises:
        InputError: an image that is not there, a crop or mixing box outside the picture, strips that do not fit it, or
            logits of another number of classes.
    """
    columns = shards[0]["logits"].shape[1]
    if classes is not None and columns != classes:
        raise refuse("logits", f"of {classes} classes", columns)
    for shard in shards:
        _check_range("ids", shard["ids"], 0, count - 1)
    sides = torch.tensor(size)
    for boxes in (part.long() for shard in shards for part in shard["boxes"].split(_ROWS)):
        within = ((boxes[:, :2] >= 0) & (boxes[:, :2] + boxes[:, 2:] <= sides)).all(1)
        shifted = ((boxes[:, 2:] == sides) & (boxes[:, :2].abs() <= PAD)).all(1)
        if not bool((within | shifted).all()):
            bad = boxes[~(within | shifted)][0].tolist()
            expected = f"in a picture of {size[0]} × {size[1]}, or all of it moved by up to {PAD} pixels"
            raise refuse("boxes", expected, bad)
    for mixed in (shard["mix_boxes"].long() for shard in shards):
        if not bool(((mixed[:, :2] <= mixed[:, 2:]) & (mixed[:, 2:] <= sides)).all()):
            raise refuse("mix_boxes", f"in a picture of {size[0]} × {size[1]}", "one outside")
    strips = shards[0]["shuffles"].shape[1] // 2 if "shuffles" in shards[0] else 0
    if strips and (size[0] % strips or size[1] % strips):
        raise refuse("shuffles", f"of a number of strips that divides {size[0]} and {size[1]}", strips)
