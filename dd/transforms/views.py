"""Views of the decoupled methods: shuffles, crops, flips and mixing, each a draw that can be stored and replayed.

A draw holds whole numbers and one mixing coefficient, nothing that depends on the pictures; the same draw on the same
pictures gives the same bytes. Draws come from a generator of their own, never from the global stream.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from dd.base.devices import moved
from dd.base.shapes import check, check_whole
from dd.base.texts import both
from dd.errors import refuse
from dd.transforms.dsa import shifted

MixKind = Literal["none", "cutmix", "mixup"]
MIX_KINDS: Final = ("none", "cutmix", "mixup")  # label stores keep a kind's place in here
PAD: Final = 4  # pixels of the field's RandomCrop
_ATTEMPTS = 10  # of torchvision's RandomResizedCrop


@dataclass(frozen=True, eq=False)
class Views:
    """One crop and one coin a picture.

    Attributes:
        boxes: int32 `[n, 4]`: top, left, height, width in pixels.
        flips: bool `[n]`: mirrored from left to right, after the crop.
    """

    boxes: Tensor
    flips: Tensor

    def __call__(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Each picture of `[n, C, H, W]` cropped, resized (bilinear, antialiased), flipped; differentiable.

        Args:
            x: the pictures.
            size: height and width of the result; `None` for H and W.
        """
        check(x, "x", "N C H W", N=len(self.boxes))
        size, whole = size or (x.shape[2], x.shape[3]), (x.shape[2], x.shape[3])
        same = len(self.boxes) > 0 and bool(
            (self.boxes == self.boxes[:1]).all() and (self.flips == self.flips[:1]).all()
        )
        if x.device.type == "cpu" and same:
            return _torchvisions(x, self.boxes[0].tolist(), bool(self.flips[0]), size)  # all pictures at once
        if size == whole and bool((self.boxes[:, 2:] == torch.tensor(size)).all()):
            return self._mirrored(shifted(x, self.boxes[:, 0].long(), self.boxes[:, 1].long()))
        if x.device.type != "cpu" and self._inside(whole):
            return self._mirrored(resampled(x, self.boxes, size))
        each = zip(x.split(1), self.boxes.tolist(), self.flips.tolist(), strict=True)
        return torch.cat([_torchvisions(part, box, flip, size) for part, box, flip in each])

    def _mirrored(self, x: Tensor) -> Tensor:
        return torch.where(moved(self.flips, x.device).view(-1, 1, 1, 1), x.flip(3), x)

    def _inside(self, size: tuple[int, int]) -> bool:
        """Whether all boxes lie in pictures of a size."""
        ends = self.boxes[:, :2] + self.boxes[:, 2:]
        return bool((self.boxes[:, :2] >= 0).all() and (ends <= torch.tensor(size)).all())

    def shared(self, count: int) -> Views:
        """The first picture's view for `count` pictures: torchvision's transforms draw one for a whole batch."""
        return Views(self.boxes[:1].expand(count, 4), self.flips[:1].expand(count))


def _torchvisions(x: Tensor, box: list[int], flip: bool, size: tuple[int, int]) -> Tensor:
    """One view of pictures `[n, C, H, W]` by torchvision's own crop: the bytes of its transforms."""
    from torchvision.transforms.v2.functional import resized_crop

    top, left, height, width = box
    whole = (top, left, height, width) == (0, 0, *size) and size == tuple(x.shape[2:])
    view = x if whole else resized_crop(x, top, left, height, width, list(size), antialias=True)
    return view.flip(-1) if flip else view


