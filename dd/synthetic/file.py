"""Writing and reading the file of a synthetic set with its stored labels: what is the same for every kind of set.

A set names its label store by checksum, and each store has a folder of its own by that name. So the rename of the
set's file replaces both: before it the old set has its old labels, after it the new one has the new ones.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from torch import Tensor

from dd.base.files import beside, json_value, load_tensors, read_digest, read_meta, save_tensors, sweep, target_of
from dd.base.locks import locked
from dd.base.paths import is_folder, is_there, names_in
from dd.base.schema import check_form, conform
from dd.errors import DamagedError, DDError, MissingError
from dd.synthetic.base import check_format
from dd.synthetic.labels import MANIFEST, LabelStore, remove_store

SET: Final = "synthetic.safetensors"
"""The set's file in a run folder."""
_STORE: Final = r"[0-9a-f]{16}"
_Set = TypeVar("_Set")


class Kept(NamedTuple):
    """The run folder that a set was written into or read from.

    Attributes:
        folder: absolute.
        told: the checksum of the set's file there, which is over all that is in it.
    """

    folder: Path
    told: str

    @classmethod
    def of(cls, folder: Path) -> Kept:
        """As it is now.

        Raises:
            MissingError, DamagedError: no set in it that can be read.
        """
        return cls(folder.absolute(), read_digest(set_in(folder)))

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


def labels_folder(path: Path) -> Path:
    """Where the label stores of the set in file `path` lie: `labels/` in a run folder, else `<name>.labels/`.

    The whole name: no two sets share a folder, as the one would remove the other's labels.
    """
    return path.with_name("labels" if path.name == SET else f"{path.name}.labels")


def about_labels(store: LabelStore, sha256: str | None = None) -> dict[str, Any]:
    """What the metadata of a set says of its label store; `sha256` in the place of its own, where only bytes count."""
    return {"records": len(store), "bytes": store.nbytes, "sha256": sha256 or store.sha256}


def set_in(folder: Path) -> Path:
    """The file of the set in the folder of a run.

    Raises:
        MissingError: there is a run without a set.
    """
    if is_there(folder / "run.json") and not is_there(folder / SET):
        raise MissingError(
            f"no set in {folder} yet: its run was not finished, or the set was removed. The same `distill` goes on "
            "where it stopped."
        )
    return folder / SET


def write_set(
    path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], store: LabelStore | None = None
) -> Path:
    """Write a set's file and its label store, both or neither; then labels that no set names any more are removed.

    Args:
        path: the file.
        tensors, meta: what is in it; with a store `meta["labels"]` is `about_labels(store)`.
        store: goes into `labels_folder(path)`.

    Raises:
        InputError: metadata that could not be read again, such as a class name that is no text.
        WriteError: the disk refuses; an earlier set and its labels are intact.
    """
    check_form(json_value(meta), str(meta["kind"]))
    target = target_of(path)  # of a link: the labels lie beside the set that they belong to
    if store is None:
        save_tensors(target, tensors, meta)
        if is_folder(labels_folder(target)):
            with _alone(target):
                _tidy(target)
        return path
    place = labels_folder(target) / store.sha256[:16]
    with _alone(target):
        is_new = not is_there(place / MANIFEST)
        try:
            store.save(place)
            save_tensors(target, tensors, meta)
        except BaseException:
            if is_new and _named(target) != place.name:
                remove_store(place)
            raise
        _tidy(target)
    return path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time writes a set with labels."""
    with locked(beside(path, "lock"), wait=True, keep=False):
        sweep(path.parent, re.escape(path.name))
        yield


def _named(path: Path) -> str | None:
    """The folder of the labels that the set at `path` names; `None` where it has none or cannot be read."""
    with contextlib.suppress(DDError, KeyError):
        return str(read_meta(path, "labelled")["labels"]["sha256"])[:16]
    return None


def _tidy(path: Path) -> None:
    """Remove the label stores that the set at `path` does not name."""
    folder, kept = labels_folder(path), _named(path)
    for place in names_in(folder):
        if re.fullmatch(_STORE, place.name) and place.name != kept:
            remove_store(place)
    with contextlib.suppress(OSError):  # other files stay, and so does their folder
        folder.rmdir()


def read_set(path: Path, kind: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any], LabelStore | None]:
    """Tensors, metadata and label store of a set's file; every checksum is compared.

    Args:
        path: the file.
        kind: what its metadata must name.
        what: that kind for people.

    Raises:
        MissingError, DamagedError: not there, truncated, foreign, altered or of an unknown format version.
    """
    while True:
        tensors, meta = _read_checked(path, kind, what)
        try:
            return tensors, meta, _read_labels(path, meta["labels"]["sha256"]) if "labels" in meta else None
        except MissingError:
            if read_meta(path, "any") == meta:  # or else it was replaced in between, with its labels
                raise


def only(tensors: Mapping[str, Tensor], *needed: str, more: Collection[str] = ()) -> None:
    """Refuse a file that lacks one of the `needed` tensors, or has one that is neither among them nor in `more`.

    Raises:
        DamagedError: names it.
    """
    if absent := sorted(set(needed) - tensors.keys()):
        raise DamagedError(f"tensor `{absent[0]}` is missing")
    if others := sorted(tensors.keys() - {*needed, *more}):
        raise DamagedError(f"tensor `{others[0]}` is none of its own")


def _read_labels(path: Path, sha256: str) -> LabelStore:
    """The labels beside the set; of a link beside it, as in a tree of links, else beside what it leads to."""
    places = [labels_folder(one) / sha256[:16] for one in (path, Path(os.path.realpath(path)))]
    return LabelStore.load(places[is_there(places[1]) and not is_there(places[0])], sha256)


def _read_checked(path: Path, kind: str, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = load_tensors(path, "any")  # its kind and version are told first
    if "kind" not in meta:
        raise DamagedError(f"{path} is not a synthetic set: its metadata names no kind.")
    if meta["kind"] != kind:
        raise DamagedError(f"{path} is not a {what} but {meta['kind']!r}.")
    check_format(meta.get("format"), path)
    return tensors, conform(meta, kind, path)
