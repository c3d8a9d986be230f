"""Real patches: cutting, ranking and pasting against loops by hand, and the medium rule."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from reference.folders import folder, paint
from reference.pictures import Items, lazily
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

import dd
from dd.base.seeding import child
from dd.data import as_split
from dd.data.images import reading
from dd.data.images.splits import JoinedSplit
from dd.errors import DamagedError, InputError
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


def test_candidates_take_little_more_memory_than_the_best_patches_of_one_class(
    monkeypatch: pytest.MonkeyPatch, peak_of: Callable[[Callable[[], object]], int]
) -> None:
    monkeypatch.setattr("dd.methods.decoupled.patches.AT_ONCE", 5)
    count, pixels = 60, 3 * 24 * 24
    levels = torch.randint(0, 256, (2 * count, 3, 24, 24), generator=child(0, "levels"), dtype=torch.uint8)
    given = dd.Images(train=(levels, torch.arange(2 * count) % 2), test=(levels[:2], torch.arange(2)))
    real, how = dd.load_images(given).all_train(), Patches(candidates=count, crops=2)

    def cut() -> object:
        return cut_patches(real, lambda x: score(x)[:, :2], 1, how, 0)

    cut()  # what libraries keep
    assert peak_of(cut) < 1.5 * 4 * count * pixels


def test_easy_patches_have_smaller_losses_than_medium_ones() -> None:
    def loss(rule: str) -> float:
        made = cut_patches(REAL, score, 3, Patches(candidates=15, rule=rule), seed=0)  # type: ignore[arg-type]
        return float(F.cross_entropy(score(made.flatten(0, 1)), torch.arange(3).repeat_interleave(3)))

    assert loss("easy") < loss("medium") - 0.05


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_the_sets_size_that_are_read_when_asked_for_are_cut_alike(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(reading, "FEW", 3)
    one, other = (cut_patches(real, score, 3, Patches(factor=2, crops=2), 4) for real in (REAL, lazily(REAL, workers)))
    assert torch.equal(one, other)


SIZES = ((20, 30), (17, 9), (40, 16), (7, 30), (8, 8))
"""Of files; one is no larger than the set's 8 × 8 in both directions."""


def large(base: Path, k: int, i: int) -> tuple[Path, tuple[int, int]]:
    return base / "train" / "abc"[k] / f"{i}.png", SIZES[(i + k) % len(SIZES)]


def originals(base: Path) -> Path:
    """A folder of pictures of several sizes, ten of each of three classes."""
    for k in range(3):
        for i in range(10):
            path, size = large(base, k, i)
            paint(path, size, seed=10 * k + i)
    return base


def slow_originals(base: Path, real: dd.Images, rows: list[list[int]], side: int, crops: int, seed: int) -> Tensor:
    """The best patch of each picture, cut from its file: a picture at a time, by the boxes of its own size."""
    (split,), found = [real.all_train().train], []
    for k, own in enumerate(rows):
        fitted, pictures = split.pixels(torch.tensor(own)), []
        for place, row in enumerate(own):
            path, size = large(base, k, row - 10 * k)
            values = torch.from_numpy(np.asarray(Image.open(path)).copy()).movedim(-1, 0)
            pictures.append(values / 255 if min(size) >= 8 else fitted[place])
        generator, cuts = child(seed, "crops", k), []
        for _ in range(crops):
            sizes = [(x.shape[1], x.shape[2]) for x in pictures]
            boxes = draw_views(len(own), sizes, generator, ratio=(1.0, 1.0), flip=0.0).boxes.tolist()
            cut = [resized_crop(x, *box, [side, side], antialias=True) for x, box in zip(pictures, boxes, strict=True)]
            cuts.append(torch.stack(cut))
        losses = torch.stack([F.cross_entropy(score(x), torch.full((len(x),), k), reduction="none") for x in cuts])
        best = losses.argmin(0)
        order = losses.min(0).values.argsort(stable=True)
        found.append(torch.stack([cuts[int(best[i])][i] for i in order]))
    return torch.stack(found)


