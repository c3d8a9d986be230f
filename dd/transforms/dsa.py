"""Differentiable siamese augmentation (DSA): draws that are values and can be replayed.

A draw holds every random number of one augmentation, one set a picture. Calling it is pure: the same draw on
the same pixels gives the same bytes, for a whole batch or for some of its rows, which is what lets an engine
recompute a step in micro-batches. Zero fill means zero in model space (normalised or whitened).

Source: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (ICML 2021), with the
parameters that the trajectory-matching papers use for experts, inner steps and evaluation alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, floor, pi, sin
from typing import Final, Literal, final

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from dd.base.devices import moved
from dd.base.process import under_own_settings
from dd.base.shapes import check
from dd.errors import refuse, unknown

Parameters = Mapping[str, Tensor]
"""Numbers of one option, each `[n]` on the CPU: real ones float64, pixel positions int64, switches bool."""


@final
@dataclass(frozen=True, eq=False)
class Draw:
    """One augmentation with all its random numbers; pure, differentiable in the pixels, replayable.

    `draw(x)[rows]` and `draw.rows(rows)(x[rows])` are the same bytes: no operation mixes pictures, and none
    uses a kernel whose order of summation depends on the batch.

    Attributes:
        n: pictures it was drawn for.
        size: their (height, width) in pixels.
        ops: options in the order they are applied, each with its parameters `[n]` (names in `PARAMETERS`).
            Empty: the identity.
    """

    n: int
    size: tuple[int, int]
    ops: tuple[tuple[str, Parameters], ...] = ()

    def __post_init__(self) -> None:
        for name, given in self.ops:
            if name not in _APPLY:
                raise unknown("augmentation", name, OPTIONS)
            if set(given) != set(PARAMETERS[name]):
                raise refuse(f"parameters of {name}", ", ".join(PARAMETERS[name]), ", ".join(given))
            for key, value in given.items():
                check(value, f"{name}.{key}", "N", N=self.n)

    def __call__(self, x: Tensor) -> Tensor:
        """The augmented pictures.

        Args:
            x: `[n, C, H, W]`, any float type, any device. Half precision is computed in float32.

        Returns:
            A tensor like `x`; `x` itself for the identity.

        Raises:
            InputError: another number or size of pictures than was drawn for, or not floating point.
        """
        height, width = self.size
        check(x, "x", "N C H W", N=self.n, H=height, W=width)
        if not x.is_floating_point():
            raise refuse("x", "floating point", str(x.dtype), "Augment pictures in model space.")
        if not self.ops or self.n == 0:
            return x
        out = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        for name, given in self.ops:
            out = _APPLY[name](out, given)
        return out.to(x.dtype)

    def rows(self, index: int | slice | Tensor | Sequence[int]) -> Draw:
        """The part of the draw that belongs to the pictures `index`; one integer keeps its axis (n = 1)."""
        if isinstance(index, Tensor):
            index = index.cpu()
        elif not isinstance(index, slice):
            index = torch.as_tensor(index)
            index = index if index.numel() else index.long()
        try:
            chosen = torch.arange(self.n)[index].reshape(-1)
        except IndexError as error:
            raise refuse("index", f"rows of a draw for {self.n} pictures", index) from error
        ops = tuple((name, {k: v[chosen] for k, v in given.items()}) for name, given in self.ops)
        return Draw(chosen.numel(), self.size, ops)


@final
@dataclass(frozen=True)
class DSA:
    """What may be drawn, and how strongly. The defaults are the papers' values.

    Attributes:
        strategy: options joined by `_`, of `OPTIONS`; `""` or `"none"` draws the identity.
        mode: `"single"`: one option a call, uniformly (the papers' mode); `"all"`: every option, in the order
            of `strategy`. Parameters are drawn for each picture in both.
        flip_prob: probability of a horizontal mirror, in [0, 1].
        scale_ratio: both zooms are uniform on [1/ratio, ratio], independently; at least 1.
        rotate_degrees: the angle is uniform on ± this, in [0, 180].
        crop_ratio: largest shift as a fraction of the side, in [0, 1].
        cutout_ratio: side of the zeroed square as a fraction of the side, in [0, 1].
        brightness: width of the uniform offset, at least 0.
        saturation: largest factor on the distance to the grey of each pixel, at least 0.
        contrast: smallest factor on the distance to the picture's mean, at least 0; the largest is 1 more.

    Raises:
        InputError: an unknown or repeated option, an unknown mode, or a value outside its range.
    """

    strategy: str = "color_crop_cutout_flip_scale_rotate"
    mode: Literal["single", "all"] = "single"
    flip_prob: float = 0.5
    scale_ratio: float = 1.2
    rotate_degrees: float = 15.0
    crop_ratio: float = 0.125
    cutout_ratio: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5

    def __post_init__(self) -> None:
        for name in self.options:
            if name not in OPTIONS:
                raise unknown("augmentation", name, OPTIONS, 'Join options with "_", or use "none".')
        if len(set(self.options)) < len(self.options):
            raise refuse("strategy", "options named once each", repr(self.strategy))
        if not isinstance(self.mode, str) or self.mode not in ("single", "all"):
            raise unknown("mode", self.mode, ("single", "all"))
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high or value == float("inf"):
                raise refuse(name, f"in [{low:g}, {high:g}]", value)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `strategy` in order; none for the identity."""
        return () if self.strategy in ("", "none") else tuple(self.strategy.split("_"))

    @under_own_settings
    def draw(self, n: int, size: tuple[int, int], generator: Generator) -> Draw:
        """Draw the parameters for `n` pictures of `size` (height, width), all from `generator` (CPU)."""
        if n < 1:
            raise refuse("n", "at least 1", n)
        if min(size) < 1:
            raise refuse("size", "at least 1 pixel high and wide", size)
        options = self.options
        if options and self.mode == "single":
            options = (options[int(_integer(0, len(options), 1, generator))],)
        return Draw(n, size, tuple((name, _DRAW[name](self, n, size, generator)) for name in options))


def _uniform(low: float, high: float, n: int, generator: Generator) -> Tensor:
    """float64 `[n]`, uniform on [low, high)."""
    return torch.rand(n, generator=generator, dtype=torch.float64) * (high - low) + low


def _integer(low: int, high: int, n: int, generator: Generator) -> Tensor:
    """int64 `[n]`, uniform on {low, …, high − 1}."""
    return torch.randint(low, high, (n,), generator=generator)


def _pixels(ratio: float, side: int) -> int:
    return floor(ratio * side + 0.5)


def _draw_color(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    half = 0.5 * dsa.brightness
    return {
        "brightness": _uniform(-half, half, n, generator),
        "saturation": _uniform(0.0, dsa.saturation, n, generator),
        "contrast": _uniform(dsa.contrast, dsa.contrast + 1.0, n, generator),
    }


def _draw_crop(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    y, x = (_pixels(dsa.crop_ratio, side) for side in size)
    return {"y": _integer(-y, y + 1, n, generator), "x": _integer(-x, x + 1, n, generator)}


def _draw_cutout(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    """The centre is uniform on {0, …, H} for an even hole and on {0, …, H − 1} for an odd one."""
    given: dict[str, Tensor] = {}
    for side, start, length in ((size[0], "top", "height"), (size[1], "left", "width")):
        hole = _pixels(dsa.cutout_ratio, side)
        given[start] = _integer(0, side + 1 - hole % 2, n, generator) - hole // 2
        given[length] = torch.full((n,), hole)
    return given


def _draw_flip(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    return {"mirrored": _uniform(0.0, 1.0, n, generator) < dsa.flip_prob}


def _draw_scale(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    low, high = 1.0 / dsa.scale_ratio, dsa.scale_ratio
    return {"x": _uniform(low, high, n, generator), "y": _uniform(low, high, n, generator)}


def _draw_rotate(dsa: DSA, n: int, size: tuple[int, int], generator: Generator) -> Parameters:
    """Sine and cosine are kept, not the angle: a vectorised cosine may depend on the batch size in a bit."""
    most = dsa.rotate_degrees * pi / 180.0
    angles = _uniform(-most, most, n, generator).tolist()
    return {
        name: torch.tensor([function(angle) for angle in angles], dtype=torch.float64)
        for name, function in (("cos", cos), ("sin", sin))
    }


def _each(value: Tensor, x: Tensor) -> Tensor:
    """One number a picture, ready to meet `x`: `[n, 1, 1, 1]`, float type and device of `x`."""
    return moved(value.to(x.dtype), x.device).view(-1, 1, 1, 1)


def _mean(x: Tensor) -> Tensor:
    """Mean over axis 1 of `[n, m, …]`, axis kept, by halving.

    `Tensor.mean` splits its sum by batch size and threads, so a row alone can differ in the last bit from the
    same row in a batch; elementwise additions cannot.
    """
    total, count, odd = x, x.shape[1], None
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        if total.shape[1] % 2:
            odd = total[:, -1:] if odd is None else odd + total[:, -1:]
        total = total[:, :half] + total[:, half : 2 * half]
    return (total if odd is None else total + odd) / count


def _color(x: Tensor, given: Parameters) -> Tensor:
    """Brightness, then saturation about the grey of each pixel, then contrast about the picture's mean."""
    x = x + _each(given["brightness"], x)
    grey = _mean(x)
    x = (x - grey) * _each(given["saturation"], x) + grey
    level = _mean(x.flatten(1)).view(-1, 1, 1, 1)
    return (x - level) * _each(given["contrast"], x) + level


def _crop(x: Tensor, given: Parameters) -> Tensor:
    return shifted(x, given["y"], given["x"])


def shifted(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """`out[k, :, i, j] = x[k, :, i + down[k], j + across[k]]`, 0 where that is outside; one gather for the whole batch.

    Args:
        x: `[n, C, H, W]`.
        down, across: whole numbers `[n]`.
    """
    n, c, h, w = x.shape
    row = torch.arange(h, device=x.device) + moved(down, x.device).view(-1, 1)
    column = torch.arange(w, device=x.device) + moved(across, x.device).view(-1, 1)
    outside = ((row < 0) | (row >= h))[:, None, :, None] | ((column < 0) | (column >= w))[:, None, None, :]
    index = row.clamp(0, h - 1)[:, :, None] * w + column.clamp(0, w - 1)[:, None, :]
    taken = x.reshape(n, c, h * w).gather(2, index.view(n, 1, h * w).expand(n, c, h * w))
    return taken.view(n, c, h, w).masked_fill(outside, 0.0)


def _cutout(x: Tensor, given: Parameters) -> Tensor:
    """0 inside a rectangle, clipped at the border."""
    inside = []
    for side, start, length in ((x.shape[2], "top", "height"), (x.shape[3], "left", "width")):
        position = torch.arange(side, device=x.device)
        first, count = (moved(given[name], x.device).view(-1, 1) for name in (start, length))
        inside.append((position >= first) & (position < first + count))
    return x.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0.0)


def _flip(x: Tensor, given: Parameters) -> Tensor:
    return torch.where(moved(given["mirrored"], x.device).view(-1, 1, 1, 1), x.flip(3), x)


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised positions of the pixels, corners at ±1: `[W]` across and `[H, 1]` down."""
    down, across = (
        torch.linspace(-1.0, 1.0, side, device=x.device, dtype=x.dtype) if side > 1 else x.new_zeros(1)
        for side in x.shape[2:]
    )
    return across, down.view(-1, 1)


def _resample(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Read `x` at the positions `[n, H or 1, W or 1]`, bilinear, 0 outside.

    The positions are written out elementwise instead of by `affine_grid`, which is a batched matrix product.
    """
    n, _, h, w = x.shape
    grid = torch.stack((across.expand(n, h, w), down.expand(n, h, w)), dim=3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def _scale(x: Tensor, given: Parameters) -> Tensor:
    """Matrix [[s_x, 0, 0], [0, s_y, 0]]: a factor above 1 shrinks the content."""
    across, down = _axes(x)
    return _resample(x, _each(given["x"], x)[:, 0] * across, _each(given["y"], x)[:, 0] * down)


def _rotate(x: Tensor, given: Parameters) -> Tensor:
    """Matrix [[cos, −sin, 0], [sin, cos, 0]] about the centre.

    On a picture that is not square the sines are weighted by the sides' ratio, so that it stays a rotation of
    the pixels; the formula itself would shear.
    """
    across, down = _axes(x)
    aspect = (x.shape[2] - 1) / (x.shape[3] - 1) if min(x.shape[2:]) > 1 else 1.0
    c, s = _each(given["cos"], x)[:, 0], _each(given["sin"], x)[:, 0]
    return _resample(x, c * across - s * aspect * down, s / aspect * across + c * down)


_APPLY: Final[dict[str, Callable[[Tensor, Parameters], Tensor]]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
_DRAW: Final[dict[str, Callable[[DSA, int, tuple[int, int], Generator], Parameters]]] = {
    "color": _draw_color,
    "crop": _draw_crop,
    "cutout": _draw_cutout,
    "flip": _draw_flip,
    "scale": _draw_scale,
    "rotate": _draw_rotate,
}
PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "color": ("brightness", "saturation", "contrast"),  # offset; factor; factor
    "crop": ("y", "x"),  # pixels; positive moves the content up and left
    "cutout": ("top", "left", "height", "width"),  # pixels; may reach over the border
    "flip": ("mirrored",),
    "scale": ("x", "y"),
    "rotate": ("cos", "sin"),
}
OPTIONS: Final[tuple[str, ...]] = tuple(_APPLY)
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "flip_prob": (0.0, 1.0),
    "scale_ratio": (1.0, float("inf")),
    "rotate_degrees": (0.0, 180.0),
    "crop_ratio": (0.0, 1.0),
    "cutout_ratio": (0.0, 1.0),
    "brightness": (0.0, float("inf")),
    "saturation": (0.0, float("inf")),
    "contrast": (0.0, float("inf")),
}
