"""Synthetic images: the set that trajectory matching, the baselines and imports give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from dd.base.shapes import check, check_finite, check_names, plain
from dd.data import Split
from dd.errors import DamagedError, DDError, InputError, refuse
from dd.synthetic.base import NBytes, SyntheticSet
from dd.synthetic.canvas import draw_crops
from dd.synthetic.common import Common, moved, on_cpu, one_line
from dd.synthetic.file import Kept, about_labels, mark_kept, only, read_set, write_set
from dd.synthetic.image_checks import check_canvas, check_labels, check_stored, how_many, sizes_of
from dd.synthetic.labels import LabelStore
from dd.synthetic.layout import PIXELS, PLAIN, Layout, Storage, Stored, pixel_levels
from dd.synthetic.recipe import TrainRecipe
from dd.transforms.levels import from_levels, to_levels
from dd.transforms.whiten import ZCA, Normalise, Transform, transform_from


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticImages(Common, Dataset[tuple[Tensor, Any]]):
    """Images `[n, C, H, W]` in model space with labels, and all that a fresh network needs to be trained on them.

    `small[i]` is (float32 image `[C, H, W]` in model space, int label or float32 `[K]` probabilities); a default
    DataLoader collates it. Of a set of canvases it is the whole canvas: train on `batches`, which crops.

    Attributes:
        images: float32 `[n, C, H, W]` in model space (normalised or whitened); finite. With canvases
            `[n, C, canvas·H, canvas·W]`.
        labels: int64 `[n]` in 0…K−1, or float32 `[n, K]` rows of probabilities.
        classes: names in label order.
        recipe: how a network is trained on it.
        transform: pixels in [0, 1] → model space, for test images. `None` in a whitened set that was saved without
            its matrix, until `attach` refits it.
        transform_record: the transform as the file tells it.
        method: name and fields of the method.
        provenance: data name and hash, protocol, seed, how the iterate was chosen; no time, no host.
        canvas: each image is canvas × canvas pictures large, and networks are trained on crops of it; 1 for none.
        canvas_samples: crops of a canvas in a batch; 1 without canvases.
        stored: the images as the file holds them, where these are not the pictures in float32 (`Layout`); `images` and
            `labels` then have `layout.copies` rows for each stored image.
        store: soft labels of augmented batches, which `batches` replays; the pictures then are multiples of 1/255, and
            `labels` are the classes that the images were made for.
        kept: the run folder that it was distilled into or loaded from. It is no part of the file, and a changed copy
            (`dataclasses.replace`, `hard`) has none: it is another set.
    """

    kind: ClassVar[Literal["images"]] = "images"
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    recipe: TrainRecipe
    transform: Transform | None
    transform_record: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    canvas: int = 1
    canvas_samples: int = 1
    stored: Stored | None = None
    store: LabelStore | None = None
    kept: Kept | None = field(default=None, init=False, repr=False)

    @under_own_settings
    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", check_names(self.classes, "classes"))
        images = check(self.images, "images", "N C H W")
        check_finite(images, "images", "A broken set is never made; lower the pixel step size.")
        if images.dtype != torch.float32:
            raise refuse("images", "float32", images.dtype)
        check_labels(self.labels, len(images), len(self.classes))
        for name in ("images", "labels"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not self.transform_record:
            if self.transform is None:
                raise refuse("transform", "given", None)
            object.__setattr__(self, "transform_record", self.transform.describe())
        check_canvas(self)
        check_stored(self)
        if self.store is None:
            self.recipe.check_classes("recipe")
        else:
            if self.canvas > 1:
                raise refuse("store", "None for a set of canvases", "a label store")
            self.store.check(self.pictures(), len(self.classes))

    def __repr__(self) -> str:
        return one_line(self, [how_many(self), *sizes_of(self)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        label = self.labels[index]
        return self.images[index], int(label) if label.ndim == 0 else label

    def _on(self, device: torch.device) -> SyntheticImages:
        images, labels = self.images.to(device), self.labels.to(device)
        return self if images is self.images and labels is self.labels else moved(self, images=images, labels=labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what a network sees: of an image, or of a crop of a canvas."""
        return self.images.shape[2] // self.canvas, self.images.shape[3] // self.canvas

    @property
    def layout(self) -> Layout:
        """What pictures a stored image is, and in how many bits; beside a label store these are of its file."""
        if self.stored is not None:
            return self.stored.layout
        return PLAIN if self.store is None else PIXELS

    @property
    def stored_images(self) -> Tensor:
        """The stored images as float32 `[n, C, H, W]` in model space."""
        return self.images if self.stored is None else self.stored.numbers

    @property
    def stored_labels(self) -> Tensor:
        """The label of each stored image."""
        return self.layout.first(self.labels)

    @property
    def ipc(self) -> int:
        """Stored images (or canvases) a class, in the mean rounded down; `counts` has each."""
        return len(self) // self.layout.copies // len(self.classes)

    @property
    @under_own_settings
    def counts(self) -> tuple[int, ...]:
        """Stored images (or canvases) of each class.

        Soft labels leave open of which class an image is: classes are alike where the number of images allows it, else
        the largest label counts.
        """
        each, copies = len(self.classes), self.layout.copies
        if self.labels.ndim == 2 and len(self) // copies % each == 0:
            return (self.ipc,) * each
        return tuple((self.hard_labels.bincount(minlength=each) // copies).tolist())

    @property
    def budget(self) -> tuple[int, ...]:
        """Real images of each class in the bytes of the stored ones: `counts` where they are stored alike (`whole`).

        Beside mosaics, mirrored images and float16, as many as there are in float32, at least one of a class that has
        one. Pictures of a label store count as they are, in uint8, and a canvas as `canvas²` images.
        """
        counts = [n * self.canvas**2 for n in self.counts]
        if self.layout.whole:
            return tuple(counts)
        return tuple(self.layout.plain_count(n) for n in counts)

    @property
    def channels(self) -> int:
        """Colour channels."""
        return self.images.shape[1]

    @under_own_settings
    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (images, labels); the whole set, unshuffled, where it fits one batch.

        Of canvases: `canvas_samples` fresh crops `[C, H, W]` of each, at places drawn from `generator`; `size` counts
        canvases, as in the authors' code.

        Of a set with a label store: all its records in turn, each (images as the teachers saw them, teacher logits);
        `size` was fixed when the labels were made, and so was the order, unless the store was pruned.
        """
        if self.store is not None:
            transform = self.ready_transform()
            place = self.images.device
            for x, logits in self.store.replay(self.pictures(), generator):
                yield transform.forward(x).to(place), logits.to(place)
            return
        whole = size >= len(self)
        if whole and self.canvas == 1:
            yield self.images, self.labels
            return
        order = torch.arange(len(self)) if whole else torch.randperm(len(self), generator=generator)
        for rows in order.split(size):
            if self.canvas == 1:
                yield self.images[rows], self.labels[rows]
                continue
            sides = self.images.shape[2], self.images.shape[3]
            index = rows.repeat(self.canvas_samples).to(self.images.device)
            crops = draw_crops(index, sides, self.size, generator)
            yield crops.take(self.images), self.labels[crops.index]

    @under_own_settings
    def pixels(self, index: Tensor | None = None) -> Tensor:
        """The images (or canvases) as pixels in [0, 1] `[n, C, H, W]`, clipped, on the CPU.

        Args:
            index: rows, int64; all by default.
        """
        images = self.images if index is None else self.images[index.to(self.images.device)]
        return self.ready_transform().inverse(images.cpu()).clamp(0, 1)

    @under_own_settings
    def pictures(self) -> Tensor:
        """The images as uint8 `[n, C, H, W]`, rounded, on the CPU."""
        return to_levels(self.images, self.ready_transform())

    @property
    @under_own_settings
    def hard_labels(self) -> Tensor:
        """One class an image, int64 `[n]`, on the CPU: the most probable one, the first of equals."""
        labels = self.labels.cpu()
        return labels if labels.ndim == 1 else labels.argmax(1)

    def ready_transform(self) -> Transform:
        """The transform, or a message that says how to get it."""
        if self.transform is None:
            raise InputError(
                "`transform` of this whitened set was saved without its matrix. Use `small.attach(train_split)`, "
                "`dd.evaluate(small, data)`, or save it with `whitening_matrix=True`."
            )
        return self.transform

    @under_own_settings
    def attach(self, train: Split) -> SyntheticImages:
        """This set with its whitening refitted on the train split it was made from (checked)."""
        if self.transform is not None:
            return self
        record = dict(self.transform_record)
        tensors = dict(record.pop("tensors", {}))
        return mark_kept(replace(self, transform=transform_from(record, tensors, train)), self.kept)

    @under_own_settings
    def attach_as(self, other: SyntheticSet) -> SyntheticImages:
        """This set with the whitening of `other`, where that is the one it was made with; else as it is."""
        transform = getattr(other, "transform", None)
        same = isinstance(transform, ZCA) and transform.hash == self.transform_record.get("hash")
        return replace(self, transform=transform) if self.transform is None and same else self

    @under_own_settings
    def hard(self) -> SyntheticImages:
        """The same set with one class an image, int64 `[n]`: the most probable of its soft labels, the first of equals.

        For what takes classes only, and to see what soft labels are worth. Images stay, and so does the recipe but for
        what only soft labels can do (`TrainRecipe.hard`); the labels' bytes shrink to 8 an image, and
        `provenance["labels"]` says what was done. Pictures of a label store, uint8 in its file, stay uint8. A set with
        hard labels is returned as it is, so doing it twice is doing it once.
        """
        if self.labels.ndim == 1 and self.store is None:
            return self
        labels = self.hard_labels.to(self.labels.device)
        told = {**self.provenance, "labels": "largest of the soft labels"}
        parts: dict[str, Any] = {"labels": labels}
        if self.store is not None and isinstance(self.transform, Normalise):
            parts = PIXELS.parts(self.images, labels, pixel_levels(self.transform))
            parts["images"] = parts["images"].to(self.images.device)
        return replace(self, **parts, store=None, recipe=self.recipe.hard(), provenance=told)

    @under_own_settings
    def pack(self, storage: Storage) -> SyntheticImages:
        """The same set with its stored images in other bits, `fp32`, `fp16` or `uint8`; see `Layout`.

        Rounding happens now: what is evaluated is what the file gives. Packed again, it is rounded again.

        Raises:
            InputError: another word, or stored labels, which are of pictures that are uint8 already.
        """
        layout = replace(self.layout, storage=storage)
        if self.store is not None:
            raise refuse("storage", "left as it is beside a label store: uint8 pixels", storage, "Give `small.hard()`.")
        return self if layout == self.layout else replace(self, **layout.parts(self.stored_images, self.stored_labels))

    @under_own_settings
    def content(self, whitening_matrix: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of its file."""
        tensors, meta = self._content(self.images if self.store is None else self.pictures(), whitening_matrix)
        return on_cpu(tensors), meta

    def _content(
        self, images: Tensor, whitening_matrix: bool = False, sha256: str | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Likewise; `images` stand there where there are no `stored` ones."""
        tensors = {"images": images} if self.stored is None else self.stored.tensors()
        tensors["labels"] = self.stored_labels
        record = dict(self.transform_record)
        kept = record.pop("tensors", None)
        if isinstance(self.transform, ZCA):
            kept = self.transform.tensors(matrix=whitening_matrix)
        tensors.update(kept or {})
        meta = {
            "kind": "images",
            "format": SET_FORMAT,
            "classes": list(self.classes),
            "recipe": self.recipe.to_json(),
            "transform": record,
            "method": dict(self.method),
            "provenance": dict(self.provenance),
        }
        if self.canvas > 1:  # other sets keep their bytes
            meta.update(canvas=self.canvas, canvas_samples=self.canvas_samples)
        if self.stored is not None:
            meta["layout"] = self.layout.to_json()
        if self.store is not None:
            meta["labels"] = about_labels(self.store, sha256)
        return tensors, meta

    @property
    @under_own_settings
    def nbytes(self) -> NBytes:
        """Bytes of the files that `save` writes, without the whitening matrix: by types and shapes, without a look."""
        stored = torch.float32 if self.store is None else torch.uint8  # of the pictures, which are not made for it
        tensors, meta = self._content(torch.empty_like(self.images, dtype=stored, device="meta"), sha256=NO_DIGEST)
        images, labels = (tensors[k].numel() * tensors[k].element_size() for k in ("images", "labels"))
        total = packed_size(shapes_of(tensors), meta)
        if self.store is not None:
            labels, total = labels + self.store.nbytes, total + self.store.file_bytes
        return NBytes(images, labels, total - images - labels, total)

    @under_own_settings
    def save(self, path: str | Path, *, whitening_matrix: bool = False) -> Path:
        """Write one safetensors file, and soft labels of a store into a folder beside it, as a whole or not at all.

        Args:
            path: the file.
            whitening_matrix: keep the ZCA matrix too, so that the file can be used without its data set.

        Raises:
            WriteError: the disk refuses; an earlier file is intact.
        """
        return write_set(as_path(path), *self.content(whitening_matrix), self.store)

    @staticmethod
    @under_own_settings
    def load(path: str | Path) -> SyntheticImages:
        """Read a set; every checksum is compared.

        Raises:
            MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
        """
        content = read_set(as_path(path), "images", "synthetic image set")
        try:
            return SyntheticImages.assemble(*content)
        except (DDError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{path} holds what no set can have ({error}). Restore it, or make it anew.") from error

    @staticmethod
    @under_own_settings
    def assemble(tensors: Mapping[str, Tensor], meta: Mapping[str, Any], store: LabelStore | None) -> SyntheticImages:
        """The set that gave this `content()`, with its store."""
        record = dict(meta["transform"])
        only(tensors, "images", "labels", more=("levels", "whiten_mean", "whiten_matrix"))
        kept = {k: t for k, t in tensors.items() if k not in ("images", "labels", "levels")}
        complete = record.get("kind") != "zca" or "whiten_matrix" in kept
        if not complete and "whiten_mean" not in kept:
            raise DamagedError("the whitening lacks whiten_mean")
        transform = transform_from(record, kept) if complete else None
        parts = _parts(tensors, meta)
        if store is not None and transform is not None:
            parts["images"] = from_levels(parts["images"], transform)
        return SyntheticImages(
            **parts,
            classes=tuple(meta["classes"]),
            recipe=TrainRecipe.from_json(meta["recipe"]),
            transform=transform,
            transform_record={**record, "tensors": kept} if kept else record,
            method=meta["method"],
            provenance=meta["provenance"],
            canvas=meta.get("canvas", 1),
            canvas_samples=meta.get("canvas_samples", 1),
            store=store,
        )


def _parts(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Images, labels and stored images of a file."""
    if "layout" not in meta:
        only(tensors, "images", "labels", more=("whiten_mean", "whiten_matrix"))
        return {"images": tensors["images"], "labels": tensors["labels"]}
    stored = Stored(tensors["images"], Layout(**meta["layout"]), tensors.get("levels"))
    return {"images": stored.pictures(), "labels": stored.layout.repeat(tensors["labels"]), "stored": stored}
