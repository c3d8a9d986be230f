"""Reading the file of a synthetic set: what is the same for every kind of set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from torch import Tensor

from dd.errors import DamagedError, DDError
from dd.files import digest, dump_json, load_tensors, read_meta

SET: Final = "synthetic.safetensors"
"""The set's file in a run folder."""
_Set = TypeVar("_Set")


class Kept(NamedTuple):
    """The run folder that a set was written into or read from.

    Attributes:
        folder: absolute.
        told: sha256 of what the set's file there tells of itself, which has the sums of its tensors.
    """

    folder: Path
    told: str

    @classmethod
    def of(cls, folder: Path) -> Kept:
        """As it is now.

        Raises:
            MissingError, DamagedError: no set in it that can be read.
        """
        return cls(folder.absolute(), digest(dump_json(read_meta(folder / SET)).encode()))

    @property
    def current(self) -> bool:
        """Whether the folder is there and its set is still the same one."""
        try:
            return Kept.of(self.folder) == self
        except DDError:
            return False


def mark_kept(small: _Set, kept: Kept | None) -> _Set:
    """The set itself, which then knows its run folder; a changed copy of it does not."""
    object.__setattr__(small, "kept", kept)
    return small


def read_set(path: Path, kind: str, what: str, version: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a set's file; every checksum is compared.

    Args:
        path: the file.
        kind: what its metadata must name.
        what: that kind for people.
        version: the format version that is read.

    Raises:
        MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
    """
    tensors, meta = load_tensors(path)
    if "kind" not in meta:
        raise DamagedError(f"{path} is not a synthetic set: its metadata names no kind.")
    if meta["kind"] != kind:
        raise DamagedError(f"{path} is not a {what} but {meta['kind']!r}.")
    if meta.get("format") != version:
        raise DamagedError(f"{path} has format version {meta.get('format')}; this version reads {version}. Upgrade dd.")
    sums = meta.get("sha256", {})
    for name in sorted(tensors.keys() | sums.keys()):
        if name not in tensors or digest(tensors[name]) != sums.get(name):
            raise DamagedError(f"tensor `{name}` of {path} does not match its checksum; restore the file.")
    return tensors, meta
