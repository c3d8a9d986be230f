"""What every synthetic set is: a small protocol. Everything else is a free function over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch

from dd.base.schema import SET_FORMAT
from dd.errors import DamagedError
from dd.synthetic.node_recipe import NodeRecipe
from dd.synthetic.recipe import TrainRecipe
from dd.synthetic.tree_recipe import TreeRecipe


def check_format(found: object, path: Path) -> None:
    """Refuse what another version has written.

    Raises:
        DamagedError: with both versions, and what to do.
    """
    if found == SET_FORMAT and type(found) is int:
        return
    older = type(found) is int and found < SET_FORMAT
    way_out = "It is older than the first release: distil again." if older else "Upgrade dd."
    raise DamagedError(f"{path} has format version {found}; this version reads {SET_FORMAT}. {way_out}")


class NBytes(NamedTuple):
    """What a set takes on disk. `total` is the file with its metadata; `extras` is what is neither image nor label."""

    images: int
    labels: int
    extras: int
    total: int


class TreeBytes(NamedTuple):
    """What a summary of trees takes on disk; `published` is the two-byte count of Mirage's paper."""

    trees: int
    patterns: int
    extras: int
    total: int
    published: int


class NodeBytes(NamedTuple):
    """What a set of nodes takes on disk; `counted`, features, edges and labels, is what `budget_bytes` bounds."""

    features: int
    edges: int
    labels: int
    extras: int
    total: int
    counted: int


@runtime_checkable
class SyntheticSet(Protocol):
    """A distilled set: a map-style Dataset that knows how to be trained on and what it weighs."""

    @property
    def kind(self) -> str:
        """Of the real data that it stands for, and so of its judge: `images`, `graphs`, `nodes`; of the class."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        ...

    @property
    def recipe(self) -> TrainRecipe | TreeRecipe | NodeRecipe:
        """How a fresh network is trained on it."""
        ...

    @property
    def nbytes(self) -> NBytes | TreeBytes | NodeBytes:
        """Bytes on disk."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...

    def batches(self, size: int, generator: torch.Generator) -> Iterator[tuple[Any, Any]]:
        """One epoch of batches in an order drawn from `generator`."""
        ...

    def attach(self, train: Any) -> SyntheticSet:
        """It, with what its file leaves out made again of the training data that it was made of."""
        ...

    def attach_as(self, other: SyntheticSet) -> SyntheticSet:
        """It, with what its file leaves out taken from a set of the same run, where that has it."""
        ...

    def save(self, path: str | Path) -> Path:
        """Write one file."""
        ...


class Whole:
    """A set whose file leaves nothing out."""

    def attach(self, train: Any) -> Self:
        """This set: nothing is missing."""
        del train
        return self

    def attach_as(self, other: SyntheticSet) -> Self:
        """This set: nothing is missing."""
        del other
        return self
