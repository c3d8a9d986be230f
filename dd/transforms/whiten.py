"""From pixels to model space and back: per-channel normalisation, or ZCA whitening.

A transform is fitted on training pixels only, and its inverse always comes with it: distilled pictures live
in model space and mean nothing under another fit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, Final, Protocol, final

import torch
from torch import Tensor

from dd.base.devices import Copies
from dd.base.shapes import check
from dd.data import Images
from dd.data.images.splits import Rows
from dd.errors import DamagedError, InputError, refuse, unknown

LARGEST_SIDE: Final = 64
"""Pixels; there the matrix `[q, q]` (q = C·H·W) has 0.6 GB for colour, and it grows with the fourth power."""
KORNIA_VALUES: Final = 200_000_000
"""Values (pictures × q) up to which kornia fits from one float32 copy; CIFAR is 1.5e8. Above: in chunks."""
MEAN_TOLERANCE: Final = 1e-4
"""Pixel units; a refit on the same pictures agrees to 1e-6; CIFAR-10 with and without a tenth: 9e-4."""

_log = logging.getLogger(__name__)


class Transform(Protocol):
    """The road between pixels in [0, 1] and model space; differentiable, keeps the type and device."""

    def forward(self, x: Tensor) -> Tensor:
        """Pixels `[N, C, H, W]` to model space."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Model space `[N, C, H, W]` to pixels, not clamped."""
        ...

    def describe(self) -> dict[str, Any]:
        """What `transform_from` needs beside tensors; JSON-able."""
        ...

    def tensors(self, matrix: bool = False) -> dict[str, Tensor]:
        """What to store beside the description; with `matrix` also what could be fitted again."""
        ...


class Pictures(Protocol):
    """The part of a data split that a fit reads."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the content."""
        ...

    def __len__(self) -> int: ...

    def pixels(self, index: Tensor | slice | None = None) -> Tensor:
        """float32 `[n, C, H, W]` in [0, 1]."""
        ...

    def stream(self, batches: Iterable[Rows]) -> Iterator[tuple[Rows, Tensor]]:
        """(rows, their pixels) of one batch after another."""
        ...


