"""Real patches: cutting, ranking and pasting against loops by hand, and the medium rule."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dd
from dd.errors import InputError
from dd.methods.patches import Patches, cut_patches, middle_out
from dd.seeding import child
from dd.views import draw_views

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(60) % 3
PIXELS = torch.randint(0, 256, (60, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
REAL = dd.load_images(dd.Images(train=(PIXELS, LABELS), test=(PIXELS[:6].flip(-1), LABELS[:6])))


def score(pixels: Tensor) -> Tensor:
    """Logits: the mean of each channel, so class k likes bright channel k."""
    return 20 * pixels.mean((2, 3))


def test_the_middle_first_then_both_sides() -> None:
    assert middle_out(6, 6) == [3, 2, 4, 1, 5, 0]
    assert middle_out(5, 3) == [3, 2, 4]
    assert middle_out(1, 1) == [0]
    assert sorted(middle_out(300, 300)) == list(range(300))
    with pytest.raises(InputError, match="`ipc` must be at most 3"):
        middle_out(3, 4)


def test_patches_against_a_loop_by_hand() -> None:
    how = Patches(factor=2, candidates=12, crops=3)
    made = cut_patches(REAL, score, 2, how, seed=5)
    assert made.shape == (3, 2, 3, 8, 8)
    for k in range(3):
        rows = REAL.class_index(k)
        rows = rows[torch.randperm(len(rows), generator=child(5, "patches", k))[:12]]
        generator = child(5, "crops", k)
        cuts = []
        for _ in range(3):
            views = draw_views(len(rows), (8, 8), generator, ratio=(1.0, 1.0), flip=0.0)
            cuts.append(views(REAL.train.pixels(rows), (4, 4)))
        ranked = []
        for i in range(len(rows)):
            losses = []
            for cut in cuts:
                shown = torch.zeros(1, 3, 8, 8)
                shown[0, :, 2:6, 2:6] = cut[i]
                losses.append(float(F.cross_entropy(score(shown), torch.tensor([k]))))
            best = min(range(3), key=lambda c: losses[c])
            ranked.append((losses[best], cuts[best][i]))
        ranked.sort(key=lambda pair: pair[0])
        for image in range(2):
            for place in range(4):
                y, x = 4 * (place // 2), 4 * (place % 2)
                assert torch.equal(made[k, image, :, y : y + 4, x : x + 4], ranked[4 * image + place][1])


def test_easy_patches_have_smaller_losses_than_medium_ones() -> None:
    def loss(rule: str) -> float:
        made = cut_patches(REAL, score, 3, Patches(candidates=15, rule=rule), seed=0)  # type: ignore[arg-type]
        return float(F.cross_entropy(score(made.flatten(0, 1)), torch.arange(3).repeat_interleave(3)))

    assert loss("easy") < loss("medium") - 0.05


def test_refusals() -> None:
    with pytest.raises(InputError, match="`factor` must be a divisor of 8 and 8; got 3"):
        cut_patches(REAL, score, 1, Patches(factor=3), 0)
    with pytest.raises(InputError, match="`ipc` must be such that a class has 12 candidates; got 5"):
        cut_patches(REAL, score, 3, Patches(factor=2, candidates=5), 0)
    with pytest.raises(InputError, match="`rule` must be `easy` or `medium`"):
        Patches(rule="hard")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`candidates`"):
        Patches(candidates=0)
