"""Cards: what is known about a data set, one TOML file each in `datasets/`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final

from dd.base import paths
from dd.base.home import home, shipped
from dd.base.paths import is_folder
from dd.errors import DamagedError, find_name

AnyCard = TypeVar("AnyCard")
SMILES: Final = "smiles:"
NODES: Final = "nodes:"
"""What a table of molecules begins with, where the name of a card may stand."""
KINDS: Final = ("embedded", "torchvision", "folder")


class CheckedCard:
    """A card of whatever domain, whose facts are checked."""

    name: str

    def _need(self, fact: bool, text: str) -> None:
        if not fact:
            raise DamagedError(f"card {self.name!r}: {text}.")


@final
@dataclass(frozen=True, kw_only=True)
class Card(CheckedCard):
    """One image data set.

    Attributes:
        name: file name of the card and the name used everywhere.
        title: name for people.
        domain: `"images"`; cards of other domains are read elsewhere.
        kind: `"embedded"` (comes with a dependency), `"torchvision"`, `"folder"` (an image tree).
        loader: which one of that kind: the torchvision class, or `"tiny"`, `"ilsvrc"`, `"digits"`.
        classes: class names in label order, or their number where the folders name them.
        channels: C.
        size: native or usual (H, W); `size=` of `load_images` overrides it.
        mean: per-channel constants of the field for pixels in [0, 1].
        std: likewise.
        verified: whether `mean` and `std` were checked against the data; if not, `notes` says whose they are.
        counts: images per split, asserted on load. A split whose size is not known is left out.
        per_class: smallest and largest number of train images a class may have, or `(0, 0)` when unknown.
        url: page to read about it, and to get it from.
        licence: as stated by the source.
        marker: path under the root whose presence says that the data is there.
        folders: places under the root where `marker` is looked for, in order.
        layout: the expected files, for messages.
        archive: URL of an archive that `download=True` fetches where torchvision has no loader; else empty.
        checksums: file name -> md5.
        ilsvrc: ILSVRC class number (k-th sorted WordNet id) of each class; empty elsewhere.
        wnids: WordNet id of each class, the folder name in an ILSVRC tree; empty elsewhere.
        notes: what a reader must know.
    """

    name: str
    title: str
    domain: str
    kind: str
    loader: str
    classes: tuple[str, ...] | int
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    verified: bool
    counts: dict[str, int]
    per_class: tuple[int, int]
    url: str
    licence: str
    marker: str
    folders: tuple[str, ...]
    layout: str
    archive: str
    checksums: dict[str, str]
    ilsvrc: tuple[int, ...]
    wnids: tuple[str, ...]
    notes: str

    def __post_init__(self) -> None:
        self._need(self.kind in KINDS, f"`kind` must be one of {', '.join(KINDS)}; got {self.kind!r}")
        self._need(self.num_classes >= 2, f"`classes` must be at least 2; got {self.num_classes}")
        self._need(
            len(self.mean) == len(self.std) == self.channels,
            f"`mean` and `std` must have {self.channels} values; got {len(self.mean)} and {len(self.std)}",
        )
        self._need(all(value > 0 for value in self.std), f"`std` must be positive; got {self.std}")
        for ids in (self.ilsvrc, self.wnids):
            self._need(
                len(ids) in (0, self.num_classes),
                f"`ilsvrc` and `wnids` must name each of {self.num_classes} classes or none; got {len(ids)}",
            )

    @property
    def num_classes(self) -> int:
        """K."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def downloadable(self) -> bool:
        """Whether `download=True` fetches it."""
        return self.kind == "torchvision" or bool(self.archive)


def list_cards(domain: str = "images") -> tuple[str, ...]:
    """Names of the cards of a domain that come with the library, sorted."""
    files = sorted(shipped("datasets").glob("*.toml"))
    return tuple(file.stem for file in files if read_toml(file).get("domain") == domain)


def no_folder(root: str | os.PathLike[str] | None) -> str:
    """That a folder of data that was asked for is not there, as a sentence of a message; else empty."""
    if root is None or is_folder(folder := home("datasets", root)):
        return ""
    return f"The folder {folder} (`root`) is not there. "


def load_card(name: str, others: str = "") -> Card:
    """The card of an image data set; capitals, dashes and underscores do not matter.

    Args:
        name: of the card.
        others: what may be given in place of a card's name, for the message.

    Raises:
        InputError: no card has this name; the message lists those there are.
        DamagedError: the file is not a card.
    """
    file = shipped("datasets") / f"{find_name('data set', name, list_cards(), others, list_cards('graphs'))}.toml"
    return parse_card(read_toml(file), file)


def parse_card(values: dict[str, Any], file: Path) -> Card:
    """`checked_card` of an image data set."""
    return checked_card(Card, values, file)


def checked_card(kind: type[AnyCard], values: dict[str, Any], file: Path) -> AnyCard:
    """A card of some kind from the values of its TOML file; every field must be there and nothing else.

    Raises:
        DamagedError: a field is missing, unknown or inconsistent.
    """
    known = {field.name for field in fields(cast(Any, kind))}
    if missing := sorted(known - values.keys()):
        raise DamagedError(f"card {file.name}: missing {', '.join(missing)}.")
    if extra := sorted(values.keys() - known):
        raise DamagedError(f"card {file.name}: unknown {', '.join(extra)}.")
    if values["name"] != file.stem:
        raise DamagedError(f"card {file.name}: `name` must be {file.stem!r}; got {values['name']!r}.")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return kind(**{**frozen, "layout": values["layout"].strip(), "notes": values["notes"].strip()})


@lru_cache
def read_toml(file: Path) -> dict[str, Any]:
    """The values of a TOML file, read once; raises as `dd.base.paths.read_toml`."""
    return paths.read_toml(file, "card")
