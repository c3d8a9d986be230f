"""The soft-label store: teacher logits of augmented, mixed batches, with all that replays those batches to the bit.

A record is one batch: which images, their crops and flips, the mixing, and the logits that the teachers gave. Images
are named by number, so nothing hangs on the order of files or of a sampler. On disk records lie in shards of
safetensors beside a manifest with checksums; no pickles. Shards are named by their content, so a store is saved over
another one without touching it until the manifest, written last, is replaced.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dd.base.files import (
    digest,
    file_digest,
    json_text,
    load_tensors,
    packed_size,
    read_json,
    remove,
    save_tensors,
    shapes_of,
    sweep,
    write_text,
)
from dd.base.paths import as_path, is_there, names_in, read_bytes
from dd.base.schema import SET_FORMAT, conform
from dd.base.seeding import child
from dd.base.shapes import check_finite, check_whole
from dd.errors import DamagedError, InputError, MissingError, refuse
from dd.synthetic.base import check_format
from dd.synthetic.label_checks import BY_IMAGE, check_shard, check_sizes
from dd.transforms.views import MIX_KINDS, Mix, Shuffle, Views

_SHARD_BYTES: Final = 64 * 2**20
_SHARD: Final = r"\d{5}-[0-9a-f]{16}\.safetensors"
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, eq=False)
class LabelRecord:
    """One batch of b images.

    Attributes:
        ids: int32 `[b]`: numbers of the images in the set.
        views: their crops and flips.
        mix: the batch's mixing.
        logits: float16 `[b, K]`, of the augmented and mixed batch, the temperature not applied.
        shuffle: of the patches within an image, before its crop; `None` for none.
    """

    ids: Tensor
    views: Views
    mix: Mix
    logits: Tensor
    shuffle: Shuffle | None = None

    def __post_init__(self) -> None:
        count = len(self.ids)
        if self.logits.dtype != torch.float16 or self.logits.ndim != 2 or len(self.logits) != count:
            raise refuse("logits", f"float16 [{count}, K]", f"{self.logits.dtype} {list(self.logits.shape)}")
        check_finite(self.logits, "logits", "float16 ends at 65,504: the teacher's logits are larger.")
        if len(self.views.boxes) != count or len(self.mix.order) != count:
            raise refuse("views and mix", f"of {count} images", f"{len(self.views.boxes)} and {len(self.mix.order)}")
        if self.shuffle is not None and len(self.shuffle.rows) != count:
            raise refuse("shuffle", f"of {count} images", len(self.shuffle.rows))

    def picture(self, pixels: Tensor) -> Tensor:
        """What the teachers saw: pixels `[b, C, H, W]` in [0, 1] of all pictures `[n, C, H, W]`."""
        x = pixels[self.ids.long()]
        return self.mix(self.views(x if self.shuffle is None else self.shuffle(x)))

    @property
    def strips(self) -> int:
        """f of the shuffle, 0 without one."""
        return 0 if self.shuffle is None else self.shuffle.rows.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes on disk, without a shard's header: 2 b K for logits, 25 b + 20 for the replay, 2 b f for a shuffle."""
        return len(self.ids) * (2 * self.logits.shape[1] + 4 + 16 + 1 + 4 + 2 * self.strips) + 20


