"""Real patches: cutting, ranking and pasting against loops by hand, and the medium rule."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dd
from dd.base.seeding import child
from dd.errors import InputError
from dd.methods.decoupled.patches import Patches, cut_patches, middle_out
from dd.methods.panel import Panel
from dd.models import build
from dd.teachers import Teacher
from dd.transforms.views import draw_views
from dd.transforms.whiten import Normalise

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


def slow_images(teacher: Teacher, ipc: int, factor: int, candidates: int, crops: int, seed: int, black: bool) -> Tensor:
    """RDED's rule written out: a patch at a time, padded by zeros after the normalisation (`black`: before it)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (teacher.transform.mean, teacher.transform.std))
    side = 8 // factor
    low = (8 - side) // 2
    images = torch.zeros(3, ipc, 3, 8, 8)
    for k in range(3):
        rows = REAL.class_index(k)
        rows = rows[torch.randperm(len(rows), generator=child(seed, "patches", k))[:candidates]]
        generator = child(seed, "crops", k)
        cuts = []
        for _ in range(crops):
            views = draw_views(len(rows), (8, 8), generator, ratio=(1.0, 1.0), flip=0.0)
            cuts.append(views(REAL.train.pixels(rows), (side, side)))
        ranked = []
        for i in range(len(rows)):
            losses = []
            for cut in cuts:
                shown = (torch.zeros(3, 8, 8) - mean) / std if black else torch.zeros(3, 8, 8)
                shown[:, low : low + side, low : low + side] = (cut[i] - mean) / std
                probabilities = teacher.module(shown[None]).softmax(1)
                losses.append(-float(probabilities[0, k].log()))
            best = losses.index(min(losses))
            ranked.append((losses[best], cuts[best][i]))
        ranked.sort(key=lambda pair: pair[0])
        for place in range(factor**2):  # the best `ipc` patches go to the first corner of the images, and so on
            y, x = side * (place // factor), side * (place % factor)
            for image in range(ipc):
                images[k, image, :, y : y + side, x : x + side] = ranked[place * ipc + image][1]
    return images


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_rded_against_its_rule_by_hand(factor: int) -> None:
    net = build("convnet(width=4, depth=1, norm=batch)", channels=3, classes=3, size=(8, 8), seed=3)
    teacher = Teacher("t", net, Normalise(mean=(0.7, 0.5, 0.2), std=(0.2, 0.3, 0.25)))
    panel, ipc, candidates = Panel((teacher,), (50.0,)), 2 if factor < 4 else 1, 16
    how = Patches(factor=factor, candidates=candidates, crops=3)
    made = cut_patches(REAL, lambda x: panel.score(x, 10.0, REAL.size), ipc, how, seed=5)
    assert made.shape == (3, ipc, 3, 8, 8)
    assert torch.equal(made, slow_images(teacher, ipc, factor, candidates, 3, 5, black=False))
    black = slow_images(teacher, ipc, factor, candidates, 3, 5, black=True)
    assert torch.equal(made, black) == (factor == 1)  # the colour of the padding matters, and there is none to pad


def test_medium_patches_go_round_the_images_too() -> None:
    """The middle of the order by loss, its first `ipc` in the first corner of the images."""
    one = cut_patches(REAL, score, 8, Patches(candidates=12, crops=1, rule="medium"), seed=2)
    many = cut_patches(REAL, score, 4, Patches(candidates=12, crops=1, rule="medium"), seed=2)
    assert torch.equal(one[:, :4], many)
    two = cut_patches(REAL, score, 2, Patches(factor=2, candidates=12, crops=1, rule="medium"), seed=2)
    for k in range(3):
        rows = REAL.class_index(k)
        rows = rows[torch.randperm(len(rows), generator=child(2, "patches", k))[:12]]
        views = draw_views(12, (8, 8), child(2, "crops", k), ratio=(1.0, 1.0), flip=0.0)
        patches = views(REAL.train.pixels(rows), (4, 4))
        order = F.cross_entropy(score(patches), torch.full((12,), k), reduction="none").argsort(stable=True)
        chosen = patches[order[middle_out(12, 8)]]
        for number, patch in enumerate(chosen):
            y, x = 4 * (number // 2 // 2), 4 * (number // 2 % 2)
            assert torch.equal(two[k, number % 2, :, y : y + 4, x : x + 4], patch)


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
