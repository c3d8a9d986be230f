"""A summary of trees whose indices point nowhere is refused, however right its checksum is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reference.trees import random_graphs, summary_by_hand
from torch import Tensor

from dd.base.files import load_tensors, save_tensors
from dd.data.graphs.codes import fit_codes
from dd.errors import DamagedError
from dd.synthetic import TreeSummary

Change = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    real = random_graphs(5, [6, 7, 6, 7, 8], features=(3, 2), edge_features=(2,), probability=0.3)
    small = summary_by_hand(real, fit_codes(real), 2)
    return small.save(tmp_path_factory.mktemp("trees") / "small.safetensors")


def last(value: int | float) -> Change:
    """Another last entry, in a type that holds it."""

    def change(t: Tensor) -> Tensor:
        wide = t.clone() if t.is_floating_point() else t.long()
        wide.view(-1)[-1] = value
        return wide

    return change


BAD: dict[str, tuple[str, Change, str]] = {
    "no depth": ("level.sizes", lambda t: t[:0], "`level.sizes` must be at least one depth"),
    "levels of more trees": ("level.sizes", lambda t: t.long() + 1, "`level.label` must be of"),
    "levels below 0": ("level.sizes", last(-3), "`level.label` must be of"),
    "an unknown label": ("level.label", last(99), "`label of level 2` must be in 0…"),
    "a truncation below 0": ("level.trunc", last(-1), "`trunc of level 2` must be in 0…"),
    "a truncation that is not there": ("level.trunc", last(10_000), "`trunc of level 2` must be in 0…"),
    "a child that is not there": ("level.child", last(10_000), "`child of level 2` must be in 0…"),
    "a child below 0": ("level.child", last(-1), "`child of level 2` must be in 0…"),
    "an unknown edge label": ("level.edge", last(99), "`edge of level 2` must be in 0…"),
    "no children": ("level.count", last(0), "`count of level 2` must be at least 1"),
    "fewer runs": ("level.child", lambda t: t[1:], "`level.child` must be of"),
    "runs below 0": ("level.ptr", lambda t: torch.cat([t[:-2].long(), t[-2:].sum()[None] + 5, torch.tensor([-5])]), ""),
    "leaves with children": ("level.ptr", lambda t: t.flip(0), ""),
    "patterns that end beyond": ("pattern_ptr", last(9_999), "`pattern_ptr` must be in 0…"),
    "patterns that fall": (
        "pattern_ptr",
        lambda t: torch.cat([t[:1], t[2:3], t[1:2], t[3:]]),
        "`pattern_ptr` must be r",
    ),
    "a tree that is not there": ("pattern_tree", last(9_999), "`pattern_tree` must be in 0…"),
    "a tree below 0": ("pattern_tree", last(-1), "`pattern_tree` must be in 0…"),
    "a class that is not there": ("labels", last(2), "`labels` must be in 0…1"),
    "support of more graphs than there are": ("support", last(99), "`support` must be at most"),
    "support below 0": ("tree_support", last(-1), "`tree_support` must be at least 0"),
    "counts of graphs below 0": ("graphs", last(-1), "`graphs` must be at least 0"),
    "a class too many": ("graphs", lambda t: torch.cat([t, t]), "`graphs` must be one count for each of 2 classes"),
    "degrees that are no number": ("leaf_degree", last(float("nan")), "`leaf_degree` must be finite"),
    "counts below 0": ("pattern_count", last(-0.5), "`pattern_count` must be at least 0"),
    "counts of another type": ("pattern_count", Tensor.double, "`pattern_count` must be float32"),
    "labels that are no whole numbers": ("labels", Tensor.float, "`labels` must be whole numbers"),
    "values that fall": ("codes.values", lambda t: t.flip(0), "`codes.values` must be rising"),
    "codes of an unknown value": ("codes.table", last(99), "`codes.table` must be in 0…"),
    "codes of fewer columns": ("codes.table", lambda t: t[:, :1], "`codes.table` must be of 2 columns"),
    "values that end beyond": ("codes.sizes", last(99), "`codes.values` must be of"),
}


@pytest.mark.parametrize("name", BAD)
def test_indices_that_point_nowhere_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    which, change, text = BAD[name]
    tensors, meta = load_tensors(saved)
    save_tensors(tmp_path / "x", {**tensors, which: change(tensors[which]).contiguous()}, meta)
    with pytest.raises(DamagedError, match=rf"x is not a whole summary of trees: {text}"):
        TreeSummary.load(tmp_path / "x")


def test_the_summary_itself_is_read(saved: Path) -> None:
    assert len(TreeSummary.load(saved)) == 5


@pytest.mark.parametrize("kind", ["auto", "words", None])
def test_an_unknown_kind_of_labels_is_refused(saved: Path, tmp_path: Path, kind: str | None) -> None:
    tensors, meta = load_tensors(saved)
    save_tensors(tmp_path / "x", tensors, {**meta, "node_label": kind})
    with pytest.raises(DamagedError, match=r"`node_label` must be (`features` or `degree` or `constant`|a text)"):
        TreeSummary.load(tmp_path / "x")
