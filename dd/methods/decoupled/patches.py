"""RDED's realistic patches, and the medium-difficulty rule that CV-DD starts from: real crops that a teacher ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.base.parts import ALONE, Parts
from dd.base.seeding import child
from dd.base.shapes import check_choices, check_whole
from dd.base.texts import both
from dd.data import Images, Split
from dd.data.images.checks import name_of
from dd.data.images.originals import cut_originals, original_sizes
from dd.data.images.splits import as_float
from dd.errors import refuse
from dd.transforms.views import Views, draw_views

Rule = Literal["easy", "medium"]
_CLASSES: Final = 8
"""Of a part, where several processes share them."""
AT_ONCE: Final = 25
"""Candidates that are cut and scored at once: what is in memory beside the best patches of a class."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """How patches are cut and chosen.

    Attributes:
        factor: an image is factor × factor patches; RDED has 1 up to 64 px and 2 at 224 px.
        candidates: images a class that are looked at (RDED: 300), or all where there are fewer.
        crops: crops of each, of which the teacher's best stays.
        rule: `easy`: the smallest losses (RDED); `medium`: the middle of the candidates in order of loss, alternating
            to both sides (DELT's rule; CV-DD's own generator was not published, so this is a reconstruction).

    Raises:
        InputError: a field out of range.
    """

    factor: int = 1
    candidates: int = 300
    crops: int = 5
    rule: Rule = "easy"

    def __post_init__(self) -> None:
        for name in ("factor", "candidates", "crops"):
            check_whole(getattr(self, name), name)
        check_choices(self, {"rule": ("easy", "medium")})


def middle_out(count: int, wanted: int) -> list[int]:
    """Places ⌈n/2⌉, then alternately one below and one above, of `count` in order, until there are `wanted`.

    Where one side ends, the other goes on.

    Raises:
        InputError: more are wanted than there are.
    """
    if wanted > count:
        raise refuse("ipc", f"at most {count}, the candidates of a class", wanted, "Raise `candidates`.")
    first = min(-(-count // 2), count - 1)
    order = [first]
    for step in range(1, count):
        order += [place for place in (first - step, first + step) if 0 <= place < count]
    return order[:wanted]


def check_patches(real: Images, ipc: int, how: Patches) -> None:
    """Refuse data whose images or sides do not give the patches of `ipc` images a class.

    Raises:
        InputError: a side that `factor` does not divide, or fewer candidates than patches.
    """
    height, width = real.size
    if height % how.factor or width % how.factor:
        known = [f for f in range(1, min(height, width) + 1) if height % f == width % f == 0]
        nearest = max(f for f in known if f < how.factor)
        expected = f"a divisor of {both(height, width)} ({', '.join(map(str, known))})"
        raise refuse("factor", expected, how.factor, f"Give `factor={nearest}`.")
    each, there = how.factor**2, torch.bincount(real.train.labels, minlength=real.num_classes).tolist()
    k = min(range(real.num_classes), key=lambda k: there[k])
    if ipc * each > there[k]:
        expected = f"at most {there[k] // each} with factor={how.factor}, whose images are of {each} patches each, one "
        expected += f"of a real image: class {name_of(k, real.classes)} has {there[k]}"
        way_out = "Lower `ipc` or `factor`." if there[k] >= each else "Lower `factor`."
        raise refuse("ipc", expected, ipc, way_out)
    if ipc * each > how.candidates:
        expected = f"at least {ipc * each}, the patches of {ipc} images a class with factor={how.factor}"
        raise refuse("candidates", expected, how.candidates, f"Give `candidates={ipc * each}`.")


@torch.no_grad()
def cut_patches(
    real: Images,
    score: Callable[[Tensor], Tensor],
    ipc: int,
    how: Patches,
    seed: int,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    parts: Parts = ALONE,
    about: Sequence[str] = (),
) -> Tensor:
    """`ipc` images of each class, made of ranked real patches, as pixels in [0, 1] `[K, ipc, C, H, W]`.

    Of each candidate image `crops` square random resized crops are cut to patches of side S / factor, and the one with
    the smallest cross-entropy at the true class stays. Where the data is read when asked for, and the picture is at
    least S high and wide before it is resized, they are cut from it as it is there (as by the authors). Then the rule
    chooses ipc · factor² of a class in its order, and each image is a grid of factor × factor of them: place p of the
    grid, row by row, of image i is number p · ipc + i, so that every image has patches of every quality (the authors'
    order).

    Args:
        real: the data; its training images are cut.
        score: patches `[n, C, h, w]` → logits `[n, K]`; for networks of whole pictures it pads them to S × S, the
            authors by zeros after the normalisation: `Panel.score`.
        ipc: images a class.
        how: see `Patches`.
        seed: of candidates and crops.
        progress: called after each class.
        parts, about: where classes are shared with other processes, and hashes of who scores.

    Raises:
        InputError: as `check_patches`.
    """
    check_patches(real, ipc, how)
    height, width = real.size
    side, candidates = (height // how.factor, width // how.factor), list[Tensor]()
    for k in range(real.num_classes):
        rows = real.class_index(k)
        candidates.append(rows[torch.randperm(len(rows), generator=child(seed, "patches", k))[: how.candidates]])
    classes = torch.arange(real.num_classes).split(_CLASSES if parts.shared else real.num_classes)
    (sizes,) = parts.each("sizes", [0], lambda _: {"hw": _as_tensor(original_sizes(real.train, torch.cat(candidates)))})
    of_class = sizes["hw"].split([len(rows) for rows in candidates]) if len(sizes["hw"]) else None

    def make(place: int) -> dict[str, Tensor]:
        some = classes[place].tolist()
        made = torch.empty(len(some), ipc, real.channels, height, width)
        own = {k: (candidates[k], None if of_class is None else of_class[k]) for k in some}
        for at, best in enumerate(_best_crops(real.train, own, score, side, how.crops, seed)):
            made[at] = _composed(*best.taken(), ipc, how)
            progress(some[at] + 1, real.num_classes, "patches")
        return {"pixels": made}

    made = [found["pixels"] for found in parts.each("patches", range(len(classes)), make, about)]
    return made[0] if len(made) == 1 else torch.cat(made)


def patch_parts(classes: int) -> int:
    """In how many parts several processes share so many classes."""
    return -(-classes // _CLASSES)


def _as_tensor(sizes: list[tuple[int, int]] | None) -> Tensor:
    """Sizes as int64 `[n, 2]`; none of them where pictures have no others than those of their split."""
    return torch.tensor(sizes or [], dtype=torch.int64).view(-1, 2)


def _composed(patches: Tensor, losses: Tensor, ipc: int, how: Patches) -> Tensor:
    """Images `[ipc, C, H, W]` of the patches `[n, C, h, w]` that the rule chooses."""
    order, wanted = losses.argsort(stable=True), ipc * how.factor**2
    places = torch.arange(wanted) if how.rule == "easy" else torch.tensor(middle_out(len(losses), wanted))
    chosen = patches[order[places]].unflatten(0, (how.factor, how.factor, ipc))
    return chosen.permute(2, 3, 0, 4, 1, 5).flatten(4, 5).flatten(2, 3)


def _best_crops(
    train: Split,
    candidates: Mapping[int, tuple[Tensor, Tensor | None]],
    score: Callable[[Tensor], Tensor],
    side: tuple[int, int],
    crops: int,
    seed: int,
) -> Iterator[_Best]:
    """For some classes (rows, sizes before they were brought to one) the best of `crops` patches of each candidate."""
    sized = {k: (rows, sizes) for k, (rows, sizes) in candidates.items() if sizes is not None}
    if sized:
        yield from _of_originals(train, sized, score, side, crops, seed)
        return
    parts = {k: rows.split(AT_ONCE) for k, (rows, _) in candidates.items()}
    found = train.stream(chain.from_iterable(parts.values()))
    for k, (rows, _) in candidates.items():
        best, generator, done = _Best(k, len(rows), (train.shape[0], *side)), child(seed, "crops", k), 0
        drawn = [draw_views(len(rows), train.shape[1:], generator, ratio=(1.0, 1.0), flip=0.0) for _ in range(crops)]
        for _, (_, pixels) in zip(parts[k], found, strict=False):
            here = slice(done, done + len(pixels))
            for views in drawn:
                patches = Views(views.boxes[here], views.flips[here])(pixels, side)
                best.look(patches, score(patches).float().cpu(), done)
            done += len(pixels)
        yield best


def _of_originals(
    train: Split,
    candidates: Mapping[int, tuple[Tensor, Tensor]],
    score: Callable[[Tensor], Tensor],
    side: tuple[int, int],
    crops: int,
    seed: int,
) -> Iterator[_Best]:
    """The same of pictures that the split has resized, each cut as large as its file has it, as the authors do."""
    boxes, start = [], 0
    for k, (rows, sizes) in candidates.items():
        own, generator = [(h, w) for h, w in sizes.tolist()], child(seed, "crops", k)
        drawn = [draw_views(len(rows), own, generator, ratio=(1.0, 1.0), flip=0.0).boxes for _ in range(crops)]
        boxes.append(torch.stack(drawn, dim=1))
        start += len(rows)
    shape, at_once = (crops, train.shape[0], *side), max(1, 4 * AT_ONCE // crops)
    places = torch.arange(start).split([len(rows) for rows, _ in candidates.values()])
    parts = [part.split(at_once) for part in places]
    cut = _Cutter(torch.cat(boxes), side)
    whole = torch.cat([rows for rows, _ in candidates.values()])
    with closing(cut_originals(train, whole, cut, shape, chain.from_iterable(parts))) as found:
        for k, own_parts in zip(candidates, parts, strict=True):
            best, done = _Best(k, len(candidates[k][0]), shape[1:]), 0
            for _, patches in zip(own_parts, found, strict=False):
                scores = score(patches.flatten(0, 1)).float().cpu().unflatten(0, patches.shape[:2])
                for crop in range(crops):
                    best.look(patches[:, crop], scores[:, crop], done)
                done += len(patches)
            yield best


class _Best:
    """The patches of smallest loss so far of the candidates of class `k`."""

    def __init__(self, k: int, count: int, shape: tuple[int, ...]) -> None:
        self._k, self._losses, self._kept = k, torch.full((count,), torch.inf), torch.empty(count, *shape)

    def look(self, patches: Tensor, scores: Tensor, start: int = 0) -> None:
        """Patches `[m, C, h, w]` of the candidates from `start` on, and their logits `[m, K]`."""
        losses = F.cross_entropy(scores, torch.full((len(patches),), self._k), reduction="none")
        better = (losses < self._losses[start : start + len(patches)]).nonzero().flatten()
        self._losses[start + better], self._kept[start + better] = losses[better], patches[better]

    def taken(self) -> tuple[Tensor, Tensor]:
        """The patches `[n, C, h, w]` and their losses `[n]`; they are gone here, so that two classes are never held."""
        found = self._kept, self._losses
        self._kept = self._losses = torch.empty(0)
        return found


@dataclass(frozen=True, eq=False)
class _Cutter:
    """Cuts the patches of a picture out of it.

    Attributes:
        boxes: int32 `[n, crops, 4]`, as in `Views`.
        side: height and width of a patch.
    """

    boxes: Tensor
    side: tuple[int, int]

    def __call__(self, place: int, picture: Tensor) -> Tensor:
        """Float32 `[crops, C, *side]` of a stored picture `[C, h, w]`."""
        patches = []
        for top, left, height, width in self.boxes[place].tolist():
            part = as_float(picture[:, top : top + height, left : left + width])  # of the picture it may be 250 MB
            whole = Views(torch.tensor([[0, 0, height, width]], dtype=torch.int32), torch.zeros(1, dtype=torch.bool))
            patches.append(whole(part[None], self.side))
        return torch.cat(patches)