@dataclass(frozen=True, eq=False)
class LabelStore:
    """All records of a set, in the order in which a student meets them.

    Attributes:
        records: the batches.
        images: sha256 of the set's stored pictures: labels of other pictures are refused.
        made: how: members with hashes and weights, bn_mode, micro_batch, batch, mix and its α, crop scale and ratio,
            seed, τ, versions. For people and for checks; replay only asks whether the store was `pruned`.
    """

    records: tuple[LabelRecord, ...]
    images: str
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.records:
            raise refuse("records", "at least one", "none")
        if len({record.logits.shape[1] for record in self.records}) > 1:
            raise refuse("records", "of one number of classes", "several")
        if len({record.strips for record in self.records}) > 1:
            raise refuse("records", "all with shuffles of one factor, or all without", "both or several")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def nbytes(self) -> int:
        """Bytes of all records, without headers and manifest."""
        return sum(record.nbytes for record in self.records)

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of the folder that `save` writes: shards with their headers, and the manifest."""
        total = sum(packed_size(shapes_of(tensors), self._meta) for tensors in self.parts())
        return total + len(self._manifest_text.encode())

    @property
    def _meta(self) -> dict[str, Any]:
        """What each shard says of itself."""
        return {"kind": "labels", "format": SET_FORMAT}

    def parts(self) -> Iterator[dict[str, Tensor]]:
        """The tensors of each shard."""
        return map(_packed, _shards(self.records))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` says."""
        told = []
        for number, tensors in enumerate(self.parts()):
            sha256 = file_digest(tensors, self._meta)
            name = f"{number:05d}-{sha256[:16]}.safetensors"
            told.append({"file": name, "records": len(tensors["lengths"]), "sha256": sha256})
        return {**self._meta, "images": self.images, "made": dict(self.made), "shards": told}

    @property
    def _manifest_text(self) -> str:
        return json_text(self.manifest)

    @property
    def sha256(self) -> str:
        """Of the manifest, and so of all that is stored."""
        return digest(self._manifest_text.encode())

    def check(self, pixels: Tensor, classes: int | None = None) -> None:
        """Refuse pictures uint8 `[n, C, H, W]` other than those that were labelled, and labels that no labelling gives.

        Args:
            pixels: the pictures.
            classes: K of their set; `None` does not ask for it.

        Raises:
            DamagedError: an image was removed, added, reordered or changed; a record names an image that is not there,
                or a box outside of one, or has logits of another number of classes.
        """
        if digest(pixels) != self.images:
            raise DamagedError(
                "the soft labels were made for other images (their checksum differs): an image is missing, changed or "
                "in another place. Restore the set, or label it anew."
            )
        try:
            check_sizes(self.records, len(pixels), (pixels.shape[2], pixels.shape[3]), classes)
        except InputError as error:
            raise DamagedError(f"the soft labels are not of these images: {error} Label the set anew.") from error

    def replay(self, pixels: Tensor, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(pixels `[b, C, H, W]` in [0, 1], logits float32 `[b, K]`) of each record once, to the bit what was labelled.

        A whole store's records come in their order. A pruned one's are a pool from which a student's epochs are
        composed anew (LPLD): they come in an order drawn from `generator`.

        Args:
            pixels: all pictures, float32 in [0, 1] `[n, C, H, W]`.
            generator: of the order of a pruned store; `None` keeps the stored one.
        """
        order = torch.arange(len(self.records))
        if generator is not None and "pruned" in self.made:
            order = torch.randperm(len(self.records), generator=generator)
        for record in (self.records[i] for i in order.tolist()):
            yield record.picture(pixels), record.logits.float()

    def pruned(self, nbytes: int, seed: int = 0) -> LabelStore:
        """A random part of the records that takes at most `nbytes`; they keep their order (LPLD's rule).

        Raises:
            InputError: not one record fits.
        """
        order = torch.randperm(len(self.records), generator=child(seed, "prune")).tolist()
        kept, total = [], 0
        for i in order:
            if total + self.records[i].nbytes <= nbytes:
                kept.append(i)
                total += self.records[i].nbytes
        if not kept:
            least = min(record.nbytes for record in self.records)
            raise refuse("nbytes", f"at least {least}, the smallest record", nbytes)
        made = {**self.made, "pruned": {"kept": len(kept), "of": len(self.records), "seed": seed}}
        return LabelStore(tuple(self.records[i] for i in sorted(kept)), self.images, made)

    def save(self, folder: str | Path) -> Path:
        """Write shards and, last, the manifest; a folder without one is no store. Then older shards are removed.

        Raises:
            WriteError: the disk refuses; an earlier store is intact.
        """
        folder, manifest = as_path(folder, "folder"), self.manifest
        names = [shard["file"] for shard in manifest["shards"]]
        for name, tensors in zip(names, self.parts(), strict=True):
            save_tensors(folder / name, tensors, self._meta)
        write_text(folder / MANIFEST, self._manifest_text)
        sweep(folder, f"{_SHARD}|{re.escape(MANIFEST)}")
        for old in names_in(folder, "*.safetensors"):
            if old.name not in names and re.fullmatch(_SHARD, old.name):
                remove(old)
        return folder

    @staticmethod
    def load(folder: str | Path, sha256: str | None = None) -> LabelStore:
        """Read a store; every checksum is compared.

        Args:
            folder: where it was saved.
            sha256: of its manifest, where something else names the store.

        Raises:
            MissingError: no manifest, or a shard that it names is not there.
            DamagedError: an altered shard, a foreign manifest, or one of an unknown format version.
        """
        folder = as_path(folder, "folder")
        if not is_there(folder / MANIFEST):
            raise MissingError(
                f"no label store in {folder}: it has no {MANIFEST}. Copy the folder of labels that lies "
                "beside the set where it was made, or distil again."
            )
        if sha256 is not None and digest(read_bytes(folder / MANIFEST)) != sha256:
            raise DamagedError(f"{folder / MANIFEST} does not match its checksum; restore it, or label the set anew.")
        manifest = read_json(folder / MANIFEST, "any")  # its kind and version are told first
        if manifest.get("kind") != "labels":
            raise DamagedError(f"{folder / MANIFEST} is not a label store's manifest.")
        check_format(manifest.get("format"), folder)
        conform(manifest, "labels", folder / MANIFEST)
        about = {name: manifest[name] for name in ("kind", "format")}
        try:
            records = [record for shard in manifest["shards"] for record in _read_shard(folder, shard, about)]
            return LabelStore(tuple(records), manifest["images"], manifest["made"])
        except InputError as error:
            raise DamagedError(f"{folder} holds what no label store can have: {error} Label the set anew.") from error

    @staticmethod
    def join(parts: Sequence[Mapping[str, Tensor]], images: str, made: Mapping[str, Any]) -> LabelStore:
        """A store of the tensors that `parts` gave."""
        return LabelStore(tuple(record for tensors in parts for record in _unpacked(tensors)), images, made)


def _read_shard(folder: Path, told: Mapping[str, Any], about: Mapping[str, Any]) -> list[LabelRecord]:
    """The records of a shard, named by the manifest as `save` names it."""
    name = told["file"]
    if not is_there(folder / name):
        raise MissingError(f"shard {name} of {folder} is missing. Restore it, or label the set anew.")
    tensors, meta = load_tensors(folder / name, "shard", told["sha256"])
    if meta != about:
        raise DamagedError(f"{folder / name} is no shard of this store but {meta}. Restore it, or label the set anew.")
    records = _unpacked(tensors)
    if len(records) != told["records"]:
        raise DamagedError(f"{folder / name} has {len(records)} records, not {told['records']}. Label the set anew.")
    return records


def remove_store(folder: Path) -> None:
    """Remove a store, and what is left of one, from a folder; other files there, and then the folder, stay."""
    sweep(folder, f"{_SHARD}|{re.escape(MANIFEST)}")
    for path in [folder / MANIFEST, *names_in(folder, "*.safetensors")]:  # without a manifest it is no store
        if path.name == MANIFEST or re.fullmatch(_SHARD, path.name):
            remove(path)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _shards(records: Sequence[LabelRecord]) -> Iterator[list[LabelRecord]]:
    part: list[LabelRecord] = []
    size = 0
    for record in records:
        if part and size + record.nbytes > _SHARD_BYTES:
            yield part
            part, size = [], 0
        part.append(record)
        size += record.nbytes
    yield part


def _packed(records: Sequence[LabelRecord]) -> dict[str, Tensor]:
    """Rows of all records one below the other, and the length, mixing kind, λ and box of each record."""
    shuffles = [torch.cat([r.shuffle.columns, r.shuffle.rows], 1) for r in records if r.shuffle is not None]
    return {
        **({"shuffles": torch.cat(shuffles)} if shuffles else {}),
        "ids": torch.cat([r.ids.to(torch.int32) for r in records]),
        "boxes": torch.cat([r.views.boxes for r in records]).to(torch.int32),
        "flips": torch.cat([r.views.flips for r in records]),
        "order": torch.cat([r.mix.order.to(torch.int32) for r in records]),
        "logits": torch.cat([r.logits for r in records]),
        "lengths": torch.tensor([len(r.ids) for r in records], dtype=torch.int32),
        "kinds": torch.tensor([MIX_KINDS.index(r.mix.kind) for r in records], dtype=torch.uint8),
        "shares": torch.tensor([r.mix.share for r in records], dtype=torch.float64),
        "mix_boxes": torch.tensor([r.mix.box for r in records], dtype=torch.int16),
    }


def _unpacked(tensors: Mapping[str, Tensor]) -> list[LabelRecord]:
    check_shard(tensors)
    lengths = tensors["lengths"].tolist()
    rows = {name: tensors[name].split(lengths) for name in BY_IMAGE if name in tensors}
    kinds, shares, boxes = (tensors[name].tolist() for name in ("kinds", "shares", "mix_boxes"))
    records = []
    for i in range(len(lengths)):
        views = Views(rows["boxes"][i], rows["flips"][i])
        mix = Mix(MIX_KINDS[kinds[i]], rows["order"][i].long(), shares[i], tuple(boxes[i]))
        shuffle = Shuffle(*rows["shuffles"][i].chunk(2, dim=1)) if "shuffles" in rows else None
        records.append(LabelRecord(rows["ids"][i], views, mix, rows["logits"][i], shuffle))
    return records


def batch_ids(count: int, batch: int, epochs: int, seed: int, least: int = 1) -> Iterator[Tensor]:
    """Image numbers of each batch of `epochs` epochs; a last batch of fewer than `least` images is left out.

    Args:
        count, batch: images, and images a batch.
        epochs: E.
        seed: of the orders, one stream an epoch.
        least: 2 where a batch norm needs more than one image.
    """
    for name, value in (("count", count), ("batch", batch), ("epochs", epochs)):
        check_whole(value, name)
    for epoch in range(epochs):
        order = torch.randperm(count, generator=child(seed, "labels", "order", epoch))
        for rows in order.split(batch):
            if len(rows) >= least:
                yield rows.to(torch.int32)
