"""Whether test data is what a set was made from: one question of `evaluate`, of every measure and of `benchmark`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import torch

from dd.data import Images
from dd.data.graphs.graphs import Graphs
from dd.data.items import Sample, Sketch
from dd.data.nodes.nodes import Nodes
from dd.errors import refuse, warn

TRAINING: Final = "training data"
"""What a report calls a split that is the set's own training data."""

UNKNOWN: Final = "unknown"
"""The protocol of a set that does not say how it was chosen, as one of others."""

_PAIRS: Final = {"images": "dd.Images(train=…, test=…)", "graphs": "a tuple (train, test)", "nodes": "masks"}
"""How test data is given beside training data."""
_SURE: Final = {"images": 3, "graphs": 8, "nodes": 1}
"""Test items that must be among the sketched ones, unless the sketch is whole: small graphs repeat in honest data."""


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


def standing(told: Mapping[str, Any], real: Images | Graphs | Nodes, split: str = "test") -> Standing:
    """What the test split of `real` is to the set with the provenance `told`.

    Of the set's training items, those held out for validation included, it knows a sketch: whatever part of them is
    given as test data, alone or among others, is seen where some of the sketch are in it, see `_SURE`. Where the
    training items are in `real` too, the two are compared item by item.

    Args:
        told: provenance of the set.
        real: data with a test split.
        split: what to call the split where it is one.
    """
    kind = real.kind
    assert real.test is not None
    protocol, found = str(told.get("protocol", UNKNOWN)), real.twins
    notes = [] if found is None else found.told(kind)
    if protocol == UNKNOWN:
        notes.append("how this set was chosen is not known, test data may have had a part in it: it was made elsewhere")
    sketch = Sketch.from_json(told.get("training_items"))
    seen = None if sketch is None or found is None else _sample(sketch, real)
    enough = seen is not None and (seen.whole or seen.shared >= _SURE[kind])
    own = seen is not None and enough and seen.shared > 0 and (seen.shared == seen.known or seen.has_all)
    if own or (found is not None and found.trained):
        notes.insert(0, f"scores are of {kind} that the set was made from, not of unseen ones")
        return Standing(True, TRAINING, "not clean", tuple(notes))
    if kind == "images" and found is not None:  # graphs are alike by nature
        if found.shared:
            split = f"{split}, {found.shared:,} of {found.test:,} also in training"
        elif seen is not None and enough and seen.shared:
            share = f"about {100 * seen.shared / seen.known:.0f} %"
            notes.insert(0, f"{share} of the test images are among those that the set was made from")
            split = f"{split}, {share} also in training"
    return Standing(False, split, protocol, tuple(notes))


def _sample(sketch: Sketch, real: Images | Graphs | Nodes) -> Sample | None:
    """What the sketch knows of the test items, where these are not compared with the training items themselves."""
    assert real.test is not None
    assert real.test.items is not None
    at_hand = [part.items for part in (real.train, real.val) if part is not None and part.items is not None]
    if at_hand and sketch.sample(torch.cat(at_hand)).has_all:
        return None
    return sketch.sample(real.test.items)


def warn_trained(told: Mapping[str, Any], real: Images | Graphs | Nodes) -> None:
    """Warn where the test split is the set's training data."""
    if standing(told, real).trained:
        text = f"`data`: the test {real.kind} are those that the set was made from; scores say nothing of unseen ones."
        warn(f"{text} {_way_out(real)}.")


def refuse_trained(real: Images | Graphs | Nodes) -> None:
    """Refuse data whose test split is its training split.

    Raises:
        InputError: every test item is a training item, or every training item is a test item.
    """
    found = real.twins
    if found is not None and found.trained:
        kind, way_out = real.kind, f"{_way_out(real)}."
        raise refuse("data", f"with test {kind} that are no training {kind}", "; ".join(found.told(kind)), way_out)


def _way_out(real: Images | Graphs | Nodes) -> str:
    return f"Give test data that it was not made from, as {_PAIRS[real.kind]}"