@pytest.mark.filterwarnings("ignore:.*under more than one class")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("factor", [1, 2])
def test_larger_files_are_cut_before_they_are_resized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int, workers: int
) -> None:
    """Where the data is read when asked for, in the authors' order; in memory there are only the resized ones."""
    monkeypatch.setattr(reading, "FEW", 3)
    base = originals(tmp_path)
    eager, real = (folder(base, size=8, limit=limit, workers=workers).all_train() for limit in (10**9, 10))
    how, ipc = Patches(factor=factor, candidates=9, crops=3), 2
    made = cut_patches(real, score, ipc, how, 5)
    rows = [real.class_index(k) for k in range(3)]
    rows = [own[torch.randperm(len(own), generator=child(5, "patches", k))[:9]] for k, own in enumerate(rows)]
    slow = slow_originals(base, real, [own.tolist() for own in rows], 8 // factor, 3, 5)
    for place in range(factor**2):
        y, x = 8 // factor * (place // factor), 8 // factor * (place % factor)
        patches = made[..., y : y + 8 // factor, x : x + 8 // factor]
        torch.testing.assert_close(patches, slow[:, place * ipc : place * ipc + ipc], rtol=0, atol=0)
    resized = cut_patches(eager, score, ipc, how, 5)
    assert not torch.equal(made, resized)
    assert torch.equal(resized, cut_patches(lazily(eager, workers), score, ipc, how, 5))
    assert not multiprocessing.active_children()


def test_larger_pictures_of_a_dataset_are_cut_before_they_are_resized_too() -> None:
    """PIL images, and in both parts of training data to which the validation split is given back."""
    generator = np.random.default_rng(0)
    values = [generator.integers(0, 256, (20 + i, 32 - i, 3), dtype=np.uint8) for i in range(12)]
    pictures, labels = [Image.fromarray(value) for value in values], [i % 3 for i in range(12)]
    arrays = [torch.from_numpy(value).movedim(-1, 0) for value in values]
    made = []
    for images in (pictures, arrays):
        whole = as_split(Items(images, labels), size=8, limit=10)
        parts = (
            as_split(Items(images[a:b], labels[a:b]), size=8, limit=limit) for a, b, limit in ((0, 6, 10), (6, 12, 10))
        )
        for train in (whole, JoinedSplit(*parts)):
            real = dd.Images(train=train, classes=("a", "b", "c"))
            made.append(cut_patches(real, score, 4, Patches(crops=2), 1))
    assert all(torch.equal(made[0], other) for other in made[1:])
    small = as_split(Items(arrays, labels), size=8)
    assert not torch.equal(made[0], cut_patches(dd.Images(train=small), score, 4, Patches(crops=2), 1))


def test_a_file_that_cannot_be_read_is_named_before_patches_are_cut(tmp_path: Path) -> None:
    real = folder(originals(tmp_path), size=8, limit=10, workers=0)
    path = large(tmp_path, 1, 3)[0]
    data = path.read_bytes()
    for kept in (10, len(data) // 2):  # no header, half of the pixels
        path.write_bytes(data[:kept])
        with pytest.raises(DamagedError, match=r"image .*/b/3\.png cannot be read"):
            cut_patches(real.all_train(), score, 1, Patches(), 0)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"`factor` must be a divisor of 8 \(1, 2, 4, 8\); got 3\. Give `factor=2`\."):
        cut_patches(REAL, score, 1, Patches(factor=3), 0)
    text = r"`candidates` must be at least 12, .* of 3 images a class .*; got 5\. Give `candidates=12`\."
    with pytest.raises(InputError, match=text):
        cut_patches(REAL, score, 3, Patches(factor=2, candidates=5), 0)
    for factor, ipc, way_out in ((2, 99, "Lower `ipc` or `factor`"), (8, 1, "Lower `factor`")):
        with pytest.raises(
            InputError, match=rf"`ipc` must be at most \d+ with factor={factor}, .*; got {ipc}\. {way_out}\."
        ):
            cut_patches(REAL, score, ipc, Patches(factor=factor), 0)
    with pytest.raises(InputError, match="`rule` must be `easy` or `medium`"):
        Patches(rule="hard")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`candidates`"):
        Patches(candidates=0)
