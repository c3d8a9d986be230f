"""Layouts: how a file holds the images of a set, and what pictures a network sees of them.

A stored image `[C, H, W]` may be a mosaic of f × f small pictures, each enlarged to H × W (IDC's multi-formation, Kim
et al., ICML 2022), may be seen mirrored too (FYI, Son et al., ECCV 2024), and may be kept in fewer bits. The first two
are linear, and `Layout.transpose` is the adjoint of `Layout.decode`: it takes gradients of pictures to stored pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from dd.base.shapes import check, check_choices, check_finite, check_types, check_whole, plain
from dd.base.texts import both
from dd.errors import refuse
from dd.synthetic.canvas import tile
from dd.transforms.whiten import Normalise, Transform

Storage = Literal["fp32", "fp16", "uint8"]
STORAGES: Final[dict[str, torch.dtype]] = {"fp32": torch.float32, "fp16": torch.float16, "uint8": torch.uint8}
STORAGE: Final[Storage] = "uint8"
"""The default of methods that match trajectories or distributions: a quarter of the bytes of float32.

It is measured (`scripts/records/make/storage.py`, docs/storage.md): of ten sets of MTT, ten images a class of CIFAR-10,
rounding changed the accuracy by +0.03 ± 0.10 points on validation images and +0.00 ± 0.09 on test images (95 %).
Published rows, and the sets of all others, are in float32.
"""
SMALLEST: Final = 4
"""Pixels of the side of a small picture, at least."""
_MOST: Final = 65504.0
"""The largest float16."""
_BROKEN: Final = "A broken set is never made; lower the pixel step size."
_AT_ONCE: Final = 2**22
"""Values of pictures that are made together where they are only looked at."""


@final
@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a stored image is: `factor²` pictures, twice as many with `mirror`, in the bits of `storage`.

    Pictures of a stored image follow each other: small picture 0 and its mirror image, small picture 1, …, row by row.

    Attributes:
        factor: f; a stored image is a mosaic of f × f small pictures, which bilinear enlargement brings to its size.
        mirror: whether a network sees the mirror image of every picture too.
        storage: `fp32`; `fp16`, rounded; or `uint8`, 256 even levels from the smallest to the largest value of each
            channel of the set.

    Raises:
        InputError: a field out of range.
    """

    factor: int = 1
    mirror: bool = False
    storage: Storage = "fp32"

    def __post_init__(self) -> None:
        check_whole(self.factor, "factor")
        check_types(self)
        check_choices(self, {"storage": tuple(STORAGES)})

    @property
    def plain(self) -> bool:
        """Whether stored images are the pictures, in float32."""
        return self == PLAIN

    @property
    def whole(self) -> bool:
        """Whether baselines are as many real images, stored alike: each one picture, in float32 or uint8.

        Real pictures are of 8 bits, and lose nothing in uint8 (`real_levels`).
        """
        return self.copies == 1 and self.storage in ("fp32", "uint8")

    @property
    def small(self) -> int:
        """Small pictures in a stored image, f²."""
        return self.factor**2

    @property
    def copies(self) -> int:
        """Pictures of a stored image."""
        return self.small * (2 if self.mirror else 1)

    @property
    def itemsize(self) -> int:
        """Bytes of a stored number."""
        return STORAGES[self.storage].itemsize

    def plain_count(self, stored: int) -> int:
        """Whole images in float32 in the bytes of so many stored ones; at least one where there is one."""
        return max(min(1, stored), stored * self.itemsize // PLAIN.itemsize)

    def __str__(self) -> str:
        words = [f"factor {self.factor}"] if self.factor > 1 else []
        return ", ".join([*words, *(["mirrored"] if self.mirror else []), self.storage])

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse a factor that does not divide the sides, or makes small pictures below 4 pixels.

        Raises:
            InputError: names the factors that there are.
        """
        if self.factor > 1 and not _fits(self.factor, size):
            known = [f for f in range(2, min(size) // SMALLEST + 1) if _fits(f, size)]
            way_out = f"Give `factor={known[0]}`." if known else "Leave `factor` out."
            if not known:
                way_out += f" Pictures of a larger `size=` that is a multiple of {self.factor}, "
                way_out += f"from {SMALLEST * self.factor} on, have one."
            expected = f"a divisor of {both(*size)} that leaves small pictures of at least {SMALLEST} px"
            expected += f" ({', '.join(map(str, known)) or 'there is none'})"
            raise refuse("factor", expected, self.factor, way_out)

    def decode(self, stored: Tensor) -> Tensor:
        """Pictures `[n · copies, C, H, W]` of stored images `[n, C, H, W]` in model space; linear and differentiable.

        Each number of a picture is of a few stored ones alone, so that no bit depends on threads or on other images.
        """
        pictures = stored
        if self.factor > 1:
            small = _cut(stored, self.factor).contiguous()
            pictures = F.interpolate(small, size=stored.shape[2:], mode="bilinear", align_corners=False)
        if self.mirror:
            pictures = torch.stack((pictures, pictures.flip(3)), 1).flatten(0, 1)
        return pictures

    def transpose(self, gradient: Tensor) -> Tensor:
        """The adjoint of `decode`: `[n · copies, C, H, W]` summed into `[n, C, H, W]`."""
        if self.mirror:
            pairs = gradient.unflatten(0, (-1, 2))
            gradient = pairs[:, 0] + pairs[:, 1].flip(3)
        if self.factor == 1:
            return gradient
        rows, columns = (_enlargement(side // self.factor, side, gradient) for side in gradient.shape[2:])
        return tile(rows.T @ gradient @ columns, self.factor)

    def mosaic(self, images: Tensor) -> Tensor:
        """Stored images `[n, C, H, W]` that show whole images `[n · f², C, H, W]`, made smaller by their means."""
        return images if self.factor == 1 else tile(F.avg_pool2d(images, self.factor), self.factor)

    def repeat(self, values: Tensor) -> Tensor:
        """A row for every picture `[n · copies, …]` of one for every stored image `[n, …]`."""
        return values if self.copies == 1 else values.repeat_interleave(self.copies, 0)

    def first(self, values: Tensor) -> Tensor:
        """A row for every stored image of one for every picture, equal ones of a stored image."""
        return values if self.copies == 1 else values[:: self.copies]

    def total(self, values: Tensor) -> Tensor:
        """The adjoint of `repeat`: sums over the pictures of each stored image."""
        return values if self.copies == 1 else values.unflatten(0, (-1, self.copies)).sum(1)

    def keep(self, images: Tensor, levels: Tensor | None = None) -> Stored:
        """Stored images as a file holds them, of floats `[n, C, H, W]`.

        Args:
            images: in model space; of fp16 cut to its range.
            levels: float32 `[2, C]`, the smallest value and the step of the 256 levels of each channel; by default they
                reach from the smallest to the largest value.
        """
        images = check_finite(images.detach().float().cpu(), "images", _BROKEN)
        if self.storage == "fp32":
            return Stored(images, self)
        if self.storage == "fp16":
            return Stored(images.clamp(-_MOST, _MOST).half(), self)
        levels = _levels(images) if levels is None else levels
        low, step = levels[:, None, :, None, None]
        return Stored(((images - low) / step).round().clamp(0, 255).to(torch.uint8), self, levels)

    def parts(self, images: Tensor, labels: Tensor, levels: Tensor | None = None) -> dict[str, Any]:
        """`images`, `labels` and `stored` of a `SyntheticImages`, of stored images as floats and one label each."""
        if self.plain:
            return {"images": images.detach().float().cpu(), "labels": labels, "stored": None}
        stored = self.keep(images, levels)
        return {"images": stored.pictures(), "labels": self.repeat(labels), "stored": stored}

    def to_json(self) -> dict[str, Any]:
        """For metadata."""
        return asdict(self)


PLAIN: Final = Layout()
"""Stored images are the pictures, in float32."""
PIXELS: Final = Layout(storage="uint8")
"""Likewise in 256 levels: what pictures with labels of batches are in their file, and real ones beside them."""


LAYOUT: Final = ("factor", "mirror", "storage")
"""The fields of a method that make its layout."""


def told(fields: Mapping[str, Any], names: Collection[str] = LAYOUT) -> dict[str, Any]:
    """The fields of a method without those of its layout that are plain: so its sets and runs stay what they were.

    Fields whose default is another are not among `names`: they are always told, so that silence has one meaning.
    """
    return {name: value for name, value in fields.items() if name not in names or value != getattr(PLAIN, name)}


@final
@dataclass(frozen=True, eq=False)
class Stored:
    """The images of a set as its file holds them, on the CPU.

    Attributes:
        values: `[n, C, H, W]` in model space, of the type of the layout's storage.
        layout: what pictures they are.
        levels: of uint8: float32 `[2, C]`, the smallest value of each channel and its step, above 0.

    Raises:
        InputError: another type or shape, or numbers that are not finite.
    """

    values: Tensor
    layout: Layout
    levels: Tensor | None = None

    def __post_init__(self) -> None:
        values, wanted = check(self.values, "images", "N C H W"), STORAGES[self.layout.storage]
        if values.dtype != wanted:
            raise refuse("images", f"{wanted} with storage {self.layout.storage!r}", values.dtype)
        self.layout.check_size((values.shape[2], values.shape[3]))
        object.__setattr__(self, "values", plain(values.detach().cpu()))
        if (self.levels is not None) != (wanted == torch.uint8):
            raise refuse("levels", "given for uint8 alone", "none" if self.levels is None else "some")
        if self.levels is None:
            check_finite(values, "images", _BROKEN)
            return
        levels = check(self.levels, "levels", "2 C", C=values.shape[1])
        if levels.dtype != torch.float32 or len(levels) != 2 or not bool((levels[1] > 0).all()):
            raise refuse("levels", "float32 [2, C], smallest values and steps above 0", f"{levels.dtype} {levels}")
        check_finite(levels, "levels", _BROKEN)
        object.__setattr__(self, "levels", plain(levels.detach().cpu()))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def numbers(self) -> Tensor:
        """The stored images as float32 `[n, C, H, W]`."""
        if self.levels is None:
            return self.values.float()
        low, step = self.levels[:, None, :, None, None]
        return self.values.float() * step + low

    def pictures(self) -> Tensor:
        """What a network sees, float32 `[n · copies, C, H, W]` in model space."""
        return self.layout.decode(self.numbers)

    def shows(self, images: Tensor) -> bool:
        """Whether these are `pictures()`, to the bit; made few at a time."""
        values, copies = self.values, self.layout.copies
        if images.shape != (len(values) * copies, *values.shape[1:]):
            return False
        each = max(1, _AT_ONCE // (copies * values[0].numel()))
        parts = ((n, Stored(values[n : n + each], self.layout, self.levels)) for n in range(0, len(values), each))
        return all(torch.equal(part.pictures(), images[n * copies : (n + each) * copies].cpu()) for n, part in parts)

    def tensors(self) -> dict[str, Tensor]:
        """By name, as they stand in a file."""
        return {"images": self.values, **({} if self.levels is None else {"levels": self.levels})}


def pixel_levels(transform: Normalise) -> Tensor:
    """The 256 levels of pixels in model space, `[2, C]`: images of rounded pixels lose nothing by them."""
    low, one = (torch.full((1, len(transform.mean), 1, 1), value) for value in (0.0, 1.0))
    start = transform.forward(low).flatten()
    return torch.stack((start, (transform.forward(one).flatten() - start) / 255))


def real_levels(layout: Layout, transform: Transform) -> Tensor | None:
    """Levels for real images: those of pixels where they are whole and normalised, else `None`, see `Layout.keep`."""
    if layout.storage != "uint8" or layout.factor > 1 or not isinstance(transform, Normalise):
        return None
    return pixel_levels(transform)


def _levels(images: Tensor) -> Tensor:
    """From the smallest to the largest value of each channel; of one value alone, that value and steps of 1."""
    low, high = images.amin((0, 2, 3)), images.amax((0, 2, 3))
    step = (high - low) / 255
    return torch.stack((low, torch.where(step > 0, step, torch.ones_like(step))))


def _fits(factor: int, size: tuple[int, int]) -> bool:
    return all(side % factor == 0 and side // factor >= SMALLEST for side in size)


def _cut(stored: Tensor, factor: int) -> Tensor:
    """The small pictures `[n · f², C, H / f, W / f]` of mosaics `[n, C, H, W]`, row by row: what `tile` undoes."""
    n, channels, height, width = stored.shape
    grid = stored.reshape(n, channels, factor, height // factor, factor, width // factor).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(n * factor**2, channels, height // factor, width // factor)


def _enlargement(small: int, side: int, like: Tensor) -> Tensor:
    """`[side, small]`: bilinear enlargement of one axis as a matrix."""
    eye = torch.eye(small, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(eye, size=side, mode="linear", align_corners=False)[0].T
