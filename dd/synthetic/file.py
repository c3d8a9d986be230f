"""Reading the file of a synthetic set: what is the same for every kind of set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from dd.errors import DamagedError
from dd.files import digest, load_tensors


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
