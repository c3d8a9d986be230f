"""Curricula of recovery: crops that grow harder (CDA), and images that enter late (DELT).

CDA: Yin and Shen, TMLR 2024. DELT: Shen, Sherif, Yin and Shao, CVPR 2025.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from dd.errors import refuse

Curriculum = Literal["none", "step", "linear", "cosine"]
CURRICULA: Final = ("none", "step", "linear", "cosine")
SMALLEST: Final = 0.08
"""The smallest share of a picture's area that a random crop takes, torchvision's and the field's."""


def smallest_area(kind: Curriculum, share: float, t: int, iterations: int) -> float:
    """a_min of the random resized crops at iteration t = 0…T−1; crops take a share in [a_min, 1] of the area.

    It is 0.08 after the first m·T iterations. Before: `step` 1; `linear` from 1 down to 0.08; `cosine`
    0.08 + 0.92 ½ (1 + cos(π t / (m T))). `none` is 0.08 throughout.

    Args:
        kind: which one.
        share: m in (0, 1].
        t, iterations: t and T.
    """
    length = share * iterations
    if kind == "none" or t >= length:
        return SMALLEST
    done = t / length
    left = {"step": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[kind]
    return SMALLEST + (1 - SMALLEST) * left


def iterations_of(image: int, ipc: int, iterations: int, rounds: int) -> int:
    """T_i of image i = 0…ipc−1 of a class, which enters in round ⌊i R / ipc⌋ of R and goes on to the end.

    T_i = T − ⌊⌊i R / ipc⌋ T / R⌋, so T for the first images and T / R for the last; with one round T for all. Each
    has the whole cosine of its step size, and the whole curriculum, within its own T_i.
    """
    return iterations - (image * rounds // ipc) * iterations // rounds


def check_curriculum(kind: str, share: float, crop: bool) -> None:
    """Refuse a curriculum without the crops that it is of, or a share that is none.

    Raises:
        InputError: says the way out.
    """
    if not 0 < share <= 1:
        raise refuse("curriculum_share", "in (0, 1]", share)
    if kind != "none" and not crop:
        raise refuse("curriculum", "`none` without crops, which it is of", f"`{kind}`", "Give `crop=True`.")
