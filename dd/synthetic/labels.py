"""The soft-label store: teacher logits of augmented, mixed batches, with all that replays those batches to the bit.

A record is one batch: which images, their crops and flips, the mixing, and the logits that the teachers gave. Images
are named by number, so nothing hangs on the order of files or of a sampler. On disk records lie in shards of
safetensors beside a manifest with checksums; no pickles. Shards are named by their content, so a store is saved over
another one without touching it until the manifest, written last, is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from dd.base.files import (
    clear,
    digest,
    file_digest,
    json_text,
    load_tensors,
    packed_size,
    read_json,
    save_tensors,
    shapes_of,
    write_text,
)
from dd.base.paths import as_path, is_there, read_bytes
from dd.base.schema import SET_FORMAT, conform
from dd.base.seals import NO_DIGEST
from dd.base.seeding import child
from dd.base.shapes import check_whole
from dd.errors import DamagedError, InputError, MissingError
from dd.synthetic.base import check_format
from dd.synthetic.label_checks import check_shard, check_sizes
from dd.synthetic.records import LabelRecord as LabelRecord
from dd.synthetic.records import Records, kept_within

_SHARD: Final = r"\d{5}-[0-9a-f]{16}\.safetensors"
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, eq=False)
class LabelStore:
    """All records of a set, in the order in which a student meets them.

    Attributes:
        records: the batches, at least one, all of one number of classes; they are kept packed (`Records`).
        images: sha256 of the set's stored pictures: labels of other pictures are refused.
        made: how: members with hashes and weights, bn_mode, micro_batch, batch, mix and its α, crop scale and ratio,
            seed, τ, versions. For people and for checks; replay only asks whether the store was `pruned`.
    """

    records: Sequence[LabelRecord]
    images: str
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.records, Records):
            given = tuple(self.records)
            object.__setattr__(self, "records", Records.pack(given, [len(record.ids) for record in given]))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def _packed(self) -> Records:
        return cast(Records, self.records)

    @property
    def nbytes(self) -> int:
        """Bytes of all records, without headers and manifest."""
        return sum(self._packed.sizes)

    @cached_property
    def file_bytes(self) -> int:
        """Bytes of the folder that `save` writes: shards with their headers, and the manifest; nothing is hashed."""
        total = sum(packed_size(shapes_of(tensors), self._meta) for tensors in self.parts())
        return total + len(json_text(self._told(NO_DIGEST for _ in self.parts())).encode())

    @property
    def _meta(self) -> dict[str, Any]:
        """What each shard says of itself."""
        return {"kind": "labels", "format": SET_FORMAT}

    def parts(self) -> Iterator[dict[str, Tensor]]:
        """The tensors of each shard, themselves."""
        return map(dict, self._packed.shards)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` says."""
        return self._told(file_digest(tensors, self._meta) for tensors in self.parts())

    def _told(self, digests: Iterable[str]) -> dict[str, Any]:
        """The manifest, for shards of these checksums."""
        shards = [
            {"file": f"{number:05d}-{sha256[:16]}.safetensors", "records": len(tensors["lengths"]), "sha256": sha256}
            for number, (tensors, sha256) in enumerate(zip(self.parts(), digests, strict=True))
        ]
        return {**self._meta, "images": self.images, "made": dict(self.made), "shards": shards}

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
            check_sizes(self._packed.shards, len(pixels), (pixels.shape[2], pixels.shape[3]), classes)
        except InputError as error:
            raise DamagedError(f"the soft labels are not of these images: {error} Label the set anew.") from error

    def replay(self, pictures: Tensor, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(pixels `[b, C, H, W]` in [0, 1], logits float32 `[b, K]`) of each record once, to the bit what was labelled.

        A whole store's records come in their order. A pruned one's are a pool from which a student's epochs are
        composed anew (LPLD): they come in an order drawn from `generator`.

        Args:
            pictures: all of them `[n, C, H, W]`, uint8, which takes a quarter of the memory, or float32 in [0, 1].
            generator: of the order of a pruned store; `None` keeps the stored one.
        """
        order = torch.arange(len(self.records))
        if generator is not None and "pruned" in self.made:
            order = torch.randperm(len(self.records), generator=generator)
        for record in (self.records[i] for i in order.tolist()):
            yield record.picture(pictures), record.logits.float()

    def pruned(self, nbytes: int, seed: int = 0) -> LabelStore:
        """A random part of the records that takes at most `nbytes`; they keep their order (LPLD's rule).

        Raises:
            InputError: not one record fits.
        """
        kept = kept_within(self._packed.sizes, nbytes, seed)
        made = {**self.made, "pruned": {"kept": len(kept), "of": len(self.records), "seed": seed}}
        lengths = [self._packed.lengths[i] for i in kept]
        return LabelStore(Records.pack((self.records[i] for i in kept), lengths), self.images, made)

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
        clear(folder, f"{_SHARD}|{re.escape(MANIFEST)}", {*names, MANIFEST})
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
            shards = [_read_shard(folder, shard, about) for shard in manifest["shards"]]
            return LabelStore(Records(shards), manifest["images"], manifest["made"])
        except InputError as error:
            raise DamagedError(f"{folder} holds what no label store can have: {error} Label the set anew.") from error

    @staticmethod
    def join(parts: Sequence[Mapping[str, Tensor]], images: str, made: Mapping[str, Any]) -> LabelStore:
        """A store of the tensors that `parts` gave."""
        for tensors in parts:
            check_shard(tensors)
        return LabelStore(Records(parts), images, made)


def _read_shard(folder: Path, told: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a shard, named by the manifest as `save` names it."""
    name = told["file"]
    if not is_there(folder / name):
        raise MissingError(f"shard {name} of {folder} is missing. Restore it, or label the set anew.")
    tensors, meta = load_tensors(folder / name, "shard", told["sha256"])
    if meta != about:
        raise DamagedError(f"{folder / name} is no shard of this store but {meta}. Restore it, or label the set anew.")
    check_shard(tensors)
    if (found := len(tensors["lengths"])) != told["records"]:
        raise DamagedError(f"{folder / name} has {found} records, not {told['records']}. Label the set anew.")
    return tensors


def remove_store(folder: Path) -> None:
    """Remove a store, and what is left of one, from a folder; other files there, and then the folder, stay."""
    clear(folder, re.escape(MANIFEST))  # without it it is no store
    clear(folder, _SHARD)


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
