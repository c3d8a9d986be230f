"""A number an item, equal where items are: what tells training items among test items, and one item in two classes.

Images are equal where their pixels are. Graphs are where they look so to six rounds of messages.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dd.errors import warn

ROUNDS: Final = 6
"""Rounds of colour refinement."""
KEPT: Final = 64
"""Hashes of a sketch: of a tenth of 50,000 items given again about six are known."""


class Labelled(Protocol):
    """A split of images or of graphs."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """Classes, int64 `[N]`."""

    @property
    def items(self) -> Tensor | None:
        """A 64-bit hash of each item, int64 `[N]`; `None` where the content is not known."""


class Twins(NamedTuple):
    """How many items of a data set are there twice.

    Attributes:
        test: test items.
        shared: how many of them are also training items, those held out for validation included.
        all_train: whether every training item is among the test items.
        ambiguous: different items that stand under more than one class, in whatever split.
    """

    test: int
    shared: int
    all_train: bool
    ambiguous: int

    @property
    def trained(self) -> bool:
        """Whether the test items are the training items: all of them are, or all training items are among them."""
        return self.test > 0 and (self.shared == self.test or self.all_train)

    def told(self, kind: str) -> list[str]:
        """What there is, as sentences without a full stop, about `kind`: "images" or "graphs"."""
        lines, how = [], f", as {ROUNDS} rounds of messages see them" if kind == "graphs" else ""
        if self.shared:
            lines.append(f"{self.shared:,} of {self.test:,} test {kind} are also among the training {kind}{how}")
        if self.ambiguous:
            lines.append(f"{kind} under more than one class{how}: {self.ambiguous:,}")
        return lines


def twins(train: Labelled, val: Labelled | None, test: Labelled | None) -> Twins | None:
    """What the splits of a data set have in common; `None` where the content of a split is not known."""
    seen = [part for part in (train, val) if part is not None]
    parts = [(part.items, part.labels) for part in (*seen, *([] if test is None else [test]))]
    items = [found for found, _ in parts if found is not None]
    if len(items) < len(parts):
        return None
    trained = torch.cat(items[: len(seen)])
    tested = items[-1] if test is not None else trained[:0]
    ids = torch.unique(torch.cat(items), return_inverse=True)[1]
    pairs = torch.unique(torch.stack([ids, torch.cat([labels for _, labels in parts])]), dim=1)
    return Twins(
        test=len(tested),
        shared=int(torch.isin(tested, trained).sum()),
        all_train=bool(len(trained)) and bool(torch.isin(trained, tested).all()),
        ambiguous=int((torch.bincount(pairs[0]) > 1).sum()) if len(ids) else 0,
    )


def check_twins(train: Labelled, val: Labelled | None, test: Labelled | None, kind: str) -> None:
    """Warn of `twins`; `kind` as in `warn_twins`."""
    warn_twins(twins(train, val, test), kind)


def warn_twins(found: Twins | None, kind: str) -> None:
    """Tell the owner of data, once a load, how many of the `kind` are there twice."""
    lines = [] if found is None else found.told(kind)
    if lines:
        way_out = "Remove them from one side, or read the scores with that in mind"
        warn(f"{'; '.join(lines)}. {way_out}.")


@dataclass(frozen=True, eq=False)
class Sketch:
    """The `KEPT` lowest hashes of a collection: what another collection shares with it, from a few hundred bytes.

    Hashes are even, so the items of another collection below `limit` are a fair sample of it, and of each of them it is
    known whether it is in this one.

    Attributes:
        low: the low 32 bits of the lowest hashes, int64, sorted.
        limit: the largest of these hashes; `None` where they are all that there are.
    """

    low: Tensor
    limit: int | None

    @classmethod
    def of(cls, *parts: Labelled | None) -> Sketch | None:
        """That of the items of some splits, each once; `None` where the content of a split is not known."""
        found = [part.items for part in parts if part is not None]
        items = [part for part in found if part is not None]
        if len(items) < len(found) or not sum(map(len, items)):
            return None
        different = torch.cat(items).unique()
        kept = different[:KEPT]
        return cls(_low(kept), None if len(kept) == len(different) else int(kept[-1]))

    @classmethod
    def union(cls, sketches: Sequence[Sketch | None]) -> Sketch | None:
        """That of several collections together; `None` where one of them is not known.

        Of hashes up to the smallest limit it is known whether they are in one of them. Larger ones stay among `low`, as
        these are their lower halves alone: they belong to items of the collections, so none is taken for another's.
        """
        found = [sketch for sketch in sketches if sketch is not None]
        if not found or len(found) < len(sketches):
            return None
        limits = [sketch.limit for sketch in found if sketch.limit is not None]
        return cls(torch.cat([sketch.low for sketch in found]).unique(), min(limits) if limits else None)

    def to_json(self) -> dict[str, Any]:
        """For the provenance of a set."""
        text = base64.b64encode(self.low.numpy().astype("<u4").tobytes()).decode()
        return {"low": text, "limit": self.limit}

    @classmethod
    def from_json(cls, told: Any) -> Sketch | None:
        """What `to_json` gave; `None` of anything else."""
        try:
            low = np.frombuffer(base64.b64decode(told["low"], validate=True), dtype="<u4")
            limit = told["limit"]
        except (TypeError, LookupError, ValueError):
            return None
        if not len(low) or not (limit is None or isinstance(limit, int)):
            return None
        return cls(torch.from_numpy(low.astype(np.int64)), limit)

    def sample(self, items: Tensor) -> Sample:
        """What is known of another collection.

        Args:
            items: int64 `[N]`; one that is there twice counts once.
        """
        different = items.unique()
        known = different if self.limit is None else different[different <= self.limit]
        low = _low(known)
        return Sample(
            known=len(known),
            shared=int(torch.isin(low, self.low).sum()),
            has_all=bool(torch.isin(self.low, low).all()),
            whole=self.limit is None,
        )


class Sample(NamedTuple):
    """Of how many different items it is `known` whether they are in a sketched collection, and how many of them are.

    `has_all`: whether all items of the sketch are among them; `whole`: whether these are the whole collection.
    """

    known: int
    shared: int
    has_all: bool
    whole: bool


def _low(hashes: Tensor) -> Tensor:
    return (hashes & 0xFFFFFFFF).sort().values


def numbers(hashes: Iterable[bytes]) -> Tensor:
    """Hashes of eight bytes each as int64 `[N]`."""
    return torch.from_numpy(np.frombuffer(b"".join(hashes), dtype="<i8").astype(np.int64))


def text_items(texts: Iterable[str]) -> Tensor:
    """A 64-bit hash of each text, such as the checksum of a file, int64 `[N]`."""
    return numbers(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest() for text in texts)


def graph_items(x: Tensor, edge_index: Tensor, edge_attr: Tensor, graph: Tensor, count: int) -> Tensor:
    """A 64-bit hash of each graph by colour refinement (Weisfeiler and Leman), int64 `[N]`.

    Isomorphic graphs have the same number. Others have it too where nodes of the same features see the same
    neighbourhoods up to six edges away: no network of six rounds of messages tells these apart.

    Args:
        x: node features `[V, F]`, integers or floats.
        edge_index: int64 `[2, E]`.
        edge_attr: edge features `[E, B]`.
        graph: graph of each node, int64 `[V]`.
        count: N.
    """
    colour = node_items(x, edge_index, edge_attr)
    return _mixed(torch.zeros(count, dtype=torch.int64).index_add_(0, graph, _mixed(colour)))


def node_items(x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
    """A 64-bit hash of what `ROUNDS` rounds of messages see of each node, int64 `[V]`; see `graph_items`."""
    source, target = edge_index
    colour, bond = _folded(x), _folded(edge_attr)
    ahead, back = _mixed(bond + 1), _mixed(bond + 2)
    for _ in range(ROUNDS):
        seen = torch.zeros_like(colour).index_add_(0, target, _mixed(colour[source] ^ ahead))
        seen.index_add_(0, source, _mixed(colour[target] ^ back))
        colour = _mixed(_mixed(colour) + seen)
    return colour


def _folded(features: Tensor) -> Tensor:
    """One int64 for each row of features, `[n, F]` → `[n]`."""
    values = (features + 0.0).view(torch.int32) if features.is_floating_point() else features  # -0.0 is 0.0
    folded = torch.full((len(features),), features.shape[1], dtype=torch.int64)
    for column in values.unbind(1):
        folded = _mixed(folded ^ _mixed(column.to(torch.int64)))
    return folded


def _mixed(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64, a bijection of 64-bit numbers; int64 arithmetic wraps."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifted to the right, zeros coming in at the top."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x