def resampled(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """A box of each picture at one size, all of them by two products of matrices; equal to torchvision's to rounding.

    For accelerators: no loop over pictures, and the gradient in x adds in a fixed order, as that of torch's own
    antialiased resizing does not there.

    Args:
        x: `[n, C, H, W]`.
        boxes: whole numbers `[n, 4]`: top, left, height, width, inside the pictures; on the CPU.
        size: height and width of the result.
    """
    if len(boxes) and bool((boxes == boxes[:1]).all()):
        boxes = boxes[:1]
    top, left, height, width = boxes.double().unbind(1)
    rows, columns = (
        moved(_taps(start, length, out, side).to(x.dtype), x.device).unsqueeze(1)
        for start, length, out, side in ((top, height, size[0], x.shape[2]), (left, width, size[1], x.shape[3]))
    )
    return rows @ x @ columns.transpose(2, 3)


def _taps(start: Tensor, length: Tensor, out: int, side: int) -> Tensor:
    """What each pixel of a side counts for each of `out` places: the antialiased triangle, float64 `[n, out, side]`.

    Args:
        start, length: of each box, float64 `[n]`.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    scale = length / out
    support = scale.clamp(min=1)
    centre = scale * (torch.arange(out, dtype=torch.float64).view(1, -1, 1) + 0.5)
    place = torch.arange(side, dtype=torch.float64).view(1, 1, -1) - start
    first, last = (centre - support + 0.5).floor().clamp(min=0), torch.minimum((centre + support + 0.5).floor(), length)
    weight = (1 - (place + 0.5 - centre).abs() / support).clamp(min=0) * ((place >= first) & (place < last))
    return weight / weight.sum(2, keepdim=True)


def draw_views(
    count: int,
    size: tuple[int, int] | list[tuple[int, int]],
    generator: torch.Generator,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Views:
    """Crops by torchvision's rule for RandomResizedCrop: area uniform in `scale`, log of the aspect uniform in `ratio`.

    Ten attempts; then the largest central crop whose aspect is in range.

    Args:
        count: n.
        size: height and width in pixels, of all pictures or a list of those of each.
        generator: where the draws come from.
        scale: share of the area, 0 < low ≤ high ≤ 1.
        ratio: width over height, 0 < low ≤ high.
        flip: probability of a flip.

    Raises:
        InputError: a range that is empty or out of bounds.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise refuse("scale", "0 < low ≤ high ≤ 1", scale)
    if not 0 < ratio[0] <= ratio[1]:
        raise refuse("ratio", "0 < low ≤ high", ratio)
    if not 0 <= flip <= 1:
        raise refuse("flip", "in [0, 1]", flip)
    sizes = size if isinstance(size, list) else [size] * count
    boxes = [_box(one, generator, scale, ratio) for one in sizes]
    flips = torch.rand(count, generator=generator) < flip
    return Views(torch.tensor(boxes, dtype=torch.int32).reshape(count, 4), flips)


def draw_shifts(
    count: int, size: tuple[int, int], generator: torch.Generator, *, pad: int = PAD, flip: float = 0.5
) -> Views:
    """Crops of full size out of a picture with a black border of `pad` pixels, the field's RandomCrop(S, padding=4).

    Args:
        count, size, generator, flip: as in `draw_views`.
        pad: largest shift in pixels, at least 0.

    Raises:
        InputError: a negative `pad`.
    """
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise refuse("pad", "a whole number of at least 0", repr(pad))
    corners = torch.randint(-pad, pad + 1, (count, 2), generator=generator, dtype=torch.int32)
    boxes = torch.cat([corners, torch.tensor(size, dtype=torch.int32).expand(count, 2)], dim=1)
    return Views(boxes, torch.rand(count, generator=generator) < flip)


def _box(
    size: tuple[int, int], generator: torch.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    high, wide = size
    low, top = math.log(ratio[0]), math.log(ratio[1])
    draws = torch.rand(_ATTEMPTS, 2, generator=generator, dtype=torch.float64).tolist()
    for area_draw, ratio_draw in draws:
        area = high * wide * (scale[0] + (scale[1] - scale[0]) * area_draw)
        aspect = math.exp(low + (top - low) * ratio_draw)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= wide and 0 < height <= high:
            place = [int(torch.randint(0, n + 1, (), generator=generator)) for n in (high - height, wide - width)]
            return place[0], place[1], height, width
    aspect = min(max(wide / high, ratio[0]), ratio[1])
    width, height = min(wide, round(high * aspect)), min(high, round(wide / aspect))
    return (high - height) // 2, (wide - width) // 2, height, width


@dataclass(frozen=True, eq=False)
class Shuffle:
    """RDED's ShufflePatches: f vertical strips of each picture change places, then its f horizontal ones.

    A picture of f × f patches keeps them whole, in one of f!² orders.

    Attributes:
        columns, rows: uint8 `[n, f]`: which strip, counted from the left or the top, comes to each place.
    """

    columns: Tensor
    rows: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """A new tensor `[n, C, H, W]`.

        Raises:
            InputError: another number of pictures, or sides that f does not divide.
        """
        count, factor = self.columns.shape
        check(x, "x", "N C H W", N=count)
        if x.shape[2] % factor or x.shape[3] % factor:
            raise refuse("factor", f"a divisor of {both(*x.shape[2:])}", factor)
        return _strips(_strips(x, self.columns).transpose(2, 3), self.rows).transpose(2, 3).contiguous()


def _strips(x: Tensor, order: Tensor) -> Tensor:
    """`[n, C, H, W]` with strips of its last axis in each picture's order `[n, f]`."""
    width = x.shape[3] // order.shape[1]
    places = moved((order.long()[:, :, None] * width + torch.arange(width)).flatten(1), x.device)
    return x.gather(3, places[:, None, None].expand(x.shape))


def draw_shuffle(count: int, factor: int, generator: torch.Generator) -> Shuffle:
    """Orders of the strips of `count` pictures, each uniform over its f! orders.

    Args:
        count: n.
        factor: f, strips across and down, 1 to 255.
        generator: where the draws come from.

    Raises:
        InputError: a factor out of range.
    """
    if check_whole(factor, "factor") > 255:
        raise refuse("factor", "at most 255", factor)
    orders = [torch.randperm(factor, generator=generator) for _ in range(2 * count)]
    columns, rows = torch.stack(orders).to(torch.uint8).view(count, 2, factor).unbind(1)
    return Shuffle(columns, rows)


@dataclass(frozen=True, eq=False)
class Mix:
    """CutMix or MixUp of a batch with a permutation of itself.

    Attributes:
        kind: `none`, `cutmix` or `mixup`.
        order: int64 `[n]`: the partner of each picture.
        share: λ of the Beta draw: of MixUp the weight of the picture itself; CutMix's box has about 1 − λ of the area.
        box: CutMix's box, x1, y1, x2, y2, ends excluded; empty where x1 = x2.
    """

    kind: MixKind
    order: Tensor
    share: float
    box: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __call__(self, x: Tensor) -> Tensor:
        """A new tensor `[n, C, H, W]`; what is given is never changed in place."""
        if self.kind == "none":
            return x
        if self.kind == "mixup":
            return self.blend(x)
        x1, y1, x2, y2 = self.box
        mixed = x.clone()
        mixed[:, :, x1:x2, y1:y2] = x[moved(self.order, x.device), :, x1:x2, y1:y2]
        return mixed

    def blend(self, a: Tensor) -> Tensor:
        """λ a_i + (1 − λ) a_π(i) of pictures, or of stored labels (logits or probabilities) `[n, K]`."""
        return self.share * a + (1 - self.share) * a[moved(self.order, a.device)]


def draw_mix(
    kind: MixKind, count: int, size: tuple[int, int], generator: torch.Generator, alpha: float | None = None
) -> Mix:
    """A draw of a batch's mixing, λ ~ Beta(α, α).

    CutMix as in the field's soft-label stores: with w = ⌊S √(1 − λ)⌋ for each side S, the box is a uniform integer
    centre ± ⌊w / 2⌋, clipped to the picture; λ is not corrected for clipping, since labels come from a teacher that has
    seen the mixed picture.

    Args:
        kind: `none`, `cutmix` (α 1) or `mixup` (α 0.8).
        count, size: of the batch.
        generator: where the draws come from.
        alpha: α > 0; `None` takes the kind's own.

    Raises:
        InputError: an unknown kind, or α ≤ 0.
    """
    if kind not in MIX_KINDS:
        raise refuse("kind", "`none`, `cutmix` or `mixup`", repr(kind))
    alpha = {"none": 1.0, "cutmix": 1.0, "mixup": 0.8}[kind] if alpha is None else alpha
    if not alpha > 0:
        raise refuse("alpha", "positive", alpha)
    if kind == "none":
        return Mix("none", torch.arange(count), 1.0)
    order = torch.randperm(count, generator=generator)
    share = _beta(alpha, generator)
    if kind == "mixup":
        return Mix("mixup", order, share)
    cut = math.sqrt(1 - share)
    ends = []
    for side in size:
        half, centre = int(side * cut) // 2, int(torch.randint(0, side, (), generator=generator))
        ends.append((max(centre - half, 0), min(centre + half, side)))
    return Mix("cutmix", order, share, (ends[0][0], ends[1][0], ends[0][1], ends[1][1]))


def _beta(alpha: float, generator: torch.Generator) -> float:
    """One draw of Beta(α, α), by two of Gamma(α)."""
    draws = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    return float(draws[0] / draws.sum())
