"""INFER's set: base images, and compensators that all classes of a base set share, composed when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dd.base.files import packed_size, shapes_of
from dd.base.paths import as_path
from dd.base.process import under_own_settings
from dd.base.schema import SET_FORMAT
from dd.base.seals import NO_DIGEST
from dd.base.shapes import check, check_finite, check_names, check_whole, plain
from dd.errors import DamagedError, DDError, refuse
from dd.synthetic.base import NBytes, Whole
from dd.synthetic.common import Common, moved, on_cpu, one_line
from dd.synthetic.file import Kept, about_labels, only, read_set, write_set
from dd.synthetic.image_checks import sizes_of
from dd.synthetic.labels import LabelStore
from dd.synthetic.layout import PLAIN, Layout
from dd.synthetic.recipe import TrainRecipe
from dd.transforms.levels import to_levels
from dd.transforms.whiten import Normalise, transform_from


def base_sets(ipc: int, classes: int, members: int) -> int:
    """k: how many base sets, each of one image a class with M shared compensators, fit `ipc` images a class.

    The largest k with k K + k M ≤ ipc K, in whole numbers: ⌊ipc K / (K + M)⌋. (The authors' float expression
    ⌊ipc / (1 + M / K)⌋ loses one at some exact divisions: K = 10, M = 1, ipc = 33 gives 29 in place of 30.)

    Raises:
        InputError: not one base set fits; the smallest ipc that works is named.
    """
    for name, value in (("ipc", ipc), ("classes", classes), ("members", members)):
        check_whole(value, name)
    k = ipc * classes // (classes + members)
    if k < 1:
        least = -(-(classes + members) // classes)
        many = "1 compensator" if members == 1 else f"{members} compensators"
        way_out = "Or give fewer `compensators`: 0 for real images alone."
        raise refuse("ipc", f"at least {least} for {many} over {classes} classes", ipc, way_out)
    return k


def most_compensators(ipc: int, classes: int, members: int) -> int:
    """M: the most compensators a base set, up to `members`, that leave at least 90 % of `ipc` as base images.

    A compensator costs 1 / K of a base image of every class, and real images are worth more than it: of ten classes
    three compensators take three of ten. 1 where not even one leaves so many.
    """
    fits = [m for m in range(1, members + 1) if 10 * (ipc * classes // (classes + m)) >= 9 * ipc]
    return max(fits, default=1)


def compose(base: Tensor, compensators: Tensor, transform: Normalise) -> Tensor:
    """The base images and their compensated copies in model space, `[k · (M + 1) · K, C, H, W]`.

    Index ((j (M + 1) + m) K + c): first the base set itself (m = 0), then base + u_m clipped to pixels in [0, 1].

    Args:
        base: uint8 `[k, K, C, H, W]`.
        compensators: u in model space, `[k, M, C, H, W]`.
        transform: pixels in [0, 1] → model space.
    """
    k, members = compensators.shape[:2]
    made = torch.empty(k, members + 1, *base.shape[1:], device=base.device)
    low, high = (transform.forward(torch.full((1, *base.shape[2:]), v, device=base.device)) for v in (0.0, 1.0))
    for j in range(k):
        made[j, 0] = transform.forward(base[j].float() / 255)
        for m in range(members):
            made[j, m + 1] = torch.minimum(torch.maximum(made[j, 0] + compensators[j, m].float(), low), high)
    return made.flatten(0, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class CompensatedImages(Common, Whole, Dataset[tuple[Tensor, Any]]):
    """k base sets of one image a class, M compensators for each, and static teacher logits: k (M + 1) images a class.

    `small[i]` is (float32 image `[C, H, W]` in model space, float32 `[K]` teacher logits, or the int label where no
    logits are kept).

    Attributes:
        base: uint8 `[k, K, C, H, W]`, class c at place c.
        compensators: float16 `[k, M, C, H, W]` in model space: one image for all classes of its base set.
        logits: float16 `[k, M + 1, K, K]`: the mean of the teachers' logits on each composed image, not augmented; or
            None.
        classes: names in label order.
        recipe: how a network is trained on it.
        transform: mean and standard deviation; whitening has no clipping by pixel.
        method, provenance: as in `SyntheticImages`.
        store: dynamic labels: teacher logits of augmented, mixed batches of the composed images, which `batches`
            replays; beside it no `logits` are kept.
        kept: as in `SyntheticImages`.
    """

    kind: ClassVar[Literal["images"]] = "images"
    base: Tensor
    compensators: Tensor
    logits: Tensor | None
    classes: tuple[str, ...]
    recipe: TrainRecipe
    transform: Normalise
    method: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    store: LabelStore | None = None
    kept: Kept | None = field(default=None, init=False, repr=False)

    @under_own_settings
    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        if self.base.dtype != torch.uint8 or self.base.ndim != 5 or self.base.shape[1] != len(self.classes):
            got = f"{self.base.dtype} {list(self.base.shape)}"
            raise refuse("base", f"uint8 [k, {len(self.classes)}, C, H, W]", got)
        k, count = self.base.shape[:2]
        check(self.compensators, "compensators", "k M C H W")
        if self.compensators.dtype != torch.float16 or self.compensators.shape[::2] != (k, *self.base.shape[2::2]):
            got = f"{self.compensators.dtype} {list(self.compensators.shape)}"
            raise refuse("compensators", f"float16 [{k}, M, {', '.join(map(str, self.base.shape[2:]))}]", got)
        check_finite(self.compensators, "compensators", "A broken set is never made; lower `lr`.")
        if self.logits is not None:
            wanted = (k, self.members + 1, count, count)
            if self.logits.dtype != torch.float16 or self.logits.shape != wanted:
                raise refuse("logits", f"float16 {list(wanted)}", f"{self.logits.dtype} {list(self.logits.shape)}")
            check_finite(self.logits, "logits")
        for name in ("base", "compensators", "logits"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else plain(value))
        if self.store is not None:
            if self.logits is not None:
                raise refuse("logits", "None beside a label store", "both")
            self.store.check(self.pictures(), len(self.classes))

    def _on(self, device: torch.device) -> CompensatedImages:
        base, compensators = self.base.to(device), self.compensators.to(device)
        if base is self.base and compensators is self.compensators:
            return self
        logits = None if self.logits is None else self.logits.to(device)
        made = moved(self, base=base, compensators=compensators, logits=logits)
        vars(made).pop("images", None)  # those on the other device
        return made

    @property
    def members(self) -> int:
        """M."""
        return self.compensators.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.base.shape[3], self.base.shape[4]

    @property
    def channels(self) -> int:
        """Colour channels."""
        return self.base.shape[2]

    @cached_property
    @under_own_settings
    def images(self) -> Tensor:
        """All composed images in model space, float32 `[k (M + 1) K, C, H, W]`; composed once; do not change them."""
        return compose(self.base, self.compensators, self.transform)

    @property
    @under_own_settings
    def labels(self) -> Tensor:
        """Teacher logits float32 `[k (M + 1) K, K]`, or int64 `[k (M + 1) K]` where none are kept."""
        if self.logits is not None:
            return self.logits.float().flatten(0, 2)
        return self.hard_labels.to(self.base.device)

    @property
    def canvas(self) -> int:
        """1: its images are no canvases."""
        return 1

    @property
    def layout(self) -> Layout:
        """The plain one: it has bytes of its own kind, uint8 and float16."""
        return PLAIN

    @property
    def ipc(self) -> int:
        """Stored images a class, base images and compensators, rounded up: the budget of a baseline beside it."""
        return -(-self.base.shape[0] * (len(self.classes) + self.members) // len(self.classes))

    @property
    @under_own_settings
    def counts(self) -> tuple[int, ...]:
        """`ipc` of each class."""
        return (self.ipc,) * len(self.classes)

    @property
    def budget(self) -> tuple[int, ...]:
        """`counts`."""
        return self.counts

    @under_own_settings
    def pixels(self, index: Tensor | None = None) -> Tensor:
        """The composed images as pixels in [0, 1] `[n, C, H, W]`, on the CPU.

        Args:
            index: rows, int64, which alone are composed; all by default.
        """
        images = self.images if index is None else torch.stack([self[i][0] for i in index.tolist()])
        return self.transform.inverse(images.cpu()).clamp(0, 1)

    @under_own_settings
    def pictures(self) -> Tensor:
        """The composed images as uint8 `[n, C, H, W]`, rounded, on the CPU: what dynamic labels are labels of."""
        return to_levels(self.images, self.transform)

    @property
    @under_own_settings
    def hard_labels(self) -> Tensor:
        """The class that each image is of, int64 `[n]`, on the CPU."""
        return torch.arange(len(self.classes)).repeat(len(self) // len(self.classes))

    def ready_transform(self) -> Normalise:
        """The transform."""
        return self.transform

    @under_own_settings
    def hard(self) -> CompensatedImages:
        """The same images with their classes for labels, and a recipe for hard labels (see `TrainRecipe.hard`)."""
        if self.logits is None and self.store is None:
            return self
        told = {**self.provenance, "labels": "the class that an image is of"}
        return replace(self, logits=None, store=None, recipe=self.recipe.hard(), provenance=told)

    def __repr__(self) -> str:
        k, classes = self.base.shape[:2]
        return one_line(
            self, [f"{k * classes:,} images, {k * self.members:,} compensators", *sizes_of(self, " composed")]
        )

    def __len__(self) -> int:
        return self.base.shape[0] * (self.members + 1) * len(self.classes)

    @under_own_settings
    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        copies = self.members + 1
        j, rest = divmod(range(len(self))[index], copies * len(self.classes))
        m, c = divmod(rest, len(self.classes))
        u = self.compensators[j : j + 1, m - 1 : m] if m else self.compensators[j : j + 1, :0]
        image = compose(self.base[j : j + 1, c : c + 1], u, self.transform)[-1]
        return image, c if self.logits is None else self.logits[j, m, c].float()

    @under_own_settings
    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images, logits or labels); the whole set, unshuffled, where it fits one batch.

        With a label store: all its records in turn, as in `SyntheticImages`.
        """
        if self.store is not None:
            place = self.base.device
            for x, logits in self.store.replay(self.pictures(), generator):
                yield self.transform.forward(x).to(place), logits.to(place)
            return
        images, labels = self.images, self.labels
        if size >= len(self):
            yield images, labels
            return
        for rows in torch.randperm(len(self), generator=generator).split(size):
            yield images[rows], labels[rows]

    @under_own_settings
    def content(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of its file."""
        tensors, meta = self._content()
        return on_cpu(tensors), meta

    def _content(self, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"base": self.base, "compensators": self.compensators}
        if self.logits is not None:
            tensors["logits"] = self.logits
        meta = {
            "kind": "compensated",
            "format": SET_FORMAT,
            "classes": list(self.classes),
            "recipe": self.recipe.to_json(),
            "transform": self.transform.describe(),
            "method": dict(self.method),
            "provenance": dict(self.provenance),
        }
        if self.store is not None:
            meta["labels"] = about_labels(self.store, sha256)
        return tensors, meta

    @property
    @under_own_settings
    def nbytes(self) -> NBytes:
        """Bytes of the files that `save` writes, by types and shapes; base images and compensators are the images."""
        tensors, meta = self._content(NO_DIGEST)
        sizes = {name: t.numel() * t.element_size() for name, t in tensors.items()}
        images, labels = sizes["base"] + sizes["compensators"], sizes.get("logits", 0)
        total = packed_size(shapes_of(tensors), meta)
        if self.store is not None:
            labels, total = self.store.nbytes, total + self.store.file_bytes
        return NBytes(images, labels, total - images - labels, total)

    @under_own_settings
    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, factored, whole or not at all; a label store goes into a folder beside it, first.

        Raises:
            WriteError: the disk refuses; an earlier file is intact.
        """
        return write_set(as_path(path), *self.content(), self.store)

    @staticmethod
    @under_own_settings
    def load(path: str | Path) -> CompensatedImages:
        """Read a set; every checksum is compared.

        Raises:
            MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
        """
        content = read_set(as_path(path), "compensated", "set of compensated images")
        try:
            return CompensatedImages.assemble(*content)
        except (DDError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{path} holds what no set can have ({error}). Restore it, or make it anew.") from error

    @staticmethod
    @under_own_settings
    def assemble(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], store: LabelStore | None) -> CompensatedImages:
        """The set that gave this `content()`, with its store."""
        only(tensors, "base", "compensators", more=("logits",))
        transform = transform_from(meta["transform"], {})
        if not isinstance(transform, Normalise):
            raise refuse("transform", "mean and standard deviation", meta["transform"].get("kind"))
        return CompensatedImages(
            base=tensors["base"],
            compensators=tensors["compensators"],
            logits=tensors.get("logits"),
            classes=tuple(meta["classes"]),
            recipe=TrainRecipe.from_json(meta["recipe"]),
            transform=transform,
            method=meta["method"],
            provenance=meta["provenance"],
            store=store,
        )
