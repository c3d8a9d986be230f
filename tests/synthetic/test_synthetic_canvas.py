"""Canvases: crops and their adjoint against a slow twin, and what a set of canvases keeps, gives and refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.canvas import rolled
from torch import Tensor

import dd
from dd.base.files import load_tensors, save_tensors
from dd.base.seeding import child
from dd.errors import DamagedError, InputError
from dd.evaluation import fit, fresh
from dd.synthetic import Crops, SyntheticImages, TrainRecipe, draw_crops, tile
from dd.synthetic.figures import grid
from dd.transforms.whiten import Normalise, fit_zca

SIZE = (3, 4)


def canvases(n: int = 3, canvas: int = 2) -> Tensor:
    return torch.randn(n, 2, canvas * SIZE[0], canvas * SIZE[1], generator=child(0, "canvas"), dtype=torch.float64)


def some(m: int, canvas: int = 2, n: int = 3) -> Crops:
    index = torch.randint(n, (m,), generator=child(0, "index"))
    return draw_crops(index, (canvas * SIZE[0], canvas * SIZE[1]), SIZE, child(0, "place"))


def places(crops: Crops) -> list[tuple[int, ...]]:
    return [tuple(p) for p in torch.stack((crops.index, crops.top, crops.left), 1).tolist()]


def small(**fields: Any) -> SyntheticImages:
    """4 canvases of 2 × 2 pictures 2×4×4, 2 classes."""
    base: dict[str, Any] = {
        "images": torch.randn(4, 2, 8, 8, generator=child(0, "images")),
        "labels": torch.arange(4) // 2,
        "classes": ("a", "b"),
        "recipe": TrainRecipe(model="convnet(width=4, depth=2)", steps=3, lr=0.03, augment="flip"),
        "transform": Normalise((0.5, 0.4), (0.25, 0.2)),
        "canvas": 2,
    }
    return SyntheticImages(**{**base, **fields})


# Crops


@pytest.mark.parametrize("canvas", [2, 3])
def test_crops_are_those_of_a_rolled_canvas(canvas: int) -> None:
    crops = some(300, canvas)  # wraps on both sides, and more than are put back at a time
    x = canvases(canvas=canvas)
    assert torch.equal(crops.take(x), rolled(x, places(crops), SIZE))  # type: ignore[arg-type]


def test_put_is_the_adjoint_of_take_and_autograds_gradient() -> None:
    crops, x = some(300), canvases().requires_grad_()
    weights = torch.randn(300, 2, *SIZE, generator=child(0, "w"), dtype=torch.float64)
    (twin,) = torch.autograd.grad((weights * rolled(x, places(crops), SIZE)).sum(), x)  # type: ignore[arg-type]
    mine = crops.put(weights, x.detach())
    torch.testing.assert_close(mine, twin, rtol=1e-13, atol=1e-13)
    left = torch.dot(crops.take(x.detach()).flatten(), weights.flatten())
    torch.testing.assert_close(left, torch.dot(x.detach().flatten(), mine.flatten()), rtol=1e-12, atol=0)


def test_every_pixel_is_cropped_equally_often() -> None:
    crops = draw_crops(torch.zeros(6000, dtype=torch.int64), (6, 8), SIZE, child(0, "place"))
    assert (int(crops.top.min()), int(crops.top.max())) == (0, 5)
    assert (int(crops.left.min()), int(crops.left.max())) == (0, 7)
    seen = crops.put(torch.ones(6000, 1, *SIZE), torch.zeros(1, 1, 6, 8))
    assert seen.sum() == 6000 * 12
    torch.testing.assert_close(seen / 6000, torch.full((1, 1, 6, 8), 0.25), rtol=0.1, atol=0)


def test_a_shifted_torus_gives_shifted_crops() -> None:
    crops, x = some(20), canvases()
    moved = dataclasses.replace(crops, top=(crops.top + 5) % 6, left=(crops.left + 3) % 8)
    assert torch.equal(moved.take(torch.roll(x, (5, 3), (2, 3))), crops.take(x))


def test_the_sum_of_crops_does_not_depend_on_the_threads() -> None:
    crops, like = some(300), canvases().float()
    weights = torch.randn(300, 2, *SIZE, generator=child(0, "w"))
    before, sums = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            sums.append(crops.put(weights, like))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[1], sums[2])


def test_tiles_lie_row_by_row() -> None:
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 2, *SIZE)
    made = tile(images, 2)
    assert made.shape == (2, 2, 6, 8)
    assert made[:, 0, ::3, ::4].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    pictures = torch.randn(3, 2, *SIZE)
    assert torch.equal(tile(pictures, 1), pictures)


# Sets


def test_batches_are_fresh_crops_of_every_canvas() -> None:
    value = small(canvas_samples=3)
    assert value.size == (4, 4)
    epochs = [list(value.batches(size, child(0, "order", e))) for size, e in ((3, 0), (3, 0), (3, 1), (99, 0))]
    assert [len(x) for x, _ in epochs[0]] == [9, 3]
    assert [x.shape for x, _ in epochs[3]] == [(12, 2, 4, 4)]
    for a, b in zip(epochs[0], epochs[1], strict=True):
        assert torch.equal(a[0], b[0])
    assert not torch.equal(epochs[0][0][0], epochs[2][0][0])
    every = rolled(value.images, [(n, i, j) for n in range(4) for i in range(8) for j in range(8)], (4, 4))
    for epoch in epochs:
        x, y = (torch.cat(parts) for parts in zip(*epoch, strict=True))
        equal = (x[:, None] == every).flatten(2).all(2)
        assert equal.sum(1).tolist() == [1] * 12
        of = equal.int().argmax(1) // 64
        assert torch.bincount(of).tolist() == [3, 3, 3, 3]
        assert torch.equal(y, value.labels[of])


def test_round_trip_bytes_and_older_sets(tmp_path: Path) -> None:
    value = small(canvas_samples=2)
    path = value.save(tmp_path / "x.safetensors")
    back = dd.load(path)
    assert torch.equal(back.images, value.images)
    assert (back.canvas, back.canvas_samples, back.size) == (2, 2, (4, 4))
    assert back.save(tmp_path / "y").read_bytes() == path.read_bytes()
    assert value.nbytes.images == 4 * 4 * 2 * 8 * 8  # the whole canvas counts
    assert value.nbytes.total == path.stat().st_size
    plain = small(canvas=1).save(tmp_path / "plain")
    assert not {"canvas", "canvas_samples"} & load_tensors(plain)[1].keys()
    tensors, meta = load_tensors(path)
    save_tensors(path, tensors, {**meta, "canvas": 3})
    with pytest.raises(DamagedError, match=r"holds what no set can have .*`canvas` must be a divisor"):
        dd.load(path)


def test_a_network_is_made_for_crops_and_trained_on_them() -> None:
    value = small()
    net = fresh(value, value.recipe.model, 0, torch.device("cpu"))
    assert net(torch.zeros(1, 2, 4, 4)).shape == (1, 2)
    seen: list[Tensor] = []
    hook = net.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    fit(value, net, dataclasses.replace(value.recipe, augment=""), 0, torch.device("cpu"))
    hook.remove()
    expected = [next(value.batches(256, child(0, "order", e)))[0] for e in range(3)]
    assert len(seen) == 3
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def test_pixels_and_grid_show_the_canvas() -> None:
    value = small()
    assert value.pixels().shape == (4, 2, 8, 8)
    scaled = [grid(s, columns=2, scale=4).size for s in (value, small(canvas=1))]
    assert scaled[0] == scaled[1]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"canvas": 3}, "`canvas` must be a divisor of height and width of `images`; got 3 for 8 × 8"),
        ({"canvas": 0}, "`canvas` must be a whole number of at least 1; got 0"),
        ({"canvas": 2.0}, "`canvas` must be a whole number of at least 1; got 2.0"),
        ({"canvas_samples": 0}, "`canvas_samples` must be a whole number of at least 1; got 0"),
        ({"canvas": 1, "canvas_samples": 2}, "`canvas_samples` must be 1 in a set without canvases; got 2"),
    ],
)
def test_refusals(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        small(**fields)


def test_whitened_canvases_are_refused() -> None:
    pixels = torch.randint(0, 256, (40, 2, 8, 8), generator=child(0, "p"), dtype=torch.uint8)
    data = dd.load_images(dd.Images(train=(pixels, torch.arange(2).repeat(20)), test=None))
    with pytest.raises(InputError, match=r"`canvas` must be 1 in a whitened set.*Use mean and std, or `canvas=1`"):
        small(transform=fit_zca(data.train))