@final
@dataclass(frozen=True)
class Normalise:
    """(x − mean) / std for each channel.

    Attributes:
        mean: one a channel, in pixel units.
        std: one a channel, above 0.

    Raises:
        InputError: no channel, unequal lengths, or a std that is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise refuse("std", f"as long as mean ({len(self.mean)}, at least 1)", len(self.std))
        if not all(isfinite(m) for m in self.mean):
            raise refuse("mean", "finite", self.mean)
        if not all(isfinite(s) and s > 0 for s in self.std):
            raise refuse("std", "above 0", self.std, "Use 1 for a constant channel.")

    def forward(self, x: Tensor) -> Tensor:
        """See `Transform`."""
        mean, std = self._columns(x, "x")
        return (x - mean) / std

    def inverse(self, z: Tensor) -> Tensor:
        """See `Transform`."""
        mean, std = self._columns(z, "z")
        return z * std + mean

    def describe(self) -> dict[str, Any]:
        """See `Transform`."""
        return {"kind": "normalise", "mean": list(self.mean), "std": list(self.std)}

    def tensors(self, matrix: bool = False) -> dict[str, Tensor]:
        """Nothing: the description has it all."""
        return {}

    def _columns(self, x: Tensor, argument: str) -> tuple[Tensor, Tensor]:
        check(x, argument, "N C H W", C=len(self.mean))
        if x.device.type == "cpu":
            mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        else:
            mean, std = self._copies.like(x)
        return mean, std

    @cached_property
    def _copies(self) -> Copies:
        columns = torch.tensor((self.mean, self.std), dtype=torch.float64).view(2, 1, -1, 1, 1)
        return Copies(lambda: (columns[0], columns[1]))


@final
@dataclass(frozen=True, eq=False)
class ZCA:
    """z = (x − μ) T with T = U diag((s + eps)^−½) Uᵀ; kept with T⁻¹ = U diag((s + eps)^½) Uᵀ.

    U and s decompose the covariance (divisor n − 1) of the training pixels. eps stands inside the root and is
    large beside most eigenvalues of pictures, so that the whitened covariance has eigenvalues s / (s + eps)
    and not 1. No rescaling follows. This is what kornia computes and what the trajectory-matching papers used
    (eps = 0.1).

    Attributes:
        mean: μ `[q]`, float32.
        matrix: T `[q, q]`, float32, symmetric.
        inverse_matrix: T⁻¹ `[q, q]`, float32.
        shape: (C, H, W) with q = C·H·W.
        eps: above 0.
        fitted_on: fingerprint of the pictures it was fitted on.
    """

    mean: Tensor = field(repr=False)
    matrix: Tensor = field(repr=False)
    inverse_matrix: Tensor = field(repr=False)
    shape: tuple[int, int, int]
    eps: float
    fitted_on: str

    def forward(self, x: Tensor) -> Tensor:
        """See `Transform`. One product with `[q, q]`: give large sets in chunks."""
        flat = self._flat(x, "x")
        mean, matrix, _ = self._copies.like(flat)
        return ((flat - mean) @ matrix).to(x.dtype).view(x.shape)

    def inverse(self, z: Tensor) -> Tensor:
        """See `Transform`."""
        flat = self._flat(z, "z")
        mean, _, inverse = self._copies.like(flat)
        return (flat @ inverse + mean).to(z.dtype).view(z.shape)

    @cached_property
    def _copies(self) -> Copies:
        kept = self.mean, self.matrix, self.inverse_matrix
        return Copies(lambda: kept)

    @cached_property
    def hash(self) -> str:
        """sha256 of the bytes of T, float32 little endian."""
        return hashlib.sha256(self.matrix.cpu().contiguous().numpy().astype("<f4").data).hexdigest()

    def describe(self) -> dict[str, Any]:
        """See `Transform`."""
        return {
            "kind": "zca",
            "eps": self.eps,
            "shape": list(self.shape),
            "hash": self.hash,
            "fitted_on": self.fitted_on,
            "refit": f"train split of {self.fitted_on}",
        }

    def tensors(self, matrix: bool = False) -> dict[str, Tensor]:
        """`whiten_mean` `[q]`; on request `whiten_matrix` `[q, q]` (38 MB for 32 px in colour)."""
        kept = {"whiten_mean": self.mean}
        return {**kept, "whiten_matrix": self.matrix} if matrix else kept

    def _flat(self, x: Tensor, argument: str) -> Tensor:
        """`[N, q]`; half precision goes up to float32 for the product."""
        c, h, w = self.shape
        check(x, argument, "N C H W", C=c, H=h, W=w)
        return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x).flatten(1)


def make_transform(real: Images, whiten: bool) -> Transform:
    """Pixels → model space for a data set: ZCA fitted on its train split, or its mean/std normalisation."""
    if whiten:
        return fit_zca(real.train)
    return Normalise(real.mean, real.std)


def fit_zca(split: Pictures, eps: float = 0.1) -> ZCA:
    """Fit ZCA on all pictures of a split: give it the training split and nothing else.

    Up to `KORNIA_VALUES` values kornia's `ZCAWhitening` fits them from one copy (CIFAR: 30 s on two cores and
    1.8 GB); beyond, the covariance is summed in chunks. Both multiply in float32 and decompose in float64.
    The same pictures on the same machine with the same thread count give the same bytes.

    Args:
        split: at least 2 pictures of at most `LARGEST_SIDE` px a side.
        eps: above 0, in squared pixel units.

    Raises:
        InputError: too large or too few pictures, or an eps that is not above 0.
    """
    if not (isfinite(eps) and eps > 0):
        raise refuse("eps", "above 0", eps, "The papers use 0.1.")
    if len(split) < 2:
        raise refuse("split", "at least 2 pictures for ZCA", len(split), "Turn ZCA off, or give more pictures.")
    c, h, w = split.pixels(slice(0, 1)).shape[1:]
    if max(h, w) > LARGEST_SIDE:
        gigabytes = 4e-9 * (c * h * w) ** 2
        raise refuse(
            "split",
            f"pictures of at most {LARGEST_SIDE} px a side for ZCA",
            f"{h}×{w} (a matrix of {gigabytes:.1f} GB)",
            f"Turn ZCA off, or load the pictures with size={LARGEST_SIDE} or less.",
        )
    fit = _fit_kornia if len(split) * c * h * w <= KORNIA_VALUES else _fit_chunked
    mean, matrix, inverse = fit(split, float(eps))
    return ZCA(mean, matrix, inverse, (c, h, w), float(eps), split.fingerprint)


def transform_from(
    described: Mapping[str, Any], tensors: Mapping[str, Tensor], split: Pictures | None = None
) -> Normalise | ZCA:
    """The transform that `describe()` and `tensors()` were taken from.

    Args:
        described: what `describe()` gave.
        tensors: what `tensors()` gave; other keys are ignored.
        split: the training split, for a ZCA whose matrix was not stored. It is fitted again; its mean must
            agree with the stored one to `MEAN_TOLERANCE`. Other machines may differ in the last bits of the
            matrix, which is logged.

    Raises:
        InputError: an unknown kind, no matrix and no split, or a split of other pictures.
        DamagedError: the stored tensors are not those described.
    """
    kind = described.get("kind")
    if kind == "normalise":
        return Normalise(tuple(described["mean"]), tuple(described["std"]))
    if kind != "zca":
        raise unknown("transform", kind, ("normalise", "zca"))
    c, h, w = (int(side) for side in described["shape"])
    mean, matrix = tensors.get("whiten_mean"), tensors.get("whiten_matrix")
    if mean is None or mean.shape != (c * h * w,):
        got = "none" if mean is None else f"shape {list(mean.shape)}"
        raise DamagedError(f"`whiten_mean` must be a tensor [{c * h * w}]; got {got}. Save the set again.")
    if matrix is None:
        return _refit(described, mean, (c, h, w), split)
    if matrix.shape != (c * h * w, c * h * w):
        raise DamagedError(f"`whiten_matrix` must be square with side {c * h * w}; got {list(matrix.shape)}.")
    inverse = torch.linalg.inv(matrix.double()).float()  # condition ≤ √(1 + s_max/eps), 24 for CIFAR-10
    zca = ZCA(mean, matrix, inverse, (c, h, w), float(described["eps"]), str(described["fitted_on"]))
    if zca.hash != described["hash"]:
        raise DamagedError(
            f"`whiten_matrix` must have sha256 {described['hash']}; got {zca.hash}. "
            "Drop it and give the training split to fit it again."
        )
    return zca


def _refit(described: Mapping[str, Any], mean: Tensor, shape: tuple[int, int, int], split: Pictures | None) -> ZCA:
    """Fit again on `split`, and make sure that it holds the same pictures."""
    wanted = described["fitted_on"]
    if split is None:
        raise InputError(
            "`split` must be the training split, because the ZCA matrix is not stored; got none. "
            f"Give the pictures with fingerprint {wanted}, or save the matrix with the set."
        )
    got = tuple(split.pixels(slice(0, 1)).shape[1:])
    if got != shape:
        raise refuse("split", f"pictures of shape {list(shape)}", list(got))
    zca = fit_zca(split, float(described["eps"]))
    difference = float((zca.mean - mean.to(zca.mean)).abs().max())
    if not difference <= MEAN_TOLERANCE:
        raise refuse(
            "split",
            f"the pictures ZCA was fitted on (fingerprint {wanted})",
            f"others (fingerprint {split.fingerprint}, mean off by {difference:.2g})",
            "Give the training split of that data set, with the same validation split and size.",
        )
    if zca.hash != described["hash"]:
        _log.warning("ZCA was fitted again; its matrix differs from the saved one in rounding (%s)", zca.hash)
    return zca


def _fit_kornia(split: Pictures, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """μ, T, T⁻¹ by kornia, from one copy of the pixels."""
    from kornia.enhance import ZCAWhitening  # 0.3 s that only a fit should pay

    zca = ZCAWhitening(dim=0, eps=eps, unbiased=True, compute_inv=True).fit(split.pixels())
    return zca.mean_vector.flatten(), zca.transform_matrix, zca.transform_inv


def _fit_chunked(split: Pictures, eps: float, chunk: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    """The same without a copy of all pixels: two passes, sums of chunks in float64."""
    n = len(split)
    chunks = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]
    mean = torch.stack([x.flatten(1).double().sum(0) for _, x in split.stream(chunks)]).sum(0) / n
    covariance = torch.zeros(mean.numel(), mean.numel(), dtype=torch.float64)
    for _, x in split.stream(chunks):
        centred = x.flatten(1) - mean.float()
        covariance += centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance / (n - 1))
    root = (values.clamp_min(0.0) + eps).sqrt()
    matrix, inverse = ((vectors * scale) @ vectors.T for scale in (1.0 / root, root))
    return mean.float(), matrix.float(), inverse.float()
