"""Layouts: decoding and its adjoint, what a file keeps, and what a set of stored images is, gives and refuses."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dd
from dd.base.files import load_tensors, save_tensors
from dd.base.seeding import child
from dd.errors import DamagedError, InputError
from dd.synthetic import Layout, SyntheticImages, TrainRecipe, from_tensors, to_tensors
from dd.synthetic.layout import PLAIN, Stored, pixel_levels, real_levels
from dd.transforms.levels import from_levels
from dd.transforms.whiten import Normalise, fit_zca

TRANSFORM = Normalise((0.5, 0.4), (0.25, 0.2))
EVERY = [
    Layout(factor=f, mirror=m, storage=s)  # type: ignore[arg-type]
    for f, m, s in itertools.product((1, 2), (False, True), ("fp32", "fp16", "uint8"))
]


def noise(n: int = 4, channels: int = 2, size: tuple[int, int] = (8, 12), **kind: Any) -> Tensor:
    return torch.randn(n, channels, *size, generator=child(0, "noise"), **kind)


def made(layout: Layout, images: Tensor | None = None, labels: Tensor | None = None, **fields: Any) -> SyntheticImages:
    """4 stored images 2×8×12, 2 classes."""
    base: dict[str, Any] = {
        "classes": ("a", "b"),
        "recipe": TrainRecipe(model="convnet(width=4, depth=1)", steps=2, lr=0.03),
        "transform": TRANSFORM,
    }
    parts = layout.parts(noise() if images is None else images, torch.arange(4) // 2 if labels is None else labels)
    return SyntheticImages(**{**base, **parts, **fields})


# The mathematics


@pytest.mark.parametrize(("factor", "mirror"), [(1, False), (1, True), (2, False), (2, True), (3, True)])
def test_transpose_is_the_adjoint_of_decode(factor: int, mirror: bool) -> None:
    layout = Layout(factor=factor, mirror=mirror)
    u = noise(3, 2, (12, 18), dtype=torch.float64)
    pictures = layout.decode(u)
    assert pictures.shape == (3 * layout.copies, 2, 12, 18)
    v = torch.randn(pictures.shape, generator=child(1, "v"), dtype=torch.float64)
    torch.testing.assert_close((pictures * v).sum(), (u * layout.transpose(v)).sum(), rtol=1e-12, atol=1e-10)
    leaf = u.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((layout.decode(leaf) * v).sum(), leaf)
    torch.testing.assert_close(layout.transpose(v), gradient, rtol=1e-12, atol=1e-12)


def test_pictures_are_enlarged_tiles_row_by_row_each_before_its_mirror_image() -> None:
    stored = noise(2, 1, (8, 8))
    found = Layout(factor=2, mirror=True).decode(stored)
    place = 0
    for image, (top, left) in itertools.product(range(2), [(0, 0), (0, 4), (4, 0), (4, 4)]):
        tile = stored[image : image + 1, :, top : top + 4, left : left + 4]
        large = F.interpolate(tile, size=(8, 8), mode="bilinear", align_corners=False)
        assert torch.equal(found[place : place + 1], large)
        assert torch.equal(found[place + 1 : place + 2], large.flip(3))
        place += 2
    assert place == len(found)


def test_a_mosaic_shows_whole_images_made_smaller() -> None:
    images = noise(8, 3, (8, 8))
    stored = Layout(factor=2).mosaic(images)
    assert stored.shape == (2, 3, 8, 8)
    torch.testing.assert_close(stored[1, :, 4:, :4], F.avg_pool2d(images[6], 2))
    flat = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 8, 8)
    torch.testing.assert_close(Layout(factor=2).decode(Layout(factor=2).mosaic(flat)), flat.contiguous())


@pytest.mark.parametrize("channels", [1, 3])
def test_no_bit_of_a_picture_depends_on_threads_or_on_other_images(channels: int) -> None:
    stored, layout, threads = noise(7, channels, (32, 32)), Layout(factor=2, mirror=True), torch.get_num_threads()
    whole = layout.decode(stored)
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(layout.decode(stored), whole)
    finally:
        torch.set_num_threads(threads)
    for i in range(7):
        assert torch.equal(layout.decode(stored[i : i + 1]), whole[8 * i : 8 * i + 8])


def test_repeat_first_and_total() -> None:
    layout, labels = Layout(factor=2, mirror=True), torch.tensor([3, 1])
    assert layout.copies == 8
    assert layout.repeat(labels).tolist() == [3] * 8 + [1] * 8
    assert torch.equal(layout.first(layout.repeat(labels)), labels)
    assert layout.total(torch.ones(16, 5)).tolist() == [[8.0] * 5] * 2


# Bits


def test_uint8_is_within_half_a_step_of_a_channels_range() -> None:
    images = noise() * torch.tensor([1.0, 30.0]).view(1, 2, 1, 1)
    stored = Layout(storage="uint8").keep(images)
    assert stored.levels is not None
    low, high = images.amin((0, 2, 3)), images.amax((0, 2, 3))
    torch.testing.assert_close(stored.levels, torch.stack((low, (high - low) / 255)))
    gap = (stored.numbers - images).abs().amax((0, 2, 3))
    assert bool((gap <= 0.501 * stored.levels[1]).all())
    assert stored.values.amin((0, 2, 3)).tolist() == [0, 0]
    assert stored.values.amax((0, 2, 3)).tolist() == [255, 255]


def test_a_constant_channel_is_kept() -> None:
    images = torch.full((2, 1, 4, 4), -0.3)
    assert torch.equal(Layout(storage="uint8").keep(images).numbers, images)


def test_fp16_is_rounded_and_cut_to_its_range() -> None:
    images = noise()
    images[0, 0, 0, 0] = 1e6
    found = Layout(storage="fp16").keep(images).numbers
    assert float(found[0, 0, 0, 0]) == 65504
    assert torch.equal(found[1:], images[1:].half().float())


def test_rounded_pixels_lose_nothing_by_their_own_levels() -> None:
    pictures = torch.randint(20, 200, (3, 2, 8, 8), generator=child(0, "pixels"), dtype=torch.uint8)
    stored = Layout(storage="uint8").keep(from_levels(pictures, TRANSFORM), pixel_levels(TRANSFORM))
    assert torch.equal(stored.values, pictures)


@pytest.mark.parametrize("storage", ["fp32", "fp16", "uint8"])
def test_what_is_not_finite_is_refused(storage: Any) -> None:
    for value in (torch.nan, torch.inf):
        images = noise()
        images[0, 0, 0, 0] = value
        with pytest.raises(InputError, match="must be finite"):
            Layout(storage=storage, factor=2).keep(images)


# Sets


@pytest.mark.parametrize("layout", EVERY, ids=str)
def test_a_file_holds_the_stored_images_and_gives_the_pictures_back(layout: Layout, tmp_path: Path) -> None:
    small = made(layout)
    assert small.images.shape == (4 * layout.copies, 2, 8, 12)
    assert (len(small), small.ipc, small.counts) == (4 * layout.copies, 2, (2, 2))
    assert (small.size, small.channels, small.layout) == ((8, 12), 2, layout)
    assert small.labels.tolist() == layout.repeat(torch.arange(4) // 2).tolist()
    path = small.save(tmp_path / "s.safetensors")
    assert small.nbytes.total == path.stat().st_size
    assert small.nbytes.images == 4 * 2 * 8 * 12 * layout.itemsize
    assert small.nbytes.labels == 32
    back = dd.load(path)
    assert back == small
    assert torch.equal(back.images, small.images)
    assert torch.equal(back.labels, small.labels)
    assert back.layout == layout
    assert from_tensors(*to_tensors(small)) == small  # as a checkpoint keeps it
    assert ("layout" in small.content()[1]) == (not layout.plain)
    assert small.to("cpu") is small
    assert sum(len(x) for x, _ in small.batches(5, child(0, "order"))) == len(small)
    assert small.pictures().shape == small.images.shape


def test_soft_labels_are_one_a_stored_image(tmp_path: Path) -> None:
    labels = torch.rand(4, 2, generator=child(0, "soft")).softmax(1)
    small = made(Layout(factor=2, mirror=True), labels=labels)
    assert small.labels.shape == (32, 2)
    assert small.nbytes.labels == 4 * 2 * 4
    assert torch.equal(dd.load(small.save(tmp_path / "s.safetensors")).labels, small.labels)
    hard = small.hard()
    assert hard.labels.tolist() == labels.argmax(1).repeat_interleave(8).tolist()
    assert (hard.counts, hard.layout) == (tuple(labels.argmax(1).bincount(minlength=2).tolist()), small.layout)


def test_a_whitened_set_is_stored_in_its_model_space(tmp_path: Path) -> None:
    zca = fit_zca(dd.load_images("digits").train)
    images = noise(4, 1, (8, 8))
    small = made(Layout(factor=2, storage="uint8"), images, transform=zca)
    back = dd.load(small.save(tmp_path / "s.safetensors", whitening_matrix=True))
    assert torch.equal(back.images, small.images)
    torch.testing.assert_close(small.pixels(), zca.inverse(small.images).clamp(0, 1))
    assert dd.load(small.save(tmp_path / "s.safetensors")).transform is None


@pytest.mark.parametrize(
    ("layout", "whole", "budget"),
    [
        (Layout(), True, (9, 1)),
        (Layout(storage="uint8"), True, (9, 1)),
        (Layout(storage="fp16"), False, (4, 1)),
        (Layout(storage="uint8", mirror=True), False, (2, 1)),
        (Layout(storage="uint8", factor=2), False, (2, 1)),
        (Layout(mirror=True), False, (9, 1)),
    ],
    ids=str,
)
def test_the_budget_is_as_many_real_images_stored_alike_or_what_its_bytes_hold_in_float32(
    layout: Layout, whole: bool, budget: tuple[int, int]
) -> None:
    assert layout.whole is whole
    assert made(layout, noise(10), torch.tensor([0] * 9 + [1])).budget == budget


def test_real_pictures_lose_nothing_in_uint8() -> None:
    pixels = torch.randint(1, 255, (4, 2, 8, 8), generator=child(0, "pixels"), dtype=torch.uint8)
    images, layout = from_levels(pixels, TRANSFORM), Layout(storage="uint8")
    stored = layout.keep(images, real_levels(layout, TRANSFORM))
    assert torch.equal(stored.values, pixels)
    torch.testing.assert_close(stored.numbers, images)
    for other in (Layout(), Layout(storage="uint8", factor=2)):
        assert real_levels(other, TRANSFORM) is None


def test_pack_changes_the_bits_alone() -> None:
    small = made(Layout(factor=2, mirror=True))
    packed = small.pack("uint8")
    assert packed.layout == Layout(factor=2, mirror=True, storage="uint8")
    assert torch.equal(packed.stored_images, Layout(storage="uint8").keep(small.stored_images).numbers)
    assert torch.equal(packed.labels, small.labels)
    assert small.pack("fp32") is small
    plain = made(PLAIN)
    assert plain.pack("fp16").nbytes.images == plain.nbytes.images // 2
    assert plain.pack("fp16").pack("fp32").layout == PLAIN
    assert "4 images (uint8)" in repr(plain.pack("uint8"))
    assert "32 images of 4 stored (factor 2, mirrored, fp32)" in repr(small)
    with pytest.raises(InputError, match="`storage` must be `fp32` or `fp16` or `uint8`; got 'int8'"):
        plain.pack("int8")  # type: ignore[arg-type]


def test_canvases_keep_fewer_bits_and_are_cropped_as_before(tmp_path: Path) -> None:
    small = made(Layout(storage="uint8"), canvas=2, canvas_samples=2)
    assert small.size == (4, 6)
    back = dd.load(small.save(tmp_path / "s.safetensors"))
    assert back == small
    assert next(iter(back.batches(4, child(0, "o"))))[0].shape == (8, 2, 4, 6)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"factor": 0}, "`factor` must be a whole number of at least 1; got 0"),
        ({"factor": 2.0}, "`factor` must be a whole number"),
        ({"mirror": 1}, "`mirror` must be true or false; got 1"),
        ({"storage": "fp8"}, "`storage` must be `fp32` or `fp16` or `uint8`; got 'fp8'"),
        ({"storage": "fp61"}, "did you mean"),
    ],
)
def test_a_layout_is_checked(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=f"(?i){text}"):
        Layout(**fields)


@pytest.mark.parametrize(
    ("factor", "size", "text"),
    [
        (3, (8, 8), r"`factor` must be a divisor of 8 .* at least 4 px \(2\); got 3. Give `factor=2`"),
        (2, (6, 6), r"\(there is none\); got 2. Leave `factor` out. Pictures of a larger `size=` .* multiple of 2"),
        (5, (8, 12), r"\(2\); got 5. Give `factor=2`"),
    ],
)
def test_a_factor_divides_the_sides(factor: int, size: tuple[int, int], text: str) -> None:
    with pytest.raises(InputError, match=text):
        Layout(factor=factor).check_size(size)
    Layout().check_size((1, 1))
    Layout(factor=2).check_size((8, 12))  # the way out


def test_images_and_labels_are_those_of_the_stored_ones() -> None:
    small = made(Layout(factor=2))
    with pytest.raises(
        InputError, match=r"`images` must be what the set's stored images are decoded to.*`stored=None`"
    ):
        dataclasses.replace(small, images=small.images + 1)
    with pytest.raises(InputError, match="`labels` must be equal ones for all pictures of a stored image"):
        dataclasses.replace(small, labels=small.labels.flip(0).roll(1))
    free = dataclasses.replace(small, images=small.images + 1, stored=None)  # the way out
    assert (free.layout, len(free), free.counts) == (PLAIN, 16, (8, 8))
    with pytest.raises(InputError, match="`stored` must be of factor 1 and not mirrored with canvases"):
        dataclasses.replace(small, canvas=2)
    with pytest.raises(InputError, match="`stored` must be None where stored images are the pictures"):
        dataclasses.replace(made(PLAIN), stored=Stored(noise(), PLAIN))


@pytest.mark.parametrize("change", ["levels", "type", "layout", "factor", "extra", "plain"])
def test_a_file_of_other_stored_images_is_damaged(change: str, tmp_path: Path) -> None:
    path = made(Layout(factor=2, storage="uint8")).save(tmp_path / "s.safetensors")
    tensors, meta = load_tensors(path, "any")
    if change == "levels":
        del tensors["levels"]
    elif change == "type":
        tensors["images"] = tensors["images"].float()
    elif change == "layout":
        del meta["layout"]
    elif change == "factor":
        meta["layout"]["factor"] = 3
    elif change == "extra":
        meta["layout"]["bits"] = 4
    else:
        meta["layout"] = {"factor": 1, "mirror": False, "storage": "fp32"}
    save_tensors(path, tensors, meta)
    with pytest.raises(DamagedError):
        dd.load(path)
