"""RDED's realistic patches, and the medium-difficulty rule that CV-DD starts from: real crops that a teacher ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.base.seeding import child
from dd.base.shapes import check_choices, check_whole
from dd.data import Images
from dd.errors import refuse
from dd.transforms.views import draw_views

Rule = Literal["easy", "medium"]
_BATCH = 500


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


@torch.no_grad()
def cut_patches(
    real: Images,
    score: Callable[[Tensor], Tensor],
    ipc: int,
    how: Patches,
    seed: int,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Tensor:
    """`ipc` images of each class, made of ranked real patches, as pixels in [0, 1] `[K, ipc, C, H, W]`.

    Of each candidate image `crops` square random resized crops are cut to patches of side S / factor, and the one with
    the smallest cross-entropy at the true class stays. Then the rule chooses ipc · factor² of a class in its order, and
    each image is a grid of factor × factor of them: place p of the grid, row by row, of image i is number p · ipc + i,
    so that every image has patches of every quality (the authors' order).

    Args:
        real: the data; its training images are cut.
        score: patches `[n, C, h, w]` → logits `[n, K]`; for networks of whole pictures it pads them to S × S, the
            authors by zeros after the normalisation: `Panel.score`.
        ipc: images a class.
        how: see `Patches`.
        seed: of candidates and crops.
        progress: called after each class.

    Raises:
        InputError: a side that `factor` does not divide, or fewer candidates than patches.
    """
    height, width = real.size
    side = (height // how.factor, width // how.factor)
    if height % how.factor or width % how.factor:
        raise refuse("factor", f"a divisor of {height} and {width}", how.factor)
    wanted = ipc * how.factor**2
    made = torch.empty(real.num_classes, ipc, real.channels, height, width)
    for k in range(real.num_classes):
        rows = real.class_index(k)
        rows = rows[torch.randperm(len(rows), generator=child(seed, "patches", k))[: how.candidates]]
        if len(rows) < wanted:
            raise refuse("ipc", f"such that a class has {wanted} candidates", len(rows), "Raise `candidates`.")
        patches, losses = _best_crops(real.train.pixels(rows), k, score, side, how.crops, child(seed, "crops", k))
        order = losses.argsort(stable=True)
        places = torch.arange(wanted) if how.rule == "easy" else torch.tensor(middle_out(len(rows), wanted))
        chosen = patches[order[places]].view(how.factor, how.factor, ipc, real.channels, *side)
        made[k] = chosen.permute(2, 3, 0, 4, 1, 5).reshape(ipc, real.channels, height, width)
        progress(k + 1, real.num_classes, "patches")
    return made


def _best_crops(
    pixels: Tensor,
    k: int,
    score: Callable[[Tensor], Tensor],
    side: tuple[int, int],
    crops: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(the best of `crops` patches of each image `[n, C, h, w]`, its loss `[n]`)."""
    height, width = pixels.shape[2:]
    best = torch.full((len(pixels),), torch.inf)
    kept = torch.empty(len(pixels), pixels.shape[1], *side)
    for _ in range(crops):
        views = draw_views(len(pixels), (height, width), generator, ratio=(1.0, 1.0), flip=0.0)
        patches = views(pixels, side)
        scores = torch.cat([score(part).float().cpu() for part in patches.split(_BATCH)])
        losses = F.cross_entropy(scores, torch.full((len(pixels),), k), reduction="none")
        better = losses < best
        best[better], kept[better] = losses[better], patches[better]
    return kept, best
