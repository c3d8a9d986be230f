"""Whether test data is what a set was made from: one question of `evaluate`, of every measure and of `benchmark`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from dd.data import Images
from dd.data.graphs import Graphs
from dd.data.items import digest
from dd.errors import refuse
from dd.evaluation.page import TRAINING

_WAY_OUT: Final = "Give test data that it was not made from, as a tuple (train, test)"
_PAIRS: Final = "Give test data that it was not made from, as dd.Images(train=…, test=…)"


@final
@dataclass(frozen=True)
class Standing:
    """What test data is to a set.

    Attributes:
        trained: whether it is the set's training data.
        split, protocol: as a report calls them.
        notes: what a reader should know.
    """

    trained: bool
    split: str
    protocol: str
    notes: tuple[str, ...]


def standing(told: Mapping[str, Any], real: Images | Graphs, split: str = "test") -> Standing:
    """What the test split of `real` is to the set with the provenance `told`.

    Known are the training items of the set, as a digest of all of them, and those of `real`, one by one: a part of the
    training data, or training and test data end to end, are seen where the training data is there too.

    Args:
        told: provenance of the set.
        real: data with a test split.
        split: what to call the split where it is one.
    """
    test, kind = real.test, _kind(real)
    assert test is not None
    protocol, found = str(told.get("protocol", "clean")), real.twins
    notes = [] if found is None else found.told(kind)
    own = test.items is not None and len(test) > 0 and digest(test.items) in (told.get("training_items") or ())
    if own or (found is not None and found.trained):
        notes.insert(0, f"scores are of {kind} that the set was made from, not of unseen ones")
        return Standing(True, TRAINING, "not clean", tuple(notes))
    if found is not None and found.shared and isinstance(real, Images):  # graphs are alike by nature
        split = f"{split}, {found.shared:,} of {found.test:,} also in training"
    return Standing(False, split, protocol, tuple(notes))


def warn_trained(told: Mapping[str, Any], real: Images | Graphs) -> None:
    """Warn where the test split is the set's training data."""
    if standing(told, real).trained:
        kind = _kind(real)
        text = f"`data`: the test {kind} are those that the set was made from; scores say nothing of unseen ones."
        warnings.warn(f"{text} {_way_out(real)}.", stacklevel=3)


def refuse_trained(real: Images | Graphs) -> None:
    """Refuse data whose test split is its training split.

    Raises:
        InputError: every test item is a training item, or every training item is a test item.
    """
    found = real.twins
    if found is not None and found.trained:
        kind, way_out = _kind(real), f"{_way_out(real)}."
        raise refuse("data", f"with test {kind} that are no training {kind}", "; ".join(found.told(kind)), way_out)


def _kind(real: Images | Graphs) -> str:
    return "graphs" if isinstance(real, Graphs) else "images"


def _way_out(real: Images | Graphs) -> str:
    return _WAY_OUT if isinstance(real, Graphs) else _PAIRS
