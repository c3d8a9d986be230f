"""Crops and mixing: replayed to the bit, torchvision's distribution, never in place (invariants 14, 16, 17, 39)."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from dd.base.seeding import child, isolated
from dd.errors import InputError
from dd.transforms.views import Mix, Shuffle, Views, draw_mix, draw_shifts, draw_shuffle, draw_views, resampled


def pictures(n: int = 6, size: tuple[int, int] = (16, 24)) -> torch.Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(0))


def test_a_view_is_torchvisions_resized_crop() -> None:
    x = pictures()
    views = draw_views(6, (16, 24), child(0, "views"))
    seen = views(x)
    for i, (box, flip) in enumerate(zip(views.boxes.tolist(), views.flips.tolist(), strict=True)):
        slow = resized_crop(x[i], *box, [16, 24], antialias=True)
        assert torch.equal(seen[i], slow.flip(-1) if flip else slow)
    assert torch.equal(seen, Views(views.boxes.clone(), views.flips.clone())(x))  # replayed


def test_shifts_of_a_batch_are_those_of_its_pictures() -> None:
    x = pictures().requires_grad_()
    views = draw_shifts(6, (16, 24), child(0, "views"))
    seen = views(x)
    (whole,) = torch.autograd.grad(seen.square().sum(), x)
    for i, (box, flip) in enumerate(zip(views.boxes.tolist(), views.flips.tolist(), strict=True)):
        slow = resized_crop(x[i], *box, [16, 24], antialias=True)
        slow = slow.flip(-1) if flip else slow
        assert torch.equal(seen[i], slow)
        assert torch.equal(whole[i], torch.autograd.grad(slow.square().sum(), x)[0][i])


@pytest.mark.parametrize("size", [(16, 24), (8, 9), (40, 30)])
def test_what_an_accelerator_does_is_the_same_to_rounding(size: tuple[int, int]) -> None:
    x = pictures().double().requires_grad_()
    views = draw_views(6, (16, 24), child(0, "views"))
    slow = views(x, size)
    fast = torch.where(
        views.flips.view(-1, 1, 1, 1), resampled(x, views.boxes, size).flip(3), resampled(x, views.boxes, size)
    )
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)
    wanted, found = (torch.autograd.grad(seen.square().sum(), x)[0] for seen in (slow, fast))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    one = resampled(x, views.boxes[:1].expand(6, 4), size)
    torch.testing.assert_close(one, views.shared(6)(x, size).flip(3) if views.flips[0] else views.shared(6)(x, size))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_shuffle_moves_strips_across_and_then_down(factor: int) -> None:
    x = pictures()
    kept = x.clone()
    shuffle = draw_shuffle(6, factor, child(0, "shuffle"))
    seen = shuffle(x)
    assert torch.equal(x, kept)
    for i in range(6):
        slow = x[i]
        for axis, order in ((2, shuffle.columns[i]), (1, shuffle.rows[i])):
            strips = slow.chunk(factor, dim=axis)
            slow = torch.cat([strips[int(place)] for place in order], dim=axis)
        assert torch.equal(seen[i], slow)
    assert torch.equal(seen, Shuffle(shuffle.columns.clone(), shuffle.rows.clone())(x))  # replayed
    assert torch.equal(seen, x) == (factor == 1)
    assert torch.equal(seen.flatten(2).sort().values, x.flatten(2).sort().values)


def test_shuffles_are_uniform_and_independent_of_each_other() -> None:
    count = 4000
    shuffle = draw_shuffle(count, 2, child(3, "shuffle"))
    orders = 2 * shuffle.columns[:, 0].long() + shuffle.rows[:, 0].long()
    shares = torch.bincount(orders, minlength=4).double() / count
    assert float((shares - 0.25).abs().max()) < 4.5 * math.sqrt(0.25 * 0.75 / count)
    for factor, match in ((0, "at least 1"), (256, "at most 255")):
        with pytest.raises(InputError, match=match):
            draw_shuffle(2, factor, child(0))
    with pytest.raises(InputError, match="`factor` must be a divisor of 16 and 24; got 3"):
        draw_shuffle(6, 3, child(0))(pictures())
    with pytest.raises(InputError, match="`x`"):
        draw_shuffle(5, 2, child(0))(pictures())


def test_boxes_are_distributed_as_torchvisions() -> None:
    count, size = 3000, (32, 32)
    boxes = draw_views(count, size, child(1, "views")).boxes.double()
    image = torch.zeros(3, *size)
    with isolated(2, "torchvision"):
        theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    for column in range(4):
        a, b = boxes[:, column], theirs[:, column].double()
        error = math.sqrt((float(a.var()) + float(b.var())) / count)
        assert abs(float(a.mean() - b.mean())) < 4.5 * error
    assert bool((boxes[:, 0] + boxes[:, 2] <= 32).all() and (boxes[:, 1] + boxes[:, 3] <= 32).all())


def test_no_crop_fits_a_strip_so_the_centre_is_taken() -> None:
    views = draw_views(5, (8, 64), child(0, "strip"), scale=(1.0, 1.0))
    assert views.boxes.tolist() == [[0, 26, 8, 11]] * 5  # width 8 · 4/3, as torchvision's fall-back


def test_pictures_of_their_own_sizes_have_boxes_of_their_own() -> None:
    """In the order of the pictures, by the same draws; pictures of one size are drawn as before."""
    sizes = [(20, 50), (9, 9), (31, 12)] * 20
    views = draw_views(60, sizes, child(0, "views"), ratio=(1.0, 1.0))
    for (height, width), (top, left, high, wide) in zip(sizes, views.boxes.tolist(), strict=True):
        assert high == wide <= min(height, width)
        assert 0 <= top <= height - high
        assert 0 <= left <= width - wide
    assert views.boxes[0::3, 1].max() > 30
    one, alike = (draw_views(5, size, child(0, "views")) for size in ((8, 6), [(8, 6)] * 5))
    assert torch.equal(one.boxes, alike.boxes)
    assert torch.equal(one.flips, alike.flips)


def test_shared_view_keeps_equal_pictures_equal() -> None:
    x = pictures(1).expand(5, -1, -1, -1)
    seen = draw_views(1, (16, 24), child(3, "views")).shared(5)(x)
    assert all(torch.equal(seen[0], other) for other in seen)


def test_one_view_for_all_is_that_view_of_each() -> None:
    x = pictures(4)
    for seed in range(20):
        views = draw_views(1, (16, 24), child(seed, "views"))
        each = torch.cat([views(picture[None]) for picture in x])
        assert torch.equal(views.shared(4)(x), each)
        assert views.shared(4)(x, (8, 12)).shape == (4, 3, 8, 12)


def test_shifts_are_crops_of_a_padded_picture() -> None:
    x = pictures(40)
    views = draw_shifts(40, (16, 24), child(0, "shifts"), pad=2)
    seen, padded = views(x), torch.nn.functional.pad(x, (2, 2, 2, 2))
    for i, (box, flip) in enumerate(zip(views.boxes.tolist(), views.flips.tolist(), strict=True)):
        top, left, height, width = box
        assert (height, width) == (16, 24)
        slow = padded[i, :, top + 2 : top + 18, left + 2 : left + 26]
        assert torch.allclose(seen[i], slow.flip(-1) if flip else slow, atol=1e-6)
    assert set(views.boxes[:, 0].tolist()) == {-2, -1, 0, 1, 2}
    with pytest.raises(InputError, match="`pad`"):
        draw_shifts(1, (8, 8), child(0, "shifts"), pad=-1)


def test_views_are_differentiable() -> None:
    x = pictures().double().requires_grad_()
    views = draw_views(6, (16, 24), child(0, "views"))
    d = torch.randn_like(x)
    (grad,) = torch.autograd.grad(views(x).square().sum(), x)
    h = 1e-6
    slope = (views(x + h * d).square().sum() - views(x - h * d).square().sum()) / (2 * h)
    assert float((grad * d).sum()) == pytest.approx(float(slope.detach()), rel=1e-6)


def test_cutmix_box() -> None:
    side = 32
    boxes = [draw_mix("cutmix", 4, (side, side), child(0, "mix", i)) for i in range(300)]
    for mix in boxes:
        x1, y1, x2, y2 = mix.box
        half = int(side * math.sqrt(1 - mix.share)) // 2
        assert 0 <= x1 <= x2 <= side
        assert 0 <= y1 <= y2 <= side
        assert max(x2 - x1, y2 - y1) <= 2 * half
    shares = torch.tensor([mix.share for mix in boxes])
    assert abs(float(shares.mean()) - 0.5) < 4.5 * math.sqrt(1 / 12 / 300)  # Beta(1, 1) is uniform


def test_cutmix_copies_the_partners_box_and_leaves_its_input_alone() -> None:
    x = pictures(4, (8, 8))
    before = x.clone()
    order = torch.tensor([2, 3, 1, 0])
    mixed = Mix("cutmix", order, 0.5, (1, 2, 5, 7))(x)
    assert torch.equal(x, before)
    for i in range(4):
        for row in range(8):
            for column in range(8):
                inside = 1 <= row < 5 and 2 <= column < 7
                assert torch.equal(mixed[i, :, row, column], x[order[i] if inside else i, :, row, column])
    assert torch.equal(Mix("cutmix", order, 1.0, (3, 3, 3, 3))(x), x)  # λ = 1: an empty box
    assert torch.equal(Mix("cutmix", order, 0.0, (0, 0, 8, 8))(x), x[order])
    assert not torch.equal(Mix("cutmix", order, 0.0, (0, 0, 8, 8))(x[order]), x)  # not its own inverse


def test_mixup_blends_pictures_and_labels_alike() -> None:
    x, y = pictures(4), torch.eye(4)
    mix = draw_mix("mixup", 4, (16, 24), child(5, "mix"))
    assert torch.equal(mix(x), mix.share * x + (1 - mix.share) * x[mix.order])
    assert torch.equal(mix.blend(y), mix.share * y + (1 - mix.share) * y[mix.order])
    assert torch.equal(Mix("mixup", mix.order, 1.0).blend(y), y)
    assert torch.equal(Mix("mixup", mix.order, 0.0).blend(y), y[mix.order])


def test_draws_are_the_generators_own() -> None:
    state = torch.random.get_rng_state()
    a, b = (draw_mix("cutmix", 8, (32, 32), child(7, "mix")) for _ in range(2))
    assert (a.share, a.box, a.order.tolist()) == (b.share, b.box, b.order.tolist())
    assert draw_mix("none", 3, (8, 8), child(0, "mix"))(x := pictures(3)) is x
    draw_views(3, (8, 8), child(0, "views"))
    assert torch.equal(state, torch.random.get_rng_state())


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"`scale` must be 0 < low ≤ high ≤ 1; got \(0.0, 1.0\)"):
        draw_views(1, (8, 8), child(0), scale=(0.0, 1.0))
    with pytest.raises(InputError, match="`ratio`"):
        draw_views(1, (8, 8), child(0), ratio=(2.0, 1.0))
    with pytest.raises(InputError, match="`kind` must be `none`, `cutmix` or `mixup`"):
        draw_mix("cut", 1, (8, 8), child(0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`alpha` must be positive"):
        draw_mix("mixup", 1, (8, 8), child(0), alpha=0.0)
    with pytest.raises(InputError, match="x"):
        draw_views(2, (8, 8), child(0))(torch.zeros(3, 3, 8, 8))
