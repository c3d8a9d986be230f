"""DSA: twins, replay, derivatives, identities, ranges, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from reference import dsa as twin
from torch import Tensor

from dd.errors import InputError
from dd.transforms.dsa import DSA, OPTIONS, PARAMETERS, Draw


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def slow(name: str, given: dict[str, float], x: Tensor) -> Tensor:
    """One option on one picture by the twin."""
    if name == "cutout":
        height, width = int(given["height"]), int(given["width"])
        y, x_ = int(given["top"]) + height // 2, int(given["left"]) + width // 2
        return twin.cutout(x, y, x_, height, width)
    if name == "rotate":
        return twin.rotate(x, math.atan2(given["sin"], given["cos"]))
    function: Callable[..., Tensor] = getattr(twin, name)
    return function(x, **given)


# --- twins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_equals_the_twin(name: str, channels: int, size: tuple[int, int]) -> None:
    n = 5
    draw = DSA(name, crop_ratio=0.3).draw(n, size, seeded())
    x = pictures(n, channels, *size)
    ((_, given),) = draw.ops
    expected = [slow(name, {k: v[i].item() for k, v in given.items()}, x[i]) for i in range(n)]
    torch.testing.assert_close(draw(x), torch.stack(expected), rtol=0, atol=1e-12)


def test_all_mode_applies_every_option_in_order() -> None:
    draw = DSA("rotate_color_crop", mode="all").draw(3, (8, 8), seeded())
    assert [name for name, _ in draw.ops] == ["rotate", "color", "crop"]
    x = pictures(3, 3, 8, 8)
    step = x
    for op in draw.ops:
        step = Draw(3, (8, 8), (op,))(step)
    assert torch.equal(draw(x), step)


def test_resampling_equals_affine_grid() -> None:
    angle, x = 0.2, pictures(1, 3, 8, 8)
    given = {"cos": torch.tensor([math.cos(angle)]).double(), "sin": torch.tensor([math.sin(angle)]).double()}
    theta = torch.tensor([[given["cos"], -given["sin"], 0], [given["sin"], given["cos"], 0]]).double()[None]
    grid = torch.nn.functional.affine_grid(theta, [1, 3, 8, 8], align_corners=True)
    expected = torch.nn.functional.grid_sample(x, grid, align_corners=True)
    torch.testing.assert_close(Draw(1, (8, 8), (("rotate", given),))(x), expected, rtol=0, atol=1e-6)


# --- replay ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (9, 7)])
def test_replay_and_rows_are_bitwise(name: str, dtype: torch.dtype, size: tuple[int, int]) -> None:
    n = 13
    draw = DSA(name).draw(n, size, seeded())
    x = pictures(n, 3, *size, dtype=dtype)
    kept = x.clone()
    whole = draw(x)
    assert whole.dtype == dtype
    assert torch.equal(whole, draw(x))
    assert torch.equal(x, kept)
    for rows in (slice(4, 9), slice(None, None, 3), torch.tensor([12, 0, 5, 5]), torch.arange(n) % 2 == 0):
        assert torch.equal(whole[rows], draw.rows(rows)(x[rows]))
    for i in (0, 7, n - 1):
        assert torch.equal(whole[i : i + 1], draw.rows(i)(x[i : i + 1]))
    assert torch.equal(whole[[2, 3]], draw.rows([2, 3])(x[[2, 3]]))


@pytest.mark.parametrize("name", OPTIONS)
def test_large_pictures_and_rows_are_bitwise(name: str) -> None:
    """At 3·128² values a plain mean of one picture is split over two threads, that of a batch is not."""
    draw = DSA(name).draw(8, (128, 128), seeded())
    x = pictures(8, 3, 128, 128, dtype=torch.float32)
    whole = draw(x)
    assert all(torch.equal(whole[i : i + 1], draw.rows(i)(x[i : i + 1])) for i in range(8))


def test_channels_last_gives_the_same_bytes() -> None:
    x = pictures(4, 3, 8, 8, dtype=torch.float32)
    for name in OPTIONS:
        draw = DSA(name).draw(4, (8, 8), seeded())
        assert torch.equal(draw(x), draw(x.to(memory_format=torch.channels_last)))


def test_rows_of_rows() -> None:
    draw = DSA(mode="all").draw(6, (8, 8), seeded())
    x = pictures(6, 3, 8, 8)
    assert torch.equal(draw.rows(slice(2, 6)).rows(torch.tensor([1, 3]))(x[[3, 5]]), draw(x)[[3, 5]])
    assert draw.rows(slice(2, 5)).n == 3
    assert draw.rows(-1).n == 1
    empty = draw.rows([])
    assert empty.n == 0
    assert empty(x[:0]).shape == (0, 3, 8, 8)


def test_draws_depend_on_the_generator_alone() -> None:
    before = torch.get_rng_state()
    dsa = DSA(mode="all")
    a, b, c = (dsa.draw(7, (8, 8), seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    x = pictures(7, 3, 8, 8)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_parameters_differ_between_pictures() -> None:
    for name in OPTIONS:
        ((_, given),) = DSA(name).draw(64, (32, 32), seeded()).ops
        key = PARAMETERS[name][0]
        assert given[key].shape == (64,)
        assert given[key].unique().numel() > 1, name


def test_single_mode_takes_one_option_uniformly() -> None:
    generator, dsa = seeded(), DSA()
    counts = dict.fromkeys(OPTIONS, 0)
    for _ in range(600):
        ((name, _),) = dsa.draw(1, (8, 8), generator).ops
        counts[name] += 1
    assert all(70 <= count <= 130 for count in counts.values()), counts  # 100 ± 9 (one σ)


# --- derivatives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_gradcheck(name: str) -> None:
    draw = DSA(name, crop_ratio=0.3).draw(2, (5, 4), seeded())
    x = pictures(2, 3, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(draw, (x,), check_forward_ad=False)


@pytest.mark.parametrize("name", OPTIONS)
def test_second_order_through_a_draw(name: str) -> None:
    """∂⟨v, ∇_θ ℓ(θ; A(x))⟩/∂x, which both engines need, against a central difference."""
    draw = DSA(name).draw(3, (8, 8), seeded())
    x = pictures(3, 2, 8, 8).requires_grad_()
    theta = pictures(4, 2, 3, 3, seed=2).requires_grad_()
    v, direction = pictures(4, 2, 3, 3, seed=3), pictures(3, 2, 8, 8, seed=4)

    def product(x: Tensor) -> Tensor:
        loss = torch.nn.functional.softplus(torch.nn.functional.conv2d(draw(x), theta)).square().mean()
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return (gradient * v).sum()

    (gradient,) = torch.autograd.grad(product(x), x)
    h = 1e-5
    slope = (product(x + h * direction) - product(x - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), slope.detach(), rtol=1e-7, atol=1e-10)


# --- identities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["", "none"])
@pytest.mark.parametrize("mode", ["single", "all"])
def test_no_strategy_is_the_identity(strategy: str, mode: str) -> None:
    generator = seeded()
    state = generator.get_state()
    draw = DSA(strategy, mode=mode).draw(4, (8, 8), generator)  # type: ignore[arg-type]
    x = pictures(4, 3, 8, 8)
    assert draw(x) is x
    assert draw.rows(slice(1, 3)).n == 2
    assert torch.equal(generator.get_state(), state)


def test_flip_twice_is_the_identity() -> None:
    draw = DSA("flip").draw(16, (8, 8), seeded())
    x = pictures(16, 3, 8, 8)
    assert not torch.equal(draw(x), x)
    assert torch.equal(draw(draw(x)), x)


@pytest.mark.parametrize("size", [(32, 32), (7, 12), (1, 5), (5, 1)])
def test_scale_one_and_rotate_zero_are_the_identity(size: tuple[int, int]) -> None:
    one, zero = torch.ones(2).double(), torch.zeros(2).double()
    x = pictures(2, 3, *size)
    for op in (("scale", {"x": one, "y": one}), ("rotate", {"cos": one, "sin": zero})):
        torch.testing.assert_close(Draw(2, size, (op,))(x), x, rtol=0, atol=1e-12)


def test_a_quarter_turn_is_exact_on_any_shape() -> None:
    """Also of a picture that is not square: a centred square of its pixels turns as a square."""
    given = {"cos": torch.zeros(1).double(), "sin": torch.ones(1).double()}
    x = pictures(1, 1, 5, 9)
    out = Draw(1, (5, 9), (("rotate", given),))(x)
    torch.testing.assert_close(out[..., 2:7], torch.rot90(x[..., 2:7], k=-1, dims=(3, 2)), rtol=0, atol=1e-12)


def test_identity_colour_is_the_identity() -> None:
    given = {"brightness": torch.zeros(2), "saturation": torch.ones(2), "contrast": torch.ones(2)}
    x = pictures(2, 3, 8, 8)
    torch.testing.assert_close(Draw(2, (8, 8), (("color", given),))(x), x, rtol=0, atol=1e-14)


def test_ranges_of_zero_strength_are_the_identity() -> None:
    dsa = DSA("crop_cutout_flip", mode="all", crop_ratio=0.0, cutout_ratio=0.0, flip_prob=0.0)
    x = pictures(4, 3, 8, 8)
    assert torch.equal(dsa.draw(4, (8, 8), seeded())(x), x)


# --- ranges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "most"), [(32, 4), (28, 4), (64, 8), (128, 16), (3, 0)])
def test_crop_shifts_cover_their_range(side: int, most: int) -> None:
    ((_, given),) = DSA("crop").draw(4000, (side, 2 * side), seeded()).ops
    assert set(given["y"].tolist()) == set(range(-most, most + 1))
    wide = math.floor(0.125 * 2 * side + 0.5)
    assert (given["x"].min(), given["x"].max()) == (-wide, wide)


def test_crop_moves_at_most_four_pixels_at_32() -> None:
    x = pictures(64, 3, 32, 32).abs() + 1.0
    out = DSA("crop").draw(64, (32, 32), seeded())(x)
    assert (out[:, :, 4:-4, 4:-4] > 0).all()
    kept = (out != 0).all(1)  # [N, H, W]
    assert not kept.all()
    assert (kept.any(2).sum(1) >= 28).all()
    assert (kept.any(1).sum(1) >= 28).all()


@pytest.mark.parametrize(("side", "hole", "last"), [(32, 16, 32), (28, 14, 28), (9, 5, 8)])
def test_cutout_centres_and_area(side: int, hole: int, last: int) -> None:
    draw = DSA("cutout").draw(2000, (side, side), seeded())
    ((_, given),) = draw.ops
    for start, length in (("top", "height"), ("left", "width")):
        assert set(given[length].tolist()) == {hole}
        assert set((given[start] + hole // 2).tolist()) == set(range(last + 1))
    zeros = (draw(torch.ones(2000, 1, side, side)) == 0).flatten(1).sum(1)
    assert zeros.max() == hole * hole
    assert zeros.min() >= 1


def test_flip_is_about_half() -> None:
    ((_, given),) = DSA("flip").draw(2000, (8, 8), seeded()).ops
    assert abs(given["mirrored"].double().mean() - 0.5) < 0.034  # 3 σ
    ((_, always),) = DSA("flip", flip_prob=1.0).draw(100, (8, 8), seeded()).ops
    assert always["mirrored"].all()


def test_real_parameters_fill_their_ranges() -> None:
    draw = DSA("color_scale_rotate", mode="all").draw(5000, (8, 8), seeded())
    ops = dict(draw.ops)
    angle = torch.atan2(ops["rotate"]["sin"], ops["rotate"]["cos"])
    for values, low, high in (
        (ops["color"]["brightness"], -0.5, 0.5),
        (ops["color"]["saturation"], 0.0, 2.0),
        (ops["color"]["contrast"], 0.5, 1.5),
        (ops["scale"]["x"], 1 / 1.2, 1.2),
        (ops["scale"]["y"], 1 / 1.2, 1.2),
        (angle, -math.pi / 12, math.pi / 12),
    ):
        assert values.dtype == torch.float64
        slack = 1e-12
        assert low - slack <= values.min()
        assert values.max() <= high + slack
        assert abs(values.mean() - (low + high) / 2) < (high - low) * 0.0125  # 3 σ
        assert abs(values.std() - (high - low) / math.sqrt(12)) < (high - low) * 0.01
    assert abs(torch.corrcoef(torch.stack((ops["scale"]["x"], ops["scale"]["y"])))[0, 1]) < 0.05


def test_a_factor_above_one_shrinks_the_content() -> None:
    two = torch.full((1,), 2.0).double()
    out = Draw(1, (9, 9), (("scale", {"x": two, "y": two}),))(torch.ones(1, 1, 9, 9))
    assert (out != 0).sum() == 25


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "color_crap"}, "unknown augmentation 'crap'; known: color, crop, cutout, flip, rotate"),
        ({"strategy": "flip_flip"}, "`strategy` must be options named once each"),
        ({"mode": "both"}, "unknown mode 'both'; known: all, single"),
        ({"flip_prob": 1.5}, r"`flip_prob` must be in \[0, 1\]; got 1.5"),
        ({"scale_ratio": 0.5}, "`scale_ratio` must be"),
        ({"crop_ratio": float("nan")}, "`crop_ratio` must be"),
        ({"brightness": float("inf")}, "`brightness` must be"),
    ],
)
def test_bad_fields_are_refused(fields: dict[str, str | float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DSA(**fields)  # type: ignore[arg-type]


def test_bad_calls_are_refused() -> None:
    draw = DSA("flip").draw(4, (8, 8), seeded())
    with pytest.raises(InputError, match="`x` must be a tensor"):
        draw(torch.zeros(3, 3, 8, 8))
    with pytest.raises(InputError, match="with W = 8"):
        draw(torch.zeros(4, 3, 8, 9))
    with pytest.raises(InputError, match="`x` must be floating point"):
        draw(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="rows of a draw for 4 pictures"):
        draw.rows(4)
    with pytest.raises(InputError, match="`n` must be at least 1"):
        DSA().draw(0, (8, 8), seeded())
    with pytest.raises(InputError, match="unknown augmentation 'blur'"):
        Draw(1, (8, 8), (("blur", {}),))
    with pytest.raises(InputError, match="`parameters of scale` must be x, y; got x"):
        Draw(1, (8, 8), (("scale", {"x": torch.ones(1)}),))
    with pytest.raises(InputError, match=r"`flip\.mirrored` must be a tensor"):
        Draw(2, (8, 8), (("flip", {"mirrored": torch.ones(1, dtype=torch.bool)}),))
