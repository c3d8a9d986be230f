"""Every kind of set, and reading a file that may hold any of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from dd.base.files import file_digest, read_meta
from dd.base.foreign import foreign, pictures
from dd.base.paths import as_path, is_file, is_folder, is_there, names_in, need_file
from dd.errors import DamagedError, DDError, MissingError, refuse
from dd.synthetic.compensated import CompensatedImages
from dd.synthetic.file import SET, set_in
from dd.synthetic.images import SyntheticImages
from dd.synthetic.labels import LabelStore
from dd.synthetic.nodes import NodeSet
from dd.synthetic.trees import TreeSummary

ImageSet = SyntheticImages | CompensatedImages
"""What the evaluation loop trains image networks on."""

AnySet = SyntheticImages | CompensatedImages | TreeSummary | NodeSet
"""What `dd.distill` returns and `dd.load` reads."""

_PART: Final = "labels/"
_KINDS: Final[dict[str, type[AnySet]]] = {"compensated": CompensatedImages, "trees": TreeSummary, "nodes": NodeSet}


def need_set(small: object) -> AnySet:
    """The set that a user gave, on the CPU.

    Raises:
        InputError: something else.
    """
    if not isinstance(small, AnySet):
        raise refuse("small", "a set, its file or its run folder", f"a {type(small).__name__}")
    return small.to("cpu")


def need_images(small: object) -> ImageSet:
    """The set of images that a user gave, on the CPU; of what `need_set` refuses here a path too.

    Raises:
        InputError: something else.
    """
    if not isinstance(small, ImageSet):
        way_out = "Of a path: `dd.load(path)`." if isinstance(small, str | Path) else ""
        raise refuse("small", "a set of images", f"a {type(small).__name__}", way_out)
    return small.to("cpu")


def need_trees(small: object) -> TreeSummary:
    """The summary of graphs that a user gave, on the CPU.

    Raises:
        InputError: something else.
    """
    if not isinstance(small, TreeSummary):
        raise refuse("small", "a summary of graphs", f"a {type(small).__name__}")
    return small.to("cpu")


def load_set(path: str | Path) -> AnySet:
    """Read a set of whatever kind; every checksum is compared.

    Raises:
        MissingError, DamagedError: see `SyntheticImages.load`; of a file of others with the verb that imports it.
    """
    path = as_path(path)
    try:
        kind = str(read_meta(path, "set").get("kind"))
    except DamagedError as error:
        if is_file(path) and (told := foreign(path)) is not None:
            raise DamagedError(f"{path} is no set of this library but {told.what}. {told.way_out}") from error
        raise
    return _KINDS.get(kind, SyntheticImages).load(path)


def set_at(path: Path) -> AnySet:
    """The set in a file, or in a run folder.

    Raises:
        MissingError, DamagedError: see `load_set`; of a folder of runs with their names, of one of pictures with the
            verb that imports it, and of one without a set with how one comes there.
    """
    if not is_folder(path):
        way_out = "The set comes first, then the data; `dd.distill(…, out=…)` makes one."
        return load_set(need_file(path, "file or folder", way_out))
    if not is_there(set_in(path)):
        lies = f'Name its file; or put it there, `small.save("{path / SET}")`: what is measured is then kept beside it.'
        way_out = runs_in(path) or pictures(path) or lies
        raise MissingError(f"no set of this library in {path}. {way_out}")
    return load_set(set_in(path))


def runs_in(folder: Path) -> str:
    """What is said of a folder that holds run folders, as one of several seeds does; empty of another."""
    runs = [one.name for one in names_in(folder) if is_folder(one) and is_there(set_in(one))]
    if not runs:
        return ""
    listed = ", ".join(runs[:5]) + (f", … ({len(runs)} in all)" if len(runs) > 5 else "")
    return f"It holds the run{'s' if len(runs) > 1 else ''} {listed}: give one of them, such as {folder / runs[0]}."


def digest_of(small: AnySet) -> str:
    """The sha256 of a set: of its tensors and all that its file says of it, without the whitening matrix.

    It is the checksum in the file of `small.save`, wherever that lies.
    """
    return file_digest(*small.content())


def to_tensors(small: AnySet) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A whole set, its label store included, as tensors and JSON-able values, to be kept in another file."""
    tensors, meta = small.content()
    store: LabelStore | None = small.store
    if store is None:
        return tensors, {"set": meta}
    for number, part in enumerate(store.parts()):
        tensors |= {f"{_PART}{number}/{name}": value for name, value in part.items()}
    return tensors, {"set": meta, "store": store.manifest}


def from_tensors(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> AnySet:
    """The set that `to_tensors` was given; whitened ones want `attach`.

    Raises:
        DamagedError: what no set can have.
    """
    try:
        return _from_tensors(tensors, told)
    except (DDError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"what was kept of the best set is none ({error}). Remove the checkpoint.") from error


def _from_tensors(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> AnySet:
    own = {name: value for name, value in tensors.items() if not name.startswith(_PART)}
    meta, manifest, store = told["set"], told.get("store"), None
    if manifest is not None:
        parts: list[dict[str, Tensor]] = [{} for _ in manifest["shards"]]
        for name in tensors.keys() - own.keys():
            number, _, part = name.removeprefix(_PART).partition("/")
            parts[int(number)][part] = tensors[name]
        store = LabelStore.join(parts, manifest["images"], manifest["made"])
    return _KINDS.get(meta["kind"], SyntheticImages).assemble(own, meta, store)
