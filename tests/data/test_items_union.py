"""What is known of several collections together."""

from __future__ import annotations

import torch

from dd.data.items import KEPT, Sketch, text_items


class Part:
    def __init__(self, *names: str) -> None:
        self.items, self.labels = text_items(names) & ~1, torch.zeros(len(names))

    def __len__(self) -> int:
        return len(self.items)


def test_items_of_any_are_known_as_such_and_others_are_not() -> None:
    parts = [Part(*(f"{k}/{i}" for i in range(400))) for k in range(3)]
    sketch = Sketch.union([Sketch.of(part) for part in parts])
    assert sketch is not None
    again = Sketch.from_json(sketch.to_json())
    assert again is not None
    for part in parts:
        found = again.sample(part.items)
        assert found.known > KEPT // 2
        assert found.shared == found.known
    mixed = again.sample(torch.cat([parts[0].items, Part(*(f"x/{i}" for i in range(400))).items]))
    assert 0 < mixed.shared < mixed.known
    assert again.sample(Part(*(f"x/{i}" for i in range(400))).items).shared == 0


def test_whole_ones_stay_whole_and_unknown_ones_make_all_unknown() -> None:
    small = [Sketch.of(Part("a", "b")), Sketch.of(Part("c"))]
    union = Sketch.union(small)
    assert union is not None
    assert union.limit is None
    assert union.sample(Part("a", "b", "c").items).has_all
    assert Sketch.union([small[0], None]) is None
    assert Sketch.union([]) is None
